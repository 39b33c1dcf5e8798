//! Checked reads of little-endian fields: every format here is read through this and can therefore not read past
//! what is there, nor reserve memory for more than the bytes at hand can describe.

use hardstorage_report::{Error, Result, code};

/// What is left of an encoded value.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    /// Starts; `what` names the value in messages.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes, what }
    }

    /// The error of a value that is not what its format says.
    pub(crate) fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::new(
            code::repository::OBJECT_CORRUPT,
            format!("damaged {}: {problem}", self.what),
        )
    }

    /// The next bytes.
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(self.wrong("it ends too early")),
        }
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(self.wrong("it ends too early")),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A count of records of at least `size` bytes each, which must still be there.
    pub(crate) fn count(&mut self, size: usize) -> Result<usize> {
        let count = self.u32()? as usize;
        if count.checked_mul(size).is_some_and(|bytes| bytes <= self.rest.len()) {
            Ok(count)
        } else {
            Err(self.wrong("it promises more records than it holds"))
        }
    }

    /// Bytes that must be zero in this version.
    pub(crate) fn zeros(&mut self, length: usize) -> Result<()> {
        if self.take(length)?.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(self.wrong("reserved bytes are not zero"))
        }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.wrong("bytes are left over"))
        }
    }
}

//! Sealing and opening the parts of one WAL object.

use hardstorage_codec::{KeyedHash, SealKey, TAG_LEN, equal};
use hardstorage_report::{Error, Result, code};

use super::format::{FRAME_HEADER_LEN, HEADER_LEN, Header, Part, PartHeader};
use crate::DataKey;

/// The keys of one object.
#[derive(Debug, Clone)]
pub(super) struct ObjectSeal {
    header: [u8; HEADER_LEN],
    lock: Lock,
}

#[derive(Debug, Clone)]
enum Lock {
    Sealed {
        frames: Box<SealKey>,
        directory: Box<SealKey>,
        metadata: Box<SealKey>,
        records: Box<SealKey>,
    },
    /// No encryption: the tag is a keyed hash, against accidents.
    Clear(KeyedHash),
}

impl ObjectSeal {
    /// For an object with this header. Refuses one of another data key, or one that disagrees about encryption.
    pub(super) fn new(key: &DataKey, header: &Header) -> Result<ObjectSeal> {
        if header.key_id != *key.id() {
            return Err(Error::new(
                code::repository::KEY_WRONG,
                "the object was written with another data key",
            ));
        }
        if header.sealed != key.seals() {
            return Err(Error::new(
                code::repository::ENCRYPTION_MISMATCH,
                "the object and the repository disagree about encryption",
            ));
        }
        let of = |part: Part| Box::new(key.wal_key(&header.salt, part.info()));
        let lock = if header.sealed {
            Lock::Sealed {
                frames: of(Part::Frame),
                directory: of(Part::Directory),
                metadata: of(Part::Metadata),
                records: of(Part::Record),
            }
        } else {
            Lock::Clear(key.frame_hash())
        };
        Ok(ObjectSeal {
            header: header.encode(),
            lock,
        })
    }

    /// The header of the object.
    pub(super) fn header(&self) -> &[u8; HEADER_LEN] {
        &self.header
    }

    fn associated(&self, part: &PartHeader) -> [u8; HEADER_LEN + FRAME_HEADER_LEN] {
        let mut out = [0; HEADER_LEN + FRAME_HEADER_LEN];
        out[..HEADER_LEN].copy_from_slice(&self.header);
        out[HEADER_LEN..].copy_from_slice(&part.encode());
        out
    }

    fn clear_tag(hash: &KeyedHash, associated: &[u8], number: u32, payload: &[u8]) -> [u8; TAG_LEN] {
        let mut state = hash.start();
        state.update(associated);
        state.update(&u64::from(number).to_le_bytes());
        state.update(payload);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&state.finish()[..TAG_LEN]);
        tag
    }

    /// Seals a payload in place and appends the tag. `part.stored_len` counts the tag already.
    pub(super) fn seal(&self, part: &PartHeader, payload: &mut Vec<u8>) {
        self.seal_from(0, part, payload);
    }

    /// The same for a payload that begins at a place of `out`.
    pub(super) fn seal_from(&self, from: usize, part: &PartHeader, out: &mut Vec<u8>) {
        let associated = self.associated(part);
        match &self.lock {
            Lock::Sealed {
                frames,
                directory,
                metadata,
                records,
            } => {
                let key = match part.part {
                    Part::Frame => frames,
                    Part::Directory => directory,
                    Part::Metadata => metadata,
                    Part::Record => records,
                };
                key.seal_from(from, u64::from(part.number), &associated, out);
            }
            Lock::Clear(hash) => {
                let tag = Self::clear_tag(hash, &associated, part.number, &out[from..]);
                out.extend_from_slice(&tag);
            }
        }
    }

    /// Opens stored bytes in place; what is left is the payload.
    pub(super) fn open(&self, part: &PartHeader, stored: &mut Vec<u8>) -> Result<()> {
        let damaged = || {
            Error::new(
                code::repository::OBJECT_CORRUPT,
                format!("{} {} does not open: damaged", part.part.info(), part.number),
            )
        };
        let associated = self.associated(part);
        if stored.len() != part.stored_len as usize {
            return Err(damaged());
        }
        match &self.lock {
            Lock::Sealed {
                frames,
                directory,
                metadata,
                records,
            } => {
                let key = match part.part {
                    Part::Frame => frames,
                    Part::Directory => directory,
                    Part::Metadata => metadata,
                    Part::Record => records,
                };
                key.open(u64::from(part.number), &associated, stored)
                    .map_err(|error| damaged().source(error))
            }
            Lock::Clear(hash) => {
                let length = stored.len().checked_sub(TAG_LEN).ok_or_else(damaged)?;
                let tag = Self::clear_tag(hash, &associated, part.number, &stored[..length]);
                if !equal(&tag, &stored[length..]) {
                    return Err(damaged());
                }
                stored.truncate(length);
                Ok(())
            }
        }
    }
}

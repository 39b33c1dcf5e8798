//! The directory of a WAL object: frames, page hashes, restore points. Its bytes are described in `format.rs`.

use hardstorage_report::{Lsn, Result};

use super::facts::{RestorePoint, ServerTime};
use super::format::{Codec, PAGE_LEN};
use crate::pack::Fields;

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameEntry {
    pub offset: u64,
    pub stored_len: u32,
    pub raw_len: u32,
    pub codec: Codec,
}

/// The directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Directory {
    pub frames: Vec<FrameEntry>,
    pub pages: Vec<u64>,
    pub restore_points: Vec<RestorePoint>,
}

impl RestorePoint {
    /// The least that one takes.
    pub(super) const SHORTEST: usize = 17;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lsn.0.to_le_bytes());
        out.extend_from_slice(&self.time.0.to_le_bytes());
        let mut length = self.name.len().min(255);
        while !self.name.is_char_boundary(length) {
            length -= 1;
        }
        out.push(length as u8);
        out.extend_from_slice(&self.name.as_bytes()[..length]);
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<RestorePoint> {
        let (lsn, time) = (Lsn(fields.u64()?), ServerTime(fields.i64()?));
        let length = usize::from(fields.u8()?);
        let name = String::from_utf8_lossy(fields.take(length)?).into_owned();
        Ok(RestorePoint { name, lsn, time })
    }
}

impl Directory {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for count in [self.frames.len(), self.pages.len(), self.restore_points.len(), PAGE_LEN] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for frame in &self.frames {
            out.extend_from_slice(&frame.offset.to_le_bytes());
            out.extend_from_slice(&frame.stored_len.to_le_bytes());
            out.extend_from_slice(&frame.raw_len.to_le_bytes());
            out.extend_from_slice(&[frame.codec as u8, 0, 0, 0, 0, 0, 0, 0]);
        }
        for page in &self.pages {
            out.extend_from_slice(&page.to_le_bytes());
        }
        for point in &self.restore_points {
            point.encode(out);
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Directory> {
        let mut fields = Fields::new("directory of a WAL object", bytes);
        let counts = [fields.u32()?, fields.u32()?, fields.u32()?];
        if fields.u32()? as usize != PAGE_LEN {
            return Err(fields.wrong("another page length"));
        }
        let least =
            u64::from(counts[0]) * 24 + u64::from(counts[1]) * 8 + u64::from(counts[2]) * RestorePoint::SHORTEST as u64;
        if least > fields.left() as u64 {
            return Err(fields.wrong("it promises more than it holds"));
        }
        let mut directory = Directory::default();
        for _ in 0..counts[0] {
            directory.frames.push(FrameEntry {
                offset: fields.u64()?,
                stored_len: fields.u32()?,
                raw_len: fields.u32()?,
                codec: Codec::from_byte(fields.u8()?).ok_or_else(|| fields.wrong("unknown codec"))?,
            });
            fields.zeros(7)?;
        }
        for _ in 0..counts[1] {
            directory.pages.push(fields.u64()?);
        }
        for _ in 0..counts[2] {
            directory.restore_points.push(RestorePoint::decode(&mut fields)?);
        }
        fields.end()?;
        Ok(directory)
    }
}

//! Where a frame lies, as layers and tables write it.

use hardstorage_codec::Digest128;
use hardstorage_report::Result;

use super::fields::Fields;
use super::{Codec, FRAME_HEADER_LEN, MAX_RAW_LEN, MAX_STORED_LEN};
use crate::{FrameAt, PackId, PackKind};

/// Bytes of the stored form.
pub const FRAME_POS_LEN: usize = 44;

/// A frame's place. `pack` is an index into the pack table of the value that holds it: a layer map brings its own, the
/// file table uses the backup's pack list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FramePos {
    /// The pack, by its place in the pack table at hand.
    pub pack: u32,
    /// The frame's number in the pack.
    pub number: u32,
    /// The offset of its header.
    pub offset: u64,
    /// Bytes after the header, tag included.
    pub stored_len: u32,
    /// Bytes when opened and decompressed.
    pub raw_len: u32,
    /// How its bytes were made smaller.
    pub codec: Codec,
    /// The frame hash.
    pub hash: Digest128,
}

impl FramePos {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pack.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.stored_len.to_le_bytes());
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        out.extend_from_slice(&[self.codec.byte(), 0, 0, 0]);
        out.extend_from_slice(&self.hash);
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<FramePos> {
        let (pack, number, offset) = (fields.u32()?, fields.u32()?, fields.u64()?);
        let (stored_len, raw_len) = (fields.u32()?, fields.u32()?);
        let codec = Codec::from_byte(fields.u8()?).ok_or_else(|| fields.wrong("unknown codec"))?;
        fields.zeros(3)?;
        let hash = fields.array()?;
        if stored_len > MAX_STORED_LEN || raw_len > MAX_RAW_LEN || offset > u64::MAX >> 1 {
            return Err(fields.wrong("a frame's place is beyond the limits"));
        }
        Ok(FramePos {
            pack,
            number,
            offset,
            stored_len,
            raw_len,
            codec,
            hash,
        })
    }

    /// The first byte after the frame in its pack.
    pub fn end(&self) -> u64 {
        self.offset + FRAME_HEADER_LEN as u64 + u64::from(self.stored_len)
    }

    /// The same place in the words of a manifest.
    pub fn at(&self, pack: PackId, kind: PackKind) -> FrameAt {
        FrameAt {
            pack,
            kind,
            number: self.number,
            offset: self.offset,
            stored_len: self.stored_len,
            raw_len: self.raw_len,
            codec: self.codec.byte(),
        }
    }
}

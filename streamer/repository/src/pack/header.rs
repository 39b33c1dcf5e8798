//! The clear parts of a pack: its header, a frame's header, the footer.

use hardstorage_codec::Digest256;
use hardstorage_report::Result;

use super::fields::Fields;
use crate::{PackId, PackKind, WriterId};

/// First eight bytes of a pack.
pub const PACK_MAGIC: [u8; 8] = *b"HSPACK\x00\x01";
/// Last eight bytes of a pack.
pub const FOOTER_MAGIC: [u8; 8] = *b"HSPACKED";
/// Length of the pack header.
pub const PACK_HEADER_LEN: usize = 64;
/// Length of a frame header.
pub const FRAME_HEADER_LEN: usize = 16;
/// Length of the footer.
pub const FOOTER_LEN: usize = 64;
/// The only version there is.
pub const PACK_VERSION: u16 = 1;
/// The largest raw length of a frame.
pub const MAX_RAW_LEN: u32 = 16 << 20;
/// The largest stored length of a frame: raw, and a tag.
pub const MAX_STORED_LEN: u32 = MAX_RAW_LEN + 16;

const FRAME_MAGIC: [u8; 3] = *b"HSF";
const FLAG_SEALED: u8 = 1;

/// How a frame's bytes were made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    Raw,
    /// One Zstandard frame.
    Zstd,
}

impl Codec {
    /// The byte in a frame header.
    pub fn byte(self) -> u8 {
        match self {
            Codec::Raw => 0,
            Codec::Zstd => 1,
        }
    }

    /// Reads the byte.
    pub fn from_byte(byte: u8) -> Option<Codec> {
        match byte {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// The first 64 bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackHeader {
    /// What the pack holds.
    pub kind: PackKind,
    /// Whether its frames are encrypted.
    pub sealed: bool,
    /// Its name.
    pub id: PackId,
    /// The data key's random id.
    pub data_key_id: [u8; 16],
}

impl PackHeader {
    /// The stored form.
    pub fn encode(&self) -> [u8; PACK_HEADER_LEN] {
        let mut out = [0; PACK_HEADER_LEN];
        out[..8].copy_from_slice(&PACK_MAGIC);
        out[8..10].copy_from_slice(&PACK_VERSION.to_le_bytes());
        out[10] = self.kind.byte();
        out[11] = if self.sealed { FLAG_SEALED } else { 0 };
        out[12..16].copy_from_slice(&self.id.sequence.to_le_bytes());
        out[16..32].copy_from_slice(&self.data_key_id);
        out[32..48].copy_from_slice(self.id.writer.bytes());
        out
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<PackHeader> {
        let mut fields = Fields::new("pack header", bytes);
        if fields.array()? != PACK_MAGIC {
            return Err(fields.wrong("it does not begin like a pack"));
        }
        if fields.u16()? != PACK_VERSION {
            return Err(fields.wrong("unknown version"));
        }
        let kind = PackKind::from_byte(fields.u8()?).ok_or_else(|| fields.wrong("unknown kind"))?;
        let flags = fields.u8()?;
        if flags & !FLAG_SEALED != 0 {
            return Err(fields.wrong("unknown flags"));
        }
        let sequence = fields.u32()?;
        let data_key_id = fields.array()?;
        let writer = WriterId::new(fields.array()?);
        fields.zeros(16)?;
        fields.end()?;
        Ok(PackHeader {
            kind,
            sealed: flags & FLAG_SEALED != 0,
            id: PackId { writer, sequence },
            data_key_id,
        })
    }
}

/// The 16 clear bytes before a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// How its bytes were made smaller.
    pub codec: Codec,
    /// Its number in the pack, from 0.
    pub number: u32,
    /// Bytes that follow the header, tag included.
    pub stored_len: u32,
    /// Bytes when opened and decompressed.
    pub raw_len: u32,
}

impl FrameHeader {
    /// The stored form.
    pub fn encode(&self) -> [u8; FRAME_HEADER_LEN] {
        let mut out = [0; FRAME_HEADER_LEN];
        out[..3].copy_from_slice(&FRAME_MAGIC);
        out[3] = self.codec.byte();
        out[4..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..12].copy_from_slice(&self.stored_len.to_le_bytes());
        out[12..].copy_from_slice(&self.raw_len.to_le_bytes());
        out
    }

    /// Reads the stored form. Lengths are within bounds on return.
    pub fn decode(bytes: &[u8]) -> Result<FrameHeader> {
        let mut fields = Fields::new("frame header", bytes);
        if fields.array()? != FRAME_MAGIC {
            return Err(fields.wrong("it does not begin like a frame"));
        }
        let codec = Codec::from_byte(fields.u8()?).ok_or_else(|| fields.wrong("unknown codec"))?;
        let header = FrameHeader {
            codec,
            number: fields.u32()?,
            stored_len: fields.u32()?,
            raw_len: fields.u32()?,
        };
        fields.end()?;
        if header.stored_len > MAX_STORED_LEN || header.raw_len > MAX_RAW_LEN {
            return Err(fields.wrong("its lengths are beyond the limit"));
        }
        Ok(header)
    }
}

/// The last 64 bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Where the directory's stored bytes begin.
    pub directory_offset: u64,
    /// Their length, tag included.
    pub directory_len: u32,
    /// How many frames the pack holds.
    pub frames: u32,
    /// BLAKE3 of every byte of the pack before the footer.
    pub digest: Digest256,
}

impl Footer {
    /// The stored form.
    pub fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut out = [0; FOOTER_LEN];
        out[..8].copy_from_slice(&self.directory_offset.to_le_bytes());
        out[8..12].copy_from_slice(&self.directory_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.frames.to_le_bytes());
        out[16..48].copy_from_slice(&self.digest);
        out[56..].copy_from_slice(&FOOTER_MAGIC);
        out
    }

    /// Reads the stored form; `pack_len` is the length of the whole pack.
    pub fn decode(bytes: &[u8], pack_len: u64) -> Result<Footer> {
        let mut fields = Fields::new("pack footer", bytes);
        let footer = Footer {
            directory_offset: fields.u64()?,
            directory_len: fields.u32()?,
            frames: fields.u32()?,
            digest: fields.array()?,
        };
        fields.zeros(8)?;
        if fields.array()? != FOOTER_MAGIC {
            return Err(fields.wrong("it does not end like a pack"));
        }
        fields.end()?;
        let end = footer
            .directory_offset
            .checked_add(u64::from(footer.directory_len) + FOOTER_LEN as u64);
        if end != Some(pack_len) || footer.directory_offset < PACK_HEADER_LEN as u64 {
            return Err(fields.wrong("the directory does not lie before it"));
        }
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(
            writer in any::<[u8; 16]>(), key in any::<[u8; 16]>(), digest in any::<[u8; 32]>(), number in any::<u32>(),
            stored in 0..=MAX_STORED_LEN, raw in 0..=MAX_RAW_LEN, flag in any::<bool>(), offset in 64u64..1 << 40,
        ) {
            let header = PackHeader {
                kind: if flag { PackKind::Data } else { PackKind::Meta },
                sealed: flag,
                id: PackId { writer: WriterId::new(writer), sequence: number },
                data_key_id: key,
            };
            prop_assert_eq!(PackHeader::decode(&header.encode()).unwrap(), header);
            let codec = if flag { Codec::Zstd } else { Codec::Raw };
            let frame = FrameHeader { codec, number, stored_len: stored, raw_len: raw };
            prop_assert_eq!(FrameHeader::decode(&frame.encode()).unwrap(), frame);
            let footer = Footer { directory_offset: offset, directory_len: stored, frames: number, digest };
            let length = offset + u64::from(stored) + FOOTER_LEN as u64;
            prop_assert_eq!(Footer::decode(&footer.encode(), length).unwrap(), footer);
            prop_assert!(Footer::decode(&footer.encode(), length + 1).is_err());
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(PackHeader::decode(&bytes).is_err());
            prop_assert!(Footer::decode(&bytes, 1000).is_err());
            let _ = FrameHeader::decode(&bytes);
        }
    }
}

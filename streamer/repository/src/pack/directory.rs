//! The directory of a pack: what each frame is. Sealed, because the hashes in it are of plain content.

use hardstorage_codec::Digest128;
use hardstorage_report::Result;

use super::fields::Fields;
use super::{Codec, FRAME_HEADER_LEN, MAX_RAW_LEN, MAX_STORED_LEN, PACK_HEADER_LEN};

/// Bytes of one entry.
pub const DIRECTORY_ENTRY_LEN: usize = 40;

/// A frame as the directory knows it; its number is its place in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The offset of the frame's header in the pack.
    pub offset: u64,
    /// Bytes after that header, tag included.
    pub stored_len: u32,
    /// Bytes when opened and decompressed.
    pub raw_len: u32,
    /// How its bytes were made smaller.
    pub codec: Codec,
    /// The frame hash.
    pub hash: Digest128,
}

impl DirectoryEntry {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.stored_len.to_le_bytes());
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        out.extend_from_slice(&[self.codec.byte(), 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.hash);
    }
}

/// Reads an opened directory of exactly `frames` entries: frames follow each other without gaps from the header on.
pub fn decode_directory(bytes: &[u8], frames: u32) -> Result<Vec<DirectoryEntry>> {
    let mut fields = Fields::new("pack directory", bytes);
    if bytes.len() != frames as usize * DIRECTORY_ENTRY_LEN {
        return Err(fields.wrong("its length does not match the number of frames"));
    }
    let mut entries = Vec::with_capacity(frames as usize);
    let mut next = PACK_HEADER_LEN as u64;
    while fields.left() > 0 {
        let (offset, stored_len, raw_len) = (fields.u64()?, fields.u32()?, fields.u32()?);
        let codec = Codec::from_byte(fields.u8()?).ok_or_else(|| fields.wrong("unknown codec"))?;
        fields.zeros(7)?;
        let hash = fields.array()?;
        if offset != next || stored_len > MAX_STORED_LEN || raw_len > MAX_RAW_LEN {
            return Err(fields.wrong("a frame does not lie where it should"));
        }
        next = offset + FRAME_HEADER_LEN as u64 + u64::from(stored_len);
        entries.push(DirectoryEntry {
            offset,
            stored_len,
            raw_len,
            codec,
            hash,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(frames in proptest::collection::vec((any::<[u8; 16]>(), 0u32..5000, 0u32..9000), 0..30)) {
            let mut entries = Vec::new();
            let mut bytes = Vec::new();
            let mut offset = 64;
            for (hash, stored_len, raw_len) in frames {
                let entry = DirectoryEntry { offset, stored_len, raw_len, codec: Codec::Zstd, hash };
                entry.encode(&mut bytes);
                offset += 16 + u64::from(stored_len);
                entries.push(entry);
            }
            prop_assert_eq!(decode_directory(&bytes, entries.len() as u32).unwrap(), entries.clone());
            prop_assert!(decode_directory(&bytes, entries.len() as u32 + 1).is_err());
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 80)) {
            let _ = decode_directory(&bytes, 2);
        }
    }
}

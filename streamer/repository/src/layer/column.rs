//! The column of a layer: page hashes and checksums.

use hardstorage_report::Result;

use crate::pack::Fields;

/// Bytes for each page.
pub const COLUMN_ENTRY_LEN: usize = 12;

/// What a stored page's bytes are known by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageFacts {
    /// The keyed hash.
    pub hash: u64,
    /// The CRC32C.
    pub crc: u32,
}

/// The stored form.
pub fn encode_column(pages: impl IntoIterator<Item = PageFacts>) -> Vec<u8> {
    let pages = pages.into_iter();
    let mut out = Vec::with_capacity(pages.size_hint().0 * COLUMN_ENTRY_LEN);
    for page in pages {
        out.extend_from_slice(&page.hash.to_le_bytes());
        out.extend_from_slice(&page.crc.to_le_bytes());
    }
    out
}

/// Reads the stored form, which must describe exactly so many pages.
pub fn decode_column(bytes: &[u8], pages: u32) -> Result<Vec<PageFacts>> {
    let mut fields = Fields::new("layer column", bytes);
    if bytes.len() != pages as usize * COLUMN_ENTRY_LEN {
        return Err(fields.wrong("it has another length than its map"));
    }
    (0..pages)
        .map(|_| {
            Ok(PageFacts {
                hash: fields.u64()?,
                crc: fields.u32()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(pages in proptest::collection::vec((any::<u64>(), any::<u32>()), 0..50)) {
            let pages: Vec<PageFacts> = pages.into_iter().map(|(hash, crc)| PageFacts { hash, crc }).collect();
            let bytes = encode_column(pages.iter().copied());
            prop_assert_eq!(decode_column(&bytes, pages.len() as u32).unwrap(), pages.clone());
            prop_assert!(decode_column(&bytes, pages.len() as u32 + 1).is_err());
        }
    }
}

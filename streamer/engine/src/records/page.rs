//! The header of a WAL page (`XLogPageHeaderData`, `XLogLongPageHeaderData`).

use hardstorage_report::Lsn;

/// `XLOG_BLCKSZ`. Configurable when PostgreSQL is built; every distribution leaves it at this, and the long header at
/// the start of each segment says so.
pub(super) const PAGE_LEN: usize = 8192;
/// `SizeOfXLogShortPHD`.
pub(super) const SHORT_HEADER: usize = 24;
/// `SizeOfXLogLongPHD`.
pub(super) const LONG_HEADER: usize = 40;

const FIRST_IS_CONTRECORD: u16 = 0x0001;
const LONG: u16 = 0x0002;
/// Every flag that PostgreSQL 15 to 18 know (`XLP_ALL_FLAGS`).
const ALL_FLAGS: u16 = 0x000f;

/// `XLOG_PAGE_MAGIC` of PostgreSQL 15, 16, 17 and 18.
pub(super) const MAGICS: [u16; 4] = [0xD110, 0xD113, 0xD116, 0xD118];

/// What a page says about its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Length of the header itself.
    pub len: usize,
    /// The page goes on with a record that began before it.
    pub continues: bool,
    /// How many bytes of that record are still to come, on this page and after it.
    pub remaining: u32,
}

/// The header's length by its flags, from its first four bytes.
pub(super) fn header_len(head: [u8; 4]) -> usize {
    let [_, _, low, high] = head;
    if u16::from_le_bytes([low, high]) & LONG == 0 {
        SHORT_HEADER
    } else {
        LONG_HEADER
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

impl PageHeader {
    /// Reads the header of the page at `lsn`; `None` when the page is empty, foreign or left over from an earlier use
    /// of the segment's file.
    pub(super) fn decode(bytes: &[u8], lsn: Lsn, segment_size: u64) -> Option<PageHeader> {
        let magic = u16::from_le_bytes(field(bytes, 0)?);
        let flags = u16::from_le_bytes(field(bytes, 2)?);
        let address = u64::from_le_bytes(field(bytes, 8)?);
        let remaining = u32::from_le_bytes(field(bytes, 16)?);
        let first_of_segment = lsn.0.is_multiple_of(segment_size);
        let long = flags & LONG != 0;
        if !MAGICS.contains(&magic) || flags & !ALL_FLAGS != 0 || address != lsn.0 || long != first_of_segment {
            return None;
        }
        if long {
            let size = u32::from_le_bytes(field(bytes, 32)?);
            let page = u32::from_le_bytes(field(bytes, 36)?);
            if u64::from(size) != segment_size || page as usize != PAGE_LEN {
                return None;
            }
        }
        Some(PageHeader {
            len: if long { LONG_HEADER } else { SHORT_HEADER },
            continues: flags & FIRST_IS_CONTRECORD != 0,
            remaining,
        })
    }
}

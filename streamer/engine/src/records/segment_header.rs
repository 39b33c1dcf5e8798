//! The beginning of a segment's file (`XLogLongPageHeaderData`): which cluster wrote it, and which part of its WAL it is.

use hardstorage_report::{Lsn, SegmentSize, SystemId, Timeline};

use super::page::{LONG_HEADER, MAGICS, PAGE_LEN, PageHeader};

/// What the first page of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The cluster.
    pub system_id: SystemId,
    /// The timeline of the first page. In the segment in which a timeline begins that is the one it left: the file is
    /// copied up to the switch.
    pub timeline: Timeline,
    /// The position of the first byte.
    pub start: Lsn,
    /// The size of a segment.
    pub size: SegmentSize,
}

impl SegmentHeader {
    /// So many bytes are needed.
    pub const LEN: usize = LONG_HEADER;

    /// Reads it; the error says what is wrong.
    pub fn decode(bytes: &[u8; LONG_HEADER]) -> Result<SegmentHeader, String> {
        let four = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let eight = |at: usize| u64::from(four(at + 4)) << 32 | u64::from(four(at));
        let magic = (four(0) & 0xffff) as u16;
        if !MAGICS.contains(&magic) {
            return Err(format!(
                "it does not begin as WAL of PostgreSQL 15 to 18 does ({magic:04X})"
            ));
        }
        let size = SegmentSize::new(u64::from(four(32)));
        let size = size.ok_or_else(|| format!("{} bytes are no size of a segment", four(32)))?;
        if four(36) as usize != PAGE_LEN {
            return Err(format!("its pages have {} bytes, which is not supported", four(36)));
        }
        let start = Lsn(eight(8));
        if PageHeader::decode(bytes, start, size.bytes()).is_none() {
            return Err("its first page is not the first of a segment".to_owned());
        }
        Ok(SegmentHeader {
            system_id: SystemId(eight(24)),
            timeline: Timeline(four(4)),
            start,
            size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::crossing_commit;
    use proptest::prelude::*;

    const START: Lsn = Lsn(5 << 20);

    fn header() -> [u8; LONG_HEADER] {
        *crossing_commit(START, 1).0.first_chunk().unwrap()
    }

    #[test]
    fn as_a_server_writes_it() {
        let header = SegmentHeader::decode(&header()).unwrap();
        assert_eq!((header.system_id, header.timeline), (SystemId(42), Timeline(7)));
        assert_eq!((header.start, header.size.bytes()), (START, 1 << 20));
    }

    #[test]
    fn what_no_server_writes_is_named() {
        for (at, with, what) in [
            (0, 0x19, "15 to 18"),
            (2, 0, "not the first"),
            (3, 0x10, "not the first"),
            (8, 8, "not the first"),
            (34, 3, "no size of a segment"),
            (37, 0x10, "pages have 4096 bytes"),
        ] {
            let mut bytes = header();
            bytes[at] = with;
            let refused = SegmentHeader::decode(&bytes).unwrap_err();
            assert!(refused.contains(what), "{at}: {refused}");
        }
        assert!(SegmentHeader::decode(&[0; LONG_HEADER]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in any::<[u8; LONG_HEADER]>()) {
            let _ = SegmentHeader::decode(&bytes);
        }
    }
}

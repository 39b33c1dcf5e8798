//! The end of a finished segment, from the record on that goes over its border.
//!
//! A record belongs to the piece of WAL in which it ends. Whoever begins to read at a segment's start sees only the rest
//! of the record that crosses into it, and would miss the commit that it may be.

use bytes::Bytes;
use hardstorage_report::{Lsn, Result, SegmentName};

use super::WalArchive;
use super::format::{FRAME_LEN, PAGE_LEN};
use super::object_stream::WalCursor;

/// The bytes from the page on in which the last record begins.
#[derive(Debug)]
pub struct SegmentEnd {
    cursor: WalCursor,
    at: Lsn,
    end: Lsn,
}

impl SegmentEnd {
    /// The position of the next byte.
    pub fn position(&self) -> Lsn {
        self.at
    }

    /// The next bytes, at most 1 MiB; `None` at the segment's end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let to = self.at.add(FRAME_LEN as u64).min(self.end);
        let mut bytes = Vec::with_capacity(self.at.bytes_until(to) as usize);
        self.cursor.read(self.at..to, &mut bytes).await?;
        self.at = to;
        Ok(Some(bytes.into()))
    }
}

impl WalArchive {
    /// The end of a finished segment; `None` when it is not there, or when no record goes over its border.
    pub async fn segment_end(&self, segment: SegmentName) -> Result<Option<SegmentEnd>> {
        let Some(object) = self.open_segment(segment).await? else {
            return Ok(None);
        };
        let (start, end) = (object.metadata.start, object.metadata.end());
        let whole = object.metadata.facts.records_end.filter(|whole| *whole < end);
        Ok(whole.map(|whole| SegmentEnd {
            cursor: WalCursor::new(object),
            at: Lsn(whole.0 / PAGE_LEN as u64 * PAGE_LEN as u64).max(start),
            end,
        }))
    }
}

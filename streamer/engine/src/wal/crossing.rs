//! The record that goes over the border into the segment with which a leg begins.

use hardstorage_report::{Kind, Lsn, Result, SegmentName, Timeline};
use hardstorage_repository::wal::{Ancestry, WalArchive};

use crate::records::FactsCollector;

/// Begins to look into the WAL at a segment's start. The record that crosses into the segment ends there, and its facts
/// belong there: its beginning is taken from the segment before, if the archive has it.
pub(crate) async fn collector_at(
    archive: &WalArchive,
    ancestry: &Ancestry,
    timeline: Timeline,
    start: Lsn,
) -> Result<FactsCollector> {
    let size = archive.segment_size();
    let fresh = || FactsCollector::new(start, size);
    let Some(last) = start.0.checked_sub(1).map(Lsn) else {
        return Ok(fresh());
    };
    let before = ancestry.segment_for(timeline, last, size)?;
    match crossing_record(archive, before).await {
        Ok(found) => Ok(found.unwrap_or_else(fresh)),
        // A damaged segment costs the knowledge of one record, not the stream.
        Err(error) if error.kind() == Kind::Verify => {
            tracing::warn!(segment = %before, %error, "the record that crosses into the next segment cannot be read");
            Ok(fresh())
        }
        Err(error) => Err(error),
    }
}

async fn crossing_record(archive: &WalArchive, before: SegmentName) -> Result<Option<FactsCollector>> {
    let Some(mut end) = archive.segment_end(before).await? else {
        return Ok(None);
    };
    let mut collector = FactsCollector::new(end.position(), archive.segment_size());
    while let Some(bytes) = end.next().await? {
        collector.push(&bytes);
    }
    // What ends in the segment before is told there.
    collector.take();
    Ok(Some(collector))
}

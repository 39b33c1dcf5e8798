//! How far the archive has come on each timeline: where a stream goes on.

use hardstorage_report::{Lsn, Result, Timeline};
use hardstorage_repository::wal::WalArchive;

/// The end of what the archive has of each timeline: the newest finished segment, and the tails behind it.
pub async fn frontiers(archive: &WalArchive) -> Result<Vec<(Timeline, Lsn)>> {
    let size = archive.segment_size();
    let mut found = Vec::new();
    for timeline in archive.timelines().await? {
        let newest = archive.newest_segment(timeline).await?;
        let finished = newest
            .and_then(|name| name.start(size))
            .map(|start| start.add(size.bytes()));
        let mut end = finished;
        for segment in archive.segments_with_tails(timeline).await? {
            let behind = segment
                .start(size)
                .is_some_and(|start| finished.is_none_or(|finished| start >= finished));
            if behind && let Some(assembled) = archive.assemble(segment).await? {
                let range = assembled.range();
                // Tails that do not follow on what is finished are islands: streaming goes on before them.
                if end.is_none_or(|end| range.from <= end) {
                    end = end.max(Some(range.to));
                }
            }
        }
        if let Some(end) = end {
            found.push((timeline, end));
        }
    }
    Ok(found)
}

//! Where a recovery ended, and whether that is far enough.
//!
//! PostgreSQL itself refuses to end before a target. Without one it ends wherever its `restore_command` has nothing more,
//! and takes that for the end of the archive: so the position is compared with what the plan has seen there.

use std::path::Path;

use hardstorage_report::{Error, Lsn, Result, Timeline, code};
use hardstorage_repository::wal::{Coverage, HistoryFile, WalArchive};

use crate::postgres::failed;
use crate::restore::{RestorePlan, StopAt, meets};

/// The first byte of a timeline that the copy has begun, as its own history file has it.
pub(super) fn switch_to(data: &Path, timeline: Timeline) -> Result<Lsn> {
    let path = data.join("pg_wal").join(timeline.history_name());
    let bytes = std::fs::read(&path).map_err(failed("read", &path))?;
    let history = HistoryFile::parse(timeline, &bytes)?;
    let last = history.entries.last().map(|entry| entry.switch);
    last.ok_or_else(|| Error::new(code::engine::RECOVERY, format!("timeline {timeline} has no ancestor")))
}

/// Refuses a recovery that left a record behind which was in the archive when the plan was made.
pub(super) async fn nothing_is_missing(plan: &RestorePlan, archive: &WalArchive, ended: Lsn) -> Result<()> {
    let Some(end) = plan.reachable.to_lsn.filter(|_| plan.stop_at == StopAt::EndOfArchive) else {
        return Ok(());
    };
    if ended >= end {
        return Ok(());
    }
    // Only as far as the plan has seen: the archive may grow while it is read.
    let coverage = seen(archive.coverage(plan.target_timeline, ended).await?, end);
    if !meets(archive, &coverage, ended).await? {
        return Ok(());
    }
    Err(Error::new(
        code::engine::TARGET_NOT_REACHED,
        format!("recovery ended at {ended}, and the archive goes on to {end}"),
    ))
}

fn seen(mut coverage: Coverage, end: Lsn) -> Coverage {
    coverage.pieces.retain(|piece| piece.range.from < end);
    if let Some(last) = coverage.pieces.last_mut() {
        last.range.to = last.range.to.min(end);
    }
    coverage
}

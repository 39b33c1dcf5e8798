//! From when to when a cluster can be recovered without a gap: computed from backups, WAL and histories, never guessed.

use hardstorage_report::{BackupId, Lsn, Result, Timeline};
use hardstorage_repository::wal::{Ancestry, ServerTime, WalArchive};
use hardstorage_repository::{CatalogEntry, Deployment, Lineage, Manifest};
use jiff::Timestamp;
use serde::Serialize;

/// A stretch of time, each moment of which can be recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoverableWindow {
    /// The earliest moment: the end of the oldest backup from which the WAL is whole.
    pub from: Timestamp,
    /// The latest moment of the server's clock that is complete in the repository.
    pub to: Timestamp,
    /// The end of the durable WAL.
    pub end_lsn: Lsn,
    /// The timeline that it lies on.
    pub timeline: Timeline,
    /// The backup that it begins with.
    pub first_backup: BackupId,
}

/// The newest timeline that PostgreSQL's `latest` leads to from a backup: it probes one number after the other, and
/// stops at the first without a history file.
pub async fn newest_timeline(archive: &WalArchive, manifest: &Manifest) -> Result<Timeline> {
    Ok(newest_known(&archive.ancestry().await?, manifest))
}

/// The same, by histories that are at hand.
pub(crate) fn newest_known(ancestry: &Ancestry, manifest: &Manifest) -> Timeline {
    let mut newest = manifest.wal.timeline;
    while ancestry.knows(Timeline(newest.0 + 1)) {
        newest = Timeline(newest.0 + 1);
    }
    newest
}

/// Computes the window of one life of the cluster; `None` without a backup that can be restored.
pub async fn recoverable_window(deployment: &Deployment, lineage: Lineage) -> Result<Option<RecoverableWindow>> {
    let catalog = deployment.backups().await?;
    let backups: Vec<&Manifest> = catalog
        .entries
        .iter()
        .filter(|entry| entry.is_usable())
        .filter_map(CatalogEntry::manifest)
        .map(|stored| &stored.manifest)
        .filter(|manifest| manifest.lineage == lineage)
        .collect();
    let Some(newest) = backups.last() else { return Ok(None) };
    let archive = WalArchive::new(deployment.clone(), lineage, newest.server.wal_segment_size);
    let ancestry = archive.ancestry().await?;
    let timeline = newest_known(&ancestry, newest);
    let first = backups
        .iter()
        .map(|manifest| manifest.wal.start_lsn)
        .min()
        .unwrap_or(newest.wal.start_lsn);
    let coverage = archive.coverage(timeline, first).await?;
    let Some(end) = coverage.recoverable_until(newest.wal.start_lsn) else {
        return Ok(None);
    };
    for manifest in &backups {
        let reaches_end = coverage.recoverable_until(manifest.wal.start_lsn) == Some(end);
        if reaches_end && ancestry.passes(timeline, manifest.wal.timeline, manifest.wal.stop_lsn)? {
            let complete = archive.complete_up_to(&coverage, manifest.wal.stop_lsn).await?;
            let stopped_at = manifest.times.stopped_at;
            let to = complete
                .and_then(ServerTime::to_timestamp)
                .map_or(stopped_at, |to| to.max(stopped_at));
            return Ok(Some(RecoverableWindow {
                from: stopped_at,
                to,
                end_lsn: end,
                timeline,
                first_backup: manifest.backup_id.clone(),
            }));
        }
    }
    Ok(None)
}

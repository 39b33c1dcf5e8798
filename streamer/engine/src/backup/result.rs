//! What a committed backup tells: the facts of its manifest, in the words of the command line.

use hardstorage_report::{BackupId, DeploymentName, Lsn, SystemId, Timeline};
use hardstorage_repository::{BackupKind, DamagedPage, ExternalFile, Manifest, Totals, layout};
use jiff::Timestamp;
use serde::Serialize;

/// What was committed.
#[derive(Debug, Clone, Serialize)]
pub struct BackupResult {
    /// Its id.
    pub backup_id: BackupId,
    /// The deployment.
    pub deployment: DeploymentName,
    /// Always `full` here.
    #[serde(rename = "type")]
    pub kind: BackupKind,
    /// The server's version as text.
    pub pg_version: String,
    /// The cluster.
    pub system_identifier: SystemId,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// Where it is consistent.
    pub stop_lsn: Lsn,
    /// The timeline.
    pub timeline: Timeline,
    /// Milliseconds from the command's begin to the commit.
    pub duration_ms: u64,
    /// Files, directories and links.
    pub file_count: u64,
    /// Tablespaces, the data directory included.
    pub tablespace_count: u64,
    /// Bytes that a restore writes.
    pub logical_bytes: u64,
    /// Bytes that were added to the repository.
    pub stored_bytes: u64,
    /// Pages stored, taken over, and all zero.
    pub new_pages: u64,
    /// Pages taken over from earlier backups.
    pub reused_pages: u64,
    /// Pages of zeros.
    pub zero_pages: u64,
    /// Share of the non-zero pages that was taken over.
    pub reuse: f64,
    /// The backup that pages were compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ancestor: Option<BackupId>,
    /// Backups that were interrupted, whose finished work was taken over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<BackupId>,
    /// Pages that lie in packs of those.
    #[serde(skip_serializing_if = "is_zero")]
    pub adopted_pages: u64,
    /// WAL segments that this backup brought itself.
    pub wal_segments_fetched: u64,
    /// Whether the frames are encrypted.
    pub encrypted: bool,
    /// The signer.
    pub signer: String,
    /// The manifest's object key.
    pub primary_key: String,
    /// When it began, by the server's clock.
    pub started_at: Timestamp,
    /// When it ended, by the server's clock.
    pub stopped_at: Timestamp,
    /// Pages that were bad on the server.
    pub damaged_pages: Vec<DamagedPage>,
    /// Warnings that the server gave while it sent the backup; the events have their words.
    pub server_warnings: u64,
    /// Configuration outside of the data directory.
    pub external_files: Vec<ExternalFile>,
    /// Whether a stream's WAL follows on this backup, as far as the archive shows.
    pub pitr_covered: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl BackupResult {
    /// Of a manifest that was committed: `fetched` segments of WAL came with it, `sealed` frames are encrypted.
    pub(super) fn of(manifest: &Manifest, fetched: u64, pitr_covered: bool, sealed: bool) -> BackupResult {
        let Totals {
            logical_bytes,
            files,
            new_pages,
            reused_pages,
            zero_pages,
            stored_bytes,
            ..
        } = manifest.totals;
        let pages = new_pages + reused_pages;
        BackupResult {
            backup_id: manifest.backup_id.clone(),
            deployment: manifest.deployment.clone(),
            kind: manifest.kind,
            pg_version: manifest.server.version.clone(),
            system_identifier: manifest.lineage.system_id,
            start_lsn: manifest.wal.start_lsn,
            stop_lsn: manifest.wal.stop_lsn,
            timeline: manifest.wal.timeline,
            duration_ms: 0,
            file_count: files,
            tablespace_count: manifest.tablespaces.len() as u64 + 1,
            logical_bytes,
            stored_bytes,
            new_pages,
            reused_pages,
            zero_pages,
            reuse: if pages == 0 {
                0.0
            } else {
                reused_pages as f64 / pages as f64
            },
            ancestor: manifest.ancestor.as_ref().map(|ancestor| ancestor.backup_id.clone()),
            resumed: Vec::new(),
            adopted_pages: 0,
            wal_segments_fetched: fetched,
            encrypted: sealed,
            signer: manifest.signer.clone(),
            primary_key: layout::manifest(&manifest.deployment, &manifest.backup_id).to_string(),
            started_at: manifest.times.started_at,
            stopped_at: manifest.times.stopped_at,
            damaged_pages: manifest.damaged_pages.clone(),
            server_warnings: 0,
            external_files: manifest.external_files.clone(),
            pitr_covered,
        }
    }
}

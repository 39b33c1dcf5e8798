//! What a plan says beside what it does: how much WAL there is to replay, and what is worth knowing.

use hardstorage_report::Lsn;
use hardstorage_repository::{Manifest, VerifiedManifest};

use super::plan::RestoreRequest;
use super::target::{RecoveryTarget, StopAt};

/// Bytes of WAL that recovery replays, at most.
pub(super) fn wal_bytes(manifest: &Manifest, stop: &StopAt, end: Option<Lsn>) -> u64 {
    let to = match stop {
        StopAt::Immediate => manifest.wal.stop_lsn,
        StopAt::Lsn(lsn) => *lsn,
        _ => end.unwrap_or(manifest.wal.stop_lsn),
    };
    manifest.wal.start_lsn.bytes_until(to)
}

/// What is worth knowing of a restore that can be done.
pub(super) fn notes(stored: &VerifiedManifest, request: &RestoreRequest, stop: &StopAt) -> Vec<String> {
    let mut notes = Vec::new();
    if request.goal == RecoveryTarget::Immediate {
        notes.push("stops at the backup's end; --to-latest goes on to the end of the archive".to_owned());
    }
    if matches!(
        (&request.goal, stop),
        (RecoveryTarget::Time(_), StopAt::Lsn(_) | StopAt::Immediate)
    ) {
        notes.push("no transaction committed after this time yet: recovery stops at the last one before it".to_owned());
    }
    if matches!(request.goal, RecoveryTarget::Xid(_)) {
        notes.push(
            "transaction ids are not recorded in the archive: PostgreSQL will find out whether this one is there"
                .to_owned(),
        );
    }
    if !stored.manifest.damaged_pages.is_empty() {
        notes.push(format!(
            "{} pages of this backup were damaged on the server already",
            stored.manifest.damaged_pages.len()
        ));
    }
    for file in stored
        .manifest
        .external_files
        .iter()
        .filter(|file| file.attachment.is_none())
    {
        notes.push(format!(
            "{} lay outside of the data directory and is not in the backup",
            file.path
        ));
    }
    notes
}

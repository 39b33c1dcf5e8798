//! What a record of a catalogue says, as the status of a Backup. Pure.

use hardstorage_crds::condition::backup::VERIFIED;
use hardstorage_crds::condition::{READY, STALLED};
use hardstorage_crds::{Backup, BackupPhase, BackupStatus, Bytes, Failure, Origin};
use hardstorage_report::BackupRecord;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::status::Writer;
use crate::condition::{Conditions, Is};

/// The status of a mirror.
pub fn of_record(record: &BackupRecord, object: &Backup, now: Timestamp) -> BackupStatus {
    let before = object.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&before.conditions, object.metadata.generation, now);
    let phase = if record.deleted {
        tombstoned(&mut conditions);
        BackupPhase::Tombstoned
    } else if let Some(problem) = &record.problem {
        conditions.stalled("Unreadable", problem.clone());
        BackupPhase::Failed
    } else if record.damaged {
        conditions.stalled("DamagedPages", "pages of it are known to be damaged");
        BackupPhase::Completed
    } else {
        conditions.ready("Completed", "it lies in the repository");
        BackupPhase::Completed
    };
    conditions.keep(VERIFIED);
    BackupStatus {
        observed_generation: object.metadata.generation,
        conditions: conditions.finish(),
        phase: Some(phase),
        origin: Some(Origin::Repository),
        run_id: record.run_id.clone(),
        backup_id: Some(record.backup_id.to_string()),
        type_: record.kind.as_deref().map(kind),
        begin_lsn: record.start_lsn.map(|lsn| lsn.to_string()),
        end_lsn: record.stop_lsn.map(|lsn| lsn.to_string()),
        timeline: record.timeline.map(|timeline| i64::from(timeline.0)),
        system_identifier: record.system_identifier.map(|id| id.to_string()),
        postgres_version: record.pg_version.clone(),
        start_time: record.started_at.map(Time),
        completion_time: record.stopped_at.map(Time),
        duration: record.duration_ms.map(took),
        size: record.problem.is_none().then(|| Bytes::of(record.logical_bytes)),
        stored: record.problem.is_none().then(|| Bytes::of(record.stored_bytes)),
        progress: None,
        source_snapshot: Some(record.source_snapshot),
        // The repository does not know of it.
        verified: before.verified,
        failure: record.problem.as_ref().map(|problem| Failure {
            message: Some(problem.clone()),
            ..Failure::default()
        }),
    }
}

/// The status of a run's own object: what it said, and that its backup is marked as deleted since, or is no longer. A
/// backup that lies there did not fail, whatever became of the pod that took it.
pub(super) fn of_run(record: &BackupRecord, object: &Backup, now: Timestamp) -> BackupStatus {
    let before = object.status.clone().unwrap_or_default();
    if before.phase == Some(BackupPhase::Failed) && record.problem.is_none() {
        return Writer::new(object, now).found(record).0;
    }
    let phase = match (&before.phase, record.deleted) {
        (Some(BackupPhase::Completed), true) => BackupPhase::Tombstoned,
        (Some(BackupPhase::Tombstoned), false) => BackupPhase::Completed,
        _ => return before,
    };
    let mut conditions = Conditions::new(&before.conditions, object.metadata.generation, now);
    if record.deleted {
        tombstoned(&mut conditions);
    } else {
        conditions.ready("Completed", "it lies in the repository");
    }
    for old in &before.conditions {
        conditions.keep(&old.type_);
    }
    BackupStatus {
        conditions: conditions.finish(),
        phase: Some(phase),
        ..before
    }
}

/// It is no failure, and nobody has to look: retention does it every day.
fn tombstoned(conditions: &mut Conditions) {
    conditions.set(READY, Is::False, "Tombstoned", "it is marked as deleted");
    conditions.set(STALLED, Is::False, "Tombstoned", "");
}

fn kind(word: &str) -> String {
    match word {
        "full" => "Full".to_owned(),
        "incr" => "Incremental".to_owned(),
        other => other.to_owned(),
    }
}

/// A duration for people: `3m20s`.
pub fn took(milliseconds: u64) -> String {
    let seconds = milliseconds.div_ceil(1000);
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

//! What is to be done about a Backup that stands for a run. Pure.
//!
//! One wish is one run, whatever breaks off in between:
//! 1. the annotation `run-id` is written with the UID of the Backup,
//! 2. the Job is made under a name that follows from that UID, and its pod bears the UID as the id of its run,
//! 3. the status says that the Job is there.
//!
//! After a crash behind 1 there is no Job, and the repository knows no such run: the Job is made. Behind 2 the Job is found.
//! Behind 3 the Job tells, and when it is gone the repository does. An object whose annotation is not its own UID was made
//! for a Job, or came back from a copy of the cluster: it never starts anything.

use std::time::Duration;

use hardstorage_crds::{Backup, BackupPhase};
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::names::annotation;

/// A run that failed without a word is looked for in the repository for so long: its commit may be seen late.
pub const SOUGHT: Duration = Duration::from_hours(1);
/// Before a run is called lost, its commit has so long to be seen.
pub const GRACE: Duration = Duration::from_mins(2);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing more happens.
    Rest,
    /// Its Job tells.
    Observe,
    /// It is to be run. A pledged one was about to be run before: the repository is asked first.
    Begin {
        /// Whether the annotation is there.
        pledged: bool,
    },
    /// Its Job is gone: the repository tells.
    LookUp,
    /// It came back from elsewhere: the repository tells, and it is never run.
    CameBack,
    /// It has failed without a word; perhaps it has not.
    Seek,
}

/// Decides.
pub fn decide(backup: &Backup, has_job: bool, now: Timestamp) -> Step {
    let status = backup.status.clone().unwrap_or_default();
    let pledge = backup.annotations().get(annotation::RUN_ID);
    match status.phase {
        Some(BackupPhase::Completed | BackupPhase::Tombstoned) => return Step::Rest,
        Some(BackupPhase::Failed) => return if is_sought(backup, now) { Step::Seek } else { Step::Rest },
        _ => {}
    }
    if has_job {
        return Step::Observe;
    }
    if status.run_id.is_some() {
        return Step::LookUp;
    }
    match pledge {
        None => Step::Begin { pledged: false },
        Some(pledge) if Some(pledge) == backup.metadata.uid.as_ref() => Step::Begin { pledged: true },
        Some(_) => Step::CameBack,
    }
}

/// Whether a failure came without a report of the engine, not long ago.
pub fn is_sought(backup: &Backup, now: Timestamp) -> bool {
    let Some(status) = &backup.status else { return false };
    let told = status.failure.as_ref().is_some_and(|failure| failure.code.is_some());
    let since = status.completion_time.as_ref().map(|time| time.0);
    let since = since.or_else(|| backup.metadata.creation_timestamp.as_ref().map(|time| time.0));
    !told && since.is_some_and(|since| elapsed(since, now) < SOUGHT)
}

/// The id under which the repository knows the run.
pub fn run_id(backup: &Backup) -> Option<String> {
    let status = backup.status.as_ref();
    status
        .and_then(|status| status.run_id.clone())
        .or_else(|| backup.annotations().get(annotation::RUN_ID).cloned())
}

/// The time between two moments; none when they are the other way round.
pub fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(since).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::*;
    use serde_json::{Value, json};

    fn backup(pledge: Option<&str>, status: Value) -> Backup {
        let annotations = pledge.map(|pledge| json!({annotation::RUN_ID: pledge}));
        serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "b", "namespace": "team", "uid": "own", "annotations": annotations,
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"deploymentRef": {"name": "orders"}}, "status": status}))
        .unwrap()
    }

    #[test]
    fn every_state_has_one_step() {
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let running = json!({"phase": "Running", "runID": "own"});
        let lost = |time: &str| json!({"phase": "Failed", "runID": "own", "completionTime": time, "failure": {"message": "gone"}});
        let told = json!({"phase": "Failed", "completionTime": "2026-01-01T01:59:00Z", "failure": {"code": "auth.x"}});
        let (own, other) = (Some("own"), Some("other"));
        let cases = [
            (None, Value::Null, false, Step::Begin { pledged: false }),
            (None, json!({"phase": "Pending"}), false, Step::Begin { pledged: false }),
            (own, Value::Null, false, Step::Begin { pledged: true }),
            (own, json!({"phase": "Pending"}), false, Step::Begin { pledged: true }),
            (own, Value::Null, true, Step::Observe),
            (own, running.clone(), true, Step::Observe),
            (own, running.clone(), false, Step::LookUp),
            (other, Value::Null, true, Step::Observe),
            (other, Value::Null, false, Step::CameBack),
            (other, json!({"phase": "Pending"}), false, Step::CameBack),
            // The annotation was taken away: the status still knows.
            (None, running, false, Step::LookUp),
            (own, json!({"phase": "Completed"}), true, Step::Rest),
            (own, json!({"phase": "Tombstoned"}), false, Step::Rest),
            (own, lost("2026-01-01T01:30:00Z"), true, Step::Seek),
            (own, lost("2026-01-01T00:30:00Z"), false, Step::Rest),
            (own, told, true, Step::Rest),
        ];
        for (pledge, status, has_job, wanted) in cases {
            let object = backup(pledge, status.clone());
            assert_eq!(decide(&object, has_job, now), wanted, "{pledge:?} {status} {has_job}");
        }
    }
}

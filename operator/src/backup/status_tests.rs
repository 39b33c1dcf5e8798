//! What a Backup says of its run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use hardstorage_crds::condition::{READY, STALLED};
use hardstorage_report::ErrorReport;
use serde_json::json;

const ID: &str = "team.orders.full.20260101T000000Z.00aa";

fn now() -> Timestamp {
    "2026-01-01T03:00:00Z".parse().unwrap()
}

fn backup(status: Value) -> Backup {
    serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": "b", "namespace": "team", "uid": "own", "generation": 1,
            "labels": {"hardstorage.dev/schedule": "nightly"}},
        "spec": {"deploymentRef": {"name": "orders"}}, "status": status}))
    .unwrap()
}

fn report(state: RunState, result: Option<Value>, code: Option<&str>) -> RunReport {
    let mut report = RunReport::new("backup", Some("own".into()), "0.1.0");
    report.state = state;
    report.result = result;
    report.error = code.map(|code| ErrorReport {
        code: code.into(),
        message: "what happened".into(),
        hint: "what to do".into(),
        exit_code: 8,
    });
    report
}

fn result() -> Value {
    json!({"backup_id": ID, "type": "full", "start_lsn": "0/2000028", "stop_lsn": "0/2000100", "timeline": 1,
        "system_identifier": "7000000000000000001", "pg_version": "18.1", "logical_bytes": 2048, "stored_bytes": 1024,
        "started_at": "2026-01-01T01:00:00Z", "stopped_at": "2026-01-01T01:03:20Z", "duration_ms": 200_000,
        "damaged_pages": [], "pitr_covered": true})
}

fn ready(written: &Written) -> (String, String) {
    let find = |type_: &str| written.0.conditions.iter().find(|one| one.type_ == type_).unwrap();
    (
        find(READY).status.clone(),
        format!("{} {}", find(READY).reason, find(STALLED).status),
    )
}

#[test]
fn a_backup_that_was_made() {
    let object = backup(Value::Null);
    let written = Writer::new(&object, now()).ended(&report(RunState::Succeeded, Some(result()), None));
    assert_eq!(ready(&written), ("True".into(), "Completed False".into()));
    let status = written.0;
    assert_eq!(status.phase, Some(BackupPhase::Completed));
    assert_eq!(status.origin, Some(Origin::Schedule));
    assert_eq!(status.type_.as_deref(), Some("Full"));
    assert_eq!(status.backup_id.as_deref(), Some(ID));
    assert_eq!(status.duration.as_deref(), Some("3m20s"));
    assert_eq!(status.size.unwrap().as_str(), "2Ki");
    assert_eq!(status.timeline, Some(1));
    assert_eq!(status.begin_lsn.as_deref(), Some("0/2000028"));
    assert_eq!(status.system_identifier.as_deref(), Some("7000000000000000001"));
    assert_eq!(status.completion_time.unwrap().0.to_string(), "2026-01-01T01:03:20Z");
}

#[test]
fn a_result_that_was_cut_is_still_a_backup() {
    let object = backup(Value::Null);
    let written = Writer::new(&object, now()).ended(&report(RunState::Succeeded, None, None));
    assert_eq!(written.0.phase, Some(BackupPhase::Completed));
    assert_eq!(written.0.completion_time.unwrap().0, now());
}

#[test]
fn damaged_pages_are_no_success_and_no_loss() {
    let object = backup(Value::Null);
    let written = Writer::new(&object, now()).ended(&report(RunState::Failed, Some(result()), None));
    assert_eq!(ready(&written), ("False".into(), "DamagedPages True".into()));
    assert_eq!(written.0.phase, Some(BackupPhase::Completed));
    assert_eq!(written.0.backup_id.as_deref(), Some(ID));
}

#[test]
fn a_failure_has_code_message_hint_and_exit_code() {
    let object = backup(json!({"phase": "Running", "progress": {"percent": 50}}));
    let written = Writer::new(&object, now()).ended(&report(RunState::Failed, None, Some("unreachable.store")));
    assert_eq!(ready(&written), ("False".into(), "UnreachableStore True".into()));
    let failure = written.0.failure.unwrap();
    assert_eq!(failure.code.as_deref(), Some("unreachable.store"));
    assert_eq!(failure.hint.as_deref(), Some("what to do"));
    assert_eq!(failure.exit_code, Some(8));
    assert_eq!((written.0.phase, written.0.progress), (Some(BackupPhase::Failed), None));
    // Without any word it is not silently green.
    let nothing = Writer::new(&object, now()).ended(&report(RunState::Failed, None, None));
    assert_eq!(ready(&nothing), ("False".into(), "ReportLost True".into()));
}

#[test]
fn progress_and_tries() {
    let object = backup(Value::Null);
    let mut running = report(RunState::Running, None, None);
    for (done, total, percent) in [(512, 2048, Some(25)), (4096, 2048, Some(99)), (1, 0, None)] {
        running.progress = json!({"done_bytes": done, "total_bytes": total});
        let written = Writer::new(&object, now()).runs(Some(&running));
        assert_eq!(written.0.progress.unwrap().percent, percent, "{done} of {total}");
        assert_eq!(written.0.phase, Some(BackupPhase::Running));
    }
    let tried = Writer::new(&object, now()).runs(Some(&report(RunState::Failed, None, Some("unreachable.postgres"))));
    assert_eq!(ready(&tried), ("False".into(), "TryFailed False".into()));
    assert_eq!(tried.0.phase, Some(BackupPhase::Running));
    assert!(tried.0.failure.is_none());
}

#[test]
fn what_was_found_in_the_repository_is_completed() {
    let object = backup(json!({"phase": "Failed", "origin": "Manual", "runID": "own", "failure": {"message": "gone"}}));
    let record = |more: Value| -> BackupRecord {
        let mut value = json!({"backup_id": ID, "type": "full", "file_count": 1, "logical_bytes": 2048, "stored_bytes": 1024,
            "reuse": 0.0, "held": false, "deleted": false, "damaged": false, "run_id": "own"});
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().cloned().unwrap_or_default());
        serde_json::from_value(value).unwrap()
    };
    let found = Writer::new(&object, now()).found(&record(json!({})));
    assert_eq!(ready(&found), ("True".into(), "FoundInRepository False".into()));
    assert_eq!(found.0.phase, Some(BackupPhase::Completed));
    assert_eq!(found.0.origin, Some(Origin::Manual));
    assert_eq!(found.0.run_id.as_deref(), Some("own"));
    assert!(found.0.failure.is_none());
    let deleted = Writer::new(&object, now()).found(&record(json!({"deleted": true})));
    assert_eq!(deleted.0.phase, Some(BackupPhase::Tombstoned));
    let damaged = Writer::new(&object, now()).found(&record(json!({"damaged": true})));
    assert_eq!(ready(&damaged), ("False".into(), "DamagedPages True".into()));
}

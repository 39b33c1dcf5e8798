//! What a schedule says of itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::super::samples::{schedule, schedule_job};
use super::*;
use crate::deployment::retention::RESULT;
use hardstorage_crds::condition::{READY, STALLED};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-06-15T12:00:00Z".parse().unwrap()
}

fn plan(text: &str) -> Plan {
    Plan::new(text, "Etc/UTC", "team/nightly").unwrap()
}

fn backup(name: &str, hour: u32, status: Value) -> Backup {
    serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "team", "creationTimestamp": format!("2026-06-14T{hour:02}:00:00Z")},
        "spec": {"deploymentRef": {"name": "orders"}}, "status": status}))
    .unwrap()
}

fn refusal(reason: &str, waits: bool) -> Refusal {
    Refusal {
        reason: reason.into(),
        message: "m".into(),
        hint: "h".into(),
        waits,
    }
}

fn seen<'a>(schedule: &'a BackupSchedule, plan: &'a Plan) -> Seen<'a> {
    Seen {
        schedule,
        plan: Ok(plan),
        refusal: None,
        name_taken: false,
        backups: &[],
        retention: None,
        drilled: None,
        now: now(),
    }
}

fn condition(status: &BackupScheduleStatus, type_: &str) -> Option<(String, String)> {
    let found = status.conditions.iter().find(|one| one.type_ == type_)?;
    Some((found.status.clone(), found.reason.clone()))
}

#[test]
fn ready_stalled_and_resting() {
    let (awake, asleep) = (schedule(json!({})), schedule(json!({"suspend": true})));
    let (daily, never) = (plan("30 4 * * *"), plan("0 0 30 2 *"));
    let (gone, waits) = (refusal("DeploymentMissing", false), refusal("RepositoryNotReady", true));
    let cases = [
        (seen(&awake, &daily), ("True", "Scheduled", "False"), true),
        (seen(&asleep, &daily), ("True", "Suspended", "False"), false),
        (seen(&awake, &never), ("False", "InvalidSchedule", "True"), false),
        (
            Seen {
                plan: Err("nonsense"),
                ..seen(&awake, &daily)
            },
            ("False", "InvalidSchedule", "True"),
            false,
        ),
        (
            Seen {
                refusal: Some(&gone),
                ..seen(&awake, &daily)
            },
            ("False", "DeploymentMissing", "True"),
            false,
        ),
        (
            Seen {
                refusal: Some(&waits),
                ..seen(&awake, &daily)
            },
            ("False", "RepositoryNotReady", "False"),
            true,
        ),
        (
            Seen {
                name_taken: true,
                ..seen(&awake, &daily)
            },
            ("False", "NameTaken", "True"),
            false,
        ),
    ];
    for (seen, (ready, reason, stalled), next) in cases {
        let (status, _) = status(&seen);
        assert_eq!(condition(&status, READY), Some((ready.into(), reason.into())));
        assert_eq!(condition(&status, STALLED).unwrap().0, stalled, "{reason}");
        assert_eq!(status.next_time.is_some(), next, "{reason}");
        assert_eq!(status.observed_generation, Some(1));
    }
}

#[test]
fn the_last_run_that_ended_tells() {
    let (schedule, plan) = (schedule(json!({})), plan("30 4 * * *"));
    let stalled = |reason: &str| {
        json!([{"type": "Stalled", "status": "True", "reason": reason, "message": "why",
            "lastTransitionTime": "2026-06-14T01:00:00Z"}])
    };
    let good = backup("a", 1, json!({"phase": "Completed"}));
    let bad = backup(
        "b",
        2,
        json!({"phase": "Failed", "conditions": stalled("AuthPassword"),
        "failure": {"code": "auth.password", "message": "no", "hint": "do"}}),
    );
    let lost = backup(
        "b",
        2,
        json!({"phase": "Failed", "conditions": stalled("OOMKilled"), "failure": {"message": "no"}}),
    );
    let damaged = backup(
        "c",
        3,
        json!({"phase": "Completed", "conditions": stalled("DamagedPages")}),
    );
    let gone = backup("c", 3, json!({"phase": "Tombstoned"}));
    let runs = backup("d", 4, json!({"phase": "Running", "startTime": "2026-06-14T04:30:00Z"}));
    let cases = [
        (vec![&good], "a", "Completed", None, "True"),
        (vec![&good, &bad], "b", "Failed", Some("auth.password"), "False"),
        (vec![&lost, &good], "b", "Failed", Some("OOMKilled"), "False"),
        (vec![&good, &damaged], "c", "Completed", Some("DamagedPages"), "False"),
        (vec![&gone, &bad], "c", "Completed", None, "True"),
        (vec![&runs, &good], "a", "Completed", None, "True"),
    ];
    for (backups, name, result, reason, succeeded) in cases {
        let backups: Vec<Backup> = backups.into_iter().cloned().collect();
        let (status, _) = status(&Seen {
            backups: &backups,
            ..seen(&schedule, &plan)
        });
        let last = status.last_backup.clone().unwrap();
        assert_eq!(
            (last.name.as_deref(), last.result.as_deref()),
            (Some(name), Some(result))
        );
        assert_eq!(last.reason.as_deref(), reason, "{name}");
        assert_eq!(condition(&status, LAST_RUN_SUCCEEDED).unwrap().0, succeeded, "{name}");
    }
    let (status, _) = status(&Seen {
        backups: &[runs, good],
        ..seen(&schedule, &plan)
    });
    assert_eq!(status.last_time.unwrap().0.to_string(), "2026-06-14T04:30:00Z");
}

#[test]
fn what_was_said_stays_when_the_objects_are_gone() {
    let mut schedule = schedule(json!({}));
    let plan = plan("30 4 * * *");
    let failed = backup("b", 2, json!({"phase": "Failed", "failure": {"code": "x.y"}}));
    let first = status(&Seen {
        backups: std::slice::from_ref(&failed),
        ..seen(&schedule, &plan)
    });
    schedule.status = Some(first.0.clone());
    let (second, conditions) = status(&seen(&schedule, &plan));
    assert_eq!(second.last_backup, first.0.last_backup);
    assert_eq!(second.last_time, first.0.last_time);
    assert!(conditions.changed().is_empty());
}

#[test]
fn a_failing_retention_is_no_failing_backup() {
    let (schedule, plan) = (schedule(json!({})), plan("30 4 * * *"));
    let rotation = |name: &str, second: u32, result: &str| {
        let mut job = schedule_job(name, second);
        job.annotations_mut().insert(RESULT.into(), result.into());
        job
    };
    let good = backup("a", 1, json!({"phase": "Completed"}));
    let jobs = [
        rotation(
            "r2",
            2,
            r#"{"kept": 0, "tombstoned": 0, "code": "unreachable.store", "message": "no answer"}"#,
        ),
        rotation("r1", 1, r#"{"kept": 7, "tombstoned": 2}"#),
    ];
    let say = |jobs: &[Job]| {
        let retained = Outcome::over(jobs);
        status(&Seen {
            backups: std::slice::from_ref(&good),
            retention: retained.as_ref(),
            ..seen(&schedule, &plan)
        })
        .0
    };
    let failed = say(&jobs);
    assert_eq!(
        condition(&failed, RETENTION_SUCCEEDED),
        Some(("False".into(), "UnreachableStore".into()))
    );
    assert_eq!(condition(&failed, LAST_RUN_SUCCEEDED).unwrap().0, "True");
    assert_eq!(condition(&failed, READY).unwrap().0, "True");
    let applied = say(&jobs[1..]);
    assert_eq!((applied.kept, applied.tombstoned), (Some(7), Some(2)));
    assert_eq!(condition(&applied, RETENTION_SUCCEEDED).unwrap().0, "True");
    assert_eq!(condition(&say(&[]), RETENTION_SUCCEEDED), None);
}

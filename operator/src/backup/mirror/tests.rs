//! What is shown, what is left alone, and what is never made.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use hardstorage_crds::Origin;

use crate::scripted::{Answers, ok, refused, scripted};
use http::Method;
use serde_json::{Value, json};

const NAME: &str = "team.orders";

impl Changes {
    fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

fn now() -> Timestamp {
    "2026-02-01T00:00:00Z".parse().unwrap()
}

fn id(hour: u32) -> String {
    format!("{NAME}.full.20260101T{hour:02}0000Z.00aa")
}

fn record(hour: u32, more: Value) -> BackupRecord {
    let mut value = json!({
        "backup_id": id(hour), "type": "full", "file_count": 1, "logical_bytes": 1024, "stored_bytes": 512, "reuse": 0.0,
        "held": false, "deleted": false, "damaged": false, "duration_ms": 200_000, "system_identifier": "7",
        "run_id": format!("run-{hour}"), "started_at": "2026-01-01T00:00:00.25Z",
    });
    value
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().cloned().unwrap_or_default());
    serde_json::from_value(value).unwrap()
}

fn place(limit: usize) -> Place {
    Place {
        namespace: "team".into(),
        repository: RepositoryRef {
            name: "main".into(),
            namespace: None,
        },
        names: Names::Only(BTreeSet::from([NAME.to_owned()])),
        owner: None,
        limit,
    }
}

/// As the API server gives them back: with whole seconds.
fn stored(objects: &[Backup]) -> Vec<Backup> {
    objects
        .iter()
        .map(|object| serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap())
        .collect()
}

fn run(name: &str, managed: bool, status: Value) -> Backup {
    let labels = if managed {
        json!({label::MANAGED_BY: MANAGER})
    } else {
        json!({})
    };
    serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "team", "labels": labels},
        "spec": {"deploymentRef": {"name": "orders"}}, "status": status}))
    .unwrap()
}

fn ids(objects: &[Backup]) -> Vec<String> {
    let id = |object: &Backup| object.spec.recorded.as_ref().map(|recorded| recorded.backup_id.clone());
    objects.iter().filter_map(id).collect()
}

#[test]
fn the_newest_and_those_on_hold_and_nothing_again() {
    let mut records: Vec<_> = (0..6).map(|hour| record(hour, json!({}))).collect();
    records[0] = record(0, json!({"held": true}));
    records[5] = record(5, json!({"deleted": true}));
    let first = changes(&place(2), &records, &[], now());
    assert_eq!(ids(&first.make), [id(0), id(3), id(4)]);
    let made = stored(&first.make);
    assert!(changes(&place(2), &records, &made, now()).is_empty());
    let status = made[0].status.clone().unwrap();
    assert_eq!(status.duration.as_deref(), Some("3m20s"));
    assert_eq!(
        (status.type_.as_deref(), status.origin),
        (Some("Full"), Some(Origin::Repository))
    );
    assert!(made.iter().all(|object| object.metadata.owner_references.is_none()));
}

#[test]
fn beyond_the_limit_objects_go_and_a_deleted_one_says_so() {
    let records: Vec<_> = (0..3).map(|hour| record(hour, json!({}))).collect();
    let made = stored(&changes(&place(3), &records, &[], now()).make);
    let fewer = changes(&place(2), &records, &made, now());
    assert_eq!((ids(&fewer.remove), fewer.update.len()), (vec![id(0)], 0));
    let mut later = records.clone();
    later[1] = record(1, json!({"deleted": true}));
    let told = changes(&place(3), &later, &made, now());
    assert_eq!((told.make.len(), told.remove.len(), told.update.len()), (0, 0, 1));
    assert_eq!(told.update[0].1.phase, Some(BackupPhase::Tombstoned));
    // Gone from the repository altogether.
    later.remove(1);
    assert_eq!(ids(&changes(&place(3), &later, &made, now()).remove), [id(1)]);
}

#[test]
fn what_a_run_shows_has_no_mirror() {
    let records = [record(1, json!({})), record(2, json!({})), record(3, json!({}))];
    let objects = [
        run("by-status", true, json!({"phase": "Completed", "backupID": id(1)})),
        run("by-run", true, json!({"phase": "Running", "runID": "run-2"})),
        {
            let mut annotated = run("by-annotation", false, json!(null));
            annotated
                .annotations_mut()
                .insert(annotation::RUN_ID.into(), "run-3".into());
            annotated
        },
    ];
    assert!(changes(&place(9), &records, &objects, now()).is_empty());
    // A mirror from before its status was known goes again.
    let mirrors = stored(&changes(&place(9), &records[..1], &[], now()).make);
    let both = [objects[0].clone(), mirrors[0].clone()];
    let out = changes(&place(9), &records[..1], &both, now());
    assert_eq!((ids(&out.remove), out.make.len()), (vec![id(1)], 0));
}

#[test]
fn a_run_that_was_deleted_says_so_and_a_wish_is_never_removed() {
    let records = [
        record(1, json!({"deleted": true})),
        record(2, json!({})),
        record(3, json!({})),
    ];
    let completed = |name: &str, managed, hour| {
        run(
            name,
            managed,
            json!({"phase": "Completed", "backupID": id(hour), "type": "Full"}),
        )
    };
    let objects = [
        completed("a", true, 1),
        completed("b", true, 2),
        completed("c", true, 3),
    ];
    let out = changes(&place(1), &records, &objects, now());
    assert_eq!(out.update.len(), 1);
    assert_eq!(out.update[0].1.phase, Some(BackupPhase::Tombstoned));
    assert_eq!(out.update[0].1.type_.as_deref(), Some("Full"));
    assert_eq!(out.remove.len(), 1);
    assert_eq!(out.remove[0].name_any(), "b");
    // From a manifest of the user's: Git would make it again, and that would be another run.
    let wishes = [completed("b", false, 2), completed("c", true, 3)];
    assert!(changes(&place(1), &records[1..], &wishes, now()).is_empty());
    // Newer than the catalogue.
    let newer = [completed("d", true, 9)];
    assert!(changes(&place(0), &records, &newer, now()).is_empty());
}

#[test]
fn never_removed_with_its_data_and_never_over_somebody_elses() {
    let records = [record(1, json!({})), record(2, json!({}))];
    let mut made = stored(&changes(&place(2), &records, &[], now()).make);
    made[0].annotations_mut().insert(annotation::DELETE_DATA.into(), id(1));
    assert_eq!(changes(&place(1), &records, &made, now()).remove, []);
    let mut strange = made[1].clone();
    strange.metadata.labels = None;
    assert_eq!(changes(&place(0), &[], &[strange], now()).remove, []);
    let namesake = run(&names::mirror(&id(2)), false, json!(null));
    assert!(changes(&place(1), &records, &[namesake], now()).is_empty());
}

#[test]
fn other_names_and_other_repositories_are_somebody_elses() {
    let records = [record(1, json!({}))];
    let made = stored(&changes(&place(1), &records, &[], now()).make);
    let elsewhere = Place {
        names: Names::Except(BTreeSet::from([NAME.to_owned()])),
        ..place(1)
    };
    assert!(changes(&elsewhere, &records, &made, now()).is_empty());
    let all = Place {
        names: Names::Except(BTreeSet::new()),
        ..place(1)
    };
    assert!(changes(&all, &records, &made, now()).is_empty());
    let other = Place {
        repository: RepositoryRef {
            name: "second".into(),
            namespace: None,
        },
        ..place(1)
    };
    assert_eq!(changes(&other, &[], &made, now()), Changes::default());
    let spelled_out = Place {
        repository: RepositoryRef {
            name: "main".into(),
            namespace: Some("team".into()),
        },
        ..place(1)
    };
    assert!(changes(&spelled_out, &records, &made, now()).is_empty());
}

#[test]
fn what_cannot_be_read_is_shown_with_the_reason() {
    let records = [record(1, json!({"problem": "its manifest is damaged"}))];
    let status = changes(&place(1), &records, &[], now()).make[0].status.clone().unwrap();
    assert_eq!(status.phase, Some(BackupPhase::Failed));
    assert_eq!(
        status.failure.unwrap().message.as_deref(),
        Some("its manifest is damaged")
    );
    assert_eq!(status.size, None);
}

#[tokio::test]
async fn one_that_is_there_is_not_touched_and_one_that_is_gone_stops_nothing() {
    let records = [record(1, json!({})), record(2, json!({}))];
    let made = stored(&changes(&place(2), &records, &[], now()).make);
    let out = Changes {
        make: vec![made[0].clone()],
        update: vec![(made[1].clone(), BackupStatus::default())],
        remove: vec![made[1].clone()],
    };
    let base = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups";
    let second = format!("{base}/{}", made[1].name_any());
    let script = vec![
        refused(Method::POST, base, 409, "AlreadyExists"),
        refused(Method::PATCH, &format!("{second}/status"), 404, "NotFound"),
        refused(Method::DELETE, &second, 404, "NotFound"),
    ];
    let (context, server) = scripted(script, Answers::default(), now());
    carry_out(&context, out).await.unwrap();
    drop(context);
    server.await.unwrap();
}

#[tokio::test]
async fn a_new_one_gets_its_status() {
    let out = changes(&place(1), &[record(1, json!({}))], &[], now());
    let base = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups";
    let status = format!("{base}/{}/status", out.make[0].name_any());
    let mut made = serde_json::to_value(&out.make[0]).unwrap();
    made["metadata"]["generation"] = json!(1);
    let script = vec![ok(Method::POST, base, made.clone()), ok(Method::PATCH, &status, made)];
    let (context, server) = scripted(script, Answers::default(), now());
    carry_out(&context, out).await.unwrap();
    drop(context);
    let asked = server.await.unwrap();
    assert!(asked[0].2.get("status").is_none(), "{:#}", asked[0].2);
    assert_eq!(asked[1].2["status"]["phase"], "Completed");
    assert_eq!(asked[1].2["status"]["observedGeneration"], 1);
}

#[test]
fn a_failed_run_whose_backup_lies_there_did_not_fail() {
    let failed = run(
        "a",
        true,
        json!({"phase": "Failed", "runID": "run-3", "origin": "Manual", "failure": {"message": "gone"}}),
    );
    let found = changes(&place(5), &[record(3, json!({}))], &[failed], now());
    let status = &found.update[0].1;
    assert_eq!(status.phase, Some(BackupPhase::Completed));
    assert_eq!(status.origin, Some(Origin::Manual));
    assert_eq!(status.backup_id.as_deref(), Some(id(3).as_str()));
    assert!(status.failure.is_none() && found.make.is_empty());
}

#[test]
fn the_last_good_run_of_a_schedule_stays_however_often_others_run() {
    let records: Vec<BackupRecord> = (0..6).map(|hour| record(hour, json!({}))).collect();
    let of = |schedule: &str, hour: u32| {
        let mut object = run(
            &format!("{schedule}-{hour}"),
            true,
            json!({"phase": "Completed", "backupID": id(hour)}),
        );
        object.labels_mut().insert(label::SCHEDULE.into(), schedule.into());
        object
    };
    let objects = [of("weekly", 0), of("weekly", 1), of("hourly", 4), of("hourly", 5)];
    let gone = |limit: usize| -> Vec<String> {
        let changes = changes(&place(limit), &records, &objects, now());
        changes.remove.iter().map(kube::ResourceExt::name_any).collect()
    };
    assert_eq!(gone(2), ["weekly-0"]);
    assert_eq!(gone(0), ["weekly-0", "hourly-4"]);
}

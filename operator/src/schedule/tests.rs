//! A schedule on an API server that remembers, broken off at every write.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::samples::schedule;
use super::*;
use crate::backup::tests::{answers, world};
use crate::remembering::{Break, Server};
use crate::scripted::{Answers, ok, refused, scripted};
use http::Method;
use serde_json::Value;

const OURS: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team";
pub const NIGHTLY: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackupschedules/nightly";
pub const BACKUPS: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups";
pub const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
pub const CRON_JOB: &str = "/apis/batch/v1/namespaces/team/cronjobs/nightly";

pub fn server(more: Value, run_now: Option<&str>) -> Server {
    let server = world(0, serde_json::json!({"metadata": {"name": "x"}}));
    server.remove(&format!("{BACKUPS}/mine"));
    let mut object = serde_json::to_value(schedule(more)).unwrap();
    if let Some(value) = run_now {
        object["metadata"]["annotations"][annotation::RUN_NOW] = json!(value);
    }
    server.put(NIGHTLY, object);
    server
}

pub async fn step(server: &Server) -> bool {
    let object: BackupSchedule = server.get(NIGHTLY).unwrap();
    reconcile(Arc::new(object), server.context(answers(&[], None)))
        .await
        .is_ok()
}

fn ready(server: &Server) -> String {
    let object: Value = server.get(NIGHTLY).unwrap();
    object["status"]["conditions"][0]["reason"].as_str().unwrap().to_owned()
}

/// The result of a Job is stored.
fn store(server: &Server) {
    for job in server.below(JOBS) {
        let path = format!("{JOBS}/{}", job["metadata"]["name"].as_str().unwrap());
        server.change(&path, |job| {
            job["metadata"]["annotations"] = json!({annotation::STORED: "Failed"});
        });
    }
}

#[tokio::test]
async fn a_word_is_one_run_wherever_it_breaks_off() {
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let server = server(json!({"history": {"successful": 0, "failed": 0}}), Some("1"));
            server.break_at(write, how);
            for round in 0..8 {
                step(&server).await;
                if round == 4 {
                    assert_eq!(server.below(BACKUPS).len(), 1, "{how:?} {write}");
                    store(&server);
                }
            }
            assert_eq!(server.count(&Method::POST, JOBS), 1, "{how:?} {write}");
            assert_eq!(server.below(BACKUPS).len(), 1, "{how:?} {write}");
            assert!(server.below(JOBS).is_empty(), "past");
            let cron_job: Value = server.get(CRON_JOB).unwrap();
            assert_eq!(cron_job["metadata"]["annotations"][annotation::RUN_NOW], "1");
            if !server.broke() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_second_look_writes_nothing() {
    let server = server(json!({}), None);
    assert!(step(&server).await && step(&server).await);
    let before: Value = server.get(NIGHTLY).unwrap();
    let applied = server.count(&Method::PATCH, "/");
    assert!(step(&server).await);
    assert_eq!(server.count(&Method::PATCH, "/"), applied);
    assert_eq!(server.get::<Value>(NIGHTLY).unwrap(), before);
    assert_eq!(ready(&server), "Scheduled");
    assert!(before["status"]["nextTime"].is_string());
    assert_eq!(server.count(&Method::POST, JOBS), 0);
}

/// A watch may be behind: which run was the last is not forgotten for what was seen before it.
#[tokio::test]
async fn an_old_view_does_not_undo_what_is_remembered() {
    let server = server(json!({}), None);
    let old: BackupSchedule = server.get(NIGHTLY).unwrap();
    assert!(step(&server).await);
    server.change(NIGHTLY, |object| {
        object["status"]["lastBackup"] = json!({"name": "nightly-1", "result": "Completed"});
    });
    let remembered: Value = server.get(NIGHTLY).unwrap();
    let outcome = reconcile(Arc::new(old), server.context(answers(&[], None))).await;
    assert!(outcome.unwrap_err().is_conflict());
    assert_eq!(server.get::<Value>(NIGHTLY).unwrap(), remembered);
    assert!(step(&server).await);
    assert_eq!(
        server.get::<Value>(NIGHTLY).unwrap()["status"]["lastBackup"]["name"],
        "nightly-1"
    );
}

#[tokio::test]
async fn jobs_that_others_made_get_their_object() {
    let server = server(json!({}), None);
    assert!(step(&server).await);
    // As `kubectl create job --from=cronjob/nightly` does.
    let template = server.get::<Value>(CRON_JOB).unwrap()["spec"]["jobTemplate"].clone();
    let mut job =
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": template["metadata"], "spec": template["spec"]});
    job["metadata"]["name"] = json!("by-hand");
    job["metadata"]["namespace"] = json!("team");
    server.put(&format!("{JOBS}/by-hand"), job);
    assert!(step(&server).await && step(&server).await);
    let made = server.below(BACKUPS);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["metadata"]["name"], "by-hand");
    let uid = server.get::<Value>(&format!("{JOBS}/by-hand")).unwrap()["metadata"]["uid"].clone();
    assert_eq!(made[0]["metadata"]["annotations"][annotation::RUN_ID], uid);
    assert_eq!(made[0]["metadata"]["ownerReferences"][0]["uid"], "uid-orders");
    // Somebody deletes it once the result is stored: it stays away.
    store(&server);
    server.remove(&format!("{BACKUPS}/by-hand"));
    assert!(step(&server).await);
    assert!(server.below(BACKUPS).is_empty());
}

#[tokio::test]
async fn a_broken_reference_changes_nothing_and_nothing_to_back_up_rests() {
    let suspended = |server: &Server| server.get::<Value>(CRON_JOB).unwrap()["spec"]["suspend"] == json!(true);
    for (path, reason, rests) in [
        (format!("{OURS}/hsrepositories/main"), "RepositoryMissing", false),
        (format!("{OURS}/hsdeployments/orders"), "DeploymentMissing", true),
    ] {
        let server = server(json!({}), None);
        assert!(step(&server).await);
        let before: Value = server.get(CRON_JOB).unwrap();
        let gone: Value = server.get(&path).unwrap();
        server.remove(&path);
        assert!(step(&server).await);
        assert_eq!(ready(&server), reason);
        assert_eq!(suspended(&server), rests, "{reason}");
        if !rests {
            assert_eq!(server.get::<Value>(CRON_JOB).unwrap(), before);
        }
        server.put(&path, gone);
        assert!(step(&server).await);
        assert!(!suspended(&server));
        assert_eq!(ready(&server), "Scheduled");
    }
}

#[tokio::test]
async fn nonsense_and_a_strangers_cron_job_are_conditions() {
    let broken = server(json!({"schedule": "5-3 * * * *"}), None);
    assert!(step(&broken).await);
    assert_eq!(ready(&broken), "InvalidSchedule");
    assert!(broken.get::<Value>(CRON_JOB).is_none());
    let theirs = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "team"},
        "spec": {"schedule": "0 0 * * *", "jobTemplate": {}}});
    let taken = server(json!({}), Some("1"));
    taken.put(CRON_JOB, theirs);
    let before: Value = taken.get(CRON_JOB).unwrap();
    assert!(step(&taken).await);
    assert_eq!(ready(&taken), "NameTaken");
    assert_eq!(taken.get::<Value>(CRON_JOB).unwrap(), before);
    assert_eq!(taken.count(&Method::POST, JOBS), 0);
}

#[tokio::test]
async fn at_once_needs_a_catalogue_and_runs_once() {
    let server = server(json!({"immediate": true}), None);
    assert!(step(&server).await);
    assert_eq!(server.count(&Method::POST, JOBS), 0);
    server.change(&format!("{OURS}/hsdeployments/orders"), |object| {
        object["status"] = json!({"phase": "Streaming"});
    });
    for _ in 0..3 {
        assert!(step(&server).await);
    }
    store(&server);
    for _ in 0..3 {
        assert!(step(&server).await);
    }
    assert_eq!(server.count(&Method::POST, JOBS), 1);
}

#[tokio::test]
async fn at_once_asks_the_stream_itself_so_that_a_rebuild_from_git_takes_no_backup_of_all() {
    // The stream flows, its Deployment's status is new and says nothing of backups; ten hours ago there was one.
    let server = server(json!({"immediate": true}), None);
    server.change(&format!("{OURS}/hsdeployments/orders"), |object| {
        object["status"] = json!({"phase": "Streaming"});
    });
    let step = async |stopped: Option<&str>| {
        let mut pods = answers(&[], None);
        match stopped {
            Some(stopped) => {
                let record = json!({"backup_id": "team.orders.full.20251231T140000Z.00aa", "type": "full", "file_count": 1,
                    "logical_bytes": 1, "stored_bytes": 1, "reuse": 0.0, "held": false, "deleted": false,
                    "damaged": false, "stopped_at": stopped});
                let catalog = pods.catalogs.get_mut("10.0.0.9").unwrap();
                catalog.backups.push(serde_json::from_value(record).unwrap());
            }
            // It has not read the catalogue yet.
            None => pods.reports.get_mut("10.0.0.9").unwrap().catalog = None,
        }
        let object: BackupSchedule = server.get(NIGHTLY).unwrap();
        reconcile(Arc::new(object), server.context(pods)).await.unwrap();
        server.count(&Method::POST, JOBS)
    };
    assert_eq!(step(None).await, 0);
    assert_eq!(step(Some("2025-12-31T14:00:00Z")).await, 0);
    assert_eq!(step(Some("2025-12-30T14:00:00Z")).await, 1);
}

#[tokio::test]
async fn a_missing_right_is_named_and_what_was_known_stays() {
    let words = "jobs.batch is forbidden: User \"system:serviceaccount:a:b\" cannot list resource \"jobs\" in API group \
                 \"batch\" in the namespace \"team\"";
    let mut forbidden = refused(Method::GET, &format!("{OURS}/hsdeployments/orders"), 403, "Forbidden");
    forbidden.body["message"] = json!(words);
    let known = json!({"lastBackup": {"name": "a", "result": "Completed"}, "conditions": [{"type": "LastRunSucceeded",
        "status": "True", "reason": "Completed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let mut object = serde_json::to_value(schedule(json!({}))).unwrap();
    object["status"] = known;
    let script = vec![
        forbidden,
        ok(Method::PATCH, &format!("{NIGHTLY}/status"), object.clone()),
        ok(
            Method::POST,
            "/apis/events.k8s.io/v1/namespaces/team/events",
            Value::Null,
        ),
    ];
    let (context, server) = scripted(script, Answers::default(), jiff::Timestamp::UNIX_EPOCH);
    let object: BackupSchedule = serde_json::from_value(object).unwrap();
    let outcome = reconcile(Arc::new(object), context.clone()).await;
    drop(context);
    assert_eq!(outcome.unwrap(), Action::requeue(LOOK), "it is tried again");
    let asked = server.await.unwrap();
    let status = &asked[1].2["status"];
    assert_eq!(status["lastBackup"]["name"], "a");
    let said = |type_: &str| {
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().find(|one| one["type"] == type_).unwrap().clone()
    };
    assert_eq!(
        (&said("Ready")["reason"], &said("Stalled")["status"]),
        (&json!("Forbidden"), &json!("True"))
    );
    assert!(said("Ready")["message"].as_str().unwrap().contains(words));
    assert_eq!(said("LastRunSucceeded")["status"], "True");
}

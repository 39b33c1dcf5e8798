//! Runs of a schedule with their Backup objects, from the Job to what the schedule says: whoever made the Job, and however
//! it ends.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::tests::{BACKUPS, CRON_JOB, JOBS, NIGHTLY, server, step};
use super::*;
use crate::backup::tests::answers;
use crate::names::label;
use crate::pod::ENGINE_CONTAINER;
use crate::remembering::Server;
use hardstorage_report::{RunReport, RunState};
use http::Method;
use serde_json::Value;

/// As the CronJob controller does, or `kubectl create job --from`.
fn job(server: &Server, name: &str, made: &str) -> String {
    let template = server.get::<Value>(CRON_JOB).unwrap()["spec"]["jobTemplate"].clone();
    let uid = format!("uid-{name}");
    let mut job =
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": template["metadata"], "spec": template["spec"]});
    let more = json!({"name": name, "namespace": "team", "uid": uid, "creationTimestamp": made});
    let metadata = job["metadata"].as_object_mut().unwrap();
    metadata.extend(more.as_object().unwrap().clone());
    server.put(&format!("{JOBS}/{name}"), job);
    uid
}

fn pod(server: &Server, job: &str, status: Value) {
    let uid = format!("uid-{job}");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": job, "namespace": "team",
        "creationTimestamp": "2025-12-31T23:00:00Z", "labels": {label::JOB_UID: uid},
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": uid, "controller": true}]},
        "status": status});
    server.put(&format!("/api/v1/namespaces/team/pods/{job}"), pod);
}

fn over(server: &Server, job: &str) {
    server.change(&format!("{JOBS}/{job}"), |job| {
        job["status"] = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
            "lastTransitionTime": "2026-01-01T00:05:00Z"}]});
    });
}

/// One look at a Backup.
async fn backup(server: &Server, name: &str, run: Option<RunReport>) -> Value {
    let path = format!("{BACKUPS}/{name}");
    let object: Backup = server.get(&path).unwrap();
    crate::backup::reconcile(Arc::new(object), server.context(answers(&[], run)))
        .await
        .unwrap();
    server.get::<Value>(&path).unwrap()["status"].clone()
}

fn says(status: &Value, type_: &str) -> (String, String) {
    let conditions = status["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|one| one["type"] == type_).unwrap();
    let word = |key: &str| found[key].as_str().unwrap().to_owned();
    (word("status"), word("reason"))
}

fn schedule_says(server: &Server) -> (String, String) {
    says(&server.get::<Value>(NIGHTLY).unwrap()["status"], LAST_RUN_SUCCEEDED)
}

#[tokio::test]
async fn whatever_ends_a_run_is_told_and_the_next_one_happens() {
    type Happens = fn(&Server);
    let causes: [(&str, Happens); 4] = [
        ("Evicted", |server| {
            pod(
                server,
                "nightly-1",
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
            );
            over(server, "nightly-1");
        }),
        ("OOMKilled", |server| {
            let ended = json!([{"name": ENGINE_CONTAINER, "ready": false, "restartCount": 0, "image": "", "imageID": "",
                "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]);
            pod(
                server,
                "nightly-1",
                json!({"phase": "Failed", "containerStatuses": ended}),
            );
            over(server, "nightly-1");
        }),
        ("Unschedulable", |server| {
            let unscheduled = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available"}]);
            pod(
                server,
                "nightly-1",
                json!({"phase": "Pending", "conditions": unscheduled}),
            );
        }),
        ("QuotaExceeded", |_| {}),
    ];
    for (reason, happens) in causes {
        let server = server(json!({}), None);
        assert!(step(&server).await);
        job(&server, "nightly-1", "2025-12-31T23:00:00Z");
        happens(&server);
        assert!(step(&server).await);
        let status = backup(&server, "nightly-1", None).await;
        assert_eq!(status["phase"], "Failed", "{reason}: {status}");
        assert_eq!(says(&status, "Stalled"), ("True".into(), reason.into()));
        assert!(status["failure"]["hint"].is_string(), "{reason}");
        assert!(step(&server).await);
        assert_eq!(schedule_says(&server), ("False".into(), reason.into()));
        // Nothing of it forbids the next one, and nothing of it begins after all.
        let left: Vec<Job> = server
            .below(JOBS)
            .into_iter()
            .map(|job| serde_json::from_value(job).unwrap())
            .collect();
        assert!(!is_running(&left), "{reason}");
        assert!(
            left.iter().all(|job| job.status.is_some()),
            "{reason}: what has not ended is gone"
        );

        let uid = job(&server, "nightly-2", "2026-01-01T00:09:00Z");
        pod(&server, "nightly-2", json!({"phase": "Running", "podIP": "10.0.0.1"}));
        assert!(step(&server).await);
        let mut report = RunReport::new("backup", Some(uid), "0.1.0");
        report.state = RunState::Succeeded;
        report.result = Some(json!({"backup_id": "team.orders.full.20260101T001000Z.00aa"}));
        assert_eq!(backup(&server, "nightly-2", Some(report)).await["phase"], "Completed");
        assert!(step(&server).await);
        assert_eq!(schedule_says(&server), ("True".into(), "Completed".into()), "{reason}");
    }
}

#[tokio::test]
async fn every_run_appears_once_whoever_made_its_job() {
    let server = server(json!({}), None);
    let wish = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup", "metadata": {"name": "mine",
        "namespace": "team", "uid": "own", "labels": {label::SCHEDULE: "nightly"}},
        "spec": {"deploymentRef": {"name": "orders"}}});
    server.put(&format!("{BACKUPS}/mine"), wish);
    assert!(step(&server).await);
    job(&server, "nightly-29000000", "2026-01-01T00:00:00Z");
    job(&server, "by-hand", "2026-01-01T00:00:00Z");
    backup(&server, "mine", None).await;
    for _ in 0..3 {
        assert!(step(&server).await);
    }
    assert_eq!(server.below(JOBS).len(), 3, "the wish has a Job, too");
    let names: Vec<Value> = server
        .below(BACKUPS)
        .iter()
        .map(|one| one["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["by-hand", "mine", "nightly-29000000"]);
    assert_eq!(server.count(&Method::POST, BACKUPS), 2);
}

#[tokio::test]
async fn a_time_zone_holds_for_the_cron_job_and_for_what_is_told() {
    let server = server(json!({"schedule": "30 4 * * *", "timeZone": "Asia/Kathmandu"}), None);
    assert!(step(&server).await);
    let cron_job: Value = server.get(CRON_JOB).unwrap();
    assert_eq!(cron_job["spec"]["timeZone"], "Asia/Kathmandu");
    assert_eq!(cron_job["spec"]["schedule"], "30 4 * * *", "no TZ= among the fields");
    // 04:30 there is a quarter to eleven in the evening before.
    let told = server.get::<Value>(NIGHTLY).unwrap()["status"]["nextTime"].clone();
    assert_eq!(told, "2026-01-01T22:45:00Z");
}

#[tokio::test]
async fn a_random_time_is_the_same_after_a_rebuild() {
    let fields = async |uid: &str| {
        let server = server(json!({"schedule": "@daily-random"}), None);
        server.change(NIGHTLY, |object| object["metadata"]["uid"] = json!(uid));
        assert!(step(&server).await);
        server.get::<Value>(CRON_JOB).unwrap()["spec"]["schedule"].clone()
    };
    let first = fields("before").await;
    assert_eq!(first, fields("after").await);
    assert!(!first.as_str().unwrap().starts_with('@'));
}

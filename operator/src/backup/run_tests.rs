//! Runs on an API server that remembers, broken off at every write.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use std::sync::Arc;

use super::super::reconcile;
use super::*;
use crate::names::MANAGER;
use crate::remembering::{Break, Server};
use crate::report::ServedCatalog;
use crate::scripted::Answers;
use hardstorage_report::{CatalogTag, ErrorReport, RunReport, RunState};
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

const OURS: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team";
pub const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const PODS: &str = "/api/v1/namespaces/team/pods";
pub const WISH: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups/mine";
const ID: &str = "team.orders.full.20260101T000000Z.00aa";

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

pub fn wish(annotation: Value, status: Value) -> Value {
    json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": "mine", "namespace": "team", "uid": "own", "annotations": annotation,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"argocd.argoproj.io/instance": "app"}},
        "spec": {"deploymentRef": {"name": "orders"}}, "status": status})
}

/// Deployment `orders` that streams into Repository `main`.
pub fn world(limit: u32, wish: Value) -> Server {
    let owner = |kind: &str, uid: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": kind, "uid": uid, "controller": true}]);
    let labels = json!({"hardstorage.dev/role": "wal", "hardstorage.dev/deployment": "orders"});
    Server::new(
        vec![
            (WISH, wish),
            (
                "/api/v1/namespaces/team",
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}),
            ),
            (
                &format!("{OURS}/hsdeployments/orders"),
                json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment",
                    "metadata": {"name": "orders", "namespace": "team", "uid": "uid-orders"},
                    "spec": {"source": {"connection": {"hosts": [{"host": "db1"}], "user": "backup"}},
                        "repositoryRef": {"name": "main"}}}),
            ),
            (
                &format!("{OURS}/hsrepositories/main"),
                json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
                    "metadata": {"name": "main", "namespace": "team"},
                    "spec": {"url": "s3://b/p", "limits": {"concurrentBackups": limit}}, "status": {"repositoryID": "01"}}),
            ),
            (
                "/apis/apps/v1/namespaces/team/deployments/orders-wal",
                json!({"apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": {"name": "orders-wal", "namespace": "team", "uid": "d"}}),
            ),
            (
                "/apis/apps/v1/namespaces/team/replicasets/orders-wal-1",
                json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "orders-wal-1",
                    "namespace": "team", "uid": "r", "labels": labels, "ownerReferences": owner("Deployment", "d")}}),
            ),
            (
                &format!("{PODS}/orders-wal-1-x"),
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orders-wal-1-x", "namespace": "team",
                    "uid": "p", "labels": labels, "ownerReferences": owner("ReplicaSet", "r")},
                    "status": {"phase": "Running", "podIP": "10.0.0.9"}}),
            ),
        ],
        now(),
    )
}

/// What the pods answer: the stream has these runs in its catalogue; the run is so.
pub fn answers(runs: &[&str], run: Option<RunReport>) -> Answers {
    let mut answers = Answers::default();
    let mut stream = RunReport::new("wal stream", Some("uid-orders".into()), "0.1.0");
    stream.catalog = Some(CatalogTag {
        etag: "1".into(),
        backups: runs.len(),
    });
    answers.reports.insert("10.0.0.9".into(), stream);
    let record = |run: &&str| {
        serde_json::from_value(
            json!({"backup_id": ID, "type": "full", "file_count": 1, "logical_bytes": 1, "stored_bytes": 1,
            "reuse": 0.0, "held": false, "deleted": false, "damaged": false, "run_id": run}),
        )
        .unwrap()
    };
    let catalog = ServedCatalog {
        etag: "1".into(),
        repository_id: "01".into(),
        backups: runs.iter().map(record).collect(),
    };
    answers.catalogs.insert("10.0.0.9".into(), catalog);
    if let Some(run) = run {
        answers.reports.insert("10.0.0.1".into(), run);
    }
    answers
}

fn report(state: RunState) -> RunReport {
    let mut report = RunReport::new("backup", Some("own".into()), "0.1.0");
    report.state = state;
    if state == RunState::Succeeded {
        report.result = Some(json!({"backup_id": ID}));
    }
    if state == RunState::Failed {
        report.error = Some(ErrorReport {
            code: "auth.password".into(),
            message: "m".into(),
            hint: "h".into(),
            exit_code: 3,
        });
    }
    report
}

/// What the Job controller does: a pod for each Job that was let go.
fn pods(server: &Server) {
    for job in server.below(JOBS) {
        let (name, uid) = (job["metadata"]["name"].as_str().unwrap(), &job["metadata"]["uid"]);
        let path = format!("{PODS}/{name}-x");
        if job["spec"]["suspend"] != json!(true) && server.get::<Value>(&path).is_none() {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{name}-x"),
                "namespace": "team", "labels": {label::JOB_UID: uid},
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true}]},
                "status": {"phase": "Running", "podIP": "10.0.0.1"}});
            server.put(&path, pod);
        }
    }
}

/// One reconcile; whether it went well.
pub async fn step(server: &Server, answers: Answers) -> bool {
    let context = server.context(answers);
    let backup: Backup = server.get(WISH).unwrap();
    reconcile(Arc::new(backup), context).await.is_ok()
}

pub fn phase(server: &Server) -> (String, String) {
    let object: Value = server.get(WISH).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|one| one["type"] == "Ready");
    (
        word(&object["status"]["phase"]),
        ready.map(|ready| word(&ready["reason"])).unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_wish_is_one_run_wherever_it_breaks_off() {
    for limit in [0, 1] {
        for how in [Break::Before, Break::After] {
            for write in 0.. {
                let server = world(limit, wish(Value::Null, Value::Null));
                server.break_at(write, how);
                for _ in 0..8 {
                    pods(&server);
                    step(&server, answers(&[], Some(report(RunState::Succeeded)))).await;
                }
                assert_eq!(server.count(&Method::POST, JOBS), 1, "{limit} {how:?} {write}");
                assert_eq!(
                    phase(&server),
                    ("Completed".into(), "Completed".into()),
                    "{how:?} {write}"
                );
                assert!(server.below(JOBS).is_empty(), "{how:?} {write}: its Job is put away");
                let object: Backup = server.get(WISH).unwrap();
                assert_eq!(object.annotations()[annotation::RUN_ID], "own");
                assert_eq!(object.status.unwrap().run_id.as_deref(), Some("own"));
                if !server.broke() {
                    assert!(
                        write >= 5,
                        "the script has at least pledge, Job, status, status, deletion"
                    );
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn marks_of_other_tools_never_reach_the_job() {
    let server = world(0, wish(Value::Null, Value::Null));
    assert!(step(&server, answers(&[], None)).await);
    let job = &server.below(JOBS)[0];
    assert!(job["metadata"]["labels"].get("argocd.argoproj.io/instance").is_none());
    assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "own");
    assert_eq!(phase(&server), ("Pending".into(), "Starting".into()));
}

#[tokio::test]
async fn what_came_back_is_looked_up_and_never_run() {
    let pledge = json!({annotation::RUN_ID: "before"});
    let lost = json!({"phase": "Running", "runID": "own"});
    let own = json!({annotation::RUN_ID: "own"});
    // The object, the runs in the repository, what it says.
    let cases = [
        (
            wish(pledge.clone(), Value::Null),
            vec!["before"],
            ("Completed", "FoundInRepository"),
        ),
        (
            wish(pledge.clone(), Value::Null),
            vec!["another"],
            ("Failed", "ReportLost"),
        ),
        (
            wish(own.clone(), lost.clone()),
            vec!["own"],
            ("Completed", "FoundInRepository"),
        ),
        (wish(own.clone(), lost), vec![], ("Failed", "ReportLost")),
        // Its pledge is its own, and the run is done: an older state of the cluster came back.
        (wish(own, Value::Null), vec!["own"], ("Completed", "FoundInRepository")),
    ];
    for (object, runs, (wanted, reason)) in cases {
        let server = world(0, object.clone());
        for _ in 0..3 {
            assert!(step(&server, answers(&runs, None)).await);
        }
        assert_eq!(phase(&server), (wanted.into(), reason.into()), "{object}");
        assert_eq!(server.count(&Method::POST, JOBS), 0, "{object}");
    }
    // Nobody can be asked: it waits, and still does not run.
    for pledged in ["before", "own"] {
        let server = world(0, wish(json!({annotation::RUN_ID: pledged}), Value::Null));
        assert!(step(&server, Answers::default()).await);
        assert_eq!(phase(&server), ("Pending".into(), "CatalogUnheard".into()));
        assert_eq!(server.count(&Method::POST, JOBS), 0);
    }
}

#[tokio::test]
async fn a_run_that_ends_without_a_word_is_sought() {
    let server = world(0, wish(Value::Null, Value::Null));
    assert!(step(&server, answers(&[], None)).await);
    let job = format!("{JOBS}/{}", server.below(JOBS)[0]["metadata"]["name"].as_str().unwrap());
    let failed = |at: &str| {
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
            "lastTransitionTime": at}]})
    };
    // Just now: its commit may be seen in a moment.
    server.change(&job, |job| job["status"] = failed("2026-01-01T00:09:30Z"));
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(phase(&server), ("Running".into(), "LookingUp".into()));
    server.change(&job, |job| job["status"] = failed("2026-01-01T00:05:00Z"));
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(phase(&server), ("Failed".into(), "NodeLost".into()));
    // Its Job stays for its events, and is not looked at again.
    let kept: Value = server.get(&job).unwrap();
    assert_eq!(kept["metadata"]["annotations"][annotation::STORED], "Failed");
    // The commit is seen after all.
    assert!(step(&server, answers(&["own"], None)).await);
    assert_eq!(phase(&server), ("Completed".into(), "FoundInRepository".into()));
    assert_eq!(server.count(&Method::POST, JOBS), 1);
}

#[tokio::test]
async fn what_never_began_must_not_begin_later() {
    let server = world(0, wish(Value::Null, Value::Null));
    assert!(step(&server, answers(&[], None)).await);
    let name = server.below(JOBS)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    server.change(&format!("{JOBS}/{name}"), |job| {
        job["metadata"]["creationTimestamp"] = json!("2025-12-31T23:00:00Z");
    });
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(phase(&server), ("Failed".into(), "QuotaExceeded".into()));
    assert!(server.below(JOBS).is_empty());
}

#[tokio::test]
async fn a_failure_keeps_its_job_and_is_heard() {
    let server = world(0, wish(Value::Null, Value::Null));
    for _ in 0..4 {
        pods(&server);
        let answers = answers(&[], Some(report(RunState::Failed)));
        let heard = answers.heard.clone();
        assert!(step(&server, answers).await);
        let told = !heard.lock().unwrap().is_empty();
        assert!(!told || phase(&server).0 == "Failed", "heard only when it is stored");
    }
    assert_eq!(phase(&server), ("Failed".into(), "AuthPassword".into()));
    assert_eq!(
        server.below(JOBS)[0]["metadata"]["annotations"][annotation::STORED],
        "Failed"
    );
}

#[tokio::test]
async fn a_missing_reference_waits_and_then_runs() {
    let server = world(0, wish(Value::Null, Value::Null));
    let path = format!("{OURS}/hsdeployments/orders");
    let deployment: Value = server.get(&path).unwrap();
    server.remove(&path);
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(phase(&server), ("Pending".into(), "DeploymentMissing".into()));
    let object: Backup = server.get(WISH).unwrap();
    assert!(!object.annotations().contains_key(annotation::RUN_ID));
    server.put(&path, deployment);
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(server.count(&Method::POST, JOBS), 1);
}

#[tokio::test]
async fn one_waits_for_its_turn() {
    let server = world(1, wish(Value::Null, Value::Null));
    let other = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "other", "namespace": "team",
        "labels": {label::ROLE: "backup", label::REPOSITORY: "main", label::REPOSITORY_NAMESPACE: "team"}},
        "spec": {"suspend": false, "template": {}}});
    server.put(&format!("{JOBS}/other"), other);
    for _ in 0..3 {
        assert!(step(&server, answers(&[], None)).await);
        assert_eq!(phase(&server), ("Queued".into(), "Queued".into()));
    }
    server.remove(&format!("{JOBS}/other"));
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(server.below(JOBS)[0]["spec"]["suspend"], json!(false));
    assert_eq!(phase(&server), ("Pending".into(), "Starting".into()));
}

#[tokio::test]
async fn figures_are_written_once_a_minute_and_transitions_at_once() {
    let server = world(0, wish(Value::Null, Value::Null));
    let running = |done: u64| {
        let mut report = report(RunState::Running);
        report.progress = json!({"done_bytes": done, "total_bytes": 100});
        report
    };
    let percent = |server: &Server| server.get::<Value>(WISH).unwrap()["status"]["progress"]["percent"].clone();
    for done in [10, 20] {
        step(&server, answers(&[], None)).await;
        pods(&server);
        assert!(step(&server, answers(&[], Some(running(done)))).await);
    }
    let managed =
        |time: &str| json!([{"manager": MANAGER, "operation": "Apply", "subresource": "status", "time": time}]);
    let written = percent(&server);
    for (time, wanted) in [
        ("2026-01-01T00:09:30Z", written.clone()),
        ("2026-01-01T00:08:00Z", json!(70)),
    ] {
        server.change(WISH, |object| object["metadata"]["managedFields"] = managed(time));
        assert!(step(&server, answers(&[], Some(running(70)))).await);
        assert_eq!(percent(&server), wanted, "{time}");
    }
    server.change(WISH, |object| {
        object["metadata"]["managedFields"] = managed("2026-01-01T00:09:59Z");
    });
    assert!(step(&server, answers(&[], Some(report(RunState::Succeeded)))).await);
    assert_eq!(phase(&server).0, "Completed");
}

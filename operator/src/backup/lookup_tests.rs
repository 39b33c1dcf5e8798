//! What is known of a run is neither forgotten nor overwritten: when its Job is gone, when the watch is behind, when a right
//! is missing, when another one waits that never goes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::sync::Arc;

use super::super::reconcile;
use super::super::run::tests::{JOBS, WISH, answers, phase, step, wish, world};
use crate::names::{MANAGER, annotation, label};
use crate::scripted::{Answers, ok, refused, scripted};
use hardstorage_crds::Backup;
use http::Method;
use jiff::Timestamp;
use kube::runtime::controller::Action;
use serde_json::{Value, json};

fn running() -> Value {
    wish(
        json!({annotation::RUN_ID: "own"}),
        json!({"phase": "Running", "runID": "own"}),
    )
}

#[tokio::test]
async fn a_run_whose_job_is_gone_is_not_lost_before_its_commit_would_be_seen() {
    let server = world(0, running());
    let looked = |at: &str| {
        let managed = json!([{"manager": MANAGER, "operation": "Apply", "subresource": "status", "time": at}]);
        server.change(WISH, |object| object["metadata"]["managedFields"] = managed);
    };
    looked("2026-01-01T00:01:00Z");
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(phase(&server), ("Running".into(), "LookingUp".into()));
    looked("2026-01-01T00:09:00Z");
    assert!(step(&server, Answers::default()).await);
    assert_eq!(phase(&server), ("Running".into(), "LookingUp".into()));
    let seen = server.get::<Value>(WISH).unwrap();
    assert!(step(&server, answers(&["own"], None)).await);
    assert_eq!(phase(&server), ("Completed".into(), "FoundInRepository".into()));
    // Its commit was never seen.
    server.change(WISH, |object| object["status"] = seen["status"].clone());
    looked("2026-01-01T00:07:00Z");
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(phase(&server), ("Failed".into(), "ReportLost".into()));
    assert_eq!(server.count(&Method::POST, JOBS), 0);
}

#[tokio::test]
async fn an_old_view_neither_runs_again_nor_takes_a_result_back() {
    // The status is not in view, and its Job has come and gone.
    let server = world(0, wish(json!({annotation::RUN_ID: "own"}), Value::Null));
    let old: Backup = server.get(WISH).unwrap();
    server.change(WISH, |object| {
        object["status"] = json!({"phase": "Completed", "runID": "own"});
    });
    let look = |old: Backup| reconcile(Arc::new(old), server.context(answers(&[], None)));
    assert!(look(old).await.is_ok());
    assert_eq!(server.count(&Method::POST, JOBS), 0);
    assert_eq!(phase(&server).0, "Completed");

    let server = world(0, running());
    let old: Backup = server.get(WISH).unwrap();
    server.change(WISH, |object| object["status"]["phase"] = json!("Completed"));
    let outcome = reconcile(Arc::new(old), server.context(answers(&[], None))).await;
    assert!(outcome.unwrap_err().is_conflict());
    assert_eq!(phase(&server).0, "Completed");
}

#[tokio::test]
async fn nobody_waits_behind_one_that_never_goes() {
    let server = world(1, wish(Value::Null, Value::Null));
    let older = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "older", "namespace": "left",
        "uid": "never-asks", "creationTimestamp": "2025-01-01T00:00:00Z",
        "labels": {label::ROLE: "backup", label::REPOSITORY: "main", label::REPOSITORY_NAMESPACE: "team"}},
        "spec": {"suspend": true, "template": {}}});
    server.put("/apis/batch/v1/namespaces/left/jobs/older", older);
    for _ in 0..3 {
        assert!(step(&server, answers(&[], None)).await);
    }
    assert_eq!(server.below(JOBS)[0]["spec"]["suspend"], json!(false));
    assert_eq!(phase(&server).0, "Pending");
}

#[tokio::test]
async fn what_cannot_go_keeps_waiting_and_says_why() {
    let server = world(1, wish(Value::Null, Value::Null));
    let other = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "other", "namespace": "team",
        "labels": {label::ROLE: "backup", label::REPOSITORY: "main", label::REPOSITORY_NAMESPACE: "team"}},
        "spec": {"suspend": false, "template": {}}});
    server.put(&format!("{JOBS}/other"), other);
    for _ in 0..2 {
        assert!(step(&server, answers(&[], None)).await);
    }
    let repository = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrepositories/main";
    server.change(repository, |object| {
        object["status"]["conditions"] = json!([{"type": "Stalled", "status": "True", "reason": "KeyMissing",
            "message": "no key", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    });
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(phase(&server), ("Queued".into(), "RepositoryKeyMissing".into()));
    server.change(repository, |object| object["status"]["conditions"] = json!([]));
    server.remove(&format!("{JOBS}/other"));
    assert!(step(&server, answers(&[], None)).await);
    assert_eq!(phase(&server), ("Pending".into(), "Starting".into()));
}

#[tokio::test]
async fn a_missing_right_is_named_and_the_run_stays_what_it_is() {
    let words = "jobs.batch is forbidden: User \"system:serviceaccount:a:b\" cannot list resource \"jobs\" in API group \
                 \"batch\" in the namespace \"team\"";
    let mut forbidden = refused(Method::GET, &format!("{JOBS}?"), 403, "Forbidden");
    forbidden.body["message"] = json!(words);
    let script = vec![
        forbidden,
        ok(Method::PATCH, &format!("{WISH}/status"), running()),
        ok(
            Method::POST,
            "/apis/events.k8s.io/v1/namespaces/team/events",
            Value::Null,
        ),
    ];
    let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
    let backup: Backup = serde_json::from_value(running()).unwrap();
    let outcome = reconcile(Arc::new(backup), context.clone()).await;
    drop(context);
    let asked = server.await.unwrap();
    assert_ne!(outcome.unwrap(), Action::await_change(), "it is tried again");
    let status = &asked[1].2["status"];
    assert_eq!((&status["phase"], &status["runID"]), (&json!("Running"), &json!("own")));
    let ready = &status["conditions"][0];
    assert_eq!(
        (&ready["reason"], &ready["status"]),
        (&json!("Forbidden"), &json!("False"))
    );
    assert!(ready["message"].as_str().unwrap().contains(words));
    assert_eq!(asked[2].2["type"], "Warning");
}

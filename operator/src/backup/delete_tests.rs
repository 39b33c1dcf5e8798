//! Deletions on an API server that remembers, broken off at every write.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use std::sync::Arc;

use super::super::reconcile;
use super::*;
use crate::backup::tests::{answers, world};
use crate::names::label;
use crate::remembering::{Break, Server};
use crate::scripted::{Answers, ok, refused, scripted};
use hardstorage_report::{ErrorReport, RunReport, RunState};
use http::Method;
use serde_json::{Value, json};

const MIRROR: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups/mine";
const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const ID: &str = "team.orders.full.20260101T000000Z.00aa";

fn mirror(word: Option<&str>, owner: Option<&str>) -> Value {
    let owners = owner.map(
        |uid| json!([{"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment", "name": "orders", "uid": uid}]),
    );
    json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": "mine", "namespace": "team", "uid": "own", "ownerReferences": owners,
            "annotations": word.map(|word| json!({annotation::DELETE_DATA: word}))},
        "spec": {"recorded": {"repositoryRef": {"name": "main"}, "name": "team.orders", "backupID": ID}},
        "status": {"phase": "Completed", "backupID": ID}})
}

fn report(server: &Server, code: Option<&str>) -> Option<RunReport> {
    let job = server.below(JOBS).first()?.clone();
    let uid = job["metadata"]["uid"].as_str().unwrap().to_owned();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "t", "namespace": "team",
        "labels": {label::JOB_UID: uid},
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "t", "uid": uid, "controller": true}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"}});
    server.put("/api/v1/namespaces/team/pods/t", pod);
    let mut report = RunReport::new("backup delete", Some(uid), "0.1.0");
    report.state = if code.is_none() {
        RunState::Succeeded
    } else {
        RunState::Failed
    };
    report.error = code.map(|code| ErrorReport {
        code: code.into(),
        message: "it is on hold".into(),
        hint: "release it".into(),
        exit_code: 7,
    });
    Some(report)
}

async fn step(server: &Server, code: Option<&str>) {
    let Some(backup) = server.get::<Backup>(MIRROR) else {
        return;
    };
    let context = server.context(answers(&[], report(server, code)));
    // That it broke off is what is tested.
    let _ = reconcile(Arc::new(backup), context).await;
}

/// As `kubectl delete` does.
fn delete(server: &Server) {
    let keeps = server
        .get::<Backup>(MIRROR)
        .is_some_and(|backup| !backup.finalizers().is_empty());
    if keeps {
        server.change(MIRROR, |object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:09:00Z");
        });
    } else {
        server.remove(MIRROR);
    }
}

#[tokio::test]
async fn the_word_marks_once_wherever_it_breaks_off() {
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let server = world(0, mirror(Some(ID), Some("uid-orders")));
            step(&server, None).await;
            delete(&server);
            server.break_at(write, how);
            for _ in 0..6 {
                step(&server, None).await;
            }
            assert_eq!(server.count(&Method::POST, JOBS), 1, "{how:?} {write}");
            assert!(server.get::<Value>(MIRROR).is_none(), "{how:?} {write}");
            if !server.broke() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn no_other_word_touches_data() {
    for word in [
        None,
        Some("yes"),
        Some("team.orders.full.20260101T000000Z.00ab"),
        Some(""),
    ] {
        let server = world(0, mirror(word, None));
        step(&server, None).await;
        let backup: Backup = server.get(MIRROR).unwrap();
        assert!(backup.finalizers().is_empty(), "{word:?}");
        delete(&server);
        assert!(server.get::<Value>(MIRROR).is_none());
        assert_eq!(server.count(&Method::POST, JOBS), 0);
    }
}

#[tokio::test]
async fn the_word_does_not_count_when_the_object_goes_by_the_way() {
    type Change = fn(&Server);
    let changes: [(&str, Change); 4] = [
        ("namespace", |server| {
            server.change("/api/v1/namespaces/team", |object| {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:09:00Z");
            });
        }),
        ("owner gone", |server| {
            server.remove("/apis/hardstorage.dev/v1alpha1/namespaces/team/hsdeployments/orders");
        }),
        ("owner another", |server| {
            server.change(
                "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsdeployments/orders",
                |object| object["metadata"]["uid"] = json!("another"),
            );
        }),
        ("word taken back", |server| {
            server.change(MIRROR, |object| object["metadata"]["annotations"] = json!({}));
        }),
    ];
    for (what, change) in changes {
        let server = world(0, mirror(Some(ID), Some("uid-orders")));
        step(&server, None).await;
        delete(&server);
        change(&server);
        step(&server, None).await;
        assert!(server.get::<Value>(MIRROR).is_none(), "{what}");
        assert_eq!(server.count(&Method::POST, JOBS), 0, "{what}");
    }
}

#[tokio::test]
async fn what_cannot_be_marked_says_so_and_stays() {
    let server = world(0, mirror(Some(ID), None));
    step(&server, None).await;
    delete(&server);
    for _ in 0..3 {
        step(&server, Some("conflict.held")).await;
    }
    let object: Value = server.get(MIRROR).unwrap();
    assert_eq!(object["status"]["conditions"][0]["reason"], "ConflictHeld");
    assert_eq!(server.count(&Method::POST, JOBS), 1);
    // What is not there any more needs no mark.
    step(&server, Some("notfound.backup")).await;
    assert!(server.get::<Value>(MIRROR).is_none());
}

#[tokio::test]
async fn without_a_repository_it_waits() {
    let server = world(0, mirror(Some(ID), None));
    step(&server, None).await;
    delete(&server);
    server.remove("/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrepositories/main");
    step(&server, None).await;
    let object: Value = server.get(MIRROR).unwrap();
    assert_eq!(object["status"]["conditions"][0]["reason"], "RepositoryMissing");
    assert_eq!(object["status"]["phase"], "Completed");
}

#[tokio::test]
async fn without_a_right_the_data_stays_and_the_object_names_it() {
    let repository = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrepositories/main";
    let words = "User \"a\" cannot get resource \"hsrepositories\"";
    let mut forbidden = refused(Method::GET, repository, 403, "Forbidden");
    forbidden.body["message"] = json!(words);
    let mut object = mirror(Some(ID), None);
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:09:00Z");
    object["metadata"]["finalizers"] = json!([FINALIZER]);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let script = vec![
        ok(Method::GET, "/api/v1/namespaces/team", namespace),
        forbidden,
        ok(Method::PATCH, &format!("{MIRROR}/status"), object.clone()),
        ok(
            Method::POST,
            "/apis/events.k8s.io/v1/namespaces/team/events",
            Value::Null,
        ),
    ];
    let (context, server) = scripted(script, Answers::default(), jiff::Timestamp::UNIX_EPOCH);
    let outcome = reconcile(Arc::new(serde_json::from_value(object).unwrap()), context.clone()).await;
    drop(context);
    assert!(outcome.is_ok());
    let status = &server.await.unwrap()[2].2["status"];
    assert_eq!(
        (&status["phase"], &status["backupID"]),
        (&json!("Completed"), &json!(ID))
    );
    let said = &status["conditions"][0];
    assert_eq!(said["reason"], "Forbidden");
    assert!(said["message"].as_str().unwrap().contains(words));
}

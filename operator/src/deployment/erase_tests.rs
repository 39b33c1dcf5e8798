//! Backups that are marked as deleted, because somebody said so.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use hardstorage_report::RunReport;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::deployment::samples::deployment;
use crate::pod::{Image, Surroundings};
use crate::report::ServedCatalog;
use crate::scripted::{Answers, Asked, Exchange, ok, refused, scripted};

const REPOSITORY: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrepositories/main";
const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const PODS: &str = "/api/v1/namespaces/team/pods";

fn repository() -> Exchange {
    let body = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
        "metadata": {"name": "main", "namespace": "team"}, "spec": {"url": "s3://b/p"}, "status": {"repositoryID": "01"}});
    ok(Method::GET, REPOSITORY, body)
}

fn jobs(items: Value) -> Exchange {
    ok(
        Method::GET,
        JOBS,
        json!({"apiVersion": "batch/v1", "kind": "JobList", "metadata": {}, "items": items}),
    )
}

fn job(name: &str, uid: &str, list: Option<&[&str]>, status: Value) -> Value {
    let annotations = list.map(|list| json!({LIST: json!(list).to_string()}));
    json!({"metadata": {"name": name, "namespace": "team", "uid": uid, "annotations": annotations,
        "creationTimestamp": "2026-12-31T23:59:55Z",
        "ownerReferences": [{"apiVersion": "x", "kind": "Deployment", "name": "orders", "uid": "uid-team-orders"}]},
        "spec": {"template": {}, "backoffLimit": 2}, "status": status})
}

fn pods(items: Value) -> Exchange {
    ok(
        Method::GET,
        PODS,
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}),
    )
}

fn pod_of(uid: &str) -> Exchange {
    pods(
        json!([{"metadata": {"name": "p", "creationTimestamp": "2026-12-31T23:59:56Z",
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid, "controller": true}]},
        "status": {"phase": "Running", "podIP": "10.0.0.8"}}]),
    )
}

async fn erased(script: Vec<Exchange>, answers: Answers) -> (Progress, Asked) {
    let now: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
    let (context, server) = scripted(script, answers, now);
    let object = deployment("team", "orders");
    let run = Run {
        deployment: &object,
        image: Image {
            name: "engine:1".into(),
            pull_policy: "IfNotPresent".into(),
        },
        surroundings: Surroundings::default(),
    };
    let progress = erase(&context, &run).await;
    drop(context);
    (progress.unwrap(), server.await.unwrap())
}

fn record(id: &str, held: bool, deleted: bool) -> Value {
    json!({"backup_id": id, "file_count": 0, "logical_bytes": 0, "stored_bytes": 0, "reuse": 0.0, "held": held,
        "deleted": deleted, "damaged": false})
}

#[tokio::test]
async fn the_repository_tells_what_is_there() {
    let (progress, asked) = erased(
        vec![repository(), jobs(json!([])), ok(Method::POST, JOBS, Value::Null)],
        Answers::default(),
    )
    .await;
    assert_eq!(progress, Progress::Running);
    let args = asked[2]
        .2
        .pointer("/spec/template/spec/containers/0/args")
        .unwrap()
        .to_string();
    assert!(args.starts_with("[\"repo\",\"sync\""), "{args}");
    // Its catalogue: another's backups, those on hold and those that are marked already stay out of it.
    let mine = "team.orders.full.20260101T000000Z.0000";
    let mut report = RunReport::new("repo sync", Some("sync".into()), "1");
    report.state = RunState::Succeeded;
    let catalog = ServedCatalog {
        etag: "e".into(),
        repository_id: "01".into(),
        backups: serde_json::from_value(json!([
            record(mine, false, false),
            record("team.orders.full.20260102T000000Z.0000", true, false),
            record("team.orders.full.20260103T000000Z.0000", false, true),
            record("team.other.full.20260101T000000Z.0000", false, false),
        ]))
        .unwrap(),
    };
    let answers = Answers {
        reports: [("10.0.0.8".to_owned(), report)].into(),
        catalogs: [("10.0.0.8".to_owned(), catalog)].into(),
        ..Answers::default()
    };
    let reading = job("orders-sync-1", "sync", None, json!({}));
    let script = vec![
        repository(),
        jobs(json!([reading.clone()])),
        pod_of("sync"),
        pod_of("sync"),
        ok(Method::PATCH, JOBS, reading),
        pod_of("sync"),
    ];
    let (progress, asked) = erased(script, answers).await;
    assert_eq!(progress, Progress::Running);
    let list = asked[4].2["metadata"]["annotations"][LIST].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Vec<String>>(list).unwrap(), [mine]);
}

#[tokio::test]
async fn a_few_at_a_time_until_all_are_marked() {
    let ids: Vec<String> = (1..=6)
        .map(|day| format!("team.orders.full.2026010{day}T000000Z.0000"))
        .collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let reading = || job("orders-sync-1", "sync", Some(&ids), json!({}));
    let mut script = vec![repository(), jobs(json!([reading()])), jobs(json!([]))];
    script.extend((0..AT_ONCE).map(|_| ok(Method::POST, JOBS, Value::Null)));
    let (progress, asked) = erased(script, Answers::default()).await;
    assert_eq!(progress, Progress::Running);
    let args = asked[3]
        .2
        .pointer("/spec/template/spec/containers/0/args")
        .unwrap()
        .to_string();
    assert!(
        args.starts_with(&format!("[\"backup\",\"delete\",\"team.orders\",\"{}\"", ids[0])),
        "{args}"
    );
    let done = |id: &&str, code: i32| {
        let condition = if code == 0 { "Complete" } else { "Failed" };
        let status = json!({"conditions": [{"type": condition, "status": "True"}]});
        job(&names::job("orders", Role::Tombstone, id), id, None, status)
    };
    let ended = |id: &&str, code: i32| {
        pods(
            json!([{"metadata": {"name": "p", "creationTimestamp": "2026-12-31T23:59:56Z",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": id, "controller": true}]},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": "engine", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]}}]),
        )
    };
    for last in [0, 7] {
        let codes = [0, 0, 0, 0, 0, last];
        let all: Vec<Value> = ids.iter().zip(codes).map(|(id, code)| done(id, code)).collect();
        let mut script = vec![repository(), jobs(json!([reading()])), jobs(json!(all))];
        script.extend(ids.iter().zip(codes).map(|(id, code)| ended(id, code)));
        let (progress, _) = erased(script, Answers::default()).await;
        match progress {
            Progress::Done => assert_eq!(last, 0),
            Progress::Failed(why) => assert!(last == 7 && why.contains(ids[5]), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_repository_that_is_gone_holds_nothing_up() {
    let (progress, _) = erased(
        vec![refused(Method::GET, REPOSITORY, 404, "NotFound")],
        Answers::default(),
    )
    .await;
    assert!(matches!(progress, Progress::Failed(_)));
}

//! Deployments that go, against an API server that answers by script.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use std::sync::Arc;

use crate::guarded::Guarded;
use hardstorage_crds::{DeploymentStatus, Lineage, StreamStatus};
use hardstorage_report::{ErrorReport, RunReport, RunState};
use http::Method;
use jiff::Timestamp;
use kube::runtime::reflector;
use serde_json::{Value, json};

use super::*;
use crate::deployment::memory::{Memory, Remembered};
use crate::deployment::samples::with_spec;
use crate::scripted::{Answers, Asked, Exchange, ok, refused, scripted};

const OBJECT: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsdeployments/orders";
const CHILD: &str = "/apis/apps/v1/namespaces/team/deployments/orders-wal";
const NAMESPACE: &str = "/api/v1/namespaces/team";
const CLUSTER: &str = "/apis/postgresql.cnpg.io/v1/namespaces/team/clusters/shop";
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusters.postgresql.cnpg.io";
const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/team/events";
const SYSTEM: &str = "7712188176470106131";

/// One that has streamed and was deleted ten seconds ago.
fn going(deletion: Value) -> ProtectedDeployment {
    let mut object = with_spec(
        "team",
        "orders",
        json!({"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"}, "deletion": deletion}),
    );
    object.metadata.finalizers = Some(vec![FINALIZER.into(), "theirs/stays".into()]);
    object.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-12-31T23:59:50Z")).unwrap());
    object.status = Some(DeploymentStatus {
        stream: Some(StreamStatus {
            slot: Some("ours".into()),
            ..StreamStatus::default()
        }),
        lineages: vec![Lineage {
            name: "team.orders".into(),
            system_identifier: SYSTEM.into(),
            current: true,
        }],
        ..DeploymentStatus::default()
    });
    object
}

fn now() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

fn namespace(extra: Value) -> Exchange {
    let mut body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    for (key, value) in extra.as_object().unwrap() {
        body["metadata"][key] = value.clone();
    }
    ok(Method::GET, NAMESPACE, body)
}

fn cluster() -> Value {
    serde_json::from_str(include_str!("source/samples/healthy.json")).unwrap()
}

fn child(replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "orders-wal", "namespace": "team", "uid": "child",
            "ownerReferences": [{"apiVersion": "x", "kind": "Deployment", "name": "orders", "uid": "uid-team-orders",
                "controller": true}]},
        "spec": {"replicas": replicas, "selector": {}, "template": {}}})
}

fn list(kind: &str, items: Value) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items})
}

fn no_pods() -> [Exchange; 2] {
    [
        ok(
            Method::GET,
            "/apis/apps/v1/namespaces/team/replicasets",
            list("ReplicaSetList", json!([])),
        ),
        ok(Method::GET, "/api/v1/namespaces/team/pods", list("PodList", json!([]))),
    ]
}

fn jobs(items: Value) -> Exchange {
    ok(Method::GET, JOBS, list("JobList", items))
}

fn drop_job() -> Value {
    json!({"metadata": {"name": "orders-slot-drop-1", "namespace": "team", "uid": "job",
        "creationTimestamp": "2026-12-31T23:59:55Z",
        "ownerReferences": [{"apiVersion": "x", "kind": "Deployment", "name": "orders", "uid": "uid-team-orders"}]},
        "spec": {"template": {}, "backoffLimit": 2}})
}

fn job_pod() -> Exchange {
    ok(
        Method::GET,
        "/api/v1/namespaces/team/pods",
        list(
            "PodList",
            json!([{"metadata": {"name": "p", "creationTimestamp": "2026-12-31T23:59:56Z",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job", "controller": true}]},
            "status": {"phase": "Running", "podIP": "10.0.0.8"}}]),
        ),
    )
}

fn report(state: RunState, code: Option<&str>) -> Answers {
    let mut report = RunReport::new("slot drop", Some("job".into()), "1");
    report.state = state;
    report.error = code.map(|code| ErrorReport {
        code: code.into(),
        message: "no".into(),
        hint: String::new(),
        exit_code: 6,
    });
    Answers {
        reports: [("10.0.0.8".to_owned(), report)].into(),
        ..Answers::default()
    }
}

async fn ran(object: &ProtectedDeployment, script: Vec<Exchange>, answers: Answers) -> Asked {
    let (outcome, asked) = tried(object, 0, script, answers).await;
    outcome.unwrap();
    asked
}

/// Looks once, after this process has tried for so many seconds.
async fn tried(
    object: &ProtectedDeployment,
    seconds: i64,
    script: Vec<Exchange>,
    answers: Answers,
) -> (Result<Action>, Asked) {
    let (context, server) = scripted(script, answers, now());
    let (store, _writer) = reflector::store::<Guarded<ProtectedDeployment>>();
    let memory = Memory::default();
    let since = Timestamp::from_second(now().as_second() - seconds).unwrap();
    memory.put(
        "uid-team-orders",
        Remembered {
            going: (seconds > 0).then_some(since),
            ..Remembered::default()
        },
    );
    let shared = Shared { all: store, memory };
    let outcome = run(&context, &Arc::new(object.clone()), &shared).await;
    drop(context);
    (outcome, server.await.unwrap())
}

fn let_go() -> Exchange {
    ok(Method::PATCH, OBJECT, serde_json::to_value(going(json!({}))).unwrap())
}

fn is_let_go(asked: &Asked) {
    let (_, path, sent) = asked.last().unwrap();
    assert!(path.starts_with(OBJECT));
    assert_eq!(sent["metadata"]["finalizers"], json!(["theirs/stays"]));
    assert_eq!(sent["metadata"]["uid"], "uid-team-orders");
}

#[tokio::test]
async fn a_namespace_that_goes_is_not_held_up_and_loses_no_backup() {
    let object = going(json!({"data": "Delete"}));
    let script = vec![
        namespace(json!({"deletionTimestamp": "2026-12-31T00:00:00Z"})),
        let_go(),
    ];
    is_let_go(&ran(&object, script, Answers::default()).await);
    let gone = vec![refused(Method::GET, NAMESPACE, 404, "NotFound"), let_go()];
    is_let_go(&ran(&object, gone, Answers::default()).await);
}

#[tokio::test]
async fn the_stream_ends_before_its_slot() {
    let object = going(json!({}));
    let [sets, pods] = no_pods();
    let script = vec![
        namespace(json!({})),
        ok(Method::GET, CLUSTER, cluster()),
        ok(Method::GET, CHILD, child(1)),
        sets,
        pods,
        jobs(json!([])),
        ok(Method::PATCH, CHILD, child(0)),
    ];
    let asked = ran(&object, script, Answers::default()).await;
    assert_eq!(
        asked[6].2,
        json!({"metadata": {"uid": "child"}, "spec": {"replicas": 0}})
    );
    let [sets, pods] = no_pods();
    let script = vec![
        namespace(json!({})),
        ok(Method::GET, CLUSTER, cluster()),
        ok(Method::GET, CHILD, child(0)),
        sets,
        pods,
        jobs(json!([])),
        ok(Method::POST, JOBS, Value::Null),
    ];
    let asked = ran(&object, script, Answers::default()).await;
    let args = asked[6]
        .2
        .pointer("/spec/template/spec/containers/0/args")
        .unwrap()
        .to_string();
    assert!(
        args.starts_with("[\"slot\",\"drop\",\"team.orders\",\"--slot\""),
        "{args}"
    );
    assert_eq!(asked[6].2["spec"]["activeDeadlineSeconds"], 120);
}

#[tokio::test]
async fn a_dropped_slot_and_one_that_is_not_there_let_it_go() {
    for answers in [
        report(RunState::Succeeded, None),
        report(RunState::Failed, Some("notfound.slot")),
    ] {
        let [sets, pods] = no_pods();
        let script = vec![
            namespace(json!({})),
            ok(Method::GET, CLUSTER, cluster()),
            ok(Method::GET, CHILD, child(0)),
            sets,
            pods,
            jobs(json!([drop_job()])),
            job_pod(),
            job_pod(),
            let_go(),
        ];
        is_let_go(&ran(&going(json!({})), script, answers).await);
    }
}

#[tokio::test]
async fn what_has_no_slot_is_let_go_at_once() {
    let mut other = cluster();
    other["status"]["systemID"] = json!("1");
    let mut deleting = cluster();
    deleting["metadata"]["deletionTimestamp"] = json!("2026-12-31T00:00:00Z");
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "c"},
        "spec": {"group": "g", "scope": "Namespaced", "names": {"kind": "Cluster", "plural": "clusters"}, "versions": []}});
    let cases = [
        (json!({}), vec![ok(Method::GET, CLUSTER, other)]),
        (json!({}), vec![ok(Method::GET, CLUSTER, deleting)]),
        (
            json!({}),
            vec![
                refused(Method::GET, CLUSTER, 404, "NotFound"),
                ok(Method::GET, CRD, crd),
            ],
        ),
        (json!({"slot": "Keep"}), vec![ok(Method::GET, CLUSTER, cluster())]),
    ];
    for (deletion, looked) in cases {
        let [sets, pods] = no_pods();
        let mut script = vec![namespace(json!({}))];
        script.extend(looked);
        script.extend([ok(Method::GET, CHILD, child(1)), sets, pods, jobs(json!([])), let_go()]);
        is_let_go(&ran(&going(deletion), script, Answers::default()).await);
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_let_go_with_the_sql() {
    let object = going(json!({"slotTimeout": "5s"}));
    let [sets, pods] = no_pods();
    let script = vec![
        namespace(json!({})),
        ok(Method::GET, CLUSTER, cluster()),
        ok(Method::GET, CHILD, child(0)),
        sets,
        pods,
        jobs(json!([drop_job()])),
        job_pod(),
        job_pod(),
        ok(Method::POST, EVENTS, Value::Null),
        let_go(),
    ];
    let answers = report(RunState::Failed, Some("unreachable.postgres"));
    // The third try: no other follows.
    let mut last = drop_job();
    last["status"] =
        json!({"failed": 2, "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]});
    let script: Vec<Exchange> = script
        .into_iter()
        .map(|exchange| {
            if exchange.path == JOBS {
                jobs(json!([last.clone()]))
            } else {
                exchange
            }
        })
        .collect();
    let (outcome, asked) = tried(&object, 10, script, answers).await;
    outcome.unwrap();
    is_let_go(&asked);
    let note = asked[8].2["note"].as_str().unwrap();
    let slot = identity::slot(&object);
    assert!(note.contains("unreachable.postgres"), "{note}");
    assert!(
        note.contains(&format!("SELECT pg_drop_replication_slot('{slot}')")),
        "{note}"
    );
    assert!(note.contains("shop-1"), "{note}");
    assert_eq!(asked[8].2["type"], "Warning");
}

#[tokio::test]
async fn without_our_finalizer_there_is_nothing_to_do() {
    let mut object = going(json!({"data": "Delete"}));
    object.metadata.finalizers = None;
    assert!(ran(&object, vec![], Answers::default()).await.is_empty());
}

#[path = "deletion_limit_tests.rs"]
mod limits;

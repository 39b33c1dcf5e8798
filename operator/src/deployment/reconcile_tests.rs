//! Whole looks at a Deployment against an API server that answers by script.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use crate::guarded::Guarded;
use http::Method;
use jiff::Timestamp;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::deployment::memory::Memory;
use crate::deployment::samples::deployment;
use crate::report::ServedCatalog;
use crate::scripted::{Answers, Asked, Exchange, ok, refused, scripted};
use hardstorage_report::RunReport;

pub const OBJECT: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsdeployments/orders";
pub const REPOSITORY: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrepositories/main";
const CHILD: &str = "/apis/apps/v1/namespaces/team/deployments/orders-wal";
const SETS: &str = "/apis/apps/v1/namespaces/team/replicasets";
const PODS: &str = "/api/v1/namespaces/team/pods";
pub const NAMESPACE: &str = "/api/v1/namespaces/team";
const CLUSTER: &str = "/apis/postgresql.cnpg.io/v1/namespaces/team/clusters/shop";
const SNAPSHOT: &str = "/api/v1/namespaces/team/configmaps/orders-source";
const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const BACKUPS: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/team/events";

pub fn now() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

pub fn repository() -> Value {
    json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
        "metadata": {"name": "main", "namespace": "team"}, "spec": {"url": "s3://backups/team"},
        "status": {"repositoryID": "01"}})
}

fn cluster() -> Value {
    serde_json::from_str(include_str!("source/samples/healthy.json")).unwrap()
}

fn namespace() -> Exchange {
    ok(
        Method::GET,
        NAMESPACE,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}),
    )
}

fn list(kind: &str, items: Value) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items})
}

fn child(uid: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "orders-wal", "namespace": "team", "uid": "child",
            "ownerReferences": [{"apiVersion": "x", "kind": "Deployment", "name": "orders", "uid": uid, "controller": true}]},
        "spec": {"replicas": 1, "selector": {}, "template": {"spec": {"containers": [{"name": "engine", "image": "engine:1"}]}}}})
}

fn the_pod() -> [Exchange; 2] {
    let owned =
        |kind: &str, uid: &str| json!([{"apiVersion": "x", "kind": kind, "name": "n", "uid": uid, "controller": true}]);
    [
        ok(
            Method::GET,
            SETS,
            list(
                "ReplicaSetList",
                json!([{"metadata": {"name": "s", "uid": "set", "ownerReferences": owned("Deployment", "child")}}]),
            ),
        ),
        ok(
            Method::GET,
            PODS,
            list(
                "PodList",
                json!([{"metadata": {"name": "orders-wal-x", "uid": "pod",
                "creationTimestamp": "2026-12-01T00:00:00Z", "ownerReferences": owned("ReplicaSet", "set")},
                "status": {"phase": "Running", "podIP": "10.0.0.9"}}]),
            ),
        ),
    ]
}

fn shared(all: &[ProtectedDeployment]) -> Arc<Shared> {
    let (store, mut writer) = reflector::store::<Guarded<ProtectedDeployment>>();
    writer.apply_watcher_event(&Event::Init);
    for object in all {
        writer.apply_watcher_event(&Event::InitApply(Guarded(Ok(object.clone()))));
    }
    writer.apply_watcher_event(&Event::InitDone);
    Arc::new(Shared {
        all: store,
        memory: Memory::default(),
    })
}

async fn reconciled(object: &ProtectedDeployment, script: Vec<Exchange>, answers: Answers) -> (Result<Action>, Asked) {
    let (context, server) = scripted(script, answers, now());
    let outcome = reconcile(
        Arc::new(object.clone()),
        context.clone(),
        shared(std::slice::from_ref(object)),
    )
    .await;
    drop(context);
    (outcome, server.await.unwrap())
}

fn events(number: usize) -> impl Iterator<Item = Exchange> {
    (0..number).map(|_| ok(Method::POST, EVENTS, Value::Null))
}

pub fn answers(backups: Value) -> Answers {
    let mut report = RunReport::new("wal stream", Some("uid-team-orders".into()), "0.2.0");
    report.stream = Some(
        serde_json::from_value(
            json!({"deployment": "team.orders", "phase": "streaming", "slot": "ours",
            "slot_health": "active", "system_id": "7712188176470106131", "timeline": 1, "durable_lsn": "0/3000000",
            "lag_bytes": 0, "lag_seconds": 0.0, "segments": 1, "bytes_received": 2, "connections": 1, "gaps": 0,
            "started_at": "2026-12-01T00:00:00Z"}),
        )
        .unwrap(),
    );
    report.catalog = Some(hardstorage_report::CatalogTag {
        etag: "tag".into(),
        backups: 1,
    });
    let catalog = ServedCatalog {
        etag: "tag".into(),
        repository_id: "01".into(),
        backups: serde_json::from_value(backups).unwrap(),
    };
    Answers {
        reports: [("10.0.0.9".to_owned(), report)].into(),
        catalogs: [("10.0.0.9".to_owned(), catalog)].into(),
        ..Answers::default()
    }
}

fn record(id: &str) -> Value {
    json!({"backup_id": id, "type": "full", "file_count": 1, "logical_bytes": 1, "stored_bytes": 1, "reuse": 0.0,
        "held": false, "deleted": false, "damaged": false,
        "started_at": "2026-12-31T00:00:00Z", "stopped_at": "2026-12-31T00:01:00Z"})
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let all = status["conditions"].as_array().unwrap();
    all.iter().find(|one| one["type"] == type_).unwrap()
}

#[tokio::test]
async fn a_new_object_gets_its_finalizer_before_its_stream() {
    let object = deployment("team", "orders");
    let script = vec![
        ok(Method::GET, REPOSITORY, repository()),
        refused(Method::GET, CHILD, 404, "NotFound"),
        namespace(),
        ok(Method::GET, CLUSTER, cluster()),
        ok(Method::PATCH, OBJECT, serde_json::to_value(&object).unwrap()),
        refused(Method::GET, SNAPSHOT, 404, "NotFound"),
        ok(Method::PATCH, SNAPSHOT, Value::Null),
        ok(Method::PATCH, CHILD, Value::Null),
        ok(Method::PATCH, OBJECT, serde_json::to_value(&object).unwrap()),
    ];
    let script = script.into_iter().chain(events(1)).collect();
    let (outcome, asked) = reconciled(&object, script, Answers::default()).await;
    outcome.unwrap();
    let finalizer = &asked[4].2["metadata"];
    assert_eq!(finalizer["finalizers"], json!(["hardstorage.dev/slot"]));
    assert_eq!(
        (&finalizer["uid"], &finalizer["resourceVersion"]),
        (&json!("uid-team-orders"), &json!("1"))
    );
    let stream = &asked[7].2;
    assert_eq!(stream["spec"]["replicas"], 1);
    assert!(asked[7].1.contains("fieldManager=pg-hardstorage-operator"));
    for (_, _, sent) in &asked[6..8] {
        let text = sent.to_string();
        assert!(
            !text.contains("argocd") && !text.contains("helm.sh") && !text.contains("fluxcd"),
            "{text}"
        );
    }
    let status = &asked[8].2["status"];
    assert_eq!(asked[8].2["metadata"]["uid"], "uid-team-orders");
    assert_eq!(condition(status, "Ready")["reason"], "NotStarted");
    assert_eq!(status["lineages"][0]["systemIdentifier"], "7712188176470106131");
    assert_eq!(asked[8].2.get("spec"), None, "the operator never writes spec");
}

#[tokio::test]
async fn a_missing_repository_leaves_the_running_stream_exactly_as_it_is() {
    let mut object = deployment("team", "orders");
    object.metadata.finalizers = Some(vec!["hardstorage.dev/slot".into()]);
    let [sets, pods] = the_pod();
    let script = vec![
        refused(Method::GET, REPOSITORY, 404, "NotFound"),
        ok(Method::GET, CHILD, child("uid-team-orders")),
        sets,
        pods,
        namespace(),
        ok(Method::GET, CLUSTER, cluster()),
        refused(Method::GET, SNAPSHOT, 404, "NotFound"),
        ok(Method::PATCH, SNAPSHOT, Value::Null),
        ok(Method::PATCH, OBJECT, serde_json::to_value(&object).unwrap()),
    ];
    let script = script.into_iter().chain(events(4)).collect();
    let (outcome, asked) = reconciled(&object, script, answers(json!([]))).await;
    outcome.unwrap();
    let written: Vec<&str> = asked
        .iter()
        .filter(|(method, ..)| *method != Method::GET)
        .map(|(_, path, _)| path.as_str())
        .collect();
    assert!(!written.iter().any(|path| path.contains("orders-wal")), "{written:?}");
    let status = &asked[8].2["status"];
    assert_eq!(condition(status, "Ready")["reason"], "RepositoryMissing");
    assert_eq!(condition(status, "Stalled")["status"], "True");
    assert_eq!(condition(status, "Streaming")["status"], "True");
    assert_eq!(status["phase"], "Degraded");
}

#[tokio::test]
async fn a_catalogue_becomes_objects_and_a_retention() {
    let mut object = deployment("team", "orders");
    object.metadata.finalizers = Some(vec!["hardstorage.dev/slot".into()]);
    let id = "team.orders.full.20261231T000000Z.0000";
    let [sets, pods] = the_pod();
    let script = vec![
        ok(Method::GET, REPOSITORY, repository()),
        ok(Method::GET, CHILD, child("uid-team-orders")),
        sets,
        pods,
        namespace(),
        ok(Method::GET, CLUSTER, cluster()),
        refused(Method::GET, SNAPSHOT, 404, "NotFound"),
        ok(Method::PATCH, SNAPSHOT, Value::Null),
        ok(Method::PATCH, CHILD, Value::Null),
        ok(Method::PATCH, OBJECT, serde_json::to_value(&object).unwrap()),
    ];
    let rest = vec![
        ok(
            Method::GET,
            BACKUPS,
            json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "BackupList", "metadata": {}, "items": []}),
        ),
        ok(Method::POST, BACKUPS, Value::Null),
        ok(
            Method::PATCH,
            BACKUPS,
            json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "m"}, "spec": {}}),
        ),
        ok(Method::GET, JOBS, list("JobList", json!([]))),
        ok(Method::POST, JOBS, Value::Null),
    ];
    let script = script.into_iter().chain(events(3)).chain(rest).collect();
    let (outcome, asked) = reconciled(&object, script, answers(json!([record(id)]))).await;
    outcome.unwrap();
    let status = &asked[9].2["status"];
    assert_eq!(condition(status, "Ready")["status"], "True");
    assert_eq!(status["lastBackup"]["id"], id);
    assert_eq!(status["engineVersion"], "0.2.0");
    assert_eq!(asked[14].2["spec"]["recorded"]["backupID"], id);
    let job = &asked[17].2;
    let args = job.pointer("/spec/template/spec/containers/0/args").unwrap();
    assert_eq!((&args[0], &args[1]), (&json!("rotate"), &json!("team.orders")));
}

#[tokio::test]
async fn a_child_of_somebody_else_is_not_asked() {
    let object = deployment("team", "orders");
    let script = vec![
        refused(Method::GET, REPOSITORY, 404, "NotFound"),
        ok(Method::GET, CHILD, child("somebody")),
        namespace(),
        refused(Method::GET, CLUSTER, 403, "Forbidden"),
        ok(Method::PATCH, OBJECT, serde_json::to_value(&object).unwrap()),
    ];
    let script = script.into_iter().chain(events(2)).collect();
    let (outcome, asked) = reconciled(&object, script, answers(json!([]))).await;
    outcome.unwrap();
    let status = &asked[4].2["status"];
    assert_eq!(condition(status, "Streaming")["reason"], "NotStarted");
    assert_eq!(condition(status, "SourceReady")["reason"], "ClusterForbidden");
}

#[tokio::test]
async fn conflict_forbidden_and_gone_are_tried_again() {
    for (code, reason) in [(409, "Conflict"), (403, "Forbidden"), (404, "NotFound")] {
        let object = deployment("team", "orders");
        let script = vec![
            ok(Method::GET, REPOSITORY, repository()),
            refused(Method::GET, CHILD, 404, "NotFound"),
            namespace(),
            ok(Method::GET, CLUSTER, cluster()),
            refused(Method::PATCH, OBJECT, code, reason),
        ];
        let (outcome, _) = reconciled(&object, script, Answers::default()).await;
        assert!(outcome.is_err(), "without a finalizer there is no stream: {code}");
    }
}

#[test]
fn jitter_stays_near() {
    for _ in 0..100 {
        let period = with_jitter(Duration::from_secs(15)).as_secs_f64();
        assert!((13.5..16.5).contains(&period), "{period}");
    }
}

#[path = "reconcile_hindered_tests.rs"]
mod hindered;
#[path = "reconcile_old_view_tests.rs"]
mod old_view;

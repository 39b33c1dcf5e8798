//! The first claim of a cluster that Patroni runs, broken off at every write; and clusters that are not touched.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::*;
use crate::names::annotation;
use crate::remembering::Break;
use crate::restore::samples::UID;
use http::Method;

const SETS: &str = "/apis/apps/v1/namespaces/team/statefulsets";
const ENDPOINTS: &str = "/api/v1/namespaces/team/endpoints";

fn into_patroni() -> Value {
    json!({"destination": {"patroni": {"flavor": "Plain", "statefulSet": "orders", "claim": "data", "create": {}}}})
}

/// The plan of a backup of a cluster that Patroni ran.
fn engine() -> Engine {
    let mut plan = plan_result();
    plan["source_snapshot"] = json!({"type": "Patroni", "scope": "orders", "image": "patroni:18"});
    Engine {
        plan: Says::Done(plan),
        ..good()
    }
}

fn stateful_set(replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "orders", "namespace": "team"},
        "spec": {"replicas": replicas, "serviceName": "m", "selector": {}, "template": {},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}})
}

fn claim(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "team"},
        "spec": {}})
}

/// Nothing of the cluster was written to, whatever became of the restore.
fn touched_nothing_of_theirs(server: &Server, at: &str) {
    for path in [SETS, ENDPOINTS, "/api/v1/namespaces/team/configmaps"] {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(server.count(&method, path), 0, "{at}: {method} {path}");
        }
    }
    assert_eq!(server.count(&Method::DELETE, CLAIMS), 0, "{at}");
}

#[tokio::test]
async fn the_first_claim_is_filled_once_wherever_it_breaks_off() {
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let server = world(into_patroni(), Value::Null);
            server.put(&format!("{SETS}/orders"), stateful_set(0));
            server.break_at(write, how);
            steps(&server, &engine(), 14).await;
            let at = format!("{how:?} {write}");
            assert_eq!(phase(&server), ("Completed".into(), "Completed".into(), false), "{at}");
            assert_eq!(server.count(&Method::POST, JOBS), 2, "{at}: one plan, one run");
            assert_eq!(server.count(&Method::POST, CLAIMS), 1, "{at}");
            assert!(server.below(JOBS).is_empty() && finalizers(&server).is_empty(), "{at}");
            let made: Value = server.get(&format!("{CLAIMS}/data-orders-0")).unwrap();
            assert_eq!(made["metadata"]["annotations"][annotation::RESTORE_UID], UID);
            assert!(made["metadata"].get("ownerReferences").is_none(), "{at}");
            let status = seen(&server).status.unwrap();
            assert_eq!(status.created[0].name, "data-orders-0", "{at}");
            let next = status.next.unwrap().text;
            assert!(next.contains("statefulset/orders -n team --replicas=1"), "{at}: {next}");
            let ready = status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
            assert!(ready.message.contains(&next), "{at}: {}", ready.message);
            touched_nothing_of_theirs(&server, &at);
            if !server.broke() {
                assert!(write > 8, "{write} writes");
                break;
            }
        }
    }
}

#[tokio::test]
async fn it_is_recovered_by_the_image_that_was_recorded_and_handed_over_to_patroni() {
    let server = world(into_patroni(), Value::Null);
    let engine = Engine {
        run: Says::Nothing,
        ..engine()
    };
    steps(&server, &engine, 6).await;
    let job = jobs_of(&server, "restore").remove(0);
    let words = arguments(&job);
    for word in [
        "--target=/restore/pgdata",
        "--hand-over=patroni",
        "--recover",
        "--owner=999:999",
    ] {
        assert!(words.contains(&word.to_owned()), "{word}: {words:?}");
    }
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["image"], "patroni:18");
}

#[tokio::test]
async fn a_cluster_that_lives_is_not_touched() {
    let running = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orders-1", "namespace": "team"},
        "spec": {"containers": []}, "status": {"phase": "Running"}});
    let cases = [
        (format!("{SETS}/orders"), stateful_set(2), "DestinationInUse"),
        (format!("{PODS}/orders-1"), running, "DestinationInUse"),
        (
            format!("{CLAIMS}/data-orders-0"),
            claim("data-orders-0"),
            "DestinationUsed",
        ),
        (
            format!("{CLAIMS}/data-orders-1"),
            claim("data-orders-1"),
            "DestinationUsed",
        ),
    ];
    for (path, object, reason) in cases {
        let server = world(into_patroni(), Value::Null);
        server.put(&path, object);
        steps(&server, &engine(), 8).await;
        assert_eq!(phase(&server), ("Refused".into(), reason.into(), true), "{path}");
        assert_eq!(server.count(&Method::POST, CLAIMS), 0, "{path}");
        assert!(jobs_of(&server, "restore").is_empty(), "{path}");
        touched_nothing_of_theirs(&server, &path);
    }
}

#[tokio::test]
async fn it_waits_for_what_patroni_has_kept_and_goes_on_by_itself() {
    let server = world(into_patroni(), Value::Null);
    let path = format!("{ENDPOINTS}/orders");
    let kept = |annotations: Value| {
        json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "orders", "namespace": "team", "annotations": annotations}})
    };
    server.put(&path, kept(json!({"optime": "101644584"})));
    steps(&server, &engine(), 6).await;
    assert_eq!(phase(&server), ("Preparing".into(), "PatroniStateLeft".into(), false));
    assert_eq!(server.count(&Method::POST, CLAIMS), 0);
    let conditions = seen(&server).status.unwrap().conditions;
    let command = "kubectl annotate endpoints orders -n team optime-;";
    assert!(
        conditions.iter().any(|one| one.message.contains(command)),
        "{conditions:?}"
    );
    server.put(&path, kept(json!({})));
    steps(&server, &engine(), 10).await;
    assert_eq!(phase(&server).0, "Completed");
}

#[tokio::test]
async fn half_a_claim_goes_with_its_restore_and_a_whole_one_stays() {
    let server = world(into_patroni(), Value::Null);
    let working = Engine {
        run: Says::Nothing,
        ..engine()
    };
    steps(&server, &working, 6).await;
    delete(&server);
    steps(&server, &working, 8).await;
    assert!(server.get::<Value>(RESTORE).is_none());
    assert!(server.get::<Value>(&format!("{CLAIMS}/data-orders-0")).is_none());

    let server = world(into_patroni(), Value::Null);
    steps(&server, &engine(), 14).await;
    delete(&server);
    steps(&server, &engine(), 4).await;
    assert!(server.get::<Value>(&format!("{CLAIMS}/data-orders-0")).is_some());
}

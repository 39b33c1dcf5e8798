//! Restores that are deleted: half a database goes, everything else stays.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::*;
use crate::names::annotation;
use crate::remembering::Break;
use http::Method;

fn copying() -> Engine {
    Engine {
        run: Says::Progress(json!({"stage": "copying"})),
        ..good()
    }
}

/// A Restore that is at work.
async fn at_work(spec: Value) -> Server {
    let server = world(spec, Value::Null);
    steps(&server, &copying(), 6).await;
    assert_eq!(phase(&server).0, "Copying");
    assert_eq!(finalizers(&server), ["hardstorage.dev/restore"]);
    server
}

#[tokio::test]
async fn half_a_database_goes_wherever_it_breaks_off() {
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let server = at_work(json!({})).await;
            // Others in the same namespace, one of a Restore of the same name before.
            for (name, uid) in [("before", "the-one-before"), ("none", "")] {
                let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name,
                    "namespace": "team", "labels": {label::RESTORE: "back"},
                    "annotations": {annotation::RESTORE_UID: uid}}, "spec": {}});
                server.put(&format!("{CLAIMS}/{name}"), claim);
            }
            delete(&server);
            server.break_at(write, how);
            let mut while_its_pod_runs = true;
            for _ in 0..8 {
                step(&server, &copying()).await;
                if server.below(PODS).is_empty() {
                    while_its_pod_runs = false;
                }
                assert!(
                    !while_its_pod_runs || server.get::<Value>(&format!("{CLAIMS}/pg")).is_some(),
                    "a claim goes after its pod"
                );
            }
            let at = format!("{how:?} {write}");
            assert!(server.get::<Value>(RESTORE).is_none(), "{at}");
            assert!(server.below(JOBS).is_empty(), "{at}");
            let left: Vec<String> = server
                .below(CLAIMS)
                .iter()
                .map(|claim| claim["metadata"]["name"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(left, ["before", "none"], "{at}");
            if !server.broke() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_claim_that_somebody_owns_or_uses_stays() {
    type Change = fn(&Server);
    let changes: [(&str, Change); 3] = [
        ("owned", |server| {
            server.change(&format!("{CLAIMS}/pg"), |claim| {
                claim["metadata"]["ownerReferences"] =
                    json!([{"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "name": "c", "uid": "c"}]);
            });
        }),
        ("used", |server| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-0", "namespace": "team"},
                "spec": {"containers": [], "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "pg"}}]},
                "status": {"phase": "Running"}});
            server.put(&format!("{PODS}/db-0"), pod);
        }),
        ("another's", |server| {
            server.change(&format!("{CLAIMS}/pg"), |claim| {
                claim["metadata"]["annotations"][annotation::RESTORE_UID] = json!("another");
            });
        }),
    ];
    for (what, change) in changes {
        let server = at_work(json!({})).await;
        change(&server);
        delete(&server);
        steps(&server, &copying(), 8).await;
        assert!(server.get::<Value>(RESTORE).is_none(), "{what}");
        assert_eq!(server.count(&Method::DELETE, CLAIMS), 0, "{what}");
    }
}

#[tokio::test]
async fn what_is_complete_stays() {
    // Completed.
    let server = world(json!({}), Value::Null);
    steps(&server, &good(), 14).await;
    delete(&server);
    assert!(server.get::<Value>(RESTORE).is_none(), "nothing keeps it");
    // Waiting for CloudNativePG.
    let server = world(into_cluster(), Value::Null);
    while !seen(&server)
        .status
        .unwrap_or_default()
        .steps
        .iter()
        .any(|one| one.name == "Restore")
    {
        step(&server, &good()).await;
    }
    delete(&server);
    steps(&server, &good(), 4).await;
    assert!(server.get::<Value>(RESTORE).is_none());
    assert_eq!(server.count(&Method::DELETE, CLAIMS), 0);
    // Ended well a moment ago, and not stored yet.
    let server = at_work(json!({})).await;
    let name = jobs_of(&server, "restore")[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    server.change(&format!("{JOBS}/{name}"), |job| {
        job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    });
    delete(&server);
    steps(&server, &copying(), 4).await;
    assert!(server.get::<Value>(RESTORE).is_none());
    assert_eq!(server.count(&Method::DELETE, CLAIMS), 0);
}

#[tokio::test]
async fn a_failure_is_kept_with_its_claims_until_it_is_deleted() {
    let server = world(json!({}), Value::Null);
    let engine = Engine {
        run: Says::Error("verify.pack_missing", None),
        ..good()
    };
    steps(&server, &engine, 8).await;
    assert_eq!(phase(&server), ("Failed".into(), "VerifyPackMissing".into(), true));
    let failure = seen(&server).status.unwrap().failure.unwrap();
    assert_eq!(
        (failure.code.as_deref(), failure.attempts),
        (Some("verify.pack_missing"), Some(1))
    );
    assert!(server.get::<Value>(&format!("{CLAIMS}/pg")).is_some());
    assert_eq!(finalizers(&server), ["hardstorage.dev/restore"]);
    let before = server.get::<Value>(RESTORE).unwrap()["status"].clone();
    steps(&server, &good(), 4).await;
    assert_eq!(server.get::<Value>(RESTORE).unwrap()["status"], before, "for ever");
    delete(&server);
    steps(&server, &engine, 6).await;
    assert!(server.get::<Value>(RESTORE).is_none());
    assert!(server.get::<Value>(&format!("{CLAIMS}/pg")).is_none());
}

#[tokio::test]
async fn a_namespace_that_goes_is_not_held_up() {
    let server = at_work(json!({})).await;
    server.change("/api/v1/namespaces/team", |object| {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-02T08:09:00Z");
    });
    delete(&server);
    assert!(step(&server, &copying()).await);
    assert!(server.get::<Value>(RESTORE).is_none());
    assert_eq!(server.count(&Method::DELETE, CLAIMS), 0);
}

#[tokio::test]
async fn a_claim_that_was_there_is_nobodys_to_delete() {
    let server = world(
        json!({"destination": {"persistentVolumeClaim": {"name": "pg", "path": "pgdata", "uid": 26, "gid": 26}}}),
        Value::Null,
    );
    let theirs = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "pg", "namespace": "team"}, "spec": {}});
    server.put(&format!("{CLAIMS}/pg"), theirs);
    steps(&server, &copying(), 6).await;
    assert_eq!(phase(&server).0, "Copying");
    delete(&server);
    steps(&server, &copying(), 6).await;
    assert!(server.get::<Value>(RESTORE).is_none());
    assert!(server.below(JOBS).is_empty(), "its Job is ended");
    assert_eq!(server.count(&Method::DELETE, CLAIMS), 0);
}

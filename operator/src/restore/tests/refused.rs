//! What is not restored, and touches nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::*;
use crate::names::annotation;
use crate::restore::samples::planned;
use http::Method;

fn claim(annotations: Value, more: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "pg", "namespace": "team", "annotations": annotations}, "spec": {}});
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn made_nothing(server: &Server, what: &str) {
    assert_eq!(server.count(&Method::POST, CLAIMS), 0, "{what}");
    assert_eq!(server.count(&Method::POST, CLUSTERS), 0, "{what}");
    assert_eq!(jobs_of(server, "restore").len(), 0, "{what}");
    for method in [Method::DELETE, Method::PATCH] {
        assert_eq!(server.count(&method, CLAIMS), 0, "{what}");
        assert_eq!(server.count(&method, CLUSTERS), 0, "{what}");
    }
    assert_eq!(finalizers(server), Vec::<String>::new(), "{what}");
}

#[tokio::test]
async fn an_old_restore_that_is_applied_again_touches_nothing() {
    let of_before = json!({annotation::RESTORE_UID: "the-one-before"});
    let server = world(json!({}), Value::Null);
    server.put(&format!("{CLAIMS}/pg"), claim(of_before.clone(), json!({})));
    steps(&server, &good(), 8).await;
    assert_eq!(phase(&server), ("Refused".into(), "DestinationUsed".into(), true));
    made_nothing(&server, "claim");
    let failure = seen(&server).status.unwrap().failure.unwrap();
    assert_eq!(failure.code.as_deref(), Some("DestinationUsed"));

    let server = world(into_cluster(), Value::Null);
    let cluster = json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "metadata": {"name": "again", "namespace": "team", "annotations": of_before}, "spec": {}});
    server.put(&format!("{CLUSTERS}/again"), cluster);
    steps(&server, &good(), 8).await;
    assert_eq!(phase(&server), ("Refused".into(), "DestinationUsed".into(), true));
    made_nothing(&server, "cluster");
    let hint = seen(&server).status.unwrap().failure.unwrap().hint.unwrap();
    assert!(hint.contains("in place") && hint.contains("another name"), "{hint}");
    // It stays so when the place is free later: one object is one restore.
    server.remove(&format!("{CLUSTERS}/again"));
    steps(&server, &good(), 4).await;
    assert_eq!(phase(&server).0, "Refused");
    made_nothing(&server, "later");
}

#[tokio::test]
async fn a_claim_that_a_pod_has_mounted_is_in_use() {
    let existing =
        json!({"destination": {"persistentVolumeClaim": {"name": "pg", "path": "pgdata", "uid": 26, "gid": 26}}});
    let server = world(existing.clone(), Value::Null);
    server.put(&format!("{CLAIMS}/pg"), claim(Value::Null, json!({})));
    let pod = |phase: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-0", "namespace": "team"},
            "spec": {"containers": [], "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "pg"}}]},
            "status": {"phase": phase}})
    };
    server.put(&format!("{PODS}/db-0"), pod("Running"));
    steps(&server, &good(), 6).await;
    assert_eq!(phase(&server), ("Refused".into(), "DestinationInUse".into(), true));
    made_nothing(&server, "mounted");
    // A pod that has ended uses nothing; and a claim that was there is not ours to make or to keep.
    let server = world(existing.clone(), Value::Null);
    server.put(&format!("{CLAIMS}/pg"), claim(Value::Null, json!({})));
    server.put(&format!("{PODS}/db-0"), pod("Succeeded"));
    steps(&server, &good(), 12).await;
    assert_eq!(phase(&server).0, "Completed");
    assert_eq!(server.count(&Method::POST, CLAIMS), 0);
    assert_eq!(finalizers(&server), Vec::<String>::new());
    // A claim that is not there yet may come from Git in a moment.
    let server = world(existing, Value::Null);
    steps(&server, &good(), 6).await;
    assert_eq!(phase(&server), ("Preparing".into(), "ClaimMissing".into(), false));
    server.put(&format!("{CLAIMS}/pg"), claim(Value::Null, json!({})));
    steps(&server, &good(), 8).await;
    assert_eq!(phase(&server).0, "Completed");
}

#[tokio::test]
async fn what_the_engine_finds_in_the_place_is_refused_too() {
    let server = world(json!({}), Value::Null);
    let engine = Engine {
        run: Says::Error("conflict.target_not_empty", None),
        ..good()
    };
    steps(&server, &engine, 8).await;
    assert_eq!(phase(&server), ("Refused".into(), "DestinationUsed".into(), true));
    let failure = seen(&server).status.unwrap().failure.unwrap();
    assert_eq!(failure.code.as_deref(), Some("conflict.target_not_empty"));
}

#[tokio::test]
async fn names_of_others_need_a_grant() {
    const THEIRS: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/backups/hsrepositories/main";
    let source =
        json!({"source": {"repository": {"ref": {"name": "main", "namespace": "backups"}, "name": "shop.orders"}}});
    let repository = |grants: Value| {
        json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
            "metadata": {"name": "main", "namespace": "backups"},
            "spec": {"url": "s3://b/p", "allowedNamespaces": {"from": "All"}, "grants": grants},
            "status": {"repositoryID": "01"}})
    };
    let grant = json!([{"namespace": "team", "deployments": ["shop.orders"], "verbs": ["read"]}]);
    let another = json!([{"namespace": "team", "deployments": ["shop.payments"], "verbs": ["read"]}]);
    // Neither a plan nor a run, whatever the status says that was planned.
    for status in [Value::Null, planned()] {
        for grants in [Value::Null, another.clone()] {
            let server = world(source.clone(), status.clone());
            server.put(THEIRS, repository(grants));
            steps(&server, &good(), 4).await;
            assert_eq!(phase(&server).1, "NameNotAllowed", "{status}");
            assert_eq!(server.count(&Method::POST, JOBS), 0, "{status}");
            made_nothing(&server, "name");
        }
    }
    let server = world(source, Value::Null);
    server.put(THEIRS, repository(grant));
    steps(&server, &good(), 2).await;
    assert_eq!(arguments(&jobs_of(&server, "plan")[0])[1], "shop.orders");
}

#[tokio::test]
async fn a_missing_source_waits() {
    let server = world(json!({}), Value::Null);
    let path = format!("{OURS}/hsdeployments/orders");
    let deployment: Value = server.get(&path).unwrap();
    server.remove(&path);
    steps(&server, &good(), 2).await;
    assert_eq!(phase(&server), ("Pending".into(), "DeploymentMissing".into(), true));
    let said = seen(&server).status.unwrap().conditions;
    assert!(
        said.iter().any(|one| one.message.contains("with name team.orders")),
        "{said:?}"
    );
    server.put(&path, deployment);
    steps(&server, &good(), 12).await;
    assert_eq!(phase(&server).0, "Completed");
}

#[tokio::test]
async fn a_plan_that_cannot_be_made_yet_is_made_again() {
    let mut server = world(json!({}), Value::Null);
    let engine = |plan: Says| Engine { plan, ..good() };
    let away = engine(Says::Error("unreachable.store", None));
    steps(&server, &away, 3).await;
    let first = jobs_of(&server, "plan");
    let name = first[0]["metadata"]["name"].as_str().unwrap();
    server.change(&format!("{JOBS}/{name}"), |job| {
        job["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    });
    steps(&server, &away, 2).await;
    assert_eq!(phase(&server), ("Pending".into(), "UnreachableStore".into(), true));
    assert_eq!(server.count(&Method::POST, JOBS), 1, "not at once");
    server.now = "2026-01-02T08:12:00Z".parse().unwrap();
    steps(&server, &away, 2).await;
    steps(&server, &good(), 12).await;
    assert_eq!(phase(&server).0, "Completed");
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_with_the_engines_words() {
    let cases = [
        (json!({}), Says::Error("notfound.backup", None), "NotfoundBackup"),
        (
            json!({"recoveryTarget": {"time": "2026-02-30T00:00:00Z"}}),
            Says::Nothing,
            "UsageTime",
        ),
        (
            json!({"destination": {"persistentVolumeClaim": {"name": "pg", "create": {"size": "1Mi"}, "path": "pgdata",
                "uid": 26, "gid": 26}}}),
            Says::Done(plan_result()),
            "ClaimTooSmall",
        ),
    ];
    for (spec, plan, reason) in cases {
        let server = world(spec, Value::Null);
        let engine = Engine { plan, ..good() };
        steps(&server, &engine, 5).await;
        assert_eq!(phase(&server), ("Refused".into(), reason.into(), true));
        made_nothing(&server, reason);
    }
    let server = world(into_cluster(), Value::Null);
    let mut plan = plan_result();
    plan["source_snapshot"] = Value::Null;
    let engine = Engine {
        plan: Says::Done(plan),
        ..good()
    };
    steps(&server, &engine, 5).await;
    assert_eq!(phase(&server), ("Refused".into(), "SnapshotMissing".into(), true));
}

#[tokio::test]
async fn without_cloudnativepg_it_waits_and_fills_nothing() {
    let server = world(into_cluster(), Value::Null);
    let crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusters.postgresql.cnpg.io";
    let definition: Value = server.get(crd).unwrap();
    server.remove(crd);
    steps(&server, &good(), 6).await;
    assert_eq!(
        phase(&server),
        ("Preparing".into(), "CloudNativePGNotInstalled".into(), false)
    );
    made_nothing(&server, "not installed");
    server.put(crd, definition);
    steps(&server, &good(), 14).await;
    assert_eq!(phase(&server).0, "Adopting");
}

#[tokio::test]
async fn what_was_let_go_after_its_refusal_is_seen_and_stays_refused() {
    let server = world(json!({"dryRun": true}), Value::Null);
    let engine = Engine {
        plan: Says::Error("notfound.backup", None),
        ..good()
    };
    steps(&server, &engine, 4).await;
    let before = seen(&server).status.unwrap();
    server.change(RESTORE, |object| {
        object["spec"]["dryRun"] = json!(false);
        object["metadata"]["generation"] = json!(2);
    });
    steps(&server, &good(), 4).await;
    let after = seen(&server).status.unwrap();
    assert_eq!(after.observed_generation, Some(2));
    assert_eq!((after.phase, after.failure), (before.phase, before.failure));
    assert_eq!(after.conditions, before.conditions);
    made_nothing(&server, "let go");
}

#[tokio::test]
async fn what_the_api_server_does_not_take_is_said() {
    use crate::scripted::{ok, refused, scripted};
    let restore: Restore = serde_json::from_value(object(json!({}), planned())).unwrap();
    let named = |kind: &str| format!("{OURS}/{kind}");
    let get = |path: &str, body: Value| ok(Method::GET, path, body);
    let server = world(json!({}), planned());
    let there = |path: &str| get(path, server.get::<Value>(path).unwrap());
    let absent = |path: &str| refused(Method::GET, path, 404, "NotFound");
    let list = || json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []});
    let plan = format!("{JOBS}/back-plan");
    let mut held = object(json!({}), planned());
    held["metadata"]["finalizers"] = json!(["hardstorage.dev/restore"]);
    let restore = Restore {
        metadata: serde_json::from_value(held["metadata"].clone()).unwrap(),
        ..restore
    };
    let mut quota = refused(Method::POST, CLAIMS, 403, "Forbidden");
    quota.body["message"] = json!("exceeded quota: storage");
    let script = vec![
        absent(&format!("{JOBS}/back-restore")),
        absent(&plan),
        there(&named("hsdeployments/orders")),
        there(&named("hsrepositories/main")),
        absent(&format!("{CLAIMS}/pg")),
        get(PODS, list()),
        quota,
        ok(Method::PATCH, &format!("{RESTORE}/status"), held),
        ok(Method::POST, "/apis/events.k8s.io", Value::Null),
    ];
    let (context, server) = scripted(script, Answers::default(), "2026-01-02T08:10:00Z".parse().unwrap());
    reconcile(Arc::new(restore), context).await.unwrap();
    let asked = server.await.unwrap();
    let said = asked[7].2["status"]["conditions"].to_string();
    assert!(
        said.contains("exceeded quota: storage") && said.contains("NotTaken"),
        "{said}"
    );
}

#[tokio::test]
async fn what_postgresql_cannot_read_on_a_claim_is_said_at_once() {
    let onto = |uid: i64| json!({"destination": {"persistentVolumeClaim": {"name": "pg", "create": {}, "path": "pgdata", "uid": uid, "gid": uid}}});
    for (spec, wanted) in [
        (into_cluster(), "Refused"),
        (onto(26), "Refused"),
        (onto(65532), "Pending"),
    ] {
        let server = world(spec, Value::Null);
        server.change(&format!("{OURS}/hsrepositories/main"), |object| {
            object["spec"] = json!({"url": "file:///repository", "persistentVolumeClaim": {"claimName": "backups"}});
        });
        server.put(&format!("{CLAIMS}/backups"), claim(Value::Null, json!({})));
        steps(&server, &good(), 1).await;
        let (phase, reason, _) = phase(&server);
        assert_eq!(phase, wanted);
        assert_eq!(reason == "RepositoryOnClaim", wanted == "Refused", "{reason}");
        assert_eq!(jobs_of(&server, "plan").is_empty(), wanted == "Refused");
    }
}

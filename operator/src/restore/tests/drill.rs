//! Drills: proven, told, thrown away, broken off at every write.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::*;
use crate::remembering::Break;
use crate::restore::samples::ID;
use http::Method;

const MAPS: &str = "/api/v1/namespaces/team/configmaps";
const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies";
const BACKUP: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups/mirror";
const DEPLOYMENT: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsdeployments/orders";

fn drill() -> Value {
    json!({"destination": {"drill": {"keepOnFailure": "1h", "checks": [
        {"name": "rows", "database": "app", "sql": "select 1", "expect": "t", "timeout": "90s"}]}}})
}

/// A world with the mirror of the backup that is restored, and of another.
fn world_of_drill() -> Server {
    let server = world(drill(), Value::Null);
    for (name, id) in [("mirror", ID), ("other", "team.orders.full.20250101T000000Z.00bb")] {
        let recorded = json!({"repositoryRef": {"name": "main"}, "name": "team.orders", "backupID": id});
        let object = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": name, "namespace": "team"}, "spec": {"recorded": recorded},
            "status": {"phase": "Completed", "backupID": id}});
        server.put(&format!("{OURS}/hsbackups/{name}"), object);
    }
    server
}

fn failing() -> Engine {
    Engine {
        check: Says::Error(
            "verify.drill_failed",
            Some(
                json!({"checks": [{"name": "rows", "database": "app", "passed": false, "expected": "t", "actual": "f"},
                {"name": "fine", "database": "app", "passed": true}]}),
            ),
        ),
        ..good()
    }
}

/// What there is that a drill makes.
fn left(server: &Server) -> usize {
    [JOBS, CLAIMS, MAPS, POLICIES]
        .iter()
        .map(|path| server.below(path).len())
        .sum()
}

/// The pod that asks runs beside nobody who has credentials, and never without what shuts it in.
fn is_harmless(server: &Server) {
    if jobs_of(server, "drill").is_empty() {
        return;
    }
    assert!(
        jobs_of(server, "restore").is_empty(),
        "the pod with the credentials is gone"
    );
    assert_eq!((server.below(POLICIES).len(), server.below(MAPS).len()), (1, 1));
}

fn told(server: &Server) -> [Value; 3] {
    let status = |path: &str| server.get::<Value>(path).unwrap()["status"].clone();
    let other = status(&format!("{OURS}/hsbackups/other"));
    [
        status(BACKUP)["verified"].clone(),
        status(DEPLOYMENT)["lastDrill"].clone(),
        other["verified"].clone(),
    ]
}

#[tokio::test]
async fn a_drill_that_passes_leaves_its_proof_and_nothing_else() {
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let server = world_of_drill();
            server.break_at(write, how);
            for _ in 0..24 {
                step(&server, &good()).await;
                is_harmless(&server);
            }
            let at = format!("{how:?} {write}");
            assert_eq!(phase(&server), ("Completed".into(), "Completed".into(), false), "{at}");
            assert_eq!(left(&server), 0, "{at}");
            assert_eq!(server.count(&Method::POST, JOBS), 3, "{at}: a plan, a copy, its look");
            assert_eq!(server.count(&Method::POST, CLAIMS), 1, "{at}");
            assert_eq!(server.count(&Method::POST, CLUSTERS), 0, "{at}: nobody takes it over");
            assert!(finalizers(&server).is_empty(), "{at}");
            let status = seen(&server).status.unwrap();
            let steps: Vec<&str> = status.steps.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(steps, ["Plan", "Prepare", "Restore", "Check"], "{at}");
            assert!(status.created.is_empty(), "{at}: nothing of it stays");
            assert_eq!(status.drill.unwrap().indexes_checked, Some(7), "{at}");
            assert!(status.progress.is_none_or(|far| far.percent == Some(100)), "{at}");
            let [backup, deployment, other] = told(&server);
            assert_eq!(
                (&backup["result"], &backup["level"]),
                (&json!("Passed"), &json!("Drill")),
                "{at}"
            );
            assert_eq!(
                (&deployment["result"], &deployment["name"]),
                (&json!("Passed"), &json!("back")),
                "{at}"
            );
            assert_eq!(other, Value::Null, "{at}");
            if !server.broke() {
                assert!(write > 15, "{write} writes");
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_copy_of_one_that_failed_is_kept_for_a_look_and_then_goes() {
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let mut server = world_of_drill();
            server.break_at(write, how);
            for _ in 0..20 {
                step(&server, &failing()).await;
                is_harmless(&server);
            }
            let at = format!("{how:?} {write}");
            assert_eq!(
                phase(&server),
                ("Failed".into(), "VerifyDrillFailed".into(), true),
                "{at}"
            );
            let status = seen(&server).status.unwrap();
            let failure = status.failure.unwrap();
            assert_eq!(failure.code.as_deref(), Some("verify.drill_failed"), "{at}");
            assert_eq!(
                failure.message.as_deref(),
                Some("1 check failed: rows in app: expected t, got f"),
                "{at}"
            );
            let ready = status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
            assert!(
                ready.message.ends_with("the copy is kept until 2026-01-02T09:10:00Z"),
                "{at}: {}",
                ready.message
            );
            assert_eq!(server.below(CLAIMS).len(), 1, "{at}");
            assert_eq!(finalizers(&server), ["hardstorage.dev/restore"], "{at}");
            let [backup, deployment, other] = told(&server);
            assert_eq!(
                (&backup["result"], &deployment["result"]),
                (&json!("Failed"), &json!("Failed")),
                "{at}"
            );
            assert_eq!(other, Value::Null, "{at}");
            // Another operator, an hour later.
            server.now = "2026-01-02T09:10:00Z".parse().unwrap();
            steps(&server, &failing(), 8).await;
            assert_eq!(left(&server), 0, "{at}");
            assert!(finalizers(&server).is_empty(), "{at}");
            assert_eq!(phase(&server).0, "Failed", "{at}");
            if !server.broke() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn one_that_could_not_be_tried_proves_nothing_and_keeps_nothing() {
    let cases = [
        Engine {
            run: Says::Error("unreachable.store", None),
            ..good()
        },
        Engine {
            check: Says::Error("notfound.postgres_programs", None),
            ..good()
        },
    ];
    for engine in cases {
        let server = world_of_drill();
        for _ in 0..30 {
            step(&server, &engine).await;
            for job in server.below(JOBS) {
                let path = format!("{JOBS}/{}", job["metadata"]["name"].as_str().unwrap());
                // The Job controller has given up.
                if role(&job) == "restore" && matches!(engine.run, Says::Error(..)) {
                    server.change(&path, |job| {
                        job["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]});
                    });
                }
            }
        }
        assert_eq!(phase(&server).0, "Failed");
        let status = seen(&server).status.unwrap();
        assert_eq!(status.drill.unwrap().result.unwrap().as_str(), "NotRun");
        assert_eq!(left(&server), 0);
        assert_eq!(told(&server), [Value::Null, Value::Null, Value::Null]);
    }
}

#[tokio::test]
async fn deleted_anywhere_it_takes_everything_along() {
    let engine = failing();
    for seen_after in 0..16 {
        for write in 0.. {
            let server = world_of_drill();
            steps(&server, &engine, seen_after).await;
            delete(&server);
            server.break_at(write, Break::After);
            steps(&server, &engine, 8).await;
            assert!(server.get::<Value>(RESTORE).is_none(), "{seen_after} {write}");
            // What goes with its owner is the API server's to take away.
            let owned = |object: &Value| object["metadata"]["ownerReferences"][0]["name"] == "back";
            let all: Vec<Value> = [JOBS, CLAIMS, MAPS, POLICIES]
                .iter()
                .flat_map(|path| server.below(path))
                .collect();
            assert!(all.iter().all(owned), "{seen_after} {write}");
            assert!(seen_after < 6 || all.is_empty(), "{seen_after} {write}: {all:#?}");
            if !server.broke() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn no_pod_asks_without_what_shuts_it_in() {
    for path in [POLICIES, MAPS] {
        let server = world_of_drill();
        let name = crate::restore::drill::name(&seen(&server));
        let kind = if path == POLICIES { "NetworkPolicy" } else { "ConfigMap" };
        let theirs = json!({"kind": kind, "metadata": {"name": name, "namespace": "team"}});
        server.put(&format!("{path}/{name}"), theirs);
        steps(&server, &good(), 16).await;
        assert_eq!(phase(&server), ("Checking".into(), "NameTaken".into(), true), "{kind}");
        assert!(jobs_of(&server, "drill").is_empty(), "{kind}");
        // Out of the way, it goes on by itself.
        server.remove(&format!("{path}/{name}"));
        steps(&server, &good(), 8).await;
        assert_eq!(phase(&server).0, "Completed", "{kind}");
    }
}

#[tokio::test]
async fn a_later_proof_stands() {
    let server = world_of_drill();
    let later = json!({"time": "2026-01-02T08:30:00Z", "level": "Drill", "result": "Failed"});
    server.change(BACKUP, |object| object["status"]["verified"] = later.clone());
    server.change(DEPLOYMENT, |object| {
        object["status"] = json!({"lastDrill": later, "phase": "Streaming"});
    });
    steps(&server, &good(), 20).await;
    assert_eq!(phase(&server).0, "Completed");
    let [backup, deployment, _] = told(&server);
    assert_eq!(
        (&backup["result"], &deployment["result"]),
        (&json!("Failed"), &json!("Failed"))
    );
}

#[tokio::test]
async fn what_the_second_pod_has() {
    let mut spec = drill();
    spec["podTemplate"] = json!({"serviceAccountName": "reader", "env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}],
        "nodeSelector": {"disk": "slow"}});
    let server = world(spec, Value::Null);
    let engine = Engine {
        check: Says::Nothing,
        ..good()
    };
    steps(&server, &engine, 14).await;
    assert_eq!(phase(&server).0, "Checking");
    let job = jobs_of(&server, "drill").remove(0);
    let words = arguments(&job);
    assert_eq!(words[..2], ["drill", "check"]);
    assert!(
        words.contains(&"--data=/var/lib/postgresql/data/pgdata".to_owned()),
        "{words:?}"
    );
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["nodeSelector"]["disk"], "slow");
    assert_eq!(pod["imagePullSecrets"][0]["name"], "registry", "that of the Cluster");
    let text = job.to_string();
    for word in [
        "reader",
        "AWS_",
        "main-kek",
        "main-signing",
        "s3://",
        "hardstorage.dev/repository",
    ] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    let name = job["metadata"]["name"].as_str().unwrap();
    let map: Value = server.get(&format!("{MAPS}/{name}")).unwrap();
    let checks: Value = serde_json::from_str(map["data"]["checks.json"].as_str().unwrap()).unwrap();
    let wanted = json!([{"name": "rows", "database": "app", "sql": "select 1", "expect": "t", "timeout_seconds": 90}]);
    assert_eq!(checks, wanted);
    let policy: Value = server.get(&format!("{POLICIES}/{name}")).unwrap();
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert!(policy["spec"].get("egress").is_none(), "nothing goes out");
    assert_eq!(policy["spec"]["ingress"].as_array().unwrap().len(), 1);
    let labels = pod_labels(&job);
    for (key, value) in policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[key], *value, "the policy is of this pod");
    }
}

fn pod_labels(job: &Value) -> Value {
    job["spec"]["template"]["metadata"]["labels"].clone()
}

//! From a wish to a database, broken off at every write.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::*;
use crate::names::{MANAGER, annotation};
use crate::remembering::Break;
use crate::restore::samples::{ID, UID};
use http::Method;

/// CloudNativePG takes over what it finds.
fn adopt(server: &Server) {
    let path = format!("{CLUSTERS}/again");
    if server.get::<Value>(&path).is_some() {
        server.change(&path, |cluster| {
            cluster["status"] =
                json!({"phase": "Cluster in healthy state", "readyInstances": 2, "currentPrimary": "again-1"});
        });
    }
}

#[tokio::test]
async fn a_claim_is_filled_once_wherever_it_breaks_off() {
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let server = world(json!({}), Value::Null);
            server.break_at(write, how);
            steps(&server, &good(), 14).await;
            let at = format!("{how:?} {write}");
            assert_eq!(phase(&server), ("Completed".into(), "Completed".into(), false), "{at}");
            assert_eq!(server.count(&Method::POST, JOBS), 2, "{at}: one plan, one run");
            assert_eq!(server.count(&Method::POST, CLAIMS), 1, "{at}");
            assert!(server.below(JOBS).is_empty(), "{at}: its Jobs are put away");
            assert_eq!(server.count(&Method::DELETE, CLAIMS), 0, "{at}");
            let restore = seen(&server);
            assert!(restore.finalizers().is_empty(), "{at}");
            let status = restore.status.unwrap();
            let told: Vec<&str> = status.steps.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(told, ["Plan", "Prepare", "Restore"], "{at}");
            assert_eq!(status.recovered.unwrap().timeline, Some(4), "{at}");
            assert_eq!(status.target.unwrap().backup_id.as_deref(), Some(ID));
            let claim: Value = server.get(&format!("{CLAIMS}/pg")).unwrap();
            assert_eq!(claim["metadata"]["annotations"][annotation::RESTORE_UID], UID);
            assert!(claim["metadata"].get("ownerReferences").is_none(), "{at}");
            if !server.broke() {
                assert!(write > 8, "{write} writes");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_cluster_is_made_once_wherever_it_breaks_off() {
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let server = world(into_cluster(), Value::Null);
            server.break_at(write, how);
            for _ in 0..18 {
                step(&server, &good()).await;
                if server.get::<Value>(&format!("{CLUSTERS}/again")).is_some() {
                    assert!(jobs_of(&server, "restore").is_empty(), "its claims are free");
                    assert!(server.get::<Value>(&format!("{CLAIMS}/again-1")).is_some(), "and there");
                }
                adopt(&server);
            }
            let at = format!("{how:?} {write}");
            assert_eq!(phase(&server), ("Completed".into(), "Completed".into(), false), "{at}");
            assert_eq!(server.count(&Method::POST, JOBS), 2, "{at}");
            assert_eq!(server.count(&Method::POST, CLUSTERS), 1, "{at}");
            let status = seen(&server).status.unwrap();
            let made: Vec<(&str, &str)> = status
                .created
                .iter()
                .map(|one| (one.kind.as_str(), one.name.as_str()))
                .collect();
            assert_eq!(
                made,
                [("PersistentVolumeClaim", "again-1"), ("Cluster", "again")],
                "{at}"
            );
            let cluster: Value = server.get(&format!("{CLUSTERS}/again")).unwrap();
            assert!(cluster["metadata"].get("ownerReferences").is_none(), "{at}");
            if !server.broke() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_plan_that_was_approved_is_what_runs() {
    let target = json!({"dryRun": true, "recoveryTarget": {"time": "1 hour ago"}});
    let server = world(target, Value::Null);
    let mut engine = good();
    steps(&server, &engine, 6).await;
    assert_eq!(phase(&server), ("Planned".into(), "Planned".into(), false));
    let ready = seen(&server).status.unwrap().conditions;
    assert!(ready.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    assert_eq!((server.count(&Method::POST, CLAIMS), finalizers(&server)), (0, vec![]));
    assert!(server.below(JOBS).is_empty(), "the plan's pod is of no use any more");
    // A day later there are other backups, and another timeline.
    engine.plan = Says::Error("notfound.backup", None);
    engine.run = Says::Nothing;
    let mut server = server;
    server.now = "2026-01-03T09:00:00Z".parse().unwrap();
    server.change(RESTORE, |object| {
        object["spec"]["dryRun"] = json!(false);
        object["metadata"]["generation"] = json!(2);
    });
    steps(&server, &engine, 4).await;
    assert_eq!(server.count(&Method::POST, JOBS), 2, "nothing is planned again");
    let words = arguments(&jobs_of(&server, "restore")[0]);
    assert_eq!(words[2], ID);
    assert!(words.contains(&"--to=2026-01-02T07:00:00Z".to_owned()), "{words:?}");
    assert!(words.contains(&"--to-timeline=3".to_owned()));
    assert_eq!(phase(&server).0, "Copying");
}

#[tokio::test]
async fn the_nearest_moment_is_planned_and_said() {
    let mut unreachable = plan_result();
    unreachable["problems"] = json!([serde_json::to_value(error("conflict.target_unreachable")).unwrap()]);
    let wish = |policy: &str| json!({"onUnreachable": policy, "dryRun": true, "recoveryTarget": {"time": "2026-01-02T07:59:30Z"}});
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let server = world(wish("Nearest"), Value::Null);
            server.break_at(write, how);
            let engine = |first: bool| Engine {
                plan: if first {
                    Says::Error("conflict.target_unreachable", Some(unreachable.clone()))
                } else {
                    Says::Done(plan_result())
                },
                run: Says::Nothing,
                ..good()
            };
            for _ in 0..10 {
                let near = jobs_of(&server, "plan")
                    .iter()
                    .any(|job| arguments(job).contains(&"--to=2026-01-02T07:59:00Z".to_owned()));
                step(&server, &engine(!near)).await;
            }
            let at = format!("{how:?} {write}");
            assert_eq!(phase(&server).0, "Planned", "{at}");
            assert_eq!(server.count(&Method::POST, JOBS), 2, "{at}: one plan for each moment");
            let status = seen(&server).status.unwrap();
            assert_eq!(
                status.target.unwrap().moment.as_deref(),
                Some("2026-01-02T07:59:00Z"),
                "{at}"
            );
            let warnings = status.plan.unwrap().warnings;
            assert!(
                warnings[0].contains("2026-01-02T07:59:30Z cannot be reached"),
                "{warnings:?}"
            );
            let reachable = status
                .conditions
                .iter()
                .find(|one| one.type_ == "TargetReachable")
                .unwrap();
            assert_eq!(
                (reachable.status.as_str(), reachable.reason.as_str()),
                ("False", "TakesNearest")
            );
            if !server.broke() {
                break;
            }
        }
    }
    let server = world(wish("Refuse"), Value::Null);
    let engine = Engine {
        plan: Says::Error("conflict.target_unreachable", Some(unreachable)),
        run: Says::Nothing,
        ..good()
    };
    steps(&server, &engine, 4).await;
    assert_eq!(
        phase(&server),
        ("Refused".into(), "ConflictTargetUnreachable".into(), true)
    );
    let status = seen(&server).status.unwrap();
    assert!(status.reachable.unwrap().to.is_some());
    assert_eq!(server.count(&Method::POST, JOBS), 1);
}

#[tokio::test]
async fn figures_are_written_once_a_minute_and_stages_at_once() {
    let server = world(json!({}), Value::Null);
    let far = |stage: &str, done: u64| Engine {
        run: Says::Progress(json!({"stage": stage, "done_bytes": done, "total_bytes": 100, "bytes_per_second": 5})),
        ..good()
    };
    steps(&server, &far("copying", 10), 6).await;
    let percent = || seen(&server).status.unwrap().progress.and_then(|far| far.percent);
    let wrote = |time: &str| {
        let entry = json!([{"manager": MANAGER, "operation": "Apply", "subresource": "status", "time": time}]);
        server.change(RESTORE, |object| object["metadata"]["managedFields"] = entry);
    };
    assert_eq!((phase(&server).0.as_str(), percent()), ("Copying", Some(10)));
    wrote("2026-01-02T08:09:30Z");
    step(&server, &far("copying", 70)).await;
    assert_eq!(percent(), Some(10));
    wrote("2026-01-02T08:08:00Z");
    step(&server, &far("copying", 70)).await;
    assert_eq!(percent(), Some(70));
    wrote("2026-01-02T08:09:59Z");
    step(&server, &far("recovering", 80)).await;
    assert_eq!((phase(&server).0.as_str(), percent()), ("Recovering", Some(80)));
}

#[tokio::test]
async fn a_run_that_ended_well_and_was_not_heard_is_complete() {
    let server = world(json!({}), Value::Null);
    let engine = Engine {
        run: Says::Nothing,
        ..good()
    };
    steps(&server, &engine, 6).await;
    let job = format!(
        "{JOBS}/{}",
        jobs_of(&server, "restore")[0]["metadata"]["name"].as_str().unwrap()
    );
    server.change(&job, |job| {
        job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    });
    steps(&server, &engine, 3).await;
    assert_eq!(phase(&server).0, "Completed");
    let steps = seen(&server).status.unwrap().steps;
    assert!(steps[2].result.as_ref().unwrap().contains("not heard"));
}

#[tokio::test]
async fn a_job_that_somebody_deleted_is_made_again() {
    let server = world(json!({}), Value::Null);
    let engine = Engine {
        run: Says::Nothing,
        ..good()
    };
    steps(&server, &engine, 6).await;
    let job = jobs_of(&server, "restore")[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    server.remove(&format!("{JOBS}/{job}"));
    step(&server, &good()).await;
    steps(&server, &good(), 5).await;
    assert_eq!(phase(&server).0, "Completed");
    assert_eq!(server.count(&Method::POST, CLAIMS), 1);
}

#[tokio::test]
async fn what_is_not_adopted_says_so_and_is_looked_at_still() {
    let mut server = world(into_cluster(), Value::Null);
    steps(&server, &good(), 10).await;
    server.change(&format!("{CLUSTERS}/again"), |cluster| {
        cluster["status"] = json!({"phase": "Setting up primary", "readyInstances": 0});
    });
    step(&server, &good()).await;
    assert_eq!(phase(&server), ("Adopting".into(), "Adopting".into(), false));
    server.now = "2026-01-02T08:16:00Z".parse().unwrap();
    step(&server, &good()).await;
    assert_eq!(phase(&server), ("Adopting".into(), "NotAdopted".into(), true));
    let said = seen(&server).status.unwrap().conditions;
    assert!(
        said.iter().any(|one| one.message.contains("Setting up primary")),
        "{said:?}"
    );
    adopt(&server);
    steps(&server, &good(), 2).await;
    assert_eq!(phase(&server), ("Completed".into(), "Completed".into(), false));
}

#[tokio::test]
async fn a_cluster_is_never_made_without_the_claims_that_were_filled() {
    type Change = fn(&Server);
    let changes: [(&str, Change); 3] = [
        ("gone", |server| server.remove(&format!("{CLAIMS}/again-1"))),
        ("another", |server| {
            server.change(&format!("{CLAIMS}/again-1"), |claim| {
                claim["metadata"]["annotations"] = json!({});
            });
        }),
        ("going", |server| {
            server.change(&format!("{CLAIMS}/again-1"), |claim| {
                claim["metadata"]["deletionTimestamp"] = json!("2026-01-02T08:09:00Z");
            });
        }),
    ];
    for (what, change) in changes {
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
        change(&server);
        steps(&server, &good(), 4).await;
        assert_eq!(phase(&server), ("Adopting".into(), "NotAdopted".into(), true), "{what}");
        assert_eq!(server.count(&Method::POST, CLUSTERS), 0, "{what}");
    }
}

#[tokio::test]
async fn a_cluster_that_somebody_deleted_does_not_come_back() {
    let server = world(into_cluster(), Value::Null);
    steps(&server, &good(), 10).await;
    server.remove(&format!("{CLUSTERS}/again"));
    steps(&server, &good(), 4).await;
    assert_eq!(server.count(&Method::POST, CLUSTERS), 1);
    assert_eq!(phase(&server).1, "NotAdopted");
}

#[tokio::test]
async fn a_lost_status_starts_nothing_on_a_cluster_that_lives() {
    let server = world(into_cluster(), Value::Null);
    for _ in 0..18 {
        step(&server, &good()).await;
        adopt(&server);
    }
    server.change(RESTORE, |object| object["status"] = Value::Null);
    for _ in 0..10 {
        step(&server, &good()).await;
    }
    assert_eq!(phase(&server).0, "Completed");
    assert_eq!(server.count(&Method::POST, JOBS), 3, "one more plan, and no more");
}

/// A watch may be behind: what came of a restore since is not undone by what was seen before, and no second run fills the place.
#[tokio::test]
async fn an_old_view_undoes_nothing() {
    for seen_after in 0..14 {
        let server = world(json!({}), Value::Null);
        steps(&server, &good(), seen_after).await;
        let old = seen(&server);
        steps(&server, &good(), 14).await;
        let before = serde_json::to_value(seen(&server).status).unwrap();
        let used = Engine {
            run: Says::Error("conflict.target_not_empty", None),
            ..good()
        };
        let answers = pods(&server, &used);
        drop(reconcile(Arc::new(old), server.context(answers)).await);
        steps(&server, &used, 6).await;
        let after = serde_json::to_value(seen(&server).status).unwrap();
        assert_eq!(after, before, "seen after {seen_after} steps");
        assert!(server.below(JOBS).is_empty(), "seen after {seen_after} steps");
    }
}

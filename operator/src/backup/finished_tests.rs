//! What is finished, and Jobs of finished runs that nobody has put away.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use crate::backup::tests::{JOBS, WISH, answers, wish, world};
use crate::names::DATA_FINALIZER;
use serde_json::{Value, json};

const ID: &str = "team.orders.full.20260101T000000Z.00aa";

fn finished(change: impl FnOnce(&mut Value)) -> bool {
    let mut object = wish(
        json!({annotation::RUN_ID: "own"}),
        json!({"phase": "Completed", "backupID": ID}),
    );
    change(&mut object);
    is_finished(&serde_json::from_value(object).unwrap())
}

#[test]
fn nothing_is_let_go_about_which_something_is_left_to_do() {
    assert!(finished(|_| {}));
    assert!(finished(|object| object["status"]["phase"] = json!("Tombstoned")));
    let recorded = json!({"recorded": {"repositoryRef": {"name": "main"}, "name": "team.orders", "backupID": ID}});
    assert!(finished(|object| object["spec"] = recorded.clone()));
    for phase in ["Pending", "Queued", "Running", "Failed"] {
        assert!(!finished(|object| object["status"]["phase"] = json!(phase)), "{phase}");
    }
    let unfinished: [fn(&mut Value); 6] = [
        |object| object["status"] = Value::Null,
        |object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        |object| object["metadata"]["finalizers"] = json!([DATA_FINALIZER]),
        |object| object["metadata"]["annotations"][annotation::DELETE_DATA] = json!(ID),
        |object| {
            object["status"]["conditions"] = json!([{"type": "Stalled", "status": "True", "reason": "DamagedPages",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        },
        |object| object["spec"] = json!(5),
    ];
    for change in unfinished {
        assert!(!finished(change));
        // A mirror has no phase that counts; the rest holds for it as well.
        let is_mirror = |object: &mut Value| {
            object["spec"] = recorded.clone();
            change(object);
        };
        let mut with_condition = wish(Value::Null, Value::Null);
        change(&mut with_condition);
        let only_said = with_condition["status"]["conditions"].is_array();
        assert_eq!(
            finished(is_mirror),
            only_said,
            "what a mirror says is said nowhere else"
        );
    }
}

fn job(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "team", "uid": "job-uid",
        "labels": labels, "annotations": {annotation::RUN_ID: "own"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"template": {}}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}})
}

/// We were broken off behind the status, and have forgotten the object since.
#[tokio::test]
async fn the_job_of_a_finished_run_is_put_away() {
    let pledge = json!({annotation::RUN_ID: "own"});
    let of_wish = json!({label::ROLE: "backup", label::BACKUP: "mine"});
    let of_schedule = json!({label::ROLE: "backup", label::SCHEDULE: "nightly"});
    // The Job's name is not always that of the object: somebody else's had it.
    for (labels, is_gone) in [(of_wish, true), (of_schedule, false)] {
        for (phase, does) in [("Running", false), ("Completed", true)] {
            let status = json!({"phase": phase, "runID": "own", "backupID": ID});
            let mut object = wish(pledge.clone(), status);
            object["metadata"]["labels"] = json!({label::SCHEDULE: "nightly"});
            let server = world(0, object);
            let path = format!("{JOBS}/night-1");
            server.put(&path, job("night-1", labels.clone()));
            let seen: Job = server.get(&path).unwrap();
            let action = put_away(Arc::new(seen), server.context(answers(&[], None)))
                .await
                .unwrap();
            let left: Option<Value> = server.get(&path);
            let word = left
                .as_ref()
                .map(|job| job["metadata"]["annotations"][annotation::STORED].clone());
            if does {
                assert_eq!(action, Action::await_change());
                assert_eq!(word, if is_gone { None } else { Some(json!("Completed")) });
            } else {
                assert_eq!(
                    (action, word),
                    (Action::requeue(REST), Some(Value::Null)),
                    "its own look does it"
                );
            }
            assert!(server.get::<Value>(WISH).is_some());
        }
    }
}

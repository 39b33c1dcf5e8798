//! How long a Deployment that goes may be held up, and by what: never by what is not there any more, never for ever.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::*;

/// The operator was away for longer than the timeout while the object was deleted.
#[tokio::test]
async fn the_time_in_which_nobody_tried_does_not_count() {
    let mut object = going(json!({"slotTimeout": "1m"}));
    object.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-12-31T22:00:00Z")).unwrap());
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
    assert!(asked[6].2.to_string().contains("\"drop\""), "{:#}", asked[6].2);
}

#[tokio::test]
async fn what_cannot_be_looked_at_keeps_nothing_for_ever() {
    let broken = || {
        vec![
            namespace(json!({})),
            refused(Method::GET, CLUSTER, 500, "InternalError"),
        ]
    };
    let (outcome, _) = tried(&going(json!({})), 119, broken(), Answers::default()).await;
    assert!(outcome.is_err(), "until then it is tried again");
    let script = broken()
        .into_iter()
        .chain([ok(Method::POST, EVENTS, Value::Null), let_go()])
        .collect();
    let (outcome, asked) = tried(&going(json!({})), 120, script, Answers::default()).await;
    outcome.unwrap();
    is_let_go(&asked);
    let note = asked[2].2["note"].as_str().unwrap();
    assert!(
        note.contains("pg_drop_replication_slot") && note.contains("InternalError"),
        "{note}"
    );
}

/// An operator whose rights end at its namespaces cannot look at them.
#[tokio::test]
async fn a_namespace_that_goes_is_not_held_up_by_an_operator_that_may_not_look_at_it() {
    let terminating = |path: &str| {
        let mut refusal = refused(Method::POST, path, 403, "Forbidden");
        refusal.body["details"] =
            json!({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]});
        refusal
    };
    let maps = "/api/v1/namespaces/team/configmaps";
    let unseen = || refused(Method::GET, NAMESPACE, 403, "Forbidden");
    let object = going(json!({"data": "Delete"}));
    is_let_go(&ran(&object, vec![unseen(), terminating(maps), let_go()], Answers::default()).await);
    // It begins to go between the look and the Job.
    let [sets, pods] = no_pods();
    let script = vec![
        unseen(),
        ok(Method::POST, maps, Value::Null),
        ok(Method::GET, CLUSTER, cluster()),
        ok(Method::GET, CHILD, child(0)),
        sets,
        pods,
        jobs(json!([])),
        terminating(JOBS),
        let_go(),
    ];
    is_let_go(&ran(&object, script, Answers::default()).await);
}

#[test]
fn what_is_to_be_done_stands_before_what_may_be_cut_off() {
    let note = slot_note(&going(json!({})), None, &"x".repeat(2000));
    let end = note.find("slot_name = '").unwrap();
    assert!(end < 500, "{end}");
}

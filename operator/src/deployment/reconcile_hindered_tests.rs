//! Looks at a Deployment that something stands in the way of.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::*;

/// A stream that the API server does not take, and one whose name somebody else has: the status says so, and the rest goes
/// on.
#[tokio::test]
async fn what_stands_in_the_way_of_the_stream_is_in_the_status() {
    let mut object = deployment("team", "orders");
    object.metadata.finalizers = Some(vec!["hardstorage.dev/slot".into()]);
    let cases = [
        (
            refused(Method::GET, CHILD, 404, "NotFound"),
            vec![refused(
                Method::PATCH,
                CHILD,
                422,
                "spec.template: must be less than or equal to memory limit",
            )],
            "ChildRefused",
        ),
        (ok(Method::GET, CHILD, child("somebody")), vec![], "NameOfChildTaken"),
    ];
    for (found, applied, reason) in cases {
        let script = vec![
            ok(Method::GET, REPOSITORY, repository()),
            found,
            namespace(),
            ok(Method::GET, CLUSTER, cluster()),
            refused(Method::GET, SNAPSHOT, 404, "NotFound"),
            ok(Method::PATCH, SNAPSHOT, Value::Null),
        ];
        let status = ok(Method::PATCH, OBJECT, serde_json::to_value(&object).unwrap());
        let script = script
            .into_iter()
            .chain(applied)
            .chain([status])
            .chain(events(2))
            .collect();
        let (outcome, asked) = reconciled(&object, script, Answers::default()).await;
        outcome.unwrap();
        let written = asked.iter().find(|(_, path, _)| path.contains("/status")).unwrap();
        let ready = condition(&written.2["status"], "Ready");
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!(reason)));
        assert_eq!(condition(&written.2["status"], "Stalled")["status"], "True");
    }
}

/// The operator was removed and came back: its finalizer is off, the stream runs, and its Repository is broken.
#[tokio::test]
async fn a_stream_that_runs_has_the_finalizer_whatever_is_broken() {
    let object = deployment("team", "orders");
    let [sets, pods] = the_pod();
    let script = vec![
        refused(Method::GET, REPOSITORY, 404, "NotFound"),
        ok(Method::GET, CHILD, child("uid-team-orders")),
        sets,
        pods,
        namespace(),
        ok(Method::GET, CLUSTER, cluster()),
        ok(Method::PATCH, OBJECT, serde_json::to_value(&object).unwrap()),
        refused(Method::GET, SNAPSHOT, 404, "NotFound"),
        ok(Method::PATCH, SNAPSHOT, Value::Null),
        ok(Method::PATCH, OBJECT, serde_json::to_value(&object).unwrap()),
    ];
    let script = script.into_iter().chain(events(4)).collect();
    let (outcome, asked) = reconciled(&object, script, answers(json!([]))).await;
    outcome.unwrap();
    assert_eq!(asked[6].2["metadata"]["finalizers"], json!(["hardstorage.dev/slot"]));
}

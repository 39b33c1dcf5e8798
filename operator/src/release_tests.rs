//! What is let go when the operator is removed, against an API server that answers by script.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::*;
use crate::scripted::{Answers, ok, refused, scripted};
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

const DEPLOYMENTS: &str = "/apis/hardstorage.dev/v1alpha1/hsdeployments";
const BACKUPS: &str = "/apis/hardstorage.dev/v1alpha1/hsbackups";
const RESTORES: &str = "/apis/hardstorage.dev/v1alpha1/hsrestores";

fn object(name: &str, version: &str, finalizers: &[&str]) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": name,
        "namespace": "team", "uid": name, "resourceVersion": version, "finalizers": finalizers}})
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items})
}

#[tokio::test]
async fn only_ours_is_taken_off_and_a_conflict_is_read_again() {
    let one = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsdeployments/orders";
    let theirs = object("shop", "1", &["example.com/theirs"]);
    let both = |version| object("orders", version, &[FINALIZER, "example.com/theirs"]);
    let script = vec![
        ok(Method::GET, DEPLOYMENTS, list(&[theirs, both("1")])),
        refused(Method::PATCH, one, 409, "Conflict"),
        ok(Method::GET, one, both("2")),
        ok(Method::PATCH, one, object("orders", "3", &["example.com/theirs"])),
        ok(Method::GET, BACKUPS, list(&[])),
        ok(Method::GET, RESTORES, list(&[])),
    ];
    let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(all(&context.client, &[]).await.unwrap(), (1, 0, 0));
    drop(context);
    let asked = server.await.unwrap();
    let (_, _, body) = &asked[3];
    assert_eq!(body["metadata"]["finalizers"], json!(["example.com/theirs"]));
    assert_eq!(body["metadata"]["resourceVersion"], "2");
}

/// Nobody is left to mark its data: the object would never go, nor would its namespace.
#[tokio::test]
async fn a_backup_that_waits_for_its_data_is_let_go_and_keeps_it() {
    let one = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups/night";
    let mut going = object("night", "7", &[DATA_FINALIZER]);
    going["metadata"]["deletionTimestamp"] = json!("2027-01-01T00:00:00Z");
    let script = vec![
        ok(Method::GET, DEPLOYMENTS, list(&[])),
        ok(Method::GET, BACKUPS, list(&[object("stays", "1", &[]), going.clone()])),
        ok(Method::PATCH, one, going),
        ok(Method::GET, RESTORES, list(&[])),
    ];
    let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(all(&context.client, &[]).await.unwrap(), (0, 1, 0));
    drop(context);
    let (_, _, body) = server.await.unwrap().remove(2);
    let wanted = json!({"metadata": {"uid": "night", "resourceVersion": "7", "finalizers": []}});
    assert_eq!(body, wanted);
}

/// Its claims stay: nobody is left to tell half a database from a whole one.
#[tokio::test]
async fn a_restore_that_is_not_finished_is_let_go() {
    let one = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrestores/back";
    let script = vec![
        ok(Method::GET, DEPLOYMENTS, list(&[])),
        ok(Method::GET, BACKUPS, list(&[])),
        ok(
            Method::GET,
            RESTORES,
            list(&[object("back", "3", &[RESTORE_FINALIZER])]),
        ),
        ok(Method::PATCH, one, object("back", "4", &[])),
    ];
    let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(all(&context.client, &[]).await.unwrap(), (0, 0, 1));
    drop(context);
    server.await.unwrap();
}

#[tokio::test]
async fn without_the_definitions_there_is_nothing_to_let_go() {
    let path = |plural: &str| format!("/apis/hardstorage.dev/v1alpha1/namespaces/team/{plural}");
    let script = vec![
        refused(Method::GET, &path("hsdeployments"), 404, "NotFound"),
        refused(Method::GET, &path("hsbackups"), 404, "NotFound"),
        refused(Method::GET, &path("hsrestores"), 404, "NotFound"),
    ];
    let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(all(&context.client, &["team".to_owned()]).await.unwrap(), (0, 0, 0));
    drop(context);
    server.await.unwrap();
}

#[tokio::test]
async fn what_may_not_be_read_is_no_success() {
    let scripts = [
        vec![refused(Method::GET, DEPLOYMENTS, 403, "Forbidden")],
        vec![
            ok(Method::GET, DEPLOYMENTS, list(&[])),
            refused(Method::GET, BACKUPS, 403, "Forbidden"),
        ],
    ];
    for script in scripts {
        let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
        assert!(all(&context.client, &[]).await.unwrap_err().is_forbidden());
        drop(context);
        server.await.unwrap();
    }
}

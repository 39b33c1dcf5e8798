//! How the operator writes, tried on a real server: what a later version knows is not taken away, and what a UID in the
//! body of a write is good for.

use std::path::Path;

use hardstorage_crds::definitions;
use hardstorage_e2e::ApiServer;
use serde_json::{Value, json};

use crate::{apply, file, installed};

/// As `kube` does it for the operator.
fn status(server: &ApiServer, uid: &Value, status: &Value) -> Option<i32> {
    let body = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment",
        "metadata": {"name": "orders", "namespace": "default", "uid": uid}, "status": status});
    let path = file(server, "status", &body.to_string());
    let words = "apply --server-side --subresource=status --force-conflicts --field-manager=pg-hardstorage-operator -f";
    server.kubectl(words.split(' ').chain([path.as_str()])).code
}

fn stored(server: &ApiServer) -> Value {
    server.kubectl(["get", "hsdep", "orders", "-o", "json"]).ok().json()
}

#[test]
fn an_older_operator_takes_nothing_away() {
    let server = ApiServer::start();
    // The definition of a version to come: one more field in the spec, and one in the status.
    let mut later = definitions().unwrap().remove(1).object;
    for part in ["spec", "status"] {
        let properties = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}/properties");
        later.pointer_mut(&properties).unwrap()["laterField"] = json!({"type": "string"});
    }
    server.define(Path::new(&file(&server, "later", &later.to_string())));
    let object = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "orders"},
        "spec": {"source": {"cloudNativePG": {"cluster": "orders"}}, "repositoryRef": {"name": "main"},
            "laterField": "of the user"}});
    apply(&server, "orders", &object.to_string(), "default");
    let uid = stored(&server)["metadata"]["uid"].clone();
    assert_eq!(
        status(
            &server,
            &uid,
            &json!({"phase": "Streaming", "laterField": "of the operator"})
        ),
        Some(0)
    );
    // The older one: a finalizer by a merge, and a status that names what it has read, unknown fields with it.
    let finalizer = json!({"metadata": {"uid": uid, "finalizers": ["hardstorage.dev/slot"]}}).to_string();
    server
        .kubectl(["patch", "hsdep", "orders", "--type=merge", "-p", &finalizer])
        .ok();
    let read: hardstorage_crds::ProtectedDeployment = serde_json::from_value(stored(&server)).unwrap();
    let mut written = read.status.unwrap();
    written.phase = Some(hardstorage_crds::Phase::Degraded);
    assert_eq!(status(&server, &uid, &serde_json::to_value(&written).unwrap()), Some(0));
    let now = stored(&server);
    assert_eq!(now["spec"]["laterField"], "of the user");
    assert_eq!(
        now["status"],
        json!({"phase": "Degraded", "laterField": "of the operator"})
    );
    assert_eq!(now["metadata"]["finalizers"], json!(["hardstorage.dev/slot"]));
}

/// For a status the server compares no UID, other than for the rest of an object: so the operator looks at the answer, and
/// takes back what met an object that was deleted and made again.
#[test]
fn a_status_for_another_object_is_taken_and_can_be_taken_back() {
    let server = installed();
    let object = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "orders"},
        "spec": {"source": {"cloudNativePG": {"cluster": "orders"}}, "repositoryRef": {"name": "main"}}});
    apply(&server, "orders", &object.to_string(), "default");
    let uid = stored(&server)["metadata"]["uid"].clone();
    assert_eq!(
        status(&server, &json!("of one before"), &json!({"phase": "Failed"})),
        Some(0)
    );
    assert_eq!(stored(&server)["status"]["phase"], "Failed");
    assert_eq!(status(&server, &uid, &json!({})), Some(0));
    let status = stored(&server)["status"].clone();
    assert!(status.is_null() || status == json!({}), "{status}");
    let finalizer = json!({"metadata": {"uid": "of one before", "finalizers": ["hardstorage.dev/slot"]}}).to_string();
    let refused = server.kubectl(["patch", "hsdep", "orders", "--type=merge", "-p", &finalizer]);
    assert_eq!(refused.code, Some(1), "{refused}");
}

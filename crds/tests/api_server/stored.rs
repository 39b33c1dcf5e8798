//! Objects that lie in the store from before there were rules.

use std::path::Path;
use std::time::Duration;

use hardstorage_crds::{Repository, definitions};
use hardstorage_e2e::{ApiServer, until};
use kube::core::{DeserializeGuard, ObjectList};
use serde_json::{Value, json};

use crate::{apply, crds, file};

#[test]
fn what_was_stored_before_the_rules_hides_only_itself() {
    let server = ApiServer::start();
    let mut loose = definitions().unwrap().remove(0).object;
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    server.define(Path::new(&file(&server, "loose", &loose.to_string())));
    let object = |name: &str, spec: Value| {
        json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository", "metadata": {"name": name}, "spec": spec}).to_string()
    };
    apply(&server, "garbage", &object("garbage", json!({"url": 5})), "default");
    apply(&server, "nothing", &object("nothing", json!("a text")), "default");
    apply(
        &server,
        "old",
        &object(
            "old",
            json!({"url": "s3://bucket", "accessMode": "WriteOnly", "gone": {}}),
        ),
        "default",
    );
    apply(
        &server,
        "good",
        &object("good", json!({"url": "s3://bucket"})),
        "default",
    );
    server.define(&crds());
    // The server serves the new schema a moment after it took it.
    let another = file(&server, "another", &object("another", json!({"url": 5})));
    until("the rules hold", Duration::from_mins(1), || {
        (server.kubectl(["create", "--dry-run=server", "-f", &another]).code == Some(1)).then_some(())
    });

    let list = server
        .kubectl([
            "get",
            "--raw",
            "/apis/hardstorage.dev/v1alpha1/namespaces/default/hsrepositories",
        ])
        .ok();
    let list: ObjectList<DeserializeGuard<Repository>> = serde_json::from_str(&list.stdout).unwrap();
    let read: Vec<(String, bool)> = list
        .items
        .iter()
        .map(|item| (kube::ResourceExt::name_any(item), item.0.is_ok()))
        .collect();
    let expected = [("garbage", false), ("good", true), ("nothing", false), ("old", true)];
    assert_eq!(read, expected.map(|(name, whole)| (name.to_owned(), whole)));
    let old = list.items[3].0.as_ref().unwrap();
    assert_eq!(old.spec.access_mode.as_str(), "WriteOnly");
    // What nobody changes stays as it is: the operator can still write the status of an object that breaks a new rule.
    let status = r#"{"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Invalid", "message": "", "lastTransitionTime": "2026-11-22T08:15:00Z"}]}}"#;
    server
        .kubectl([
            "patch",
            "hsrepo",
            "old",
            "--subresource=status",
            "--type=merge",
            "-p",
            status,
        ])
        .ok();
}

//! What kubectl and kustomize make of our kinds, beside those of others that are called the same.

use std::fs;

use hardstorage_e2e::cache_root;
use serde_json::{Value, json};

use crate::{apply, crds, installed};

#[test]
fn names_of_others_mean_what_they_meant() {
    let server = installed();
    let others = cache_root().join("kubernetes/cloudnative-pg/config/crd/bases");
    assert!(
        others.is_dir(),
        "{} is missing: run e2e/kubernetes/build",
        others.display()
    );
    // Theirs are too large for a plain apply.
    let path = others.display().to_string();
    server.kubectl(["apply", "--server-side", "-f", &path]).ok();
    server.established();
    let theirs =
        "apiVersion: postgresql.cnpg.io/v1\nkind: Backup\nmetadata: {name: theirs}\nspec: {cluster: {name: orders}}\n";
    let ours = "apiVersion: hardstorage.dev/v1alpha1\nkind: Backup\nmetadata: {name: ours}\nspec: {deploymentRef: {name: orders}}\n";
    let protected = "apiVersion: hardstorage.dev/v1alpha1\nkind: Deployment\nmetadata: {name: ours}\nspec: {source: \
                     {cloudNativePG: {cluster: orders}}, repositoryRef: {name: main}}\n";
    apply(&server, "theirs", theirs, "default");
    apply(&server, "ours", ours, "default");
    apply(&server, "protected", protected, "default");
    let get = |what: &str| server.kubectl(["get", what, "-o", "name"]).ok().text().to_owned();
    for word in ["backup", "backups", "Backup"] {
        assert_eq!(get(word), "backup.postgresql.cnpg.io/theirs", "kubectl get {word}");
    }
    for word in ["deployment", "deployments", "deploy", "Deployment"] {
        assert_eq!(get(word), "", "kubectl get {word}");
    }
    for word in ["hsbackup", "hsbackups", "hsbk"] {
        assert_eq!(get(word), "backup.hardstorage.dev/ours", "kubectl get {word}");
    }
    // What -o name prints is taken again, for example by kubectl delete.
    assert_eq!(get("backup.hardstorage.dev/ours"), "backup.hardstorage.dev/ours");
    assert_eq!(get("hsdep"), "deployment.hardstorage.dev/ours");
}

#[test]
fn kustomize_may_write_its_labels_and_names() {
    let server = installed();
    let folder = server.scratch().path("kustomize");
    fs::create_dir(&folder).unwrap();
    for name in ["kustomization.yaml", "objects.yaml"] {
        fs::copy(crds().join("tests/samples/kustomize").join(name), folder.join(name)).unwrap();
    }
    fs::copy(
        crds().join("../config/kustomize/hardstorage.yaml"),
        folder.join("hardstorage.yaml"),
    )
    .unwrap();
    let built = server.kubectl(["kustomize".as_ref(), folder.as_os_str()]).ok().stdout;
    let objects: Vec<Value> = built
        .split("\n---\n")
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect();
    let ours: Vec<&Value> = objects
        .iter()
        .filter(|object| object["apiVersion"] == "hardstorage.dev/v1alpha1")
        .collect();
    assert_eq!(ours.len(), 8, "{built}");
    for object in &ours {
        // Nothing of what was there under its old name is referred to by it.
        let text = object["spec"].to_string();
        for name in [
            "store",
            "kek",
            "ca",
            "replication",
            "client",
            "registry",
            "backup",
            "backups",
            "main",
            "volume",
            "orders",
        ] {
            // A role of the server, and no reference.
            let text = text.replace(r#""user":"backup""#, "");
            assert!(
                !text.contains(&format!(r#":"{name}""#)),
                "{name} was left in {object:#}"
            );
        }
        apply(&server, "built", &object.to_string(), "default");
    }
    let labelled = server.kubectl(["get", "hsdep", "qa-orders", "-o", "json"]).ok().json();
    assert_eq!(
        labelled["spec"]["selector"],
        json!({"matchLabels": {"app": "shop"}}),
        "this is what the schema accepts it for"
    );
    assert_eq!(
        labelled["spec"]["template"],
        json!({"metadata": {"labels": {"app": "shop"}}})
    );
}

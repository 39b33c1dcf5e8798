//! The Clusters that the operator's tests learn from, recorded from CloudNativePG: its own definition takes each of them, spec and
//! status, so that no test rests on a field which there never was.

use std::fs;

use hardstorage_e2e::{Answer, ApiServer, cache_root};
use serde_json::{Value, json};

use crate::tree;

fn put(server: &ApiServer, object: &Value, how: &[&str]) -> Answer {
    let path = server.scratch().path("recorded.json");
    fs::write(&path, object.to_string()).unwrap();
    let path = path.display().to_string();
    server.kubectl(how.iter().copied().chain(["--validate=strict", "-f", &path]))
}

/// Creates it, then writes its status: a server drops the status of what is created.
fn created(server: &ApiServer, recorded: &Value) -> Answer {
    let mut object = recorded.clone();
    let metadata = &recorded["metadata"];
    object["metadata"] =
        json!({"name": metadata["name"], "namespace": "default", "annotations": metadata["annotations"]});
    let made = put(server, &object, &["create"]);
    if made.code != Some(0) {
        return made;
    }
    put(server, &object, &["replace", "--subresource=status"])
}

#[test]
fn clusters_are_what_cloud_native_pg_defines() {
    let server = ApiServer::start();
    let definition = "kubernetes/cloudnative-pg/config/crd/bases/postgresql.cnpg.io_clusters.yaml";
    let definition = cache_root().join(definition);
    assert!(
        definition.exists(),
        "{} is missing: run e2e/kubernetes/build",
        definition.display()
    );
    let path = definition.display().to_string();
    // Too large for the annotation of a plain apply.
    server.kubectl(["apply", "--server-side", "-f", &path]).ok();
    server.established();
    let mut seen = 0;
    for entry in fs::read_dir(tree("operator/src/deployment/source/samples")).unwrap() {
        let path = entry.unwrap().path();
        let recorded: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        created(&server, &recorded).ok();
        let name = recorded["metadata"]["name"].as_str().unwrap();
        let kept = server.kubectl(["get", "cluster", name, "-o", "json"]).ok().json();
        assert_eq!(kept["status"], recorded["status"], "{}", path.display());
        server.kubectl(["delete", "cluster", name]).ok();

        let mut wrong = recorded.clone();
        wrong["status"]["currentPrimery"] = json!("shop-1");
        let refused = created(&server, &wrong);
        assert!(
            refused.code == Some(1) && refused.stderr.contains("currentPrimery"),
            "{refused}"
        );
        seen += 1;
    }
    assert!(seen >= 4, "only {seen} Clusters are recorded");
}

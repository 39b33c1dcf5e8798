//! The folders for kustomize: what the chart makes, and what a kustomization of a user's own makes of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use hardstorage_e2e::{Scratch, run};
use serde_json::{Value, json};

use crate::{PATIENCE, named, objects, tool, tree};

fn built(folder: &Path) -> Vec<Value> {
    let answer = tool("kubernetes/bin/kubectl", ["kustomize".as_ref(), folder.as_os_str()]).ok();
    objects(&answer.stdout)
}

#[test]
fn it_is_what_the_chart_makes() {
    let scratch = Scratch::new();
    let mut command = Command::new(tree("scripts/manifests"));
    command.arg(scratch.root());
    run(command, PATIENCE).ok();
    for part in ["rbac", "manager", "release", "monitoring"] {
        let file = format!("{part}/{part}.yaml");
        let made = fs::read_to_string(scratch.path(&file)).unwrap();
        let there = fs::read_to_string(tree("config").join(&file)).unwrap();
        assert!(made == there, "config/{file} has drifted: run scripts/manifests");
        assert!(!made.contains("elm.sh") && !made.contains(": Helm"), "{made}");
    }
}

#[test]
fn the_namespace_is_restricted_and_holds_everything() {
    let all = built(&tree("config/default"));
    let space = named(&all, "Namespace", "pg-hardstorage");
    assert_eq!(
        space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "restricted"
    );
    let count = |kind: &str| all.iter().filter(|object| object["kind"] == kind).count();
    assert_eq!(
        (
            count("CustomResourceDefinition"),
            count("Deployment"),
            count("ClusterRole")
        ),
        (5, 1, 3)
    );
    for object in &all {
        let namespace = &object["metadata"]["namespace"];
        assert!(namespace.is_null() || namespace == "pg-hardstorage", "{object:#}");
    }
    named(&built(&tree("config/release")), "Job", "pg-hardstorage-release");
    named(&built(&tree("config/monitoring")), "PrometheusRule", "pg-hardstorage");
}

/// What the comment in config/default/kustomization.yaml says, done.
#[test]
fn namespace_and_image_can_be_chosen() {
    let scratch = Scratch::new();
    let copy = run(
        {
            let mut command = Command::new("cp");
            command.arg("-r").arg(tree("config")).arg(scratch.root());
            command
        },
        PATIENCE,
    );
    copy.ok();
    let comment = fs::read_to_string(tree("config/default/kustomization.yaml")).unwrap();
    let own: Vec<&str> = comment.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    assert!(own.len() > 8, "{comment}");
    fs::write(scratch.path("kustomization.yaml"), own.join("\n")).unwrap();
    let all = built(scratch.root());
    let operator = &named(&all, "Deployment", "pg-hardstorage");
    let image = "registry.example.com/pg-hardstorage:0.1.0";
    let container = &operator["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], image);
    assert_eq!(container["args"][0], json!(format!("--engine-image={image}")));
    for object in &all {
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(subject["namespace"], "backups", "{object:#}");
        }
    }
    assert_eq!(operator["metadata"]["namespace"], "backups");
}

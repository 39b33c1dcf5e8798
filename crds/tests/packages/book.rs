//! The YAML of the book: a real API server takes every object that a page shows, under strict validation, and every piece of a
//! `spec` as one of our kinds.

use std::fs;
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Answer, ApiServer};
use serde_json::{Value, json};

use crate::{helm, named, objects, rendered, tree};

/// The pages, README first.
fn pages() -> Vec<(PathBuf, String)> {
    let mut folders = vec![tree("docs")];
    let mut all = vec![tree("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                all.push(path);
            }
        }
    }
    all.into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

/// What stands between fences of this language, or in its heredocs.
fn blocks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("```").skip(1).step_by(2) {
        let Some((language, body)) = part.split_once('\n') else {
            continue;
        };
        match language.split(',').next() {
            Some("yaml") => found.push(body.to_owned()),
            Some("sh") => found.extend(heredocs(body)),
            _ => {}
        }
    }
    found
}

fn heredocs(shell: &str) -> Vec<String> {
    let begins = |line: &str| line.trim_end().ends_with("<<'END'") || line.trim_end().ends_with("<<END");
    let mut found = Vec::new();
    let mut lines = shell.lines();
    while lines.by_ref().any(begins) {
        let body: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "END").collect();
        found.push(body.join("\n"));
    }
    found
}

/// What the API server answers, without keeping it.
fn tried(server: &ApiServer, object: &Value) -> Answer {
    let path = server.scratch().path("snippet.json");
    // Where a person writes a name of their own.
    let text = object
        .to_string()
        .replace("NAMESPACE", "default")
        .replace("NAME", "shop");
    fs::write(&path, text.replace("BUCKET", "bucket").replace("PREFIX", "prefix")).unwrap();
    let path = path.display().to_string();
    server.kubectl(["create", "--dry-run=server", "--validate=strict", "-f", &path])
}

/// A piece of a spec as an object of this kind, with what the kind cannot do without.
fn as_kind(kind: &str, spec: &Value) -> Value {
    let mut whole = match kind {
        "Repository" => json!({"url": "s3://bucket?region=eu-central-1"}),
        "Deployment" => json!({"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"}}),
        "BackupSchedule" => json!({"deploymentRef": {"name": "shop"}, "schedule": "@daily"}),
        _ => json!({"deploymentRef": {"name": "shop"}}),
    };
    for (name, value) in spec.as_object().unwrap() {
        whole[name] = value.clone();
    }
    json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": kind, "metadata": {"name": "shop"}, "spec": whole})
}

#[test]
fn every_object_that_a_page_shows_is_taken() {
    let server = ApiServer::start();
    server.define(&tree("charts/pg-hardstorage/files/crds"));
    let (mut whole, mut pieces) = (0, 0);
    for (page, text) in pages() {
        let told = Path::display(&page);
        for block in blocks(&text) {
            if block.contains("apiVersion:") {
                for object in objects(&block) {
                    let answer = tried(&server, &object);
                    assert!(
                        answer.code == Some(0) && !answer.stderr.contains("Warning"),
                        "{told}\n{block}\n{answer}"
                    );
                    whole += 1;
                }
            } else if block.starts_with("spec:") {
                let read: Value = serde_saphyr::from_str(&block).unwrap();
                let kinds = ["Repository", "Deployment", "BackupSchedule", "Backup"];
                let answers = kinds.map(|kind| tried(&server, &as_kind(kind, &read["spec"])));
                assert!(
                    answers.iter().any(|answer| answer.code == Some(0)),
                    "{told}\n{block}\n{}",
                    answers.map(|answer| answer.stderr).join("\n")
                );
                pieces += 1;
            } else if block.contains("\nclusters:") {
                let values = server.scratch().path("values.yaml");
                fs::write(&values, &block).unwrap();
                let (chart, values) = (tree("charts/pg-hardstorage-protect"), values.display().to_string());
                let made = helm(["template", "it", &chart.display().to_string(), "--values", &values]).ok();
                for object in objects(&made.stdout) {
                    tried(&server, &object).ok();
                    whole += 1;
                }
            }
        }
    }
    assert!(
        whole > 12 && pieces > 4,
        "only {whole} objects and {pieces} pieces were found"
    );

    // What the chart tells to do next is taken, too.
    let chart = tree("charts/pg-hardstorage").display().to_string();
    let notes = helm(["install", "it", &chart, "--namespace", "ops", "--dry-run=client"])
        .ok()
        .stdout;
    let (_, notes) = notes.split_once("NOTES:").unwrap();
    let deployment = named(&rendered(&[]), "Deployment", "it-pg-hardstorage")["metadata"]["name"].clone();
    let next = format!(
        "kubectl -n ops rollout status deployment/{}",
        deployment.as_str().unwrap()
    );
    assert!(notes.contains(&next), "{notes}");
    let unindented: Vec<&str> = notes
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line))
        .collect();
    let shown = heredocs(&unindented.join("\n"));
    assert_eq!(shown.len(), 1, "{notes}");
    let shown = objects(&shown[0]);
    assert_eq!(shown.len(), 3, "{notes}");
    for object in &shown {
        let answer = tried(&server, object);
        assert!(answer.code == Some(0) && !answer.stderr.contains("Warning"), "{answer}");
    }
}

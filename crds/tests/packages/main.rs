//! What people install: both charts, the folders for kustomize, the health for Argo CD, the alerts with their runbooks, the
//! recipe of the image. They say the same things as each other and as the program, and a real API server takes them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod alerts;
mod argocd;
mod book;
mod chart;
mod image;
mod kustomize;
mod monitoring;
mod recorded;
mod rights;
mod server;

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::{Answer, cache_root, run, tree};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(2);

fn text(path: &str) -> String {
    fs::read_to_string(tree(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A program of the cache, with nothing of the surroundings.
fn tool(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Answer {
    let path = cache_root().join(name);
    assert!(path.exists(), "{} is missing: run scripts/fetch-tools", path.display());
    let mut command = Command::new(path);
    command.env_clear().env("HOME", "/nonexistent").args(arguments);
    run(command, PATIENCE)
}

fn helm(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Answer {
    tool("bin/helm", arguments)
}

/// The objects of a text in YAML.
fn objects(text: &str) -> Vec<Value> {
    let all = format!("\n{text}");
    let documents = all.split("\n---").filter(|document| {
        let mut lines = document.lines().map(str::trim);
        lines.any(|line| !line.is_empty() && !line.starts_with('#'))
    });
    documents
        .map(|document| serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}")))
        .collect()
}

/// What the chart of the operator makes of these settings, in namespace `ops`.
#[track_caller]
fn rendered(settings: &[&str]) -> Vec<Value> {
    let chart = tree("charts/pg-hardstorage").display().to_string();
    let mut arguments = vec!["template", "it", &chart, "--namespace", "ops"];
    for setting in settings {
        arguments.extend(["--set-json", setting]);
    }
    objects(&helm(arguments).ok().stdout)
}

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let names: Vec<String> = objects
        .iter()
        .map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]))
        .collect();
    objects
        .iter()
        .find(is)
        .unwrap_or_else(|| panic!("no {kind} {name} in {names:?}"))
}

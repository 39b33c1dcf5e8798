//! What a real API server says of the samples, and what kubectl makes of our names beside those of others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod kubectl;
mod rules;
#[path = "../sample/mod.rs"]
mod sample;
mod status;
mod stored;
mod writes;

use std::fs;
use std::path::PathBuf;

use hardstorage_e2e::ApiServer;
use serde_json::{Value, json};

fn crds() -> PathBuf {
    hardstorage_e2e::tree("crds")
}

/// An API server with the definitions as a user installs them: `kubectl apply -f crds/`.
fn installed() -> ApiServer {
    let server = ApiServer::start();
    server.define(&crds());
    server
}

fn namespaces<'a>(server: &ApiServer, names: impl Iterator<Item = &'a str>) {
    let list: Vec<Value> = names
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect();
    apply(
        server,
        "namespaces",
        &json!({"apiVersion": "v1", "kind": "List", "items": list}).to_string(),
        "default",
    );
}

fn file(server: &ApiServer, name: &str, text: &str) -> String {
    let path = server.scratch().path(&format!("{name}.yaml"));
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[track_caller]
fn apply(server: &ApiServer, name: &str, text: &str, namespace: &str) {
    let path = file(server, name, text);
    server.kubectl(["apply", "-n", namespace, "-f", &path]).ok();
}

//! The health that Argo CD shows, by the interpreter of its language.

use std::fmt::Write as _;
use std::process::Command;

use hardstorage_e2e::run;
use serde_json::{Value, json};

use crate::{PATIENCE, text, tree};

/// A value as Lua writes it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("[==[{text}]==]"),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let mut out = String::new();
            for (name, member) in members {
                write!(out, "[\"{name}\"] = {}, ", lua(member)).unwrap();
            }
            format!("{{{out}}}")
        }
    }
}

/// Status and message.
fn health(object: &Value) -> (String, String) {
    let script = text("config/argocd/health.lua");
    let program = format!(
        "local obj = {}\nlocal function health(obj)\n{script}\nend\nlocal hs = health(obj)\nio.write(hs.status, '\\n', hs.message)",
        lua(object)
    );
    let mut command = Command::new("lua5.4");
    command.args(["-e", &program]);
    let answer = run(command, PATIENCE).ok();
    let (status, message) = answer.stdout.split_once('\n').unwrap();
    (status.to_owned(), message.to_owned())
}

fn object(kind: &str, conditions: &[(&str, &str, &str)]) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(type_, status, reason)| json!({"type": type_, "status": status, "reason": reason, "message": "see"}))
        .collect();
    json!({"kind": kind, "metadata": {"generation": 2}, "spec": {}, "status": {"observedGeneration": 2, "conditions": conditions}})
}

#[test]
fn every_state_of_every_kind() {
    let good = ("Ready", "True", "Good");
    let not_yet = ("Ready", "False", "Waiting");
    let calm = ("Stalled", "False", "Good");
    let flows = ("Streaming", "True", "Streaming");
    let cases = [
        (
            object("Repository", &[good, calm, ("Reachable", "True", "Good")]),
            "Healthy",
            "Good: see",
        ),
        (
            object("Repository", &[good, ("Reachable", "False", "Denied")]),
            "Degraded",
            "Denied: see",
        ),
        (
            object("Repository", &[not_yet, ("KeyAvailable", "False", "KeyMissing")]),
            "Degraded",
            "KeyMissing: see",
        ),
        (
            object("Repository", &[good, ("RecoveryKeyExported", "False", "NotYet")]),
            "Healthy",
            "Good: see",
        ),
        (
            object("Repository", &[not_yet, ("Stalled", "True", "RepositoryVanished")]),
            "Degraded",
            "RepositoryVanished: see",
        ),
        (object("Deployment", &[good, calm, flows]), "Healthy", "Good: see"),
        (object("Deployment", &[not_yet, calm]), "Progressing", "Waiting: see"),
        (
            object("Deployment", &[good, ("Streaming", "False", "SourceHibernated")]),
            "Suspended",
            "SourceHibernated: see",
        ),
        (
            object("Deployment", &[good, ("Streaming", "False", "Paused")]),
            "Suspended",
            "Paused: see",
        ),
        (
            object("Deployment", &[not_yet, ("Streaming", "False", "Unreachable")]),
            "Degraded",
            "Unreachable: see",
        ),
        (
            object("Deployment", &[good, ("Streaming", "Unknown", "NotHeard")]),
            "Progressing",
            "NotHeard: see",
        ),
        (
            object("Deployment", &[good, flows, ("ArchiveContinuous", "False", "Gap")]),
            "Degraded",
            "Gap: see",
        ),
        (
            object("Deployment", &[good, flows, ("SlotHealthy", "False", "HeldByOther")]),
            "Degraded",
            "HeldByOther: see",
        ),
        (
            object("BackupSchedule", &[good, ("LastRunSucceeded", "True", "Completed")]),
            "Healthy",
            "Good: see",
        ),
        (
            object("BackupSchedule", &[good, ("LastRunSucceeded", "False", "Failed")]),
            "Degraded",
            "Failed: see",
        ),
        (object("Backup", &[not_yet, calm]), "Progressing", "Waiting: see"),
        (
            object("Backup", &[not_yet, ("Stalled", "True", "OOMKilled")]),
            "Degraded",
            "OOMKilled: see",
        ),
        (object("Restore", &[not_yet, calm]), "Progressing", "Waiting: see"),
        (
            object("Restore", &[not_yet, ("Stalled", "True", "DestinationUsed")]),
            "Degraded",
            "DestinationUsed: see",
        ),
    ];
    for (object, status, message) in cases {
        assert_eq!(health(&object), (status.to_owned(), message.to_owned()), "{object:#}");
    }
}

#[test]
fn what_nobody_has_looked_at_is_not_healthy() {
    let mut old = object("Deployment", &[("Ready", "True", "Good")]);
    old["status"]["observedGeneration"] = json!(1);
    let cases = [
        json!({"kind": "Repository", "metadata": {"generation": 1}, "spec": {}}),
        json!({"kind": "Repository", "metadata": {"generation": 1}, "spec": {}, "status": {}}),
        object("Deployment", &[]),
        old,
    ];
    for object in cases {
        assert_eq!(health(&object).0, "Progressing", "{object:#}");
    }
    let mut done = object("Backup", &[("Ready", "True", "Completed")]);
    done["status"]["phase"] = json!("Tombstoned");
    assert_eq!(health(&done).0, "Healthy");
    let mut planned = object("Restore", &[("Ready", "True", "Planned")]);
    planned["status"]["phase"] = json!("Planned");
    assert_eq!(health(&planned), ("Suspended".to_owned(), "Planned: see".to_owned()));
    planned["status"]["phase"] = json!("Completed");
    assert_eq!(health(&planned).0, "Healthy");
    let mut suspended = object("BackupSchedule", &[("Ready", "True", "Good")]);
    suspended["spec"]["suspend"] = json!(true);
    assert_eq!(health(&suspended).0, "Suspended");
}

#[test]
fn every_kind_and_every_condition_is_known() {
    let keys = text("config/argocd/kustomization.yaml");
    for definition in hardstorage_crds::definitions().unwrap() {
        let kind = definition.object["spec"]["names"]["kind"].as_str().unwrap();
        assert!(
            keys.contains(&format!("health.hardstorage.dev_{kind}=health.lua")),
            "{kind}"
        );
    }
    // The script names no condition that is not one.
    let (script, types) = (text("config/argocd/health.lua"), text("crds/src/condition.rs"));
    let (_, list) = script.split_once("ipairs({\"").unwrap();
    let (list, _) = list.split_once("\"})").unwrap();
    for name in list.split("\", \"") {
        assert!(types.contains(&format!("\"{name}\"")), "{name}");
    }
    assert!(tree("config/argocd/health.lua").is_file());
}

//! The types read what users write, and lose nothing of it; strange objects do not hide the others. What the API server
//! says of the same samples is in `api_server.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod sample;

use std::collections::BTreeSet;

use hardstorage_crds::{Backup, BackupSchedule, Definition, ProtectedDeployment, Repository, Restore, definitions};
use kube::core::{DeserializeGuard, ObjectList};
use sample::samples;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn through<K: Serialize + DeserializeOwned>(value: &Value) -> Value {
    let read: K = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value:#}"));
    serde_json::to_value(read).unwrap()
}

/// Reads it as the type of its kind and writes it again.
fn typed(value: &Value) -> Value {
    match value["kind"].as_str().unwrap() {
        "Repository" => through::<Repository>(value),
        "Deployment" => through::<ProtectedDeployment>(value),
        "BackupSchedule" => through::<BackupSchedule>(value),
        "Backup" => through::<Backup>(value),
        "Restore" => through::<Restore>(value),
        other => panic!("no type for {other}"),
    }
}

/// Whether everything of `part` is in `whole`, apart from what kustomize writes and nothing reads.
fn within(path: &str, part: &Value, whole: &Value) -> Result<(), String> {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .filter(|(name, _)| !(path == ".spec" && matches!(name.as_str(), "selector" | "template")))
            .try_for_each(|(name, value)| {
                let path = format!("{path}.{name}");
                match whole.get(name) {
                    Some(whole) => within(&path, value, whole),
                    // A template left it empty: it counts as absent.
                    None if value.is_null() => Ok(()),
                    None => Err(format!("{path} is lost")),
                }
            }),
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => part
            .iter()
            .zip(whole)
            .try_for_each(|(part, whole)| within(path, part, whole)),
        // A quantity may be written as a number, and is text from then on.
        (Value::Number(number), Value::String(text)) if number.to_string() == *text => Ok(()),
        _ if part == whole => Ok(()),
        _ => Err(format!("{path}: {part} became {whole}")),
    }
}

#[test]
fn nothing_that_a_user_writes_is_lost() {
    for (name, value) in documents("good").into_iter().chain(documents("status")) {
        within("", &value, &typed(&value)).unwrap_or_else(|lost| panic!("{name}: {lost}"));
    }
}

#[test]
fn what_is_refused_is_told_apart_by_the_server_and_not_by_the_types() {
    // Each of these lies in a store somewhere, written before there was a rule against it.
    let mut read = 0;
    for sample in samples("bad") {
        assert!(sample.refused.is_some(), "{} says nothing", sample.name);
        let value: Value = serde_saphyr::from_str(sample.documents.last().unwrap()).unwrap();
        // Required members are missing here: those are a matter for the guard.
        if ![
            "repository-no-url",
            "deployment-no-source",
            "schedule-no-deployment",
            "schedule-drill-without-schedule",
            "restore-drill-check-without-database",
        ]
        .contains(&sample.name.as_str())
        {
            typed(&value);
            read += 1;
        }
    }
    assert!(read > 50, "only {read} samples were read");
}

/// Properties of our own, by path; what Kubernetes describes (a pod's settings, selectors) ends where it begins.
fn properties(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    if path.contains(".podTemplate.") || path.ends_with(".selector") || path.ends_with(".template") {
        return;
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        properties(&path, inner, found);
        found.insert(path);
    }
    if schema["items"].is_object() {
        properties(path, &schema["items"], found);
    }
}

fn used(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    for (name, inner) in value.as_object().into_iter().flatten() {
        used(&format!("{path}.{name}"), inner, found);
    }
    for inner in value.as_array().into_iter().flatten() {
        used(path, inner, found);
    }
}

fn schema<'a>(definition: &'a Definition, part: &str) -> &'a Value {
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}");
    definition.object.pointer(&path).unwrap()
}

fn documents(folder: &str) -> Vec<(String, Value)> {
    samples(folder)
        .into_iter()
        .flat_map(|sample| {
            let name = sample.name;
            sample
                .documents
                .into_iter()
                .map(move |text| (name.clone(), serde_saphyr::from_str(&text).unwrap()))
        })
        .collect()
}

#[test]
fn every_field_is_in_a_sample() {
    for (part, folder) in [("spec", "good"), ("status", "status")] {
        let documents = documents(folder);
        for definition in definitions().unwrap() {
            let kind = definition.object["spec"]["names"]["kind"].as_str().unwrap();
            let (mut all, mut seen) = (BTreeSet::new(), BTreeSet::new());
            properties(part, schema(&definition, part), &mut all);
            for (_, value) in documents.iter().filter(|(_, value)| value["kind"] == kind) {
                used(part, &value[part], &mut seen);
            }
            let missing: Vec<_> = all.difference(&seen).collect();
            assert!(missing.is_empty(), "no sample of {kind} in {folder} has {missing:?}");
        }
    }
}

#[test]
fn every_rule_is_in_a_sample() {
    fn messages(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(members) => {
                for rule in members
                    .get("x-kubernetes-validations")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    found.insert(rule["message"].as_str().unwrap().to_owned());
                }
                members.values().for_each(|inner| messages(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| messages(inner, found)),
            _ => {}
        }
    }
    let mut all = BTreeSet::new();
    for definition in definitions().unwrap() {
        messages(&definition.object, &mut all);
    }
    let bad = samples("bad");
    let unproven: Vec<_> = all
        .iter()
        .filter(|message| {
            !bad.iter()
                .any(|sample| sample.refused.as_ref().unwrap().contains(message.as_str()))
        })
        .collect();
    assert!(unproven.is_empty(), "no bad sample is refused with {unproven:#?}");
}

#[test]
fn words_of_a_later_version_do_not_hide_a_list() {
    let list: ObjectList<ProtectedDeployment> = serde_json::from_value(json!({
        "apiVersion": "hardstorage.dev/v1alpha1", "kind": "DeploymentList", "metadata": {},
        "items": [
            {
                "metadata": {"name": "later"},
                "spec": {
                    "source": {"patroni": {"scope": "a", "flavor": "Percona"}, "somethingNew": {}},
                    "repositoryRef": {"name": "main"},
                    "onNewSystem": "Ask",
                    "stream": {"flushInterval": "soon", "synchronous": true},
                    "deletion": {"slot": "Rename"},
                },
                "status": {"phase": "Dreaming", "source": {"mode": "Cascade"}},
            },
            {
                "metadata": {"name": "now"},
                "spec": {"source": {"cloudNativePG": {"cluster": "b"}}, "repositoryRef": {"name": "main"}},
            },
        ],
    }))
    .unwrap();
    let later = &list.items[0];
    assert_eq!(later.spec.on_new_system.as_str(), "Ask");
    assert_eq!(
        later.status.as_ref().unwrap().phase.as_ref().unwrap().as_str(),
        "Dreaming"
    );
    assert_eq!(later.spec.stream.as_ref().unwrap().flush_interval.get(), None);
    assert_eq!(list.items[1].spec.source.cloud_native_pg.as_ref().unwrap().cluster, "b");
}

#[test]
fn an_object_of_another_shape_hides_only_itself() {
    let list: ObjectList<DeserializeGuard<Repository>> = serde_json::from_value(json!({
        "apiVersion": "hardstorage.dev/v1alpha1", "kind": "RepositoryList", "metadata": {},
        "items": [
            {"metadata": {"name": "broken", "namespace": "a"}, "spec": {"url": 5}},
            {"metadata": {"name": "whole", "namespace": "a"}, "spec": {"url": "s3://backups"}},
        ],
    }))
    .unwrap();
    let broken = list.items[0].0.as_ref().unwrap_err();
    assert_eq!(broken.metadata.name.as_deref(), Some("broken"));
    assert_eq!(list.items[1].0.as_ref().unwrap().spec.url, "s3://backups");
}

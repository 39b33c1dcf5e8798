//! The definitions as they lie in the tree: they are what the types say, a person can read them, and they can be installed
//! by a plain `kubectl apply`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::path::{Path, PathBuf};

use hardstorage_crds::{Definition, GROUP, VERSION, definitions};
use serde_json::Value;

fn folder() -> PathBuf {
    hardstorage_e2e::tree("crds")
}

fn all() -> Vec<Definition> {
    definitions().unwrap()
}

fn schema(definition: &Definition) -> &Value {
    definition
        .object
        .pointer("/spec/versions/0/schema/openAPIV3Schema")
        .unwrap()
}

/// Calls `see` with the path and the schema of everything below.
fn walk(path: &str, schema: &Value, see: &mut impl FnMut(&str, &Value)) {
    see(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, inner) in properties {
            walk(&format!("{path}.{name}"), inner, see);
        }
    }
    for name in ["items", "additionalProperties"] {
        if schema[name].is_object() {
            walk(&format!("{path}[]"), &schema[name], see);
        }
    }
}

#[test]
fn the_files_are_what_the_types_say() {
    let mut expected: Vec<String> = Vec::new();
    for definition in all() {
        let text = fs::read_to_string(folder().join(&definition.file)).unwrap_or_default();
        assert!(
            text == definition.yaml,
            "{} is not what the types say: run cargo run -p hardstorage-crds --bin crdgen",
            definition.file
        );
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(
            read, definition.object,
            "{} does not read as it was written",
            definition.file
        );
        expected.push(definition.file);
    }
    let mut there: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    there.sort();
    expected.sort();
    assert_eq!(there, expected, "a definition of a kind that is no more");
}

#[test]
fn the_book_tells_of_every_field() {
    let book = folder().join("../docs");
    let summary = fs::read_to_string(book.join("SUMMARY.md")).unwrap();
    for definition in all() {
        let name = &definition.page_file;
        let page = fs::read_to_string(book.join("reference").join(name)).unwrap_or_default();
        assert!(
            page == definition.page,
            "{name} is not what the types say: run cargo run -p hardstorage-crds --bin crdgen"
        );
        assert!(
            summary.contains(&format!("(reference/{name})")),
            "{name} is not in SUMMARY.md"
        );
        let root = schema(&definition);
        let mut told = 0;
        for part in ["spec", "status"] {
            walk(part, &root["properties"][part], &mut |path, schema| {
                // What is Kubernetes' own is told by `kubectl explain`; conditions have a table of types.
                let names: Vec<&str> = path.split('.').collect();
                let deep = |name: &str, levels: usize| {
                    names
                        .iter()
                        .position(|one| *one == name)
                        .is_some_and(|at| names.len() > at + levels)
                };
                if path == part
                    || path.ends_with("[]")
                    || deep("podTemplate", 2)
                    || deep("selector", 1)
                    || path.contains("conditions[]")
                {
                    return;
                }
                let line = page.lines().find(|line| line.starts_with(&format!("| `{path}` | ")));
                let line = line.unwrap_or_else(|| panic!("{path} is not on {name}"));
                told += 1;
                // Said in the description, and marked: a reader of either must not be told less.
                let stays = schema["x-kubernetes-validations"]
                    .to_string()
                    .contains("\"self == oldSelf");
                if stays {
                    assert!(line.contains("**immutable**"), "{line}");
                    let says = schema["description"].as_str().unwrap();
                    assert!(
                        says.contains("annot be changed"),
                        "{path} does not say that it stays: {says}"
                    );
                }
            });
        }
        let lines = page.lines().count();
        assert!(told > 20 && lines < 320, "{name}: {told} fields on {lines} lines");
    }
}

#[test]
fn a_plain_apply_can_install_them() {
    // kubectl keeps the whole object in an annotation, and all annotations together end at 256 KiB.
    for definition in all() {
        assert!(
            definition.yaml.len() < 256 * 1024,
            "{}: {} bytes",
            definition.file,
            definition.yaml.len()
        );
    }
}

#[test]
fn every_field_says_what_it_is() {
    for definition in all() {
        let mut silent = Vec::new();
        let root = schema(&definition);
        assert!(root["description"].is_string(), "{}", definition.file);
        for part in ["spec", "status"] {
            walk(part, &root["properties"][part], &mut |path, schema| {
                let is_item = path.ends_with("[]");
                if !is_item && schema["description"].as_str().is_none_or(|text| text.len() < 5) {
                    silent.push(path.to_owned());
                }
            });
        }
        assert_eq!(silent, Vec::<String>::new(), "{} does not describe", definition.file);
    }
}

#[test]
fn a_default_is_said_where_it_stands() {
    for definition in all() {
        let root = schema(&definition);
        walk("spec", &root["properties"]["spec"], &mut |path, schema| {
            let Some(default) = schema.get("default") else { return };
            if path.contains("podTemplate") {
                return;
            }
            let said = match default {
                Value::String(text) => text.clone(),
                Value::Object(_) => "managed".to_owned(),
                other => other.to_string(),
            };
            let description = schema["description"].as_str().unwrap();
            assert!(
                description.contains("default") && description.contains(&said),
                "{path} of {} is {said} by default and says: {description}",
                definition.file
            );
        });
    }
}

#[test]
fn only_one_struct_has_a_default_of_its_own() {
    // A default for a struct would be written into every object, and shown as a difference by tools that compare with Git.
    let mut structs = Vec::new();
    for definition in all() {
        walk("", schema(&definition), &mut |path, schema| {
            if schema["default"].is_object() {
                structs.push(format!("{}{path}", definition.file));
            }
            assert!(
                schema.get("nullable").is_none(),
                "{path} of {} takes null",
                definition.file
            );
        });
    }
    assert_eq!(structs, ["hardstorage.dev_hsrepositories.yaml.spec.encryption"]);
}

#[test]
fn names_do_not_take_those_of_others() {
    let kinds = [
        ("Repository", "hsrepositories", "hsrepository", "hsrepo"),
        ("Deployment", "hsdeployments", "hsdeployment", "hsdep"),
        ("BackupSchedule", "hsbackupschedules", "hsbackupschedule", "hssched"),
        ("Backup", "hsbackups", "hsbackup", "hsbk"),
        ("Restore", "hsrestores", "hsrestore", "hsrs"),
    ];
    for (definition, (kind, plural, singular, short)) in all().iter().zip(kinds) {
        let spec = &definition.object["spec"];
        assert_eq!(spec["group"], GROUP);
        assert_eq!(spec["versions"][0]["name"], VERSION);
        assert_eq!(spec["scope"], "Namespaced");
        let names = &spec["names"];
        assert_eq!(names["kind"], kind);
        assert_eq!(names["plural"], plural);
        assert_eq!(names["singular"], singular);
        assert_eq!(names["shortNames"], serde_json::json!([short]));
        assert_eq!(names["categories"], serde_json::json!(["hardstorage"]));
        assert!(
            spec["versions"][0]["subresources"]["status"].is_object(),
            "{kind} has a status of its own"
        );
    }
}

#[test]
fn what_a_rule_walks_has_an_end() {
    for definition in all() {
        walk(
            "spec",
            &schema(&definition)["properties"]["spec"],
            &mut |path, schema| {
                if path.contains("podTemplate") || path.contains(".selector") || path.contains(".resources") {
                    return;
                }
                let bounded = match schema["type"].as_str() {
                    Some("string") => ["maxLength", "enum", "pattern"]
                        .iter()
                        .any(|key| schema.get(key).is_some()),
                    Some("array") => schema.get("maxItems").is_some(),
                    _ => true,
                };
                assert!(bounded, "{path} of {} can be of any size", definition.file);
            },
        );
    }
}

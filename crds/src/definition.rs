//! The definitions that are installed, made from the types.
//!
//! What the generator of schemas adds for Rust's sake is taken out again: `nullable` (a null where a member is optional
//! would count as set for a rule such as *exactly one of*), titles, and the formats of integers that the API server warns of.
//! What is left is what a person reads with `kubectl explain`.

use kube::CustomResourceExt;
use serde::ser::Error as _;
use serde_json::{Map, Value, json};
use serde_saphyr::SerializeError;

use crate::condition::{self, Said};
use crate::page::{self, page};
use crate::{Backup, BackupSchedule, ProtectedDeployment, Repository, Restore};

/// One CustomResourceDefinition.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The name of its file, as controller-gen names them: GROUP_PLURAL.yaml.
    pub file: String,
    /// The object.
    pub object: Value,
    /// The object as the text of that file.
    pub yaml: String,
    /// The name of the page of the book that tells of it.
    pub page_file: String,
    /// That page.
    pub page: String,
}

/// All of them.
pub fn definitions() -> Result<Vec<Definition>, SerializeError> {
    Ok(vec![
        definition::<Repository>(condition::repository::ALL)?,
        definition::<ProtectedDeployment>(condition::deployment::ALL)?,
        definition::<BackupSchedule>(condition::schedule::ALL)?,
        definition::<Backup>(condition::backup::ALL)?,
        definition::<Restore>(condition::restore::ALL)?,
    ])
}

fn definition<K: CustomResourceExt>(conditions: &[Said]) -> Result<Definition, SerializeError> {
    let mut object = serde_json::to_value(K::crd()).map_err(SerializeError::custom)?;
    if let Some(Value::Array(versions)) = object.pointer_mut("/spec/versions") {
        for version in versions {
            if let Some(Value::Object(schema)) = version.pointer_mut("/schema/openAPIV3Schema") {
                tidy(schema);
            }
        }
    }
    let yaml = format!(
        "# Made from the types in crds/src by crdgen: change those.\n{}",
        serde_saphyr::to_string(&object)?
    );
    let (plural, group) = K::crd_name().split_once('.').unwrap_or((K::crd_name(), ""));
    Ok(Definition {
        file: format!("{group}_{plural}.yaml"),
        page_file: page::file(object["spec"]["names"]["kind"].as_str().unwrap_or_default()),
        page: page(&object, conditions),
        object,
        yaml,
    })
}

/// Goes by position, not by name: a property may well be called `format`.
fn tidy(schema: &mut Map<String, Value>) {
    schema.remove("nullable");
    schema.remove("title");
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    let known = ["date-time", "int32", "int64"];
    if schema
        .get("format")
        .is_some_and(|format| !known.contains(&format.as_str().unwrap_or_default()))
    {
        schema.remove("format");
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = flow(text);
    }
    for name in ["minimum", "maximum"] {
        if let Some(bound) = schema.get_mut(name)
            && let Some(whole) = bound.as_f64().filter(|bound| bound.fract() == 0.0)
        {
            *bound = json!(whole as i64);
        }
    }
    for name in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = schema.get_mut(name) {
            properties.values_mut().filter_map(Value::as_object_mut).for_each(tidy);
        }
    }
    for name in ["items", "additionalProperties", "not"] {
        if let Some(Value::Object(inner)) = schema.get_mut(name) {
            tidy(inner);
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(inner)) = schema.get_mut(name) {
            inner.iter_mut().filter_map(Value::as_object_mut).for_each(tidy);
        }
    }
    schema.sort_keys();
}

/// A doc comment is broken for the width of a source file; a description is one line for each paragraph.
fn flow(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    paragraphs.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keywords_are_tidied() {
        let mut schema = json!({
            "title": "Gone",
            "properties": {
                "title": {"type": "string", "nullable": true, "description": "one\ntwo\n\nthree"},
                "format": {"type": "integer", "format": "uint32"},
                "nullable": {"type": "integer", "format": "int64", "default": null, "minimum": 0.0},
            },
        });
        tidy(schema.as_object_mut().unwrap());
        let expected = json!({
            "properties": {
                "title": {"type": "string", "description": "one two\n\nthree"},
                "format": {"type": "integer"},
                "nullable": {"type": "integer", "format": "int64", "minimum": 0},
            },
        });
        assert_eq!(schema, expected);
    }

    #[test]
    fn files_are_named_as_others_name_them() {
        let files: Vec<String> = definitions().unwrap().into_iter().map(|one| one.file).collect();
        let expected = [
            "hardstorage.dev_hsrepositories.yaml",
            "hardstorage.dev_hsdeployments.yaml",
            "hardstorage.dev_hsbackupschedules.yaml",
            "hardstorage.dev_hsbackups.yaml",
            "hardstorage.dev_hsrestores.yaml",
        ];
        assert_eq!(files, expected);
    }
}

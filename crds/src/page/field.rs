//! A field as a line of a table: its type in words that a person writes YAML by, its default, and whether it can be changed.

use serde_json::Value;

use crate::duration::Duration;
use crate::quantity::Rate;
use crate::schedule::Schedule;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Where it stands: `spec.grants[].verbs`.
    pub path: String,
    /// What is written there.
    pub type_: String,
    /// Whether it has to be.
    pub required: bool,
    /// Whether it, or what it stands in, cannot be changed.
    pub immutable: bool,
    /// What holds when it is not written.
    pub default: Option<String>,
    /// What it is, without the default.
    pub says: String,
}

/// All fields below, in the order of the definition, which sorts them.
pub(super) fn fields(path: &str, schema: &Value) -> Vec<Field> {
    let mut all = Vec::new();
    below(path, schema, is_fixed(schema), &mut all);
    all
}

fn below(path: &str, schema: &Value, fixed: bool, all: &mut Vec<Field>) {
    let required = schema["required"].as_array();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let here = format!("{path}.{name}");
        let foreign = explained(path, name, inner);
        let immutable = fixed || is_fixed(inner);
        let (says, default) = parted(inner["description"].as_str().unwrap_or_default());
        all.push(Field {
            type_: foreign.map_or_else(|| type_of(inner), |path| format!("as `kubectl explain {path}` says")),
            required: required.is_some_and(|all| all.iter().any(|one| one == name)),
            immutable,
            default: default.map(|text| marked(&inner["default"], &text)),
            says,
            path: here.clone(),
        });
        if foreign.is_some() || name == "conditions" {
            continue;
        }
        below(&here, inner, immutable, all);
        if inner["items"]["properties"].is_object() {
            below(&format!("{here}[]"), &inner["items"], immutable, all);
        }
    }
}

/// The path under which Kubernetes explains what is its own.
fn explained(path: &str, name: &str, schema: &Value) -> Option<&'static str> {
    if schema["properties"]["matchExpressions"].is_object() {
        return Some("networkpolicy.spec.podSelector");
    }
    if !path.ends_with(".podTemplate") {
        return None;
    }
    Some(match name {
        "affinity" => "pod.spec.affinity",
        "tolerations" => "pod.spec.tolerations",
        "topologySpreadConstraints" => "pod.spec.topologySpreadConstraints",
        "imagePullSecrets" => "pod.spec.imagePullSecrets",
        "securityContext" => "pod.spec.securityContext",
        "env" => "pod.spec.containers.env",
        _ => return None,
    })
}

/// The sentences of all rules, with where each stands.
pub(super) fn rules(path: &str, schema: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let said = (path.to_owned(), rule["message"].as_str().unwrap_or_default().to_owned());
        if !all.contains(&said) {
            all.push(said);
        }
    }
    if path != "metadata" {
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            all.extend(rules(&format!("{path}.{name}"), inner));
        }
        if schema["items"].is_object() {
            all.extend(rules(&format!("{path}[]"), &schema["items"]));
        }
    }
    all
}

fn rule_texts(schema: &Value) -> impl Iterator<Item = &str> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["rule"].as_str())
}

/// `self == oldSelf`, also with what it may be set from.
fn is_fixed(schema: &Value) -> bool {
    rule_texts(schema).any(|rule| rule == "self == oldSelf" || rule.starts_with("self == oldSelf || "))
}

/// Whether a schema is that of this type, whatever its place has added.
fn is<T: schemars::JsonSchema>(schema: &Value) -> bool {
    let own = T::json_schema(&mut schemars::SchemaGenerator::default()).to_value();
    let same = |key: &str| own.get(key).is_none_or(|value| schema.get(key) == Some(value));
    let rules: Vec<&str> = rule_texts(schema).collect();
    same("type") && same("pattern") && same("maxLength") && rule_texts(&own).all(|rule| rules.contains(&rule))
}

fn type_of(schema: &Value) -> String {
    if is::<Duration>(schema) {
        return "duration".to_owned();
    }
    if is::<Rate>(schema) {
        return "bytes per second".to_owned();
    }
    if is::<Schedule>(schema) {
        return "schedule".to_owned();
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect();
        return words.join(" or ");
    }
    match schema["type"].as_str() {
        Some("string") if schema["format"] == "date-time" => "time".to_owned(),
        Some("string") => "text".to_owned(),
        Some("integer") => match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
            (Some(least), Some(most)) => format!("number, {least} to {most}"),
            (Some(least), None) => format!("number from {least} on"),
            _ => "number".to_owned(),
        },
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("array") => format!("list of {}", several(&type_of(&schema["items"]))),
        Some("object") if schema["additionalProperties"].is_object() => {
            let values = &schema["additionalProperties"];
            let what = if values["x-kubernetes-int-or-string"] == true {
                "quantity"
            } else {
                "text"
            };
            format!("map of names to {what}")
        }
        Some("object") if schema["properties"].is_null() => "object, `{}`".to_owned(),
        _ => "object".to_owned(),
    }
}

fn several(type_: &str) -> String {
    match type_ {
        "object" => "objects".to_owned(),
        "text" => "texts".to_owned(),
        other => other.to_owned(),
    }
}

/// Takes the default out of a description: `How long; default 10s. More.` is `How long. More.` and `10s`.
fn parted(description: &str) -> (String, Option<String>) {
    let Some((says, rest)) = description.split_once("; default") else {
        return (description.to_owned(), None);
    };
    let rest = rest.trim_start_matches(':').trim_start();
    // A dot in the middle of a word, as in ca.crt, ends no sentence.
    let (default, more) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
    let says = if more.is_empty() {
        format!("{says}.")
    } else {
        format!("{says}. {more}")
    };
    (says, Some(default.to_owned()))
}

/// The default as the description tells it, with the value that the API server writes as code.
fn marked(value: &Value, text: &str) -> String {
    let written = match value {
        Value::Null | Value::Object(_) | Value::Array(_) => return text.to_owned(),
        Value::String(word) => word.clone(),
        other => other.to_string(),
    };
    let rest = [format!("\"{written}\""), written]
        .into_iter()
        .find_map(|word| text.strip_prefix(&word).map(|rest| (word, rest)));
    rest.map_or_else(|| text.to_owned(), |(word, rest)| format!("`{word}`{rest}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_taken_out_of_descriptions() {
        let cases = [
            ("How long; default 10s.", "How long.", Some("10s")),
            ("The key; default ca.crt.", "The key.", Some("ca.crt")),
            (
                "Who; default: its own. Another asks.",
                "Who. Another asks.",
                Some("its own"),
            ),
            ("What.", "What.", None),
        ];
        for (text, says, default) in cases {
            assert_eq!(parted(text), (says.to_owned(), default.map(str::to_owned)), "{text}");
        }
        assert_eq!(marked(&json!("0"), "\"0\": no limit"), "`\"0\"`: no limit");
        assert_eq!(marked(&json!(false), "false"), "`false`");
        assert_eq!(marked(&Value::Null, "its own"), "its own");
    }

    #[test]
    fn what_cannot_be_changed_holds_for_everything_below() {
        let schema = json!({"properties": {
            "source": {"type": "object", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "no"}],
                "properties": {"hosts": {"type": "array", "items": {"type": "object", "properties": {"host": {"type": "string"}}}}}},
            "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf || oldSelf == ''", "message": "no"}]},
            "free": {"type": "string"},
        }});
        let fixed: Vec<String> = fields("spec", &schema)
            .into_iter()
            .filter(|field| field.immutable)
            .map(|field| field.path)
            .collect();
        assert_eq!(
            fixed,
            [
                "spec.source",
                "spec.source.hosts",
                "spec.source.hosts[].host",
                "spec.name"
            ]
        );
    }

    #[test]
    fn types_of_our_own_are_known_by_their_schemas() {
        let of = |schema: schemars::Schema| type_of(&schema.to_value());
        let mut generator = schemars::SchemaGenerator::default();
        assert_eq!(of(generator.subschema_for::<Duration>()), "duration");
        assert_eq!(of(generator.subschema_for::<Rate>()), "bytes per second");
        assert_eq!(of(generator.subschema_for::<Schedule>()), "schedule");
        assert_eq!(type_of(&json!({"type": "string", "maxLength": 24})), "text");
        assert_eq!(type_of(&json!({"type": "string", "enum": ["A", "B"]})), "`A` or `B`");
    }
}

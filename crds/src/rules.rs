//! Rules that the API server checks: CEL expressions with the message that a user reads. They are transforms of a
//! schema and *append*, so that a field can carry a rule of its type, and one of its own.
//!
//! Three house rules. A message says what is expected, and of what, because the server puts only a path before it. What a
//! rule walks is bounded (maxLength, maxItems), because the server refuses a definition whose rules could cost too much.
//! And *exactly one of several* is a struct of optional members with a rule, never an enum: an enum that meets a member
//! of a later version fails, and one such object would fail a whole list.

use schemars::Schema;
use schemars::transform::Transform;
use serde_json::{Value, json};

/// The rule on the name of every kind but Backup: the CronJob made from it ends at 52 characters, and everything made
/// from it carries the name in a label, which ends at 63.
pub(crate) const NAME: &str = "self.metadata.name.size() <= 45 && !self.metadata.name.contains('.')";
/// What it says.
pub(crate) const NAME_SAYS: &str =
    "metadata.name has at most 45 characters and no dots: names of jobs are made from it";
/// The rule on the name of a Backup, which may be that of a Job, the longest of all.
pub(crate) const JOB_NAME: &str = "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')";
/// What it says.
pub(crate) const JOB_NAME_SAYS: &str = "metadata.name has at most 63 characters and no dots: a job is named after it";

/// A CEL expression and what a user reads when it is not true.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    expression: String,
    message: String,
}

/// A rule.
pub(crate) fn rule(expression: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule {
        expression: expression.into(),
        message: message.into(),
    }
}

/// What is set at creation and stays. A rule on a field cannot see it come or go: for an optional one that matters too, the
/// rule stands on the struct that holds it.
pub(crate) fn immutable(name: &str) -> Rule {
    rule("self == oldSelf", format!("{name} cannot be changed"))
}

/// Exactly one of these members is set.
pub(crate) fn one_of(name: &str, members: &[&str]) -> Rule {
    let set: Vec<String> = members.iter().map(|member| format!("has(self.{member})")).collect();
    rule(
        format!("[{}].exists_one(set, set)", set.join(", ")),
        format!("{name} has exactly one of {}", members.join(", ")),
    )
}

/// At most one of these two members is set.
pub(crate) fn not_both(name: &str, one: &str, other: &str) -> Rule {
    rule(
        format!("!(has(self.{one}) && has(self.{other}))"),
        format!("{name} has at most one of {one}, {other}"),
    )
}

impl Transform for Rule {
    fn transform(&mut self, schema: &mut Schema) {
        let one = json!({"rule": self.expression, "message": self.message});
        match schema
            .ensure_object()
            .entry("x-kubernetes-validations")
            .or_insert_with(|| json!([]))
        {
            Value::Array(rules) => rules.push(one),
            other => *other = json!([one]),
        }
    }
}

/// A list that the server merges by this key of its items, and in which no two items share it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListByKey(pub(crate) &'static str);

impl Transform for ListByKey {
    fn transform(&mut self, schema: &mut Schema) {
        schema.insert("x-kubernetes-list-type".into(), json!("map"));
        schema.insert("x-kubernetes-list-map-keys".into(), json!([self.0]));
    }
}

/// Takes fields into the schema that the type does not have: accepted, kept as they are, read by nobody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted(pub(crate) &'static [(&'static str, &'static str)]);

impl Transform for Accepted {
    fn transform(&mut self, schema: &mut Schema) {
        let properties = schema.ensure_object().entry("properties").or_insert_with(|| json!({}));
        for (name, description) in self.0 {
            properties[*name] = json!({
                "type": "object",
                "description": description,
                "x-kubernetes-preserve-unknown-fields": true,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_append() {
        let mut schema = Schema::default();
        one_of("source", &["a", "b"]).transform(&mut schema);
        immutable("source").transform(&mut schema);
        assert_eq!(
            schema.to_value(),
            json!({"x-kubernetes-validations": [
                {"rule": "[has(self.a), has(self.b)].exists_one(set, set)", "message": "source has exactly one of a, b"},
                {"rule": "self == oldSelf", "message": "source cannot be changed"},
            ]})
        );
    }

    #[test]
    fn accepted_fields_join_the_others() {
        let mut schema: Schema = json!({"properties": {"url": {}}}).try_into().unwrap();
        Accepted(&[("selector", "ignored")]).transform(&mut schema);
        let properties = &schema.to_value()["properties"];
        assert_eq!(properties["url"], json!({}));
        assert_eq!(
            properties["selector"]["x-kubernetes-preserve-unknown-fields"],
            json!(true)
        );
    }
}

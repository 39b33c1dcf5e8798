//! What Patroni's configuration says of our slot, and what is to be written into it. Pure.
//!
//! The rules are Patroni's own: an entry that is empty or has no type is a physical slot, unless it names a database and a
//! plugin; `use_slots: false` turns all of them off; and a slot that is named as a member's own is never a permanent one on
//! that member.

use serde_json::{Value, json};

/// How the slot stands in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Patroni keeps it on every member.
    Kept,
    /// Patroni does not know it.
    Absent,
    /// Something else has its name; what, as it is written there.
    Other(String),
    /// Patroni is told not to look after slots at all.
    SlotsOff,
}

/// Looks for it.
pub(super) fn standing(config: &Value, slot: &str) -> Standing {
    if config.pointer("/postgresql/use_slots").and_then(Value::as_bool) == Some(false) {
        return Standing::SlotsOff;
    }
    let found = config.get("slots").and_then(|slots| slots.get(slot));
    match found.filter(|found| !found.is_null()) {
        None => Standing::Absent,
        Some(Value::Object(entry)) if entry.is_empty() => Standing::Kept,
        Some(entry) if *entry == physical() => Standing::Kept,
        Some(other) => Standing::Other(other.to_string()),
    }
}

fn physical() -> Value {
    json!({"type": "physical"})
}

/// The one key that makes the slot Patroni's. Patroni merges it: nothing else is touched.
pub(super) fn addition(slot: &str) -> Value {
    json!({"slots": {slot: physical()}})
}

/// The members that `GET /cluster` names; none when that is no answer of Patroni.
pub(super) fn members(cluster: &Value) -> Option<Vec<&str>> {
    let members = cluster.get("members")?.as_array()?;
    members.iter().map(|member| member.get("name")?.as_str()).collect()
}

/// The cluster that a member is of, by `GET /patroni`; none while it has no data.
pub(super) fn system_of(member: &Value) -> Option<&str> {
    let system = member.get("database_system_identifier")?.as_str()?;
    Some(system).filter(|system| !system.is_empty())
}

/// The slot that Patroni gives to a member.
pub(super) fn slot_of_member(name: &str) -> String {
    let mut slot = String::new();
    for letter in name.to_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' | '_' => slot.push(letter),
            '-' | '.' => slot.push('_'),
            other => slot.push_str(&format!("u{:04}", u32::from(other))),
        }
    }
    slot.truncate(63);
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standing() {
        let other = |entry: &Value| Standing::Other(entry.to_string());
        let logical = json!({"type": "logical", "database": "a", "plugin": "pgoutput"});
        let untyped = json!({"database": "a", "plugin": "pgoutput"});
        let elsewhere = json!({"type": "physical", "cluster_type": "standby"});
        let cases = [
            (json!({}), Standing::Absent),
            (json!({"slots": null}), Standing::Absent),
            (json!({"slots": {"ours": null}}), Standing::Absent),
            (json!({"slots": {"theirs": {"type": "physical"}}}), Standing::Absent),
            (json!({"slots": {"ours": {"type": "physical"}}}), Standing::Kept),
            (json!({"slots": {"ours": {}}}), Standing::Kept),
            (json!({"slots": {"ours": logical}}), other(&logical)),
            (json!({"slots": {"ours": untyped}}), other(&untyped)),
            (json!({"slots": {"ours": elsewhere}}), other(&elsewhere)),
            (json!({"slots": {"ours": "physical"}}), other(&json!("physical"))),
            (
                json!({"postgresql": {"use_slots": false}, "slots": {"ours": {"type": "physical"}}}),
                Standing::SlotsOff,
            ),
            (
                json!({"postgresql": {"use_slots": true}, "slots": {"ours": {"type": "physical"}}}),
                Standing::Kept,
            ),
            (addition("ours"), Standing::Kept),
        ];
        for (config, wanted) in cases {
            assert_eq!(standing(&config, "ours"), wanted, "{config}");
        }
    }

    #[test]
    fn members_have_the_slots_that_patroni_gives_them() {
        let cases = [
            ("member1", "member1".to_owned()),
            ("PG-1.example", "pg_1_example".to_owned()),
            ("a b", "au0032b".to_owned()),
            (&"x".repeat(70), "x".repeat(63)),
        ];
        for (name, slot) in cases {
            assert_eq!(slot_of_member(name), slot);
        }
        let cluster = json!({"members": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(members(&cluster), Some(vec!["a", "b"]));
        for foreign in [json!({}), json!([]), json!({"members": 3}), json!({"members": [{}]})] {
            assert_eq!(members(&foreign), None, "{foreign}");
        }
    }
}

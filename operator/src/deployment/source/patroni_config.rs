//! What Patroni's configuration says of our slot. Pure.
//!
//! A slot that Patroni does not know lives until Patroni reads its list of slots the next time, which may be the failover
//! for which the slot was there. One that stands in the configuration is on every member, and follows the leader.

use hardstorage_crds::Flavor;
use serde_json::{Value, json};

/// How the slot stands in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is permanent.
    Permanent,
    /// It is not there.
    Absent,
    /// Something else has its name.
    OtherType,
    /// Patroni is told not to look after slots at all.
    SlotsOff,
}

/// Looks for it.
pub fn standing(config: &Value, slot: &str) -> Standing {
    if config.pointer("/postgresql/use_slots").and_then(Value::as_bool) == Some(false) {
        return Standing::SlotsOff;
    }
    let Some(found) = config
        .get("slots")
        .and_then(|slots| slots.get(slot))
        .filter(|found| !found.is_null())
    else {
        return Standing::Absent;
    };
    match found.get("type").and_then(Value::as_str) {
        // Patroni takes one without a type for physical.
        Some("physical") | None => Standing::Permanent,
        Some(_) => Standing::OtherType,
    }
}

/// The change that makes it permanent: Patroni merges it, and nothing else is touched.
pub fn addition(slot: &str) -> Value {
    json!({"slots": {slot: {"type": "physical"}}})
}

/// The change that makes Patroni forget it.
pub fn removal(slot: &str) -> Value {
    json!({"slots": {slot: null}})
}

/// Merges a change as Patroni does: null removes, an object goes deeper.
pub fn merge(config: &mut Value, change: &Value) {
    let Value::Object(changes) = change else {
        *config = change.clone();
        return;
    };
    if !config.is_object() {
        *config = json!({});
    }
    if let Value::Object(fields) = config {
        for (key, value) in changes {
            if value.is_null() {
                fields.remove(key);
            } else {
                merge(fields.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// What the user writes, in the object that is theirs.
pub fn instruction(flavor: &Flavor, scope: &str, slot: &str) -> String {
    match flavor {
        Flavor::Zalando => format!(
            "write into your postgresql object:\napiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata:\n  name: {scope}\nspec:\n  \
             patroni:\n    slots:\n      {slot}:\n        type: physical\n"
        ),
        Flavor::Crunchy => format!(
            "write into your PostgresCluster object:\napiVersion: postgres-operator.crunchydata.com/v1beta1\nkind: PostgresCluster\n\
             metadata:\n  name: {scope}\nspec:\n  patroni:\n    dynamicConfiguration:\n      postgresql:\n        use_slots: true\n      \
             slots:\n        {slot}:\n          type: physical\n"
        ),
        Flavor::Plain | Flavor::Other(_) => format!(
            "run patronictl edit-config {scope} and write:\npostgresql:\n  use_slots: true\nslots:\n  {slot}:\n    type: physical\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standing() {
        let cases = [
            (json!({}), Standing::Absent),
            (json!({"slots": null}), Standing::Absent),
            (json!({"slots": {"ours": null}}), Standing::Absent),
            (json!({"slots": {"theirs": {"type": "physical"}}}), Standing::Absent),
            (json!({"slots": {"ours": {"type": "physical"}}}), Standing::Permanent),
            (json!({"slots": {"ours": {}}}), Standing::Permanent),
            (json!({"slots": {"ours": {"type": "logical"}}}), Standing::OtherType),
            (
                json!({"postgresql": {"use_slots": false}, "slots": {"ours": {"type": "physical"}}}),
                Standing::SlotsOff,
            ),
            (
                json!({"postgresql": {"use_slots": true}, "slots": {"ours": {"type": "physical"}}}),
                Standing::Permanent,
            ),
        ];
        for (config, wanted) in cases {
            assert_eq!(standing(&config, "ours"), wanted, "{config}");
        }
    }

    #[test]
    fn one_key_is_merged_and_one_is_taken_away() {
        let before =
            json!({"ttl": 30, "slots": {"theirs": {"type": "physical"}}, "postgresql": {"parameters": {"a": 1}}});
        let mut config = before.clone();
        merge(&mut config, &addition("ours"));
        assert_eq!(standing(&config, "ours"), Standing::Permanent);
        assert_eq!(config["slots"]["theirs"], before["slots"]["theirs"]);
        merge(&mut config, &removal("ours"));
        assert_eq!(config, before);
        let mut empty = Value::Null;
        merge(&mut empty, &addition("ours"));
        assert_eq!(empty, addition("ours"));
    }

    #[test]
    fn what_the_user_writes_is_yaml_that_does_it() {
        for (flavor, path) in [
            (Flavor::Zalando, "/spec/patroni"),
            (Flavor::Crunchy, "/spec/patroni/dynamicConfiguration"),
            (Flavor::Plain, ""),
        ] {
            let text = instruction(&flavor, "orders", "ours");
            let (_, yaml) = text.split_once(":\n").unwrap();
            let written: Value = serde_saphyr::from_str(yaml).unwrap();
            let config = written.pointer(path).unwrap();
            assert_eq!(standing(config, "ours"), Standing::Permanent, "{text}");
            if !path.is_empty() {
                assert_eq!(written["metadata"]["name"], "orders");
            }
        }
    }
}

//! Whether a child is as it is wanted, so that a look that changes nothing writes nothing. Pure.

use serde_json::Value;

use crate::pod::amount;

/// Whether everything that is wanted is there; what the API server has added does not matter, and what it leaves out
/// because it is empty is not missing.
pub(super) fn covers(existing: &Value, wanted: &Value) -> bool {
    match (existing, wanted) {
        (Value::Object(there), Value::Object(fields)) => fields
            .iter()
            .all(|(key, wanted)| covers(there.get(key).unwrap_or(&Value::Null), wanted)),
        (Value::Array(there), Value::Array(items)) => {
            there.len() == items.len() && there.iter().zip(items).all(|(there, wanted)| covers(there, wanted))
        }
        (Value::Null, wanted) => is_empty(wanted),
        // A quantity comes back in its shortest form: 1024Mi as 1Gi.
        (Value::String(there), Value::String(wanted)) => {
            let amounts = || amount(there).zip(amount(wanted));
            there == wanted || amounts().is_some_and(|(there, wanted)| (there - wanted).abs() <= wanted.abs() * 1e-9)
        }
        (there, wanted) => there == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_there_covers_what_is_wanted() {
        let cases = [
            (json!({"a": 1, "b": {"c": "x", "d": 2}}), json!({"b": {"c": "x"}}), true),
            (json!({"a": 1}), json!({"a": 2}), false),
            (
                json!({}),
                json!({"replicas": 0, "readOnly": false, "emptyDir": {}}),
                true,
            ),
            (json!({"replicas": 1}), json!({"replicas": 0}), false),
            (json!([{"name": "a", "protocol": "TCP"}]), json!([{"name": "a"}]), true),
            (json!(["a", "b"]), json!(["a"]), false),
            (
                json!({"memory": "1Gi", "cpu": "500m"}),
                json!({"memory": "1024Mi", "cpu": "0.5"}),
                true,
            ),
            (json!({"cpu": "700m"}), json!({"cpu": "0.7"}), true),
            (json!({"memory": "1Gi"}), json!({"memory": "1G"}), false),
            (json!("orders"), json!("shop"), false),
            (
                json!({"emptyDir": {"sizeLimit": "1Gi"}}),
                json!({"emptyDir": {"sizeLimit": "2Gi"}}),
                false,
            ),
        ];
        for (existing, wanted, holds) in cases {
            assert_eq!(covers(&existing, &wanted), holds, "{existing} {wanted}");
        }
    }
}

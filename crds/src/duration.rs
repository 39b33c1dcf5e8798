//! Durations as people write them: `30s`, `10m`, `1h30m`, `14d`. `m` is always minutes. What is stored is the text; what
//! does not read as a duration (an object from before the schema) is nothing rather than a failure of the whole list.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

const PATTERN: &str = "^([0-9]+(ms|s|m|h|d|w))+$";
const MAX_LENGTH: u32 = 32;

/// A duration as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

impl Duration {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Duration {
        Duration(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How long it is; nothing when the text is no duration, or one of more than half a billion years.
    pub fn get(&self) -> Option<std::time::Duration> {
        let mut rest = self.0.as_str();
        let mut total: u64 = 0;
        loop {
            let (number, after) = split(rest, |c| c.is_ascii_digit());
            let (unit, after) = split(after, |c| c.is_ascii_alphabetic());
            let millis: u64 = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 604_800_000,
                _ => return None,
            };
            total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
            if after.is_empty() {
                return Some(std::time::Duration::from_millis(total));
            }
            rest = after;
        }
    }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_their_sums() {
        let cases = [
            ("500ms", 500),
            ("10s", 10_000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("2w", 1_209_600_000),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            let read = Duration::new(text).get();
            assert_eq!(read, Some(std::time::Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_nothing() {
        for text in [
            "",
            "10",
            "m",
            "1y",
            "1 h",
            "-1s",
            "1h30",
            "10M",
            "99999999999999999999w",
            "999999999999999w",
        ] {
            assert_eq!(Duration::new(text).get(), None, "{text}");
        }
    }
}

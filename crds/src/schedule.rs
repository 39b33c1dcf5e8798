//! When something runs: five fields as cron has them, or a word that leaves the minute to us. The pattern knows the
//! range of each field, so that what the API server takes is what the CronJob controller takes too; the one thing that
//! it cannot see is a range that goes backwards (`5-3`).

use std::borrow::Cow;
use std::fmt;

use schemars::transform::Transform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rules::rule;

const MAX_LENGTH: u32 = 128;
const MINUTE: &str = "[0-5]?[0-9]";
const HOUR: &str = "(2[0-3]|[01]?[0-9])";
const DAY: &str = "(3[01]|[12][0-9]|0?[1-9])";
const MONTH: &str = "(1[0-2]|0?[1-9]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)";
const WEEKDAY: &str = "(0?[0-6]|sun|mon|tue|wed|thu|fri|sat)";

/// A schedule as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schedule(String);

impl Schedule {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Schedule {
        Schedule(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A list of values, ranges and steps.
fn field(value: &str) -> String {
    let item = format!("([*?]|{value}(-{value})?)(/[1-9][0-9]?)?");
    format!("{item}(,{item})*")
}

fn pattern() -> String {
    let fields = [MINUTE, HOUR, DAY, MONTH, WEEKDAY].map(field).join("[[:space:]]+");
    format!("(?i)^({fields}|@(hourly|daily|weekly|monthly)(-random)?)$")
}

impl JsonSchema for Schedule {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Schedule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({"type": "string", "maxLength": MAX_LENGTH});
        rule(
            "!self.contains('TZ=')",
            "a schedule names no time zone: write it into timeZone",
        )
        .transform(&mut schema);
        rule(
            format!("self.contains('TZ=') || self.matches('{}')", pattern()),
            "a schedule has five fields (minute hour day-of-month month day-of-week), \
             or is @hourly, @daily, @weekly, @monthly, each also with -random",
        )
        .transform(&mut schema);
        schema
    }
}

/// The name of a time zone, as the server's database has it.
pub(crate) fn time_zone(schema: &mut Schema) {
    schema.insert("maxLength".into(), 64.into());
    schema.insert("pattern".into(), "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$".into());
    rule(
        "self != 'Local'",
        "timeZone is a name as Etc/UTC or Europe/Berlin; Local would depend on the node",
    )
    .transform(schema);
}

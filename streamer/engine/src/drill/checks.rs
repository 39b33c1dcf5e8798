//! The checks that somebody has written: a JSON array, refused as a whole when one of them makes no sense.

use std::path::Path;
use std::time::Duration;

use hardstorage_report::{Error, Result, code};
use serde::Deserialize;

use crate::postgres::failed;

/// The longest text of a check: it is one word of a command line.
const LONGEST: usize = 64 << 10;
/// The longest time for one check: a day.
const PATIENCE: u64 = 86_400;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name in the report.
    pub name: String,
    /// The database to ask in.
    pub database: String,
    /// What to ask: statements, in one transaction that can only read.
    pub sql: String,
    /// What the first column of the first row has to be; without it the statements have to succeed.
    #[serde(default)]
    pub expect: Option<String>,
    /// How long it may take.
    #[serde(default = "a_minute")]
    pub timeout_seconds: u64,
}

fn a_minute() -> u64 {
    60
}

impl Check {
    /// How long it may take.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// Why it makes no sense.
    fn fault(&self) -> Option<String> {
        let texts = [("name", &self.name), ("database", &self.database), ("sql", &self.sql)];
        let texts = texts.into_iter().chain(self.expect.iter().map(|text| ("expect", text)));
        for (member, text) in texts {
            if text.contains('\0') || text.len() > LONGEST {
                return Some(format!("{member} holds a byte 0, or more than {LONGEST} bytes"));
            }
            if text.trim().is_empty() && member != "expect" {
                return Some(format!("{member} is empty"));
            }
        }
        let fits = (1..=PATIENCE).contains(&self.timeout_seconds);
        (!fits).then(|| format!("timeout_seconds is {}, and not 1 to {PATIENCE}", self.timeout_seconds))
    }
}

/// Reads them.
pub fn read_checks(path: &Path) -> Result<Vec<Check>> {
    let text = std::fs::read(path).map_err(failed("read", path))?;
    parse(&text).map_err(|why| Error::new(code::engine::CHECKS, format!("{}: {why}", path.display())))
}

fn parse(text: &[u8]) -> Result<Vec<Check>, String> {
    let checks: Vec<Check> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    for (number, check) in checks.iter().enumerate() {
        if let Some(fault) = check.fault() {
            return Err(format!("check {} ({:?}): {fault}", number + 1, check.name));
        }
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn what_is_not_said_has_a_usual_value() {
        let read = parse(br#"[{"name": "rows", "database": "app", "sql": "select 1"}]"#).unwrap();
        assert_eq!((read[0].expect.as_deref(), read[0].timeout_seconds), (None, 60));
        let read = parse(br#"[{"name": "a", "database": "b", "sql": "c", "expect": "", "timeout_seconds": 1}]"#);
        assert_eq!(read.unwrap()[0].expect.as_deref(), Some(""));
        assert_eq!(parse(b"[]").unwrap(), []);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        let long = format!(
            r#"[{{"name": "a", "database": "b", "sql": "{}"}}]"#,
            "x".repeat(LONGEST + 1)
        );
        for (text, named) in [
            ("", "line 1"),
            ("{}", "sequence"),
            (r#"[{"name": "rows", "database": "app"}]"#, "sql"),
            (
                r#"[{"name": "rows", "database": "app", "sql": "x", "timout": 1}]"#,
                "timout",
            ),
            (
                r#"[{"name": "rows", "database": "app", "sql": "x", "expect": 1}]"#,
                "integer",
            ),
            (
                r#"[{"name": "rows", "database": "app", "sql": "x", "timeout_seconds": "1m"}]"#,
                "1m",
            ),
            (
                r#"[{"name": "rows", "database": "app", "sql": "x", "timeout_seconds": 0}]"#,
                "timeout_seconds is 0",
            ),
            (
                r#"[{"name": "rows", "database": "app", "sql": "x", "timeout_seconds": 86401}]"#,
                "86400",
            ),
            (
                r#"[{"name": "rows", "database": " ", "sql": "x"}]"#,
                "database is empty",
            ),
            (r#"[{"name": "rows", "database": "a\u0000b", "sql": "x"}]"#, "byte 0"),
            (&long, "65536"),
        ] {
            let refused = parse(text.as_bytes()).unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
    }
}

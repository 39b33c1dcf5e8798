//! What a drill found: the result of `drill check`, whether it passed or not.

use serde::{Deserialize, Serialize};

/// The result of `drill check`. It is complete when checks failed, too: all of them are told, not the first alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DrillReport {
    /// The databases that were looked at, by name.
    #[serde(default)]
    pub databases: Vec<String>,
    /// B-tree indexes that were read.
    #[serde(default)]
    pub indexes_checked: u64,
    /// B-tree indexes that were not: the time was over, or amcheck is not there.
    #[serde(default)]
    pub indexes_unchecked: u64,
    /// Every check in the order in which it ran, our own first.
    #[serde(default)]
    pub checks: Vec<DrillCheck>,
    /// Milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// What is worth knowing, and no failure.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillCheck {
    /// Its name; of an index that is damaged, `index` and the index's own.
    pub name: String,
    /// The database.
    pub database: String,
    /// Whether it passed.
    pub passed: bool,
    /// Milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// What it should have answered, when that was said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected: Option<String>,
    /// What it answered: the first column of the first row.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actual: Option<String>,
    /// Why it could not answer, in PostgreSQL's own words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

impl DrillReport {
    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &DrillCheck> {
        self.checks.iter().filter(|check| !check.passed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_of_the_next_version_is_read_and_written_back() {
        let next = json!({"databases": ["app"], "indexes_checked": 7, "colour": "blue", "duration_ms": 5,
            "checks": [{"name": "rows", "database": "app", "passed": true, "duration_ms": 1, "expected": "t",
                "actual": "t", "shape": "round"},
                {"name": "orders", "database": "app", "passed": false, "error": "no such table"}]});
        let read: DrillReport = serde_json::from_value(next).unwrap();
        assert_eq!((read.indexes_checked, read.indexes_unchecked), (7, 0));
        let failed: Vec<&str> = read.failed().map(|check| check.name.as_str()).collect();
        assert_eq!(failed, ["orders"]);
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written["checks"][1].get("actual"), None);
        assert_eq!(serde_json::from_value::<DrillReport>(written).unwrap(), read);
    }
}

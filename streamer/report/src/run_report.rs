//! What a run says of itself to a scheduler: the body of `GET /v1/report`, and, cut to what fits, its termination
//! message.
//!
//! Engine and operator may be one minor version apart in either direction: members are only ever added, a reader skips
//! what it does not know, and a word that it does not know reads as `unknown` instead of spoiling the document.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ErrorReport, Event, Reachable, StreamStatus};

/// The schema of [`RunReport`].
pub const REPORT_SCHEMA: &str = "pg_hardstorage.report.v1";

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It works.
    Running,
    /// It has ended, and its result is good.
    Succeeded,
    /// It has ended with an error, or with a result that says no.
    Failed,
    /// A word of another version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Which catalogue a run can show at `GET /v1/catalog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogTag {
    /// Changes whenever the catalogue does.
    pub etag: String,
    /// How many backups it holds, deleted ones included.
    pub backups: usize,
}

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Always [`REPORT_SCHEMA`].
    pub schema: String,
    /// The command, for example `wal stream`.
    pub command: String,
    /// The scheduler's id of this run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<String>,
    /// The engine's version.
    pub version: String,
    /// How far it is.
    #[serde(default)]
    pub state: RunState,
    /// The body of the last progress event.
    #[serde(skip_serializing_if = "Value::is_null", default)]
    pub progress: Value,
    /// The stream, when it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stream: Option<StreamStatus>,
    /// The catalogue that it has read, when it reads one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub catalog: Option<CatalogTag>,
    /// The newest warnings and worse.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<Event>,
    /// The command's result.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<Value>,
    /// The error that ended it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<ErrorReport>,
    /// What can be reached instead, when the error is that a recovery target cannot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reachable: Option<Reachable>,
}

impl RunReport {
    /// The report of a run that has just begun.
    pub fn new(command: &str, run_id: Option<String>, version: &str) -> RunReport {
        RunReport {
            schema: REPORT_SCHEMA.to_owned(),
            command: command.to_owned(),
            run_id,
            version: version.to_owned(),
            state: RunState::Running,
            progress: Value::Null,
            stream: None,
            catalog: None,
            warnings: Vec::new(),
            result: None,
            error: None,
            reachable: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    #[test]
    fn a_report_of_the_next_version_is_read() {
        let text = r#"{"schema":"pg_hardstorage.report.v1","command":"backup","version":"9.0.0","state":"paused",
            "colour":"blue","result":{"backup_id":"x"}}"#;
        let report: RunReport = serde_json::from_str(text).unwrap();
        assert_eq!(report.state, RunState::Unknown);
        assert_eq!(report.result.unwrap()["backup_id"], "x");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut report = RunReport::new("wal stream", Some("run-1".to_owned()), "0.1.0");
        report.catalog = Some(CatalogTag {
            etag: "abc".to_owned(),
            backups: 3,
        });
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<RunReport>(&text).unwrap(), report);
    }
}

//! One thing worth saying about a server, and how much it matters.

use hardstorage_report::{Event, Severity as EventSeverity};
use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingSeverity {
    /// Worth knowing.
    Info,
    /// Works, with a risk.
    Warning,
    /// Does not work.
    Fatal,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: FindingSeverity,
    /// A dotted code, for example `wal_level.too_low`.
    pub code: String,
    /// What was found, in a sentence.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suggestion: Option<String>,
    /// The value on the server.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub observed: Option<String>,
    /// The value that would do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub required: Option<String>,
}

impl Finding {
    pub(super) fn new(severity: FindingSeverity, code: &str, message: impl Into<String>) -> Finding {
        Finding {
            severity,
            code: code.to_owned(),
            message: message.into(),
            suggestion: None,
            observed: None,
            required: None,
        }
    }

    pub(super) fn suggest(mut self, text: &str) -> Finding {
        self.suggestion = Some(text.to_owned());
        self
    }

    pub(super) fn observed(mut self, value: &str) -> Finding {
        self.observed = Some(value.to_owned());
        self
    }

    pub(super) fn required(mut self, value: &str) -> Finding {
        self.required = Some(value.to_owned());
        self
    }

    /// The finding as an event `wal.preflight.<code>`.
    pub fn event(&self) -> Event {
        let severity = match self.severity {
            FindingSeverity::Info => EventSeverity::Info,
            FindingSeverity::Warning => EventSeverity::Warning,
            FindingSeverity::Fatal => EventSeverity::Error,
        };
        Event::new(severity, &format!("wal.preflight.{}", self.code)).body(serde_json::json!({
            "message": self.message,
            "observed": self.observed,
            "required": self.required,
            "suggestion": self.suggestion,
        }))
    }
}

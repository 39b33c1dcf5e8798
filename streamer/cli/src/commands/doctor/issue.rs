//! One thing that is wrong, and what to do about it.

use hardstorage_engine::preflight::{Finding, FindingSeverity};
use hardstorage_report::Error;
use serde::Serialize;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Weight {
    /// Nothing is protected by this, or not any more.
    Error,
    /// It is, with a risk.
    Warning,
}

/// One issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Issue {
    pub(super) severity: Weight,
    /// A dotted code.
    pub(super) code: String,
    /// What it is about: a deployment, a repository, a directory.
    pub(super) subject: String,
    pub(super) message: String,
    /// What to do.
    pub(super) hint: String,
}

impl Issue {
    pub(super) fn warning(code: &str, subject: &str, message: impl Into<String>, hint: impl Into<String>) -> Issue {
        Issue {
            severity: Weight::Warning,
            code: code.to_owned(),
            subject: subject.to_owned(),
            message: message.into(),
            hint: hint.into(),
        }
    }

    pub(super) fn error(code: &str, subject: &str, message: impl Into<String>, hint: impl Into<String>) -> Issue {
        Issue {
            severity: Weight::Error,
            ..Issue::warning(code, subject, message, hint)
        }
    }

    /// What kept us from looking.
    pub(super) fn of(error: &Error, subject: &str) -> Issue {
        Issue::error(error.code().as_str(), subject, error.to_string(), error.hint_text())
    }

    /// What preflight found; what is only worth knowing is no issue.
    pub(super) fn of_finding(finding: Finding, subject: &str) -> Option<Issue> {
        let severity = match finding.severity {
            FindingSeverity::Fatal => Weight::Error,
            FindingSeverity::Warning => Weight::Warning,
            FindingSeverity::Info => return None,
        };
        let hint = finding.suggestion.unwrap_or_default();
        Some(Issue {
            severity,
            ..Issue::warning(&finding.code, subject, finding.message, hint)
        })
    }

    pub(super) fn text(&self) -> String {
        let word = match self.severity {
            Weight::Error => "ERROR",
            Weight::Warning => "WARNING",
        };
        format!(
            "[{word}] {}: {}: {}\n  hint: {}\n",
            self.code, self.subject, self.message, self.hint
        )
    }
}

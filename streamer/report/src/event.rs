//! Events: what happened while a command ran. A plan's run emits them into a sink that the caller gives;
//! only the printer draws them. Progress is an event too, at most five a second.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BackupId, DeploymentName, Lsn, Timeline};

/// How bad it is, by the names of RFC 5424. Nothing of `Warning` or worse is ever hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Detail for a developer.
    Debug,
    /// Routine.
    Info,
    /// Normal, but worth a line even when quiet.
    Notice,
    /// Something a person should look at.
    Warning,
    /// An operation failed.
    Error,
    /// Data or protection is at risk.
    Critical,
}

/// What an event is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The deployment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deployment: Option<DeploymentName>,
    /// The backup.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backup_id: Option<BackupId>,
    /// The timeline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeline: Option<Timeline>,
    /// The position.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lsn: Option<Lsn>,
}

/// One event, without the time: whoever writes it down adds `generated_at`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// How bad it is.
    pub severity: Severity,
    /// `component.op` as one dotted name, for example `backup.committed`.
    pub name: String,
    /// What it is about.
    #[serde(default)]
    pub subject: Subject,
    /// A JSON object with the facts, or null.
    #[serde(default)]
    pub body: Value,
}

impl Event {
    /// An event without subject and body.
    pub fn new(severity: Severity, name: &str) -> Event {
        Event {
            severity,
            name: name.to_owned(),
            subject: Subject::default(),
            body: Value::Null,
        }
    }

    /// Names the deployment.
    #[must_use]
    pub fn deployment(mut self, name: &DeploymentName) -> Event {
        self.subject.deployment = Some(name.clone());
        self
    }

    /// Names the backup.
    #[must_use]
    pub fn backup(mut self, id: &BackupId) -> Event {
        self.subject.backup_id = Some(id.clone());
        self
    }

    /// Names timeline and position.
    #[must_use]
    pub fn at(mut self, timeline: Timeline, lsn: Lsn) -> Event {
        self.subject.timeline = Some(timeline);
        self.subject.lsn = Some(lsn);
        self
    }

    /// Adds the facts.
    #[must_use]
    pub fn body(mut self, body: Value) -> Event {
        self.body = body;
        self
    }
}

/// Where events go. Called from any task; must not block.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: Event);
}

/// Drops every event: for callers that only want the result.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullSink;

impl EventSink for NullSink {
    fn emit(&self, _event: Event) {}
}

//! What the agent shows of itself: `/status` is this, and `/metrics` is made from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hardstorage_report::{DeploymentName, ErrorReport, StreamStatus};
use jiff::Timestamp;
use serde::Serialize;

use super::schedule::{Outcome, Record};
use super::task::TaskName;

pub(super) const SCHEMA: &str = "pg_hardstorage.agent_status.v1";

/// The whole.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct View {
    pub(super) schema: &'static str,
    pub(super) generated_at: Timestamp,
    pub(super) started_at: Timestamp,
    /// Why the newest configuration was not taken; the one before it goes on.
    pub(super) config_error: Option<ErrorReport>,
    pub(super) deployments: BTreeMap<DeploymentName, DeploymentView>,
}

impl View {
    /// Before the first step.
    pub(super) fn new(now: Timestamp) -> View {
        View {
            schema: SCHEMA,
            generated_at: now,
            started_at: now,
            config_error: None,
            deployments: BTreeMap::new(),
        }
    }
}

/// One deployment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeploymentView {
    /// None when it is not streamed.
    pub(super) stream: Option<StreamView>,
    pub(super) newest_backup_at: Option<Timestamp>,
    /// Why the repository could not be read the last time.
    pub(super) repository_error: Option<ErrorReport>,
    pub(super) tasks: BTreeMap<TaskName, TaskView>,
}

/// Its stream.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StreamView {
    /// Whether its process runs.
    pub(super) runs: bool,
    pub(super) restarts: u64,
    /// Why it ended last.
    pub(super) error: Option<ErrorReport>,
    #[serde(skip)]
    pub(super) address: Option<SocketAddr>,
    /// What it says of itself; none while it does not answer.
    pub(super) status: Option<StreamStatus>,
}

/// One of its tasks.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TaskView {
    pub(super) schedule: String,
    /// None when it is off.
    pub(super) next_at: Option<Timestamp>,
    pub(super) running_since: Option<Timestamp>,
    /// It is due, and waits for others to end.
    pub(super) waiting: bool,
    /// Runs of this process by outcome.
    #[serde(skip)]
    pub(super) runs: BTreeMap<Outcome, u64>,
    pub(super) last: Record,
}

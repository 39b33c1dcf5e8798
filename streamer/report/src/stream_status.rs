//! What a running stream says of itself: `/status`, `/metrics`, and the operator's conditions are made from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DeploymentName, Error, Lsn, SystemId, Timeline};

/// What the stream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamPhase {
    /// It has not been connected yet.
    #[default]
    Connecting,
    /// It streams, and is behind the server by more than a segment.
    CatchingUp,
    /// It streams, and is with the server.
    Streaming,
    /// The connection broke; it waits to connect again.
    Reconnecting,
    /// It makes the last bytes durable.
    Stopping,
    /// It has ended.
    Stopped,
    /// A word of another version; this one never says it.
    #[serde(other)]
    Unknown,
}

impl StreamPhase {
    /// Every phase that a stream can be in, for metrics with one series each.
    pub const ALL: [StreamPhase; 6] = [
        StreamPhase::Connecting,
        StreamPhase::CatchingUp,
        StreamPhase::Streaming,
        StreamPhase::Reconnecting,
        StreamPhase::Stopping,
        StreamPhase::Stopped,
    ];

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamPhase::Connecting => "connecting",
            StreamPhase::CatchingUp => "catching_up",
            StreamPhase::Streaming => "streaming",
            StreamPhase::Reconnecting => "reconnecting",
            StreamPhase::Stopping => "stopping",
            StreamPhase::Stopped => "stopped",
            StreamPhase::Unknown => "unknown",
        }
    }
}

/// What is known of the replication slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotHealth {
    /// This stream holds it.
    Active,
    /// It is there, and nobody streams from it.
    Inactive,
    /// Another process streams from it.
    HeldByOther,
    /// The server has none of that name.
    Missing,
    /// The server has invalidated it: WAL that it kept is gone.
    Lost,
    /// The stream was started without one.
    None,
    /// Not looked at yet, or a word of another version.
    #[default]
    #[serde(other)]
    Unknown,
}

impl SlotHealth {
    /// Every state that a slot can be in, for metrics with one series each.
    pub const ALL: [SlotHealth; 7] = [
        SlotHealth::Active,
        SlotHealth::Inactive,
        SlotHealth::HeldByOther,
        SlotHealth::Missing,
        SlotHealth::Lost,
        SlotHealth::None,
        SlotHealth::Unknown,
    ];

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            SlotHealth::Active => "active",
            SlotHealth::Inactive => "inactive",
            SlotHealth::HeldByOther => "held_by_other",
            SlotHealth::Missing => "missing",
            SlotHealth::Lost => "lost",
            SlotHealth::None => "none",
            SlotHealth::Unknown => "unknown",
        }
    }
}

/// How the slot stands with Patroni, which drops slots that it does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatroniSlot {
    /// Whether it is in Patroni's configuration, so that it is on every member.
    pub kept: bool,
    /// Why that is not known, or not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

/// An error as others read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// The dotted code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What can be done.
    pub hint: String,
    /// The process's exit code, if it ends with this error.
    pub exit_code: u8,
}

impl From<&Error> for ErrorReport {
    fn from(error: &Error) -> Self {
        ErrorReport {
            code: error.code().as_str().to_owned(),
            message: error.to_string(),
            hint: error.hint_text().to_owned(),
            exit_code: error.exit_code(),
        }
    }
}

/// The state of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// The deployment.
    pub deployment: DeploymentName,
    /// What it is doing.
    pub phase: StreamPhase,
    /// The cluster, once it was heard.
    pub system_id: Option<SystemId>,
    /// The timeline that is streamed now.
    pub timeline: Option<Timeline>,
    /// The slot's name; none without a slot.
    pub slot: Option<String>,
    /// The slot's state.
    pub slot_health: SlotHealth,
    /// Whether Patroni keeps the slot; none when it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patroni: Option<PatroniSlot>,
    /// End of what was received.
    pub received_lsn: Option<Lsn>,
    /// End of what is durable in the repository: all that PostgreSQL was told.
    pub durable_lsn: Option<Lsn>,
    /// End of WAL on the server, as it said last.
    pub server_lsn: Option<Lsn>,
    /// Bytes from `durable_lsn` to `server_lsn`.
    pub lag_bytes: Option<u64>,
    /// For how many seconds the archive has been behind the server; 0 when it is not.
    pub lag_seconds: Option<f64>,
    /// The earliest moment that can be recovered, on the server's clock.
    pub recoverable_from: Option<Timestamp>,
    /// The latest, on the server's clock.
    pub recoverable_to: Option<Timestamp>,
    /// Segments stored since the start.
    pub segments: u64,
    /// Bytes received since the start.
    pub bytes_received: u64,
    /// Connections opened since the start.
    pub connections: u64,
    /// Gaps found since the start.
    pub gaps: u64,
    /// Slots that the server had invalidated, since the start.
    #[serde(default)]
    pub slots_lost: u64,
    /// The last error; stays until bytes flow again.
    pub last_error: Option<ErrorReport>,
    /// When the process began.
    pub started_at: Timestamp,
    /// When the server was last heard.
    pub heard_at: Option<Timestamp>,
}

impl StreamStatus {
    /// The state before the first connection.
    pub fn new(deployment: DeploymentName, started_at: Timestamp) -> StreamStatus {
        StreamStatus {
            deployment,
            phase: StreamPhase::Connecting,
            system_id: None,
            timeline: None,
            slot: None,
            slot_health: SlotHealth::Unknown,
            patroni: None,
            received_lsn: None,
            durable_lsn: None,
            server_lsn: None,
            lag_bytes: None,
            lag_seconds: None,
            recoverable_from: None,
            recoverable_to: None,
            segments: 0,
            bytes_received: 0,
            connections: 0,
            gaps: 0,
            slots_lost: 0,
            last_error: None,
            started_at,
            heard_at: None,
        }
    }
}

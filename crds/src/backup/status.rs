//! What is known of one backup.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, Types, backup};
use crate::quantity::Bytes;
use crate::words::words;

fn conditions() -> Types {
    Types(backup::ALL)
}

words! {
    /// How far it is.
    open BackupPhase {
        /// Not looked at.
        Pending,
        /// Waits for its turn.
        Queued,
        /// Runs.
        Running,
        /// Lies in the repository.
        Completed,
        /// There is none.
        Failed,
        /// Marked as deleted.
        Tombstoned,
    }
}

words! {
    /// Where the object comes from.
    open Origin {
        /// A schedule.
        Schedule,
        /// Somebody.
        Manual,
        /// It was found in the repository.
        Repository,
    }
}

/// What is known of one backup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = conditions())]
    pub conditions: Vec<Condition>,
    /// How far it is: Pending, Queued, Running, Completed, Failed or Tombstoned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// Where the object comes from: Schedule, Manual or Repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The run that made it: the UID of its Job, kept in the backup's manifest.
    #[serde(rename = "runID", skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Its id in the repository.
    #[serde(rename = "backupID", skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// What kind of backup it became.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Position of the WAL at which it begins.
    #[serde(rename = "beginLSN", skip_serializing_if = "Option::is_none")]
    pub begin_lsn: Option<String>,
    /// Position of the WAL from which on it is consistent.
    #[serde(rename = "endLSN", skip_serializing_if = "Option::is_none")]
    pub end_lsn: Option<String>,
    /// The timeline it was taken on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<i64>,
    /// PostgreSQL's system identifier, as text: it is larger than what JSON keeps exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// PostgreSQL's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// How long it took, for example 3m20s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Bytes of the data directory and the tablespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Bytes that it added to the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<Bytes>,
    /// How far the run is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Whether a snapshot of the source's definition lies with it, from which a Cluster can be made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_snapshot: Option<bool>,
    /// The last drill that restored it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What was proven of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// How: Drill (restored, recovered and asked).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// What came of it: Passed or Failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Bytes that are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<Bytes>,
    /// Bytes in total, as the server estimates them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Bytes>,
    /// Percent that are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
}

/// Why a run failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A code of the engine's table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The engine's exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

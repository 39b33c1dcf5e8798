//! What is known of one restore. It tells the plan: a restore that was broken off goes on by it, and the plan that was
//! looked at is the one that runs. Moments have microseconds, as PostgreSQL's do: a second less is another restore.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::condition::{Condition, Types, restore};
use crate::quantity::Bytes;
use crate::words::words;

use super::DrillStatus;

fn conditions() -> Types {
    Types(restore::ALL)
}

words! {
    /// How far it is.
    open RestorePhase {
        /// The plan is not made yet.
        Pending,
        /// The plan is made, and waits to be let go.
        Planned,
        /// It cannot be done, and nothing was touched.
        Refused,
        /// The destination is made.
        Preparing,
        /// Files are written.
        Copying,
        /// PostgreSQL replays WAL.
        Recovering,
        /// PostgreSQL becomes a primary, and is stopped.
        Promoting,
        /// CloudNativePG takes the claims over.
        Adopting,
        /// The copy of a drill is looked at.
        Checking,
        /// It is done.
        Completed,
        /// It is not, and never will be.
        Failed,
        /// It is being deleted before it was done.
        Cancelled,
    }
}

/// What is known of one restore.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = conditions())]
    pub conditions: Vec<Condition>,
    /// How far it is: Pending, Planned, Refused, Preparing, Copying, Recovering, Promoting, Adopting, Checking,
    /// Completed, Failed or Cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,
    /// What is restored, as it was resolved once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<ResolvedTarget>,
    /// What it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<RestorePlan>,
    /// The moments that can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable: Option<Reachable>,
    /// How far the run is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<RestoreProgress>,
    /// Where recovery has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Recovered>,
    /// What was made for it, and stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<CreatedObject>,
    /// What a drill found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillStatus>,
    /// What is left to do for somebody else, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<NextStep>,
    /// What was done, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<RestoreStep>,
    /// Why it was refused or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<RestoreFailure>,
}

/// What is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedTarget {
    /// The moment in a word: a time, a position, a name, latest or immediate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moment: Option<String>,
    /// The time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
    /// The position of the WAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lsn: Option<String>,
    /// The timeline that recovery follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<i64>,
    /// The backup that it begins with.
    #[serde(rename = "backupID", skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
}

/// What it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestorePlan {
    /// Bytes of the data directory and the tablespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// Bytes of WAL that are replayed at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal: Option<Bytes>,
    /// Bytes that have to fit, exactly: data and WAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed_bytes: Option<i64>,
    /// Size of the claim for the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_size: Option<String>,
    /// Image of PostgreSQL that recovers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// PostgreSQL's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<String>,
    /// PostgreSQL's system identifier, as text: it is larger than what JSON keeps exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// Places of tablespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<String>,
    /// What is worth knowing before it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The source as it was recorded with the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = snapshot)]
    pub source_snapshot: Option<Value>,
}

/// The moments that can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reachable {
    /// The earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<MicroTime>,
    /// The latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<MicroTime>,
}

/// How far the run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreProgress {
    /// Bytes that are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<Bytes>,
    /// Bytes in total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Bytes>,
    /// Percent that are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
    /// Bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Bytes>,
}

/// Where recovery has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recovered {
    /// The position of the WAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lsn: Option<String>,
    /// When the last transaction was committed that is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
    /// The timeline that it writes now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<i64>,
}

/// An object that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedObject {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What somebody else has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextStep {
    /// In sentences.
    pub text: String,
    /// The part of a manifest that it takes, as YAML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreStep {
    /// What: Plan, Prepare, Restore, Adopt or Check.
    pub name: String,
    /// When it ended.
    pub time: Time,
    /// How, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// Why it was refused or has failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreFailure {
    /// A code of the engine's table, or a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How often it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
}

/// Whatever was recorded, written and compared as a whole.
fn snapshot(schema: &mut Schema) {
    schema.insert("type".into(), json!("object"));
    schema.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
}

//! What is known of a protected cluster. Moments are absolute, because a restore asks for them; how old the figures are
//! stands beside them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::{Condition, Types, deployment};
use crate::rules::ListByKey;
use crate::words::words;

fn conditions() -> Types {
    Types(deployment::ALL)
}

words! {
    /// What the stream does, in a word for people. Programs read the conditions.
    open Phase {
        /// Not started.
        Pending,
        /// It is at the server's end.
        Streaming,
        /// It is behind the server.
        CatchingUp,
        /// `stream.paused` is set.
        Paused,
        /// The source sleeps.
        Hibernated,
        /// WAL flows, and something is wrong.
        Degraded,
        /// WAL does not flow.
        Failed,
    }
}

words! {
    /// What kind of server is streamed from.
    open SourceMode {
        /// The primary.
        Primary,
        /// A standby: the designated primary of a replica cluster.
        Standby,
    }
}

/// What is known of a protected cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = conditions())]
    pub conditions: Vec<Condition>,
    /// What the stream does, for people: Pending, Streaming, CatchingUp, Paused, Hibernated, Degraded or Failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStatus>,
    /// Name under which the backups lie in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_in_repository: Option<String>,
    /// The clusters that this object has protected, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = ListByKey("name"))]
    pub lineages: Vec<Lineage>,
    /// The stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamStatus>,
    /// To which moments it can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recoverable: Option<Recoverable>,
    /// The last base backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    /// The last drill that could be tried: a copy was restored and asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_drill: Option<LastDrill>,
    /// Version of the engine that streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// What an operator of a later version has written: kept as it is. A status is applied whole, so that what is not said
    /// again would be gone, and two versions act in turn while one takes the other's place.
    #[serde(flatten)]
    #[schemars(skip)]
    pub later: BTreeMap<String, Value>,
}

/// The server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// What kind of cluster it is: CloudNativePG, Patroni or Connection.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// The primary, by its own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// What is streamed from: Primary or Standby.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<SourceMode>,
    /// PostgreSQL's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<String>,
    /// PostgreSQL's system identifier, as text: it is larger than what JSON keeps exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// UID of the Cluster object.
    #[serde(rename = "clusterUID", skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
}

/// One cluster that was protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    /// Its name in the repository.
    pub name: String,
    /// PostgreSQL's system identifier.
    pub system_identifier: String,
    /// Whether it is the one that is streamed now.
    pub current: bool,
}

/// The stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// The pod that streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The replication slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// The timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<i64>,
    /// Everything up to this position is durable in the repository.
    #[serde(rename = "archivedLSN", skip_serializing_if = "Option::is_none")]
    pub archived_lsn: Option<String>,
    /// Bytes of WAL that the server has and the repository does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<i64>,
    /// How many seconds the repository is behind the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<i64>,
    /// When these figures were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
}

/// To which moments a cluster can be restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recoverable {
    /// The first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// The last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Time>,
    /// Holes in the WAL between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gaps: Option<i64>,
}

/// The last drill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastDrill {
    /// Name of the Restore object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// What it has proven: Passed or Failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// The last base backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastBackup {
    /// Name of the Backup object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its id in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

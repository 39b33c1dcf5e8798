//! What is known of a repository.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, Types, repository};
use crate::quantity::Bytes;
use crate::rules::ListByKey;
use crate::words::words;

fn conditions() -> Types {
    Types(repository::ALL)
}

words! {
    /// Whether the store creates without overwriting.
    open ConditionalWrites {
        /// Not tried yet.
        Unknown,
        /// It does.
        Native,
        /// It does not.
        Unsupported,
    }
}

/// What is known of a repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = conditions())]
    pub conditions: Vec<Condition>,
    /// The id that the repository gave itself when it was created.
    #[serde(rename = "repositoryID", skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// The fingerprint of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kek_fingerprint: Option<String>,
    /// Whether the store creates objects without overwriting: Native, Unsupported or Unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditional_writes: Option<ConditionalWrites>,
    /// Bytes stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Bytes of deleted backups, at most; what they share with others stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reclaimable: Option<Bytes>,
    /// Number of backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backups: Option<i64>,
    /// When the catalogue was read last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// The last check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check: Option<Check>,
    /// What is in it, by name; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), transform = ListByKey("name"))]
    pub names: Vec<RepositoryName>,
}

/// A check of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// When it ended.
    pub time: Time,
    /// How it ended.
    pub result: String,
}

/// One name in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryName {
    /// The name, as NAMESPACE.NAME.
    pub name: String,
    /// Number of backups.
    pub backups: i64,
    /// The first moment to which it can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recoverable_from: Option<Time>,
    /// The last moment to which it can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recoverable_to: Option<Time>,
}

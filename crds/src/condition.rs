//! Conditions: what is true of an object now, one entry for each type. The types are those of Kubernetes; `Ready` is there
//! from the first reconcile, because an object without it counts as finished for `kubectl wait`, Flux and Argo CD.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use schemars::Schema;
use schemars::transform::Transform;
use serde_json::json;

use crate::rules::ListByKey;

/// Everything is as the spec says.
pub const READY: &str = "Ready";
/// It does not go on by itself: somebody has to look.
pub const STALLED: &str = "Stalled";

/// The conditions of a Repository beside [`READY`] and [`STALLED`].
pub mod repository {
    /// The store answers.
    pub const REACHABLE: &str = "Reachable";
    /// Two writers cannot overwrite each other's objects there.
    pub const WRITE_SAFE: &str = "WriteSafe";
    /// The key that opens it is where the spec says.
    pub const KEY_AVAILABLE: &str = "KeyAvailable";
    /// Somebody has written down that a copy of the key lies outside of this cluster.
    pub const RECOVERY_KEY_EXPORTED: &str = "RecoveryKeyExported";
    /// Copies of its credentials lie in other namespaces.
    pub const CREDENTIALS_SHARED: &str = "CredentialsShared";
}

/// The conditions of a Deployment beside [`READY`] and [`STALLED`].
pub mod deployment {
    /// WAL flows.
    pub const STREAMING: &str = "Streaming";
    /// There is no hole in the WAL of the repository.
    pub const ARCHIVE_CONTINUOUS: &str = "ArchiveContinuous";
    /// The slot is there, is ours, and the server keeps what it needs.
    pub const SLOT_HEALTHY: &str = "SlotHealthy";
    /// The server is set up so that it can be protected.
    pub const SOURCE_READY: &str = "SourceReady";
    /// An upgrade of the engine was stopped, because a stream did not come back after it.
    pub const UPGRADE_HALTED: &str = "UpgradeHalted";
}

/// The conditions of a BackupSchedule beside [`READY`] and [`STALLED`].
pub mod schedule {
    /// The last run made a backup.
    pub const LAST_RUN_SUCCEEDED: &str = "LastRunSucceeded";
    /// The retention after it did what it should.
    pub const RETENTION_SUCCEEDED: &str = "RetentionSucceeded";
}

/// The conditions of a Restore beside [`READY`] and [`STALLED`].
pub mod restore {
    /// The moment can be reached with what is in the repository.
    pub const TARGET_REACHABLE: &str = "TargetReachable";
}

/// The schema of a list of conditions, with the types that this kind has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Types(pub(crate) &'static [&'static str]);

impl Transform for Types {
    fn transform(&mut self, schema: &mut Schema) {
        let types = self.0.join(", ");
        schema.insert(
            "description".into(),
            json!(format!(
                "What is true of this object now, one entry for each type: {types}."
            )),
        );
        schema.insert("maxItems".into(), json!(32));
        ListByKey("type").transform(schema);
    }
}

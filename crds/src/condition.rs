//! Conditions: what is true of an object now, one entry for each type. The types are those of Kubernetes; `Ready` is there
//! from the first reconcile, because an object without it counts as finished for `kubectl wait`, Flux and Argo CD.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use schemars::Schema;
use schemars::transform::Transform;
use serde_json::json;

use crate::rules::ListByKey;

/// A type and what it says when it is True.
pub(crate) type Said = (&'static str, &'static str);

/// Makes the constants, and the list of them with what they say: for the schema, and for the page of the book.
macro_rules! conditions {
    ($(#[doc = $says:literal] $name:ident = $type:literal,)+) => {
        $(#[doc = $says] pub const $name: &str = $type;)+
        pub(crate) const ALL: &[super::Said] = &[$(($type, $says)),+];
    };
}

/// Everything is as the spec says.
pub const READY: &str = "Ready";
/// It does not go on by itself: somebody has to look.
pub const STALLED: &str = "Stalled";

/// The conditions that every kind has, around those of its own.
pub(crate) fn with_common(own: &[Said]) -> Vec<Said> {
    let mut all = vec![(READY, "Everything is as the spec says.")];
    all.extend(own.iter().map(|(type_, says)| (*type_, says.trim())));
    all.push((STALLED, "It does not go on by itself: somebody has to look."));
    all
}

/// The conditions of a Repository beside [`READY`] and [`STALLED`].
pub mod repository {
    conditions! {
        /// The store answers.
        REACHABLE = "Reachable",
        /// Two writers cannot overwrite each other's objects there.
        WRITE_SAFE = "WriteSafe",
        /// The key that opens it is where the spec says.
        KEY_AVAILABLE = "KeyAvailable",
        /// Somebody has written down that a copy of the key lies outside of this cluster.
        RECOVERY_KEY_EXPORTED = "RecoveryKeyExported",
        /// Copies of its credentials lie in other namespaces.
        CREDENTIALS_SHARED = "CredentialsShared",
    }
}

/// The conditions of a Deployment beside [`READY`] and [`STALLED`].
pub mod deployment {
    conditions! {
        /// WAL flows.
        STREAMING = "Streaming",
        /// There is no hole in the WAL of the repository.
        ARCHIVE_CONTINUOUS = "ArchiveContinuous",
        /// The slot is there, is ours, and the server keeps what it needs.
        SLOT_HEALTHY = "SlotHealthy",
        /// The server is set up so that it can be protected.
        SOURCE_READY = "SourceReady",
        /// An upgrade of the engine was stopped, because a stream did not come back after it.
        UPGRADE_HALTED = "UpgradeHalted",
    }
}

/// The conditions of a BackupSchedule beside [`READY`] and [`STALLED`].
pub mod schedule {
    conditions! {
        /// The last run made a backup.
        LAST_RUN_SUCCEEDED = "LastRunSucceeded",
        /// The retention after it did what it should.
        RETENTION_SUCCEEDED = "RetentionSucceeded",
        /// The last drill that could be tried proved that a backup can be restored.
        LAST_DRILL_PASSED = "LastDrillPassed",
    }
}

/// The conditions of a Backup beside [`READY`] and [`STALLED`].
pub mod backup {
    conditions! {
        /// A drill has restored it, and found what should be there.
        VERIFIED = "Verified",
    }
}

/// The conditions of a Restore beside [`READY`] and [`STALLED`].
pub mod restore {
    conditions! {
        /// The moment can be reached with what is in the repository.
        TARGET_REACHABLE = "TargetReachable",
    }
}

/// The schema of a list of conditions, with the types that this kind has beside the common ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Types(pub(crate) &'static [Said]);

impl Transform for Types {
    fn transform(&mut self, schema: &mut Schema) {
        let types: Vec<&str> = with_common(self.0).into_iter().map(|(type_, _)| type_).collect();
        schema.insert(
            "description".into(),
            json!(format!(
                "What is true of this object now, one entry for each type: {}.",
                types.join(", ")
            )),
        );
        schema.insert("maxItems".into(), json!(32));
        ListByKey("type").transform(schema);
    }
}

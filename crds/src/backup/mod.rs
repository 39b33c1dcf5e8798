//! Backup: one base backup. It is either a wish, which starts one run, or a mirror of what lies in the repository, which
//! starts nothing, ever: an object that came back from Velero, etcd or Git must not take a backup. The whole spec is fixed.

mod status;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Rate;
use crate::reference::{DeploymentRef, RepositoryRef};
use crate::rules::{JOB_NAME, JOB_NAME_SAYS, one_of, rule};
use crate::words::words;

pub use status::{BackupPhase, BackupStatus, Failure, Origin, Progress, Verified};

words! {
    /// What kind of backup.
    closed BackupType {
        /// The engine chooses.
        Auto,
        /// Everything is read from the server.
        Full,
    }
}

words! {
    /// Which server it is read from.
    closed BackupFrom {
        /// The primary.
        Primary,
        /// A standby, when there is one that streams.
        PreferStandby,
    }
}

words! {
    /// How the server makes its checkpoint.
    closed Checkpoint {
        /// At once.
        Fast,
        /// Spread over its usual time.
        Spread,
    }
}

/// One base backup: a wish or a mirror.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hardstorage.dev",
    version = "v1alpha1",
    kind = "Backup",
    plural = "hsbackups",
    singular = "hsbackup",
    shortname = "hsbk",
    category = "hardstorage",
    namespaced,
    status = "BackupStatus",
    derive = "PartialEq",
    doc = "One base backup: a wish, which starts one run, or a mirror of one in a repository. Deleting it deletes no data unless the annotation hardstorage.dev/delete-data names the backup.",
    validation = Rule::new(JOB_NAME).message(JOB_NAME_SAYS),
    printcolumn(name = "Deployment", type_ = "string", json_path = ".spec['deploymentRef.name','recorded.name']", description = "What was backed up"),
    printcolumn(name = "Type", type_ = "string", json_path = ".status.type", description = "What kind of backup"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "How far it is"),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTime", description = "Since it began"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration", description = "How long it took"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size", description = "Bytes of the data directory"),
    printcolumn(name = "Stored", type_ = "string", json_path = ".status.stored", description = "Bytes that it added to the repository"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.verified.result", description = "What the last drill that restored it has proven"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since the object was made"),
)]
#[serde(rename_all = "camelCase")]
#[schemars(
    transform = one_of("spec", &["deploymentRef", "recorded"]),
    transform = rule(
        "!has(self.recorded) || !(has(self.type) || has(self.from) || has(self.checkpoint) || has(self.label) || has(self.maxRate))",
        "a recorded backup has no type, from, checkpoint, label or maxRate: it starts nothing",
    ),
    transform = rule("self == oldSelf", "spec cannot be changed: one object is one run; make another one"),
)]
pub struct BackupSpec {
    /// A wish: what to back up, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_ref: Option<DeploymentRef>,
    /// A mirror: a backup that lies in a repository. It starts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
    /// What kind of backup: Auto (the engine chooses), or Full; default Auto.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<BackupType>,
    /// Which server it is read from: Primary, or PreferStandby; default Primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<BackupFrom>,
    /// How the server makes its checkpoint: Fast (at once), or Spread over its usual time; default Fast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// A name for people, kept with the backup; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub label: Option<String>,
    /// Bytes per second that are read from the server at most, for example 50Mi; default "0": no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<Rate>,
}

/// A backup in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The repository that it lies in.
    pub repository_ref: RepositoryRef,
    /// The name in the repository, as NAMESPACE.NAME.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its id.
    #[serde(rename = "backupID")]
    #[schemars(length(min = 1, max = 192))]
    pub backup_id: String,
}

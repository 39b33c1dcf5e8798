//! Deployment: a PostgreSQL cluster that is protected. In Rust it is [`ProtectedDeployment`], because `Deployment` is always
//! that of apps/v1.
//!
//! Kustomize knows objects by their kind alone: its commonLabels and includeSelectors write `spec.selector` and
//! `spec.template` into this one too. Both are accepted, and there are no fields that could read them.

mod retention;
mod status;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::pod_template::{PodTemplate, Resources, memory_of_at_least};
use crate::reference::RepositoryRef;
use crate::rules::{Accepted, NAME, NAME_SAYS, immutable, rule};
use crate::source::Source;
use crate::words::words;

pub use retention::Retention;
pub use status::{
    DeploymentStatus, LastBackup, LastDrill, Lineage, Phase, Recoverable, SourceMode, SourceStatus, StreamStatus,
};

words! {
    /// What happens when the server turns out to be another cluster than before.
    closed OnNewSystem {
        /// Nothing is written until somebody has looked.
        Refuse,
        /// A new lineage begins, with a full backup.
        NewLineage,
    }
}

const SLOT_STAYS: &str =
    "stream.slotName cannot be changed, added or removed: the old slot would hold back the server's WAL for ever";
const NAME_STAYS: &str =
    "nameInRepository cannot be changed or removed once it is set: its backups would be left behind";

/// What is protected, where to, and how.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hardstorage.dev",
    version = "v1alpha1",
    kind = "Deployment",
    root = "ProtectedDeployment",
    plural = "hsdeployments",
    singular = "hsdeployment",
    shortname = "hsdep",
    category = "hardstorage",
    namespaced,
    status = "DeploymentStatus",
    derive = "PartialEq",
    doc = "A PostgreSQL cluster that is protected: its WAL is streamed into a repository, always. Deleting it deletes no backup unless deletion.data says so.",
    validation = Rule::new(NAME).message(NAME_SAYS),
    printcolumn(name = "Source", type_ = "string", json_path = ".status.source.type", description = "What kind of cluster it is"),
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repositoryRef.name", description = "Where its backups lie"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "What the stream does"),
    printcolumn(name = "Lag(s)", type_ = "integer", json_path = ".status.stream.lagSeconds", description = "Seconds between the server and the repository"),
    printcolumn(name = "From", type_ = "string", json_path = ".status.recoverable.from", description = "First moment to which it can be restored"),
    printcolumn(name = "To", type_ = "string", json_path = ".status.recoverable.to", description = "Last moment to which it can be restored"),
    printcolumn(name = "Last-Backup", type_ = "date", json_path = ".status.lastBackup.time", description = "Since the last base backup"),
    printcolumn(name = "Observed", type_ = "date", json_path = ".status.stream.observedTime", description = "How old these figures are"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since it was made"),
    printcolumn(name = "Slot", type_ = "string", json_path = ".status.stream.slot", priority = 1, description = "Replication slot"),
    printcolumn(name = "Timeline", type_ = "integer", json_path = ".status.stream.timeline", priority = 1, description = "Timeline that is streamed"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".status.stream.pod", priority = 1, description = "Pod that streams"),
)]
#[serde(rename_all = "camelCase")]
#[schemars(
    // Not by optional chains: the server takes what comes out of one for a text of any length, and refuses the rule.
    transform = rule(
        "(has(self.stream) && has(self.stream.slotName)) == (has(oldSelf.stream) && has(oldSelf.stream.slotName))",
        SLOT_STAYS,
    ),
    transform = rule(
        "has(self.nameInRepository) || !has(oldSelf.nameInRepository) || oldSelf.nameInRepository == ''",
        NAME_STAYS,
    ),
    transform = Accepted(&[
        ("selector", "Written by kustomize, ignored."),
        ("template", "Written by kustomize, ignored."),
    ]),
)]
pub struct DeploymentSpec {
    /// Where WAL and base backups come from; exactly one of cloudNativePG, patroni, connection. Cannot be changed.
    #[schemars(transform = immutable("source"))]
    pub source: Source,
    /// The repository they go into. Cannot be changed.
    #[schemars(transform = immutable_repository)]
    pub repository_ref: RepositoryRef,
    /// Name under which the backups lie in the repository; default NAMESPACE.NAME. Cannot be changed once it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = name_in_repository)]
    pub name_in_repository: Option<String>,
    /// What happens when the server turns out to be another cluster than before (another system identifier): Refuse, or
    /// NewLineage; default Refuse.
    #[serde(default)]
    pub on_new_system: OnNewSystem,
    /// The stream of WAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// Which backups are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// What goes with this object when it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// The engine's image; default: the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Settings of all pods made for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// The stream of WAL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    /// Whether the stream rests; default false. The slot stays, and with it the server's WAL.
    pub paused: bool,
    /// Name of the replication slot; default: made from the name. Cannot be changed, added or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = slot_name)]
    pub slot_name: Option<String>,
    /// How long WAL of an unfinished segment may wait until it is durable in the repository; default 10s.
    pub flush_interval: Duration,
    /// What the streaming container asks for and may take; default: requests of 50m CPU and 64Mi memory, and a limit of 128Mi
    /// memory, or of the request where that is more. It needs a limit of 64Mi at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = memory_of_at_least("64Mi", "a stream needs so much, and would be killed again and again"))]
    pub resources: Option<Resources>,
}

words! {
    /// What happens to the slot.
    closed SlotDeletion {
        /// It is dropped.
        Drop,
        /// It stays, and holds back the server's WAL.
        Keep,
    }
}

words! {
    /// What happens to the backups.
    closed DataDeletion {
        /// They stay.
        Retain,
        /// They are marked as deleted, which can be taken back until their space is collected.
        Delete,
    }
}

/// What goes with a Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Deletion {
    /// What happens to the slot: Drop or Keep; default Drop.
    pub slot: SlotDeletion,
    /// How long to try to reach the server for that, before letting go; default 2m.
    pub slot_timeout: Duration,
    /// What happens to the backups: Retain or Delete, which marks them as deleted; default Retain. Ignored while the
    /// namespace goes away.
    pub data: DataDeletion,
}

words! {
    /// When the image is pulled.
    closed ImagePullPolicy {
        /// When the node does not have it.
        IfNotPresent,
        /// Always.
        Always,
        /// Never.
        Never,
    }
}

/// The engine's image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// An image to stay with; default: the operator's own, which goes along with its upgrades.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// When it is pulled: IfNotPresent, Always or Never; default IfNotPresent.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
}

impl Default for Stream {
    fn default() -> Self {
        Stream {
            paused: false,
            slot_name: None,
            flush_interval: Duration::new("10s"),
            resources: None,
        }
    }
}

impl Default for Deletion {
    fn default() -> Self {
        Deletion {
            slot: SlotDeletion::default(),
            slot_timeout: Duration::new("2m"),
            data: DataDeletion::default(),
        }
    }
}

/// The same object named in another way is refused too: whether it is the same depends on where this one lies.
fn immutable_repository(schema: &mut schemars::Schema) {
    use schemars::transform::Transform;
    rule(
        "self == oldSelf",
        "repositoryRef cannot be changed: the backups would stay behind in the old repository",
    )
    .transform(schema);
}

/// The engine's own rule for a deployment's name, less the 21 bytes that the name of a second lineage has more.
fn name_in_repository(schema: &mut schemars::Schema) {
    use schemars::transform::Transform;
    schema.insert("maxLength".into(), 107.into());
    rule(
        "self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$') && !self.contains('..')",
        "nameInRepository holds lower-case letters, digits, '-' and single dots, and starts and ends with a letter or a digit",
    )
    .transform(schema);
    rule("self == oldSelf || oldSelf == ''", NAME_STAYS).transform(schema);
}

fn slot_name(schema: &mut schemars::Schema) {
    use schemars::transform::Transform;
    schema.insert("maxLength".into(), 63.into());
    rule(
        "self.matches('^[a-z0-9_]{1,63}$')",
        "slotName has 1 to 63 lower-case letters, digits and underscores",
    )
    .transform(schema);
    rule(
        "!self.startsWith('_cnpg_')",
        "slotName does not start with _cnpg_: CloudNativePG drops slots of that name that it does not know",
    )
    .transform(schema);
    rule("self == oldSelf", SLOT_STAYS).transform(schema);
}

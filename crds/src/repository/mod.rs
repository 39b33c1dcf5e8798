//! Repository: where backups lie, with which key, and who may use it.

mod encryption;
mod status;
mod tenants;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::quantity::Rate;
use crate::reference::{CaRef, StoreCredentials, object_name};
use crate::rules::{NAME, NAME_SAYS, immutable, rule};
use crate::schedule::{Schedule, time_zone};
use crate::words::words;

pub use encryption::{Encryption, KeySecret, ManagedKey, NoEncryption};
pub use status::{Check, ConditionalWrites, RepositoryName, RepositoryStatus};
pub use tenants::{AllowedNamespaces, Grant, NamespacesFrom, Verb};

words! {
    /// What happens when nothing is at the URL.
    closed Creation {
        /// It is created.
        CreateIfMissing,
        /// It is an error.
        MustExist,
    }
}

words! {
    /// What may be done.
    closed AccessMode {
        /// Everything.
        ReadWrite,
        /// Reading and restoring.
        ReadOnly,
    }
}

/// Where backups lie.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hardstorage.dev",
    version = "v1alpha1",
    kind = "Repository",
    plural = "hsrepositories",
    singular = "hsrepository",
    shortname = "hsrepo",
    category = "hardstorage",
    namespaced,
    status = "RepositoryStatus",
    derive = "PartialEq",
    doc = "A repository: where backups and WAL lie, with which key, and who may use it. Deleting it deletes no backup.",
    validation = Rule::new(NAME).message(NAME_SAYS),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url", description = "Where it lies"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether it can be used"),
    printcolumn(name = "Backups", type_ = "integer", json_path = ".status.backups", description = "Backups in it"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size", description = "Bytes stored"),
    printcolumn(name = "Last-Check", type_ = "date", json_path = ".status.lastCheck.time", description = "Since the last check"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since it was made"),
    printcolumn(name = "ID", type_ = "string", json_path = ".status.repositoryID", priority = 1, description = "Its own id"),
    printcolumn(name = "Key-Exported", type_ = "string", json_path = r#".status.conditions[?(@.type=="RecoveryKeyExported")].status"#, priority = 1, description = "Whether a copy of its key lies elsewhere"),
)]
#[serde(rename_all = "camelCase")]
#[schemars(
    transform = rule(
        "has(self.persistentVolumeClaim) == self.url.startsWith('file://')",
        "persistentVolumeClaim belongs to a url of file:///repository, and to no other",
    ),
    transform = rule(
        "!has(self.persistentVolumeClaim) || !has(self.allowedNamespaces) || self.allowedNamespaces.from == 'Same'",
        "allowedNamespaces.from is Same with a persistentVolumeClaim: a claim cannot be mounted in another namespace",
    ),
)]
pub struct RepositorySpec {
    /// Where it lies: s3://BUCKET/PREFIX?region=REGION, or file:///repository[/DIRECTORY] for a volume. The same text as on
    /// the command line; it holds no user and no password. Cannot be changed.
    #[schemars(length(min = 1, max = 1024), transform = url, transform = immutable("url"))]
    pub url: String,
    /// The claim that is mounted at /repository; given exactly when url is file:///repository. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = immutable("persistentVolumeClaim"))]
    pub persistent_volume_claim: Option<Claim>,
    /// How the store knows us; default: what the surroundings of a pod offer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<StoreCredentials>,
    /// Certificates to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// With which key everything is encrypted; exactly one of managed, secretRef, none; default managed. Which of them it
    /// is cannot be changed.
    #[serde(default = "Encryption::managed")]
    pub encryption: Encryption,
    /// What happens when nothing is at the URL: CreateIfMissing or MustExist; default CreateIfMissing.
    #[serde(default)]
    pub creation: Creation,
    /// What may be done: ReadWrite, or ReadOnly, which implies that it exists; default ReadWrite.
    #[serde(default)]
    pub access_mode: AccessMode,
    /// Which namespaces may use it; default: its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// Whether the operator may copy the credentials into the namespaces of consumers; default false. A condition says that
    /// it did.
    #[serde(default)]
    pub share_credentials: bool,
    /// What a namespace may do with backups that are not its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), transform = crate::rules::ListByKey("namespace"))]
    pub grants: Option<Vec<Grant>>,
    /// What all of its consumers together may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// When it is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// How its backups are shown as objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Catalog>,
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Name of a PersistentVolumeClaim in the same namespace.
    #[schemars(transform = object_name)]
    pub claim_name: String,
}

/// Limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Backups that run at the same time, of all consumers; default 0: no limit.
    #[schemars(range(min = 0, max = 1000))]
    pub concurrent_backups: i32,
    /// Bytes per second that each backup reads at most, for example 50Mi; default "0": no limit.
    pub max_rate: Rate,
}

/// Upkeep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Maintenance {
    /// When to check that everything is there and hangs together: five fields, or @hourly, @daily, @weekly, @monthly, each
    /// also with -random; default @daily-random.
    pub schedule: Schedule,
    /// Time zone of the schedule; default Etc/UTC.
    #[schemars(transform = time_zone)]
    pub time_zone: String,
    /// Whether to leave it; default false.
    pub suspend: bool,
}

/// The mirror of the repository in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Catalog {
    /// How often the catalogue is read though nothing new is heard of, for example 30m. A new backup is read within two minutes;
    /// default 1h.
    pub sync_interval: Duration,
    /// Backup objects for each deployment, the newest and those on hold; the rest is counted; default 50.
    #[schemars(range(min = 0, max = 1000))]
    pub max_backup_objects: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            concurrent_backups: 0,
            max_rate: Rate::unlimited(),
        }
    }
}

impl Default for Maintenance {
    fn default() -> Self {
        Maintenance {
            schedule: Schedule::new("@daily-random"),
            time_zone: "Etc/UTC".into(),
            suspend: false,
        }
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog {
            sync_interval: Duration::new("1h"),
            max_backup_objects: 50,
        }
    }
}

/// What the engine would refuse in a URL, or would not find in a pod.
fn url(schema: &mut schemars::Schema) {
    use schemars::transform::Transform;
    let rules = [
        (
            "self.startsWith('s3://') || self.matches('^file:///repository(/[A-Za-z0-9_][A-Za-z0-9._-]*)*/?$')",
            "url is s3://BUCKET/PREFIX?region=REGION, or file:///repository[/DIRECTORY] together with persistentVolumeClaim",
        ),
        (
            "!self.matches('^[^?#]*@|[?&]endpoint=[^&#]*(@|%40)')",
            "url holds no user and no password: put them into a Secret and name it in credentials.secretRef",
        ),
        (
            "!self.matches('[?&]ca_file=')",
            "url has no ca_file, which would be a path in a pod: name the certificates in caRef",
        ),
    ];
    for (expression, message) in rules {
        rule(expression, message).transform(schema);
    }
}

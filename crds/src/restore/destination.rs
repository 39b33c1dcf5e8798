//! Where a restore puts what it restores. Nothing that holds data is owned by the Restore, so that deleting it deletes no
//! database; the copy of a drill alone is thrown away with it.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PatroniDestination;
use crate::quantity::Size;
use crate::reference::object_name;
use crate::rules::one_of;
use crate::words::words;

use super::DrillDestination;

/// Where to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = one_of("destination", &["persistentVolumeClaim", "cloudNativePG", "patroni", "drill"]))]
pub struct Destination {
    /// A directory on a claim, for any PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimDestination>,
    /// A new Cluster of CloudNativePG.
    #[serde(rename = "cloudNativePG", skip_serializing_if = "Option::is_none")]
    pub cloud_native_pg: Option<ClusterDestination>,
    /// The claim of the first member of a cluster that Patroni runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patroni: Option<PatroniDestination>,
    /// Nowhere: a copy that is looked at and thrown away. It proves that the backup can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillDestination>,
}

/// A directory on a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimDestination {
    /// Name of the PersistentVolumeClaim, in the same namespace.
    #[schemars(transform = object_name)]
    pub name: String,
    /// Makes the claim; one of that name must not be there. Without it the claim is there already, with an empty directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<NewClaim>,
    /// Directory on the claim that becomes the data directory; default pgdata.
    #[serde(default = "path")]
    #[schemars(transform = directory)]
    pub path: String,
    /// User that PostgreSQL runs as, and that owns the files; default 26.
    #[serde(default = "postgres")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub uid: i64,
    /// Its group; default 26.
    #[serde(default = "postgres")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub gid: i64,
}

words! {
    /// How a volume can be mounted.
    closed ClaimAccess {
        /// By the pods of one node.
        ReadWriteOnce,
        /// By one pod.
        ReadWriteOncePod,
        /// By any pod.
        ReadWriteMany,
    }
}

/// A claim that is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewClaim {
    /// Its StorageClass; default: the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = object_name)]
    pub storage_class_name: Option<String>,
    /// Its size; default: what the plan needs and a tenth more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// How it can be mounted: ReadWriteOnce, ReadWriteOncePod or ReadWriteMany; default ReadWriteOnce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub access_modes: Vec<ClaimAccess>,
}

/// A new Cluster of CloudNativePG.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDestination {
    /// Name of the Cluster; neither it nor a claim of it may be there.
    #[schemars(transform = cluster_name)]
    pub cluster: String,
    /// The Cluster as it shall be: its spec, and labels and annotations in its metadata; default: the spec that was recorded
    /// with the backup. What bootstraps or archives is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = template)]
    pub template: Option<Value>,
}

fn path() -> String {
    "pgdata".into()
}

fn postgres() -> i64 {
    26
}

/// A path below the volume's root: the root itself is not empty on many file systems.
pub(super) fn directory(schema: &mut Schema) {
    schema.insert(
        "pattern".into(),
        json!("^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$"),
    );
    schema.insert("maxLength".into(), json!(200));
}

/// CloudNativePG makes names of at most 63 characters from it.
fn cluster_name(schema: &mut Schema) {
    schema.insert("pattern".into(), json!("^[a-z]([a-z0-9-]*[a-z0-9])?$"));
    schema.insert("maxLength".into(), json!(50));
}

fn template(schema: &mut Schema) {
    schema.insert("type".into(), json!("object"));
    schema.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
}

//! Restore: one restore of one backup to one moment, into one place. The spec is fixed, so that what was reviewed is what
//! runs; the one change is `dryRun` from true to false, which runs the plan that the status shows. How its pods are run
//! (`resources`, `podTemplate`) can be changed until they are there: it changes nothing of what is restored.

mod destination;
mod drill;
mod patroni;
mod status;

use kube::CustomResource;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::duration::Duration;
use crate::pod_template::{PodTemplate, Resources};
use crate::reference::{DeploymentRef, RepositoryRef};
use crate::rules::{NAME, NAME_SAYS, Rule, one_of, rule};
use crate::words::words;

use destination::directory;
pub use destination::*;
pub(crate) use drill::checks as drill_checks;
pub use drill::*;
pub use patroni::*;
pub use status::*;

words! {
    /// What is done when the moment cannot be reached.
    closed OnUnreachable {
        /// Nothing is restored.
        Refuse,
        /// The nearest moment that can be reached is taken.
        Nearest,
    }
}

words! {
    /// What becomes of logical subscriptions in the restored databases.
    closed Subscriptions {
        /// They are disabled: a copy must not take changes away from the true subscriber.
        Disable,
        /// They go on.
        Keep,
    }
}

/// What every field of the spec says that cannot be changed.
const STAYS: &str = "spec cannot be changed, but for dryRun from true to false, resources and podTemplate: one object is one \
                     restore; make another one";

/// A rule for each field, because one for all of them would walk pod templates, which have no end.
fn stays() -> Rule {
    rule("self == oldSelf", STAYS)
}

/// One restore.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hardstorage.dev",
    version = "v1alpha1",
    kind = "Restore",
    plural = "hsrestores",
    singular = "hsrestore",
    shortname = "hsrs",
    category = "hardstorage",
    namespaced,
    status = "RestoreStatus",
    derive = "PartialEq",
    doc = "One restore into one place. What it has restored stays when it is deleted, but for the copy of a drill; a place that is used already is never touched.",
    validation = Rule::new(NAME).message(NAME_SAYS),
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.source['deploymentRef.name','repository.name']", description = "What is restored"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target.moment", description = "The moment"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "How far it is"),
    printcolumn(name = "Done%", type_ = "integer", json_path = ".status.progress.percent", description = "Percent of the bytes"),
    printcolumn(name = "Recovered-To", type_ = "string", json_path = ".status.recovered['time','lsn']", description = "The moment that was reached"),
    printcolumn(name = "Destination", type_ = "string", json_path = ".spec.destination['persistentVolumeClaim.name','cloudNativePG.cluster','patroni.statefulSet','patroni.claim']", description = "Where to"),
    printcolumn(name = "Drill", type_ = "string", json_path = ".status.drill.result", description = "What a drill has proven"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since it was made"),
)]
#[serde(rename_all = "camelCase")]
#[schemars(
    transform = rule(
        "has(self.recoveryTarget) == has(oldSelf.recoveryTarget) && has(self.postgresImage) == has(oldSelf.postgresImage) && \
         (self.dryRun == oldSelf.dryRun || oldSelf.dryRun)",
        STAYS,
    ),
    transform = rule(
        "self.onUnreachable != 'Nearest' || has(self.recoveryTarget) && has(self.recoveryTarget.time)",
        "onUnreachable can be Nearest only with recoveryTarget.time: nothing else has a nearest moment",
    ),
    transform = rule(
        "!has(self.destination.drill) || self.subscriptions == 'Disable'",
        "a drill cannot Keep subscriptions: it would take changes away from the true subscriber",
    ),
)]
pub struct RestoreSpec {
    /// What is restored. Cannot be changed.
    #[schemars(transform = stays())]
    pub source: RestoreSource,
    /// Id of a backup, or latest: the newest that leads to the target; default latest. Cannot be changed.
    #[serde(default = "latest")]
    #[schemars(transform = backup, transform = stays())]
    pub backup: String,
    /// Where recovery stops; default: at the end of what is in the repository. Cannot be
    /// changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = stays())]
    pub recovery_target: Option<RecoveryTarget>,
    /// What is done when the moment cannot be reached: Refuse, or Nearest (the nearest moment that can be); default Refuse.
    /// Cannot be changed.
    #[serde(default)]
    #[schemars(transform = stays())]
    pub on_unreachable: OnUnreachable,
    /// Whether only the plan is made; default false. Turning it to false runs exactly that plan.
    #[serde(default)]
    pub dry_run: bool,
    /// Where to. Cannot be changed.
    #[schemars(transform = stays())]
    pub destination: Destination,
    /// What becomes of logical subscriptions: Disable, or Keep; default Disable. It takes a recovery, so it means nothing
    /// for a claim without postgresImage. Cannot be changed.
    #[serde(default)]
    #[schemars(transform = stays())]
    pub subscriptions: Subscriptions,
    /// Image of PostgreSQL that recovers the data; default: for CloudNativePG and Patroni the cluster's own, for a drill the
    /// one that was recorded with the backup, for a claim none, and the first server that is started on it recovers. Cannot
    /// be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), transform = stays())]
    pub postgres_image: Option<String>,
    /// What the container asks for and may take; default: the operator's. Can be changed until the pod is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Settings of the pods. Can be changed until they are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// How often a failed try is followed by another one; default 2. Cannot be changed.
    #[serde(default = "backoff_limit")]
    #[schemars(range(min = 0, max = 100), transform = stays())]
    pub backoff_limit: i32,
    /// How long all tries may take together; default 24h. Cannot be changed.
    #[serde(default = "active_deadline")]
    #[schemars(transform = stays())]
    pub active_deadline: Duration,
}

/// What is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = one_of("source", &["deploymentRef", "repository"]))]
pub struct RestoreSource {
    /// What a Deployment of this namespace streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_ref: Option<DeploymentRef>,
    /// A name in a repository: nothing else needs to be left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<NameInRepository>,
}

/// A name in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameInRepository {
    /// The repository.
    #[serde(rename = "ref")]
    pub reference: RepositoryRef,
    /// The name in it, as NAMESPACE.NAME.
    #[schemars(transform = name_in_repository)]
    pub name: String,
}

/// Where recovery stops.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    transform = rule(
        "[has(self.time), has(self.lsn), has(self.name), has(self.xid), has(self.immediate)].filter(set, set).size() <= 1",
        "recoveryTarget has at most one of time, lsn, name, xid, immediate",
    ),
    transform = rule(
        "!has(self.inclusive) || has(self.time) || has(self.lsn) || has(self.xid)",
        "recoveryTarget.inclusive needs time, lsn or xid: nothing else can be left out",
    ),
)]
pub struct RecoveryTarget {
    /// A time, with its zone (2026-11-22T08:15:00Z), or before the object was made (5 minutes ago).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = time)]
    pub time: Option<String>,
    /// A position of the WAL, for example 0/4000028.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = lsn)]
    pub lsn: Option<String>,
    /// A restore point that was made by pg_create_restore_point.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// A transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3))]
    pub xid: Option<i64>,
    /// The end of the backup, and nothing later: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rule("self", "recoveryTarget.immediate is true, or is left out"))]
    pub immediate: Option<bool>,
    /// Whether what happened exactly at the target is in; default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inclusive: Option<bool>,
    /// The timeline to follow: a number, or latest; default latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = timeline)]
    pub timeline: Option<String>,
}

fn latest() -> String {
    "latest".into()
}

fn backoff_limit() -> i32 {
    2
}

fn active_deadline() -> Duration {
    Duration::new("24h")
}

fn pattern(schema: &mut Schema, pattern: &str, longest: u32) {
    schema.insert("pattern".into(), json!(pattern));
    schema.insert("maxLength".into(), json!(longest));
}

/// What the engine makes; never something that a command line would take for an option.
fn backup(schema: &mut Schema) {
    pattern(schema, "^[A-Za-z0-9][A-Za-z0-9._-]*$", 192);
}

fn name_in_repository(schema: &mut Schema) {
    pattern(schema, "^[a-z0-9][a-z0-9._-]*$", 128);
}

/// A time without a zone would be the pod's.
fn time(schema: &mut Schema) {
    pattern(
        schema,
        "^([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})|\
         [0-9]{1,9} (second|minute|hour|day|week)s? ago)$",
        64,
    );
}

fn lsn(schema: &mut Schema) {
    pattern(schema, "^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$", 17);
}

fn timeline(schema: &mut Schema) {
    pattern(schema, "^(latest|[1-9][0-9]{0,9})$", 10);
}

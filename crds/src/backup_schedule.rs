//! BackupSchedule: when base backups of a Deployment are taken, and when it is proven that they can be restored. Which of
//! them are kept is a matter of the Deployment.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup::{BackupFrom, BackupType};
use crate::condition::{Condition, Types, schedule};
use crate::duration::Duration;
use crate::pod_template::{PodTemplate, Resources};
use crate::quantity::Rate;
use crate::reference::DeploymentRef;
use crate::restore::{DrillCheck, DrillResult, DrillStorage, drill_checks};
use crate::rules::{NAME, NAME_SAYS, immutable};
use crate::schedule::{Schedule, time_zone};
use crate::words::words;

/// When, and how.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hardstorage.dev",
    version = "v1alpha1",
    kind = "BackupSchedule",
    plural = "hsbackupschedules",
    singular = "hsbackupschedule",
    shortname = "hssched",
    category = "hardstorage",
    namespaced,
    status = "BackupScheduleStatus",
    derive = "PartialEq",
    doc = "When base backups of a Deployment are taken, and when it is proven that they can be restored.",
    validation = Rule::new(NAME).message(NAME_SAYS),
    printcolumn(name = "Deployment", type_ = "string", json_path = ".spec.deploymentRef.name", description = "What is backed up"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule", description = "When"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type", description = "What kind of backup"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend", description = "Whether it rests"),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.lastTime", description = "Since the last run"),
    printcolumn(name = "Result", type_ = "string", json_path = ".status.lastBackup.result", description = "How it ended"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextTime", description = "The next run"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since it was made"),
)]
#[serde(rename_all = "camelCase")]
pub struct BackupScheduleSpec {
    /// What is backed up. Cannot be changed.
    #[schemars(transform = immutable("deploymentRef"))]
    pub deployment_ref: DeploymentRef,
    /// When: five fields (minute hour day-of-month month day-of-week), or @hourly, @daily, @weekly, @monthly, each also with
    /// -random: then the minute is made from namespace and name, always the same.
    pub schedule: Schedule,
    /// Time zone of the schedule; default Etc/UTC.
    #[serde(default = "time_zone_default")]
    #[schemars(transform = time_zone)]
    pub time_zone: String,
    /// Whether it rests; default false.
    #[serde(default)]
    pub suspend: bool,
    /// Whether to begin at once, when the repository has nothing younger than one interval; default false.
    #[serde(default)]
    pub immediate: bool,
    /// What kind of backup: Auto (the engine chooses), or Full; default Auto.
    #[serde(rename = "type", default)]
    pub type_: BackupType,
    /// Which server it is read from: Primary, or PreferStandby; default Primary.
    #[serde(default)]
    pub from: BackupFrom,
    /// Bytes per second that are read from the server at most, for example 50Mi; default "0": no limit.
    #[serde(default = "Rate::unlimited")]
    pub max_rate: Rate,
    /// How late a run may begin; default 1h. One that could not is left out.
    #[serde(default = "starting_deadline")]
    pub starting_deadline: Duration,
    /// How long its pod may wait for a node before the run fails with the scheduler's words; default 15m.
    #[serde(default = "pending_deadline")]
    pub pending_deadline: Duration,
    /// How long a run may take; default 24h.
    #[serde(default = "active_deadline")]
    pub active_deadline: Duration,
    /// How often a failed run is tried again; default 2.
    #[serde(default = "backoff_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit: i32,
    /// How many Jobs of past runs are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// What the container asks for and may take; default: the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Settings of the pods; default: those of the Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// When it is proven that what lies in the repository can be restored: each time by a Restore with destination.drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<ScheduledDrill>,
}

words! {
    /// The moment that a drill restores.
    closed DrillMoment {
        /// Another one each time, anywhere in what can be recovered.
        Random,
        /// The last one.
        Latest,
    }
}

/// A drill that is made again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledDrill {
    /// When, as for backups; a random minute is another one than theirs. It rests with the schedule, and one that could not
    /// begin within startingDeadline is left out.
    pub schedule: Schedule,
    /// The moment that is restored: Random, or Latest; default Random.
    #[serde(default)]
    pub moment: DrillMoment,
    /// The volume that it is restored into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<DrillStorage>,
    /// What has to be true of the copy, beside that it starts, that each database answers and that its indexes are whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = drill_checks)]
    pub checks: Vec<DrillCheck>,
    /// Image of PostgreSQL that runs the copy; default: the one that was recorded with the backup, as with CloudNativePG.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub postgres_image: Option<String>,
    /// What the containers ask for and may take; default: the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// How much of past runs is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct History {
    /// Of runs that made a backup; default 1.
    #[schemars(range(min = 0, max = 100))]
    pub successful: i32,
    /// Of runs that did not, and of their Backup objects, of which the last one always stays; default 3.
    #[schemars(range(min = 0, max = 100))]
    pub failed: i32,
}

impl Default for History {
    fn default() -> Self {
        History {
            successful: 1,
            failed: 3,
        }
    }
}

fn time_zone_default() -> String {
    "Etc/UTC".into()
}

fn starting_deadline() -> Duration {
    Duration::new("1h")
}

fn pending_deadline() -> Duration {
    Duration::new("15m")
}

fn active_deadline() -> Duration {
    Duration::new("24h")
}

fn backoff_limit() -> i32 {
    2
}

fn conditions() -> Types {
    Types(schedule::ALL)
}

/// What came of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupScheduleStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = conditions())]
    pub conditions: Vec<Condition>,
    /// The five fields that the schedule stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_schedule: Option<String>,
    /// When the next run begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    /// When the last run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// The last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastRun>,
    /// The drills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillsStatus>,
    /// Backups that the last retention kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<i64>,
    /// Backups that the last retention marked as deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstoned: Option<i64>,
}

/// The drills of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillsStatus {
    /// The five fields that their schedule stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_schedule: Option<String>,
    /// Seconds between two of them; none while they rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<i64>,
    /// When the next one begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    /// Since when they are wanted, and do not rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The time for which the last one was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun_for: Option<Time>,
    /// When the last one ended that could be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proven_time: Option<Time>,
    /// The last one that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastScheduledDrill>,
}

/// The last drill of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastScheduledDrill {
    /// Name of the Restore object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// What it has proven: Passed, Failed or NotRun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<DrillResult>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Why it did not pass, as a code of the engine's table or a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The last run of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastRun {
    /// Name of the Backup object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it ended: Completed or Failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Why, as a code of the engine's table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

//! Drills: a restore whose only use is the proof that it can be done. What it makes is thrown away, so here alone something
//! that holds data goes with the object that made it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::transform::Transform as _;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::duration::Duration;
use crate::quantity::Size;
use crate::reference::object_name;
use crate::rules::ListByKey;
use crate::words::words;

/// A copy that is looked at and thrown away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillDestination {
    /// The volume that it is restored into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<DrillStorage>,
    /// What has to be true of the copy, beside that it starts, that each database answers and that its indexes are whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = checks)]
    pub checks: Vec<DrillCheck>,
    /// How long the copy of a drill that failed is kept, for a look at it; default 1h.
    #[serde(default = "keep_on_failure")]
    pub keep_on_failure: Duration,
}

/// The volume of a drill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillStorage {
    /// Its StorageClass; default: the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = object_name)]
    pub storage_class_name: Option<String>,
    /// Its size; default: what the plan needs, a tenth more and 256Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

/// One question to the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrillCheck {
    /// Its name, by which a failure is told.
    #[schemars(transform = name)]
    pub name: String,
    /// The database that is asked.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// The question: one statement that reads. It runs as a role that can read everything and write nothing.
    #[schemars(length(min = 1, max = 8192))]
    pub sql: String,
    /// What the first column of the first row has to be, as psql -At prints it (t, 42); default: any answer, but no error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub expect: Option<String>,
    /// How long it may take; default 1m.
    #[serde(default = "timeout")]
    pub timeout: Duration,
}

words! {
    /// What a drill has proven.
    open DrillResult {
        /// The backup can be restored, and every check is true of it.
        Passed,
        /// It cannot, or a check is not true.
        Failed,
        /// Nothing: it could not be tried.
        NotRun,
    }
}

/// What a drill found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillStatus {
    /// What it has proven: Passed, Failed, or NotRun when it could not be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<DrillResult>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// How long it took from the first claim to its end, for example 3m20s: what a real restore would take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// The databases that were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// B-tree indexes that were read whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexes_checked: Option<i64>,
    /// B-tree indexes that were not: the time was over, or amcheck is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexes_unchecked: Option<i64>,
    /// The checks, those that failed first; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<DrillAnswer>,
    /// What is worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Until when the copy of a drill that failed is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Time>,
}

/// What came of one check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillAnswer {
    /// Its name.
    pub name: String,
    /// The database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Whether it passed.
    pub passed: bool,
    /// What it should have answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// Why it could not answer, in PostgreSQL's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

fn keep_on_failure() -> Duration {
    Duration::new("1h")
}

fn timeout() -> Duration {
    Duration::new("1m")
}

/// A list of checks, told apart by their names.
pub(crate) fn checks(schema: &mut Schema) {
    schema.insert("maxItems".into(), json!(50));
    ListByKey("name").transform(schema);
}

fn name(schema: &mut Schema) {
    schema.insert("pattern".into(), json!("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"));
    schema.insert("maxLength".into(), json!(63));
}

//! Runs as they are observed, for tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use hardstorage_crds::Repository;
use hardstorage_report::{ErrorReport, RunReport, RunState};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::outcome::Runs;
use crate::job::{FailureReason, Observed};

pub const ID: &str = "00112233445566778899aabbccddeeff";
pub const KEY: &str = "0123456789abcdef";

/// So many seconds after the beginning of the tests.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

pub fn repository(spec: Value, status: Value) -> Repository {
    let mut spec = spec;
    spec["url"] = spec.get("url").cloned().unwrap_or(json!("s3://backups/a"));
    serde_json::from_value(json!({
        "apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
        "metadata": {"name": "main", "namespace": "team", "uid": "u-1", "generation": 1},
        "spec": spec, "status": status,
    }))
    .unwrap()
}

/// A Job that was made at a second, and was over at another.
pub fn job(uid: &str, made: i64, over: Option<i64>, notes: Value) -> Job {
    let mut annotations = json!({"hardstorage.dev/generation": "1", "hardstorage.dev/attempt": "0"});
    annotations
        .as_object_mut()
        .unwrap()
        .extend(notes.as_object().cloned().unwrap_or_default());
    let conditions = over.map(|end| json!([{"type": "Complete", "status": "True", "lastTransitionTime": at(end)}]));
    serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": uid, "namespace": "team", "uid": uid, "creationTimestamp": at(made),
            "annotations": annotations},
        "status": {"conditions": conditions}}))
    .unwrap()
}

pub fn went_well(result: Value, pod: Option<&str>) -> Observed {
    let mut report = RunReport::new("x", None, "0.1.0");
    report.state = RunState::Succeeded;
    report.result = Some(result);
    Observed::Ended {
        report: Box::new(report),
        pod: pod.map(str::to_owned),
    }
}

pub fn went_wrong(code: &str) -> Observed {
    let mut report = RunReport::new("x", None, "0.1.0");
    report.state = RunState::Failed;
    report.error = Some(ErrorReport {
        code: code.to_owned(),
        message: "it says why".to_owned(),
        hint: "and what to do".to_owned(),
        exit_code: 8,
    });
    Observed::Ended {
        report: Box::new(report),
        pod: None,
    }
}

pub fn lost() -> Observed {
    Observed::Failed {
        reason: FailureReason::Unschedulable,
        message: "0/3 nodes are available".to_owned(),
        exit_code: None,
    }
}

pub fn present() -> Value {
    json!({"state": "present", "id": ID, "encrypted": true, "kek_fingerprint": KEY, "own_key": KEY})
}

pub fn absent() -> Value {
    json!({"state": "absent"})
}

pub fn runs<T: serde::de::DeserializeOwned>(observed: Vec<(Job, Observed)>) -> Runs<T> {
    Runs::of(observed, at(10_000))
}

/// One that was made at 0, ended at 10, and went like this.
pub fn one<T: serde::de::DeserializeOwned>(uid: &str, state: Observed) -> Runs<T> {
    runs(vec![(job(uid, 0, Some(10), Value::Null), state)])
}

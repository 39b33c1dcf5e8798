//! The status of a Backup that stands for a run, from what is known of the run. Pure.

use hardstorage_crds::condition::backup::VERIFIED;
use hardstorage_crds::{Backup, BackupPhase, BackupStatus, Bytes, Failure, Origin, Progress};
use hardstorage_report::{BackupId, BackupRecord, Lsn, RunReport, RunState, SystemId, Timeline};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::Value;

use super::mirror::{of_record, took};
use crate::condition::{Conditions, reason_of};
use crate::job;
use crate::names::label;

/// It was found in the repository by the id of its run.
pub const FOUND: &str = "FoundInRepository";

/// Builds the status of one Backup.
#[derive(Debug, Clone)]
pub struct Writer<'a> {
    backup: &'a Backup,
    conditions: Conditions,
    status: BackupStatus,
    now: Timestamp,
}

/// The status, and the conditions with what has changed.
pub type Written = (BackupStatus, Conditions);

impl<'a> Writer<'a> {
    /// Begins from what the status said.
    pub fn new(backup: &'a Backup, now: Timestamp) -> Writer<'a> {
        let before = backup.status.clone().unwrap_or_default();
        let generation = backup.metadata.generation;
        let mut conditions = Conditions::new(&before.conditions, generation, now);
        conditions.keep(VERIFIED);
        let by_schedule = backup.labels().contains_key(label::SCHEDULE);
        let origin = if by_schedule { Origin::Schedule } else { Origin::Manual };
        let status = BackupStatus {
            observed_generation: generation,
            origin: before.origin.clone().or(Some(origin)),
            ..before
        };
        Writer {
            backup,
            conditions,
            status,
            now,
        }
    }

    /// Of a run that has a Job.
    #[must_use]
    pub fn with_job(mut self, job: &Job) -> Self {
        self.status.run_id = job::run_id(job).map(str::to_owned);
        let began = job.status.as_ref().and_then(|status| status.start_time.clone());
        self.status.start_time = began.or(self.status.start_time);
        let args = job
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref())
            .and_then(|pod| pod.containers.first())
            .and_then(|engine| engine.args.as_ref());
        let snapshot = args.is_some_and(|args| args.iter().any(|word| word == "--source-snapshot"));
        self.status.source_snapshot = Some(snapshot);
        self
    }

    /// It waits, and gets on by itself or not.
    pub fn waits(mut self, phase: BackupPhase, reason: &str, message: &str, stalled: bool) -> Written {
        self.status.phase = Some(phase);
        if stalled {
            self.conditions.stalled(reason, message);
        } else {
            self.conditions.progressing(reason, message);
        }
        self.finish()
    }

    /// It runs. A report that says `failed` is of a try that another one follows.
    pub fn runs(mut self, report: Option<&RunReport>) -> Written {
        self.status.phase = Some(BackupPhase::Running);
        let failed = report.filter(|report| report.state == RunState::Failed);
        if let Some(error) = failed.and_then(|report| report.error.as_ref()) {
            self.status.progress = None;
            let message = format!("a try has failed, another follows: {}; {}", error.message, error.hint);
            self.conditions.progressing("TryFailed", message);
            return self.finish();
        }
        if let Some(progress) = report.and_then(|report| progress(&report.progress)) {
            self.status.progress = Some(progress);
        }
        self.conditions.progressing("Running", "it is being taken");
        self.finish()
    }

    /// It has ended and told how.
    pub fn ended(mut self, report: &RunReport) -> Written {
        let taken = report.result.clone().and_then(Taken::read);
        self.status.progress = None;
        let made = taken.as_ref().is_some_and(|taken| taken.backup_id.is_some());
        if let Some(taken) = taken {
            self.put(taken);
        }
        let error = report.error.as_ref();
        if report.state == RunState::Succeeded || made {
            self.status.phase = Some(BackupPhase::Completed);
            self.status.completion_time.get_or_insert(Time(self.now));
            self.status.failure = None;
            if report.state == RunState::Succeeded {
                self.conditions.ready("Completed", "it lies in the repository");
            } else {
                let code = hardstorage_report::code::engine::PAGES_DAMAGED.info();
                let message = format!("it lies in the repository, but: {} {}", code.meaning, code.hint);
                self.conditions.stalled("DamagedPages", message);
            }
            return self.finish();
        }
        let failure = Failure {
            code: error.map(|error| error.code.clone()),
            message: Some(error.map_or_else(
                || "the engine ended without an error or a backup".to_owned(),
                |error| error.message.clone(),
            )),
            hint: error.map(|error| error.hint.clone()),
            exit_code: error.map(|error| i32::from(error.exit_code)),
        };
        let reason = error.map_or_else(|| "ReportLost".to_owned(), |error| reason_of(&error.code));
        self.fails(&reason, failure)
    }

    /// There is none, or none is known of.
    pub fn fails(mut self, reason: &str, failure: Failure) -> Written {
        self.status.phase = Some(BackupPhase::Failed);
        self.status.progress = None;
        self.status.completion_time.get_or_insert(Time(self.now));
        let message = failure.message.as_deref().unwrap_or_default();
        let text = match failure.hint.as_deref() {
            Some(hint) if !hint.is_empty() => format!("{message}; {hint}"),
            _ => message.to_owned(),
        };
        self.conditions.stalled(reason, text);
        self.status.failure = Some(failure);
        self.finish()
    }

    /// The repository has a backup of its run.
    pub fn found(mut self, record: &BackupRecord) -> Written {
        let run = self.status.run_id.clone();
        let mut status = of_record(record, self.backup, self.now);
        if status.phase == Some(BackupPhase::Completed) && !record.damaged {
            self.conditions
                .ready(FOUND, "its pod is gone, and its backup lies in the repository");
        } else {
            for condition in &status.conditions {
                let is = match condition.status.as_str() {
                    "True" => crate::condition::Is::True,
                    "False" => crate::condition::Is::False,
                    _ => crate::condition::Is::Unknown,
                };
                self.conditions
                    .set(&condition.type_, is, &condition.reason, condition.message.clone());
            }
        }
        status.origin = self.status.origin;
        status.run_id = record.run_id.clone().or(run);
        self.status = status;
        self.finish()
    }

    fn put(&mut self, taken: Taken) {
        let status = &mut self.status;
        let id = taken.backup_id;
        status.type_ = id.as_ref().map(kind).or(status.type_.take());
        status.backup_id = id.map(|id| id.to_string());
        status.begin_lsn = taken.start_lsn.map(|lsn| lsn.to_string());
        status.end_lsn = taken.stop_lsn.map(|lsn| lsn.to_string());
        status.timeline = taken.timeline.map(|timeline| i64::from(timeline.0));
        status.system_identifier = taken.system_identifier.map(|id| id.to_string());
        status.postgres_version = taken.pg_version;
        status.start_time = taken.started_at.map(Time).or(status.start_time.take());
        status.completion_time = taken.stopped_at.map(Time);
        status.duration = taken.duration_ms.map(took);
        status.size = taken.logical_bytes.map(Bytes::of);
        status.stored = taken.stored_bytes.map(Bytes::of);
    }

    fn finish(mut self) -> Written {
        self.status.conditions = self.conditions.clone().finish();
        (self.status, self.conditions)
    }
}

/// The result of `backup`: what is missing was cut, or is another version's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Taken {
    backup_id: Option<BackupId>,
    start_lsn: Option<Lsn>,
    stop_lsn: Option<Lsn>,
    timeline: Option<Timeline>,
    system_identifier: Option<SystemId>,
    pg_version: Option<String>,
    logical_bytes: Option<u64>,
    stored_bytes: Option<u64>,
    started_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
    duration_ms: Option<u64>,
}

impl Taken {
    fn read(result: Value) -> Option<Taken> {
        serde_json::from_value(result).ok()
    }
}

fn kind(id: &BackupId) -> String {
    let word = id.as_str().rsplit('.').nth(2).unwrap_or_default();
    match word {
        "full" => "Full".to_owned(),
        "incr" => "Incremental".to_owned(),
        other => other.to_owned(),
    }
}

fn progress(body: &Value) -> Option<Progress> {
    let done = body.get("done_bytes")?.as_u64()?;
    let total = body
        .get("total_bytes")
        .and_then(Value::as_u64)
        .filter(|total| *total > 0);
    // The server's total is an estimate: what is not over is not at a hundred.
    let percent = total.map(|total| (u128::from(done) * 100 / u128::from(total)).min(99) as i32);
    Some(Progress {
        done: Some(Bytes::of(done)),
        total: total.map(Bytes::of),
        percent,
    })
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

//! What the engine's runs for a Repository say, and how each Job tells which run it was. Reading is tolerant: engine and
//! operator may be one version apart.

use std::collections::BTreeMap;

use hardstorage_report::{ErrorReport, RunState};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::job::{FailureReason, Observed, ending};
use crate::names::annotation;

/// The result of `repo probe`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// `absent`, `present`, `foreign` or `descriptor lost`.
    pub state: String,
    /// The repository's id.
    pub id: Option<String>,
    /// Whether it is encrypted.
    pub encrypted: Option<bool>,
    /// The fingerprint of the key that it was encrypted with.
    pub kek_fingerprint: Option<String>,
    /// The fingerprint of the key that the pod was given.
    pub own_key: Option<String>,
    /// Why that key cannot be read.
    pub own_key_problem: Option<String>,
    /// Some of what is there instead.
    pub examples: Vec<String>,
    /// Whether the store was seen to keep create-only writes.
    pub create_only_proven: Option<bool>,
    /// Why nothing could be written there.
    pub write_problem: Option<ErrorReport>,
}

/// The result of `repo init`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Init {
    /// The new repository's id.
    pub id: Option<String>,
    /// Whether the store keeps create-only writes.
    pub create_only_proven: Option<bool>,
}

/// The result of `repo sync`, without its catalogue.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Sync {
    /// The repository's id.
    pub id: Option<String>,
    /// Bytes stored.
    pub total_bytes: Option<u64>,
    /// Bytes of backups that are marked as deleted.
    pub reclaimable_at_most: Option<u64>,
    /// What is in it, by name.
    pub deployments: BTreeMap<String, Synced>,
}

/// One name in it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Synced {
    /// Backups that are not marked as deleted.
    pub backups: i64,
    /// From when to when it can be recovered.
    pub recoverable: Option<Window>,
}

/// From when to when something can be recovered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Window {
    /// The first moment.
    pub from: Timestamp,
    /// The last one.
    pub to: Timestamp,
}

/// The result of `repo check`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Check {
    /// Whether everything is there.
    pub ok: bool,
    /// What is not.
    pub problems: Vec<Problem>,
}

/// A problem that a check found.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The backup.
    pub backup_id: String,
    /// A code of the engine's table.
    pub code: String,
}

/// Why a run brought no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFailure {
    /// A code of the engine's table, or the word of a [`FailureReason`].
    pub code: String,
    /// What happened.
    pub message: String,
    /// What a person can do.
    pub hint: String,
}

impl RunFailure {
    /// In one sentence.
    pub fn text(&self) -> String {
        let hint = if self.hint.is_empty() {
            String::new()
        } else {
            format!("; {}", self.hint)
        };
        format!("[{}] {}{hint}", self.code, self.message)
    }
}

/// A run that has ended, or that never will.
#[derive(Debug, Clone)]
pub struct Run<T> {
    /// Its Job.
    pub job: Job,
    /// When the Job was made.
    pub made: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Whether its Job is over: until then another one would run beside it.
    pub over: bool,
    /// The pod still answers, and waits to be told that its result is stored.
    pub pod: Option<String>,
    /// What it says.
    pub outcome: Result<T, RunFailure>,
}

/// The Jobs of one role.
#[derive(Debug, Clone)]
pub struct Runs<T> {
    /// The newest that has ended.
    pub last: Option<Run<T>>,
    /// One that has not, and its state in words.
    pub running: Option<(Job, String)>,
    /// Jobs that are over and of no more use.
    pub old: Vec<Job>,
}

impl<T> Default for Runs<T> {
    fn default() -> Runs<T> {
        Runs {
            last: None,
            running: None,
            old: Vec::new(),
        }
    }
}

impl<T: DeserializeOwned> Runs<T> {
    /// Sorts what was observed of the Jobs of one role.
    pub fn of(observed: Vec<(Job, Observed)>, now: Timestamp) -> Runs<T> {
        let mut observed = observed;
        // The API server keeps whole seconds. Of the same one, what was made for a later spec is the newer, and then what
        // answers another.
        observed.sort_by_key(|(job, _)| (made(job, now), generation(job), follows(job).is_some()));
        let mut runs = Runs::default();
        for (job, state) in observed {
            match Run::of(job, state, now) {
                Ok(run) => {
                    if let Some(older) = runs.last.replace(run) {
                        runs.old.push(older.job);
                    }
                }
                Err(waiting) => runs.running = Some(*waiting),
            }
        }
        runs
    }
}

impl<T: DeserializeOwned> Run<T> {
    fn of(job: Job, state: Observed, now: Timestamp) -> Result<Run<T>, Box<(Job, String)>> {
        let (outcome, pod) = match state {
            Observed::Waiting(reason, message) if message.is_empty() => return Err(Box::new((job, reason.to_owned()))),
            Observed::Waiting(reason, message) => return Err(Box::new((job, format!("{reason}: {message}")))),
            Observed::Running(_) => return Err(Box::new((job, "Running".to_owned()))),
            Observed::Failed { reason, message, .. } => (Err(without_words(reason, message)), None),
            Observed::Ended { report, pod } => {
                let result = report.result.as_ref().map(T::deserialize).and_then(Result::ok);
                let outcome = match (result, &report.error) {
                    (_, Some(error)) => Err(RunFailure {
                        code: error.code.clone(),
                        message: error.message.clone(),
                        hint: error.hint.clone(),
                    }),
                    (Some(result), None) => Ok(result),
                    (None, None) => {
                        let said = if report.state == RunState::Succeeded {
                            "it went well, and its result did not reach the operator"
                        } else {
                            "it said no more than that it failed"
                        };
                        Err(without_words(FailureReason::ReportLost, said.to_owned()))
                    }
                };
                (outcome, pod)
            }
        };
        let over = over(&job);
        Ok(Run {
            made: made(&job, now),
            ended: over.unwrap_or(now),
            over: over.is_some(),
            pod,
            outcome,
            job,
        })
    }
}

impl<T> Run<T> {
    /// The UID of its Job.
    pub fn uid(&self) -> &str {
        self.job.metadata.uid.as_deref().unwrap_or_default()
    }
}

fn without_words(reason: FailureReason, message: String) -> RunFailure {
    RunFailure {
        code: reason.as_str().to_owned(),
        message,
        hint: reason.hint().to_owned(),
    }
}

/// The UID of the Job whose outcome this one answers.
pub fn follows(job: &Job) -> Option<&str> {
    job.annotations().get(annotation::AFTER).map(String::as_str)
}

/// The generation of the Repository that it was made for.
pub fn generation(job: &Job) -> Option<i64> {
    job.annotations().get(annotation::GENERATION)?.parse().ok()
}

/// How many before it brought nothing.
pub fn attempt(job: &Job) -> u32 {
    let text = job.annotations().get(annotation::ATTEMPT);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// What others had told of when it was made.
pub fn news(job: &Job) -> Option<&str> {
    job.annotations().get(annotation::NEWS).map(String::as_str)
}

/// The value of `sync-now` that it answers.
pub fn asked(job: &Job) -> Option<&str> {
    job.annotations().get(annotation::SYNC_NOW).map(String::as_str)
}

fn made(job: &Job, now: Timestamp) -> Timestamp {
    job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0)
}

/// When its Job was over.
fn over(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref()?;
    let end = ending(job)?;
    let time = status.completion_time.as_ref().or(end.last_transition_time.as_ref());
    Some(time.map_or(made(job, Timestamp::UNIX_EPOCH), |time| time.0))
}

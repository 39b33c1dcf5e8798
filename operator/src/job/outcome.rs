//! What became of a run, from what is known of its Job and its pods. Pure.

use hardstorage_report::{RunReport, RunState};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::build::FINAL;
use crate::names::annotation;
use crate::pod::ENGINE_CONTAINER;

/// Why a run has failed without telling why itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// The node needed its memory or disk for others, or was drained.
    Evicted,
    /// The node is gone.
    NodeLost,
    /// It took more memory than its limit.
    OutOfMemory,
    /// No node would take it within its deadline.
    Unschedulable,
    /// Its image cannot be pulled.
    ImageUnavailable,
    /// The namespace's quota does not allow the pod.
    QuotaExceeded,
    /// All its tries together took too long.
    DeadlineExceeded,
    /// It ended, and its report did not reach anybody.
    ReportLost,
}

impl FailureReason {
    /// The word in conditions.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureReason::Evicted => "Evicted",
            FailureReason::NodeLost => "NodeLost",
            FailureReason::OutOfMemory => "OOMKilled",
            FailureReason::Unschedulable => "Unschedulable",
            FailureReason::ImageUnavailable => "ImageUnavailable",
            FailureReason::QuotaExceeded => "QuotaExceeded",
            FailureReason::DeadlineExceeded => "DeadlineExceeded",
            FailureReason::ReportLost => "ReportLost",
        }
    }

    /// What a person can do.
    pub fn hint(self) -> &'static str {
        match self {
            FailureReason::Evicted => "raise the requests in resources, or set a priorityClassName in podTemplate",
            FailureReason::NodeLost => "nothing: the next run goes to another node",
            FailureReason::OutOfMemory => "raise limits.memory in resources",
            FailureReason::Unschedulable => "make room, or change requests, nodeSelector or tolerations",
            FailureReason::ImageUnavailable => "check the engine's image, and imagePullSecrets in podTemplate",
            FailureReason::QuotaExceeded => "raise the namespace's ResourceQuota, or lower the requests in resources",
            FailureReason::DeadlineExceeded => "raise the deadline, or look at what keeps it: the pod's log tells",
            FailureReason::ReportLost => "look into the repository: pg_hardstorage list",
        }
    }
}

/// What is to be known of a pod.
#[derive(Debug, Clone, Default)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: String,
    /// The reason that stands beside the phase.
    pub reason: Option<String>,
    /// The scheduler's words, while no node takes it.
    pub unschedulable: Option<String>,
    /// Why the container waits.
    pub waiting: Option<(String, String)>,
    /// Exit code, reason and message of the engine's end.
    pub ended: Option<(i32, Option<String>, Option<String>)>,
    /// The same of its last life, while a stream's container waits to be started again.
    pub crashed: Option<(i32, Option<String>, Option<String>)>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The end of its grace, when it is.
    pub deletes_at: Option<Timestamp>,
    /// Its UID.
    pub uid: Option<String>,
}

impl PodFacts {
    /// Reads them.
    pub fn of(pod: &Pod) -> PodFacts {
        let status = pod.status.clone().unwrap_or_default();
        let engine = status
            .container_statuses
            .unwrap_or_default()
            .into_iter()
            .find(|container| container.name == ENGINE_CONTAINER);
        let init = status.init_container_statuses.unwrap_or_default();
        let last_state = engine.as_ref().and_then(|engine| engine.last_state.clone());
        // Until what comes before the engine has ended, its state is the pod's; and so it is when it has failed.
        let before = init.into_iter().filter_map(|container| container.state).find(|state| {
            let failed = state.terminated.as_ref().is_some_and(|end| end.exit_code != 0);
            failed || state.waiting.is_some()
        });
        let state = before.or_else(|| engine.and_then(|engine| engine.state));
        let waits = state.as_ref().is_some_and(|state| state.waiting.is_some());
        let unschedulable = status
            .conditions
            .unwrap_or_default()
            .into_iter()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        PodFacts {
            name: pod.metadata.name.clone().unwrap_or_default(),
            ip: status.pod_ip.filter(|ip| !ip.is_empty()),
            phase: status.phase.unwrap_or_default(),
            reason: status.reason,
            unschedulable: unschedulable.map(|condition| condition.message.unwrap_or_default()),
            waiting: state
                .as_ref()
                .and_then(|state| state.waiting.clone())
                .map(|waiting| (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())),
            ended: state
                .and_then(|state| state.terminated)
                .map(|end| (end.exit_code, end.reason, end.message)),
            crashed: last_state
                .filter(|_| waits)
                .and_then(|state| state.terminated)
                .map(|end| (end.exit_code, end.reason, end.message)),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            deletes_at: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            uid: pod.metadata.uid.clone(),
        }
    }

    /// The report in its termination message, when it is of this run.
    pub fn last_words(&self, run: &str) -> Option<RunReport> {
        let (_, _, message) = self.ended.as_ref().or(self.crashed.as_ref())?;
        let report: RunReport = serde_json::from_str(message.as_ref()?).ok()?;
        (report.run_id.as_deref() == Some(run)).then_some(report)
    }
}

/// How a run is.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// It has not begun: in a word, and in a sentence where there is one.
    Waiting(&'static str, String),
    /// It runs; its newest report, when it answered. One that says `failed` is of a try that another one follows.
    Running(Option<Box<RunReport>>),
    /// It has ended and told how.
    Ended {
        /// Its report.
        report: Box<RunReport>,
        /// The pod that still waits to be told that it was heard.
        pod: Option<String>,
    },
    /// It has ended, or never will, and told nothing.
    Failed {
        /// Why.
        reason: FailureReason,
        /// In whose words.
        message: String,
        /// The engine's exit code, when there was one.
        exit_code: Option<i32>,
    },
}

/// Judges a run by its Job, its newest pod, and what that pod served. `pending_limit` is how long a pod may wait for a
/// node.
pub fn judge(
    job: &Job,
    newest: Option<&PodFacts>,
    served: Option<RunReport>,
    now: Timestamp,
    pending_limit: std::time::Duration,
) -> Observed {
    let run = run_id(job).unwrap_or_default();
    let served = served.filter(|report| report.run_id.as_deref() == Some(run));
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let condition = |type_: &str| conditions.iter().find(|one| one.type_ == type_ && one.status == "True");
    let over = condition("Failed").or_else(|| condition("Complete"));
    if let Some(report) = served.as_ref().filter(|report| report.state != RunState::Running)
        && (over.is_some() || !another_try_follows(job, report))
    {
        return Observed::Ended {
            report: Box::new(report.clone()),
            pod: newest.map(|pod| pod.name.clone()),
        };
    }
    if let Some(report) = newest.and_then(|pod| pod.last_words(run)) {
        // A try that failed is followed by another until the Job has given up.
        if over.is_some() || report.state == RunState::Succeeded {
            return Observed::Ended {
                report: Box::new(report),
                pod: None,
            };
        }
    }
    if let Some(over) = over {
        let message = over.message.clone().unwrap_or_default();
        let code = newest.and_then(|pod| pod.ended.as_ref()).map(|(code, ..)| *code);
        let reason = match over.reason.as_deref() {
            Some("DeadlineExceeded") => FailureReason::DeadlineExceeded,
            _ => newest.map_or(FailureReason::NodeLost, why_it_ended),
        };
        return Observed::Failed {
            reason,
            message: newest.map(|pod| words(pod, &message)).unwrap_or(message),
            exit_code: code,
        };
    }
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        return Observed::Waiting("Queued", "it waits for its turn".to_owned());
    }
    let Some(pod) = newest else {
        return waiting_for_a_pod(job, now, pending_limit);
    };
    let waited = pod.created.map_or(std::time::Duration::ZERO, |made| {
        now.duration_since(made).try_into().unwrap_or_default()
    });
    if let Some(said) = &pod.unschedulable {
        return if waited >= pending_limit {
            Observed::Failed {
                reason: FailureReason::Unschedulable,
                message: said.clone(),
                exit_code: None,
            }
        } else {
            Observed::Waiting("Unschedulable", said.clone())
        };
    }
    if let Some((reason, message)) = &pod.waiting {
        let no_image = matches!(
            reason.as_str(),
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName"
        );
        if no_image && waited >= pending_limit {
            return Observed::Failed {
                reason: FailureReason::ImageUnavailable,
                message: message.clone(),
                exit_code: None,
            };
        }
        return Observed::Waiting("Starting", format!("{reason}: {message}"));
    }
    if pod.phase == "Pending" {
        return Observed::Waiting("Starting", String::new());
    }
    Observed::Running(served.map(Box::new))
}

/// The id of a Job's run: its UID, unless it was made for an object whose UID the run bears.
pub fn run_id(job: &Job) -> Option<&str> {
    let annotations = job.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(annotation::RUN_ID))
        .or(job.metadata.uid.as_ref())
        .map(String::as_str)
}

/// Whether the Job controller will try again after this report: the result of a run is that of its last try.
pub fn another_try_follows(job: &Job, report: &RunReport) -> bool {
    let code = report.error.as_ref().map(|error| i32::from(error.exit_code));
    let limit = job.spec.as_ref().and_then(|spec| spec.backoff_limit).unwrap_or(0);
    let failed = job.status.as_ref().and_then(|status| status.failed).unwrap_or(0);
    report.state == RunState::Failed
        && report.result.is_none()
        && code.is_some_and(|code| !FINAL.contains(&code))
        && failed < limit
}

/// A Job without a pod: nobody has made it yet, or the API server refuses to. The time in which it was held back for its
/// turn does not count: it ends when the Job controller says so.
fn waiting_for_a_pod(job: &Job, now: Timestamp, limit: std::time::Duration) -> Observed {
    let status = job.status.as_ref();
    let held_back = status
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|all| all.iter().any(|one| one.type_ == "Suspended" && one.status == "True"));
    let made = match status.and_then(|status| status.start_time.as_ref()) {
        Some(began) => began.0,
        None if held_back => now,
        None => job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0),
    };
    let waited: std::time::Duration = now.duration_since(made).try_into().unwrap_or_default();
    if waited >= limit {
        return Observed::Failed {
            reason: FailureReason::QuotaExceeded,
            message: format!("no pod was made in {} s; the Job's events tell why", limit.as_secs()),
            exit_code: None,
        };
    }
    Observed::Waiting("NoPod", "its pod has not been made yet".to_owned())
}

fn why_it_ended(pod: &PodFacts) -> FailureReason {
    let ended = pod.ended.as_ref().and_then(|(_, reason, _)| reason.as_deref());
    match (pod.reason.as_deref(), ended) {
        (_, Some("OOMKilled")) => FailureReason::OutOfMemory,
        (Some("NodeLost" | "NodeShutdown"), _) => FailureReason::NodeLost,
        (Some("Evicted" | "Preempting" | "Terminated" | "Shutdown"), _) | (_, None) => FailureReason::Evicted,
        _ => FailureReason::ReportLost,
    }
}

fn words(pod: &PodFacts, otherwise: &str) -> String {
    let code = pod.ended.as_ref().map(|(code, reason, _)| match reason {
        Some(reason) => format!("the engine ended with {code} ({reason})"),
        None => format!("the engine ended with {code}"),
    });
    let said: Vec<String> = [pod.reason.clone(), code, Some(otherwise.to_owned())]
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .collect();
    said.join("; ")
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;

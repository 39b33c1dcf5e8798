//! How a child ended, and what that means: for the schedule, for the stream, and for whoever reads the log.

use std::time::Instant;

use hardstorage_report::{DeploymentName, Error, ErrorReport, Severity, code};
use jiff::Timestamp;
use serde_json::json;

use super::{Job, Key, Supervisor};
use crate::agent::child::End;
use crate::agent::schedule::{Newest, Outcome};
use crate::agent::task::TaskName;

/// Whether an exit code asks for a person: trying again soon would change nothing.
pub(crate) fn is_refusal(exit: u8) -> bool {
    matches!(exit, 2 | 3 | 4 | 6 | 7 | 9)
}

/// What an end means for the schedule.
pub(super) fn outcome(end: &End) -> Outcome {
    // Somebody else's backup, or ours of before a restart, ends by itself.
    let busy = end
        .error
        .as_ref()
        .is_some_and(|error| error.code == "conflict.backup_in_progress");
    match end.exit {
        // What was done counts, also when it took long or was told to end.
        Some(0) => Outcome::Succeeded,
        _ if end.told => Outcome::Stopped,
        _ if end.hung => Outcome::Hung,
        Some(exit) if is_refusal(exit) && !busy => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// The newest backup in the answer of `list`; none when it is no answer.
pub(crate) fn newest(end: &End) -> Option<Newest> {
    if !end.is_good() {
        // A repository that does not know the deployment yet holds no backup of it.
        let unknown = end
            .error
            .as_ref()
            .is_some_and(|error| error.code == "notfound.deployment");
        return unknown.then_some(Newest::None);
    }
    let backups = end.result["backups"].as_array()?;
    let time = |backup: &serde_json::Value, field: &str| backup[field].as_str()?.parse::<Timestamp>().ok();
    let usable = backups.iter().filter(|backup| backup["problem"].is_null());
    let newest = usable
        .filter_map(|backup| Some((time(backup, "started_at")?, time(backup, "stopped_at")?)))
        .max();
    Some(newest.map_or(Newest::None, |(started, stopped)| Newest::At { started, stopped }))
}

impl Supervisor<'_> {
    pub(super) fn ended(&mut self, (name, job): Key, end: End) {
        let now = Timestamp::now();
        match job {
            Job::Stream => self.stream_ended(&name, &end),
            Job::Look => self.looked(&name, end),
            Job::Task(task, started) => self.task_ended(&name, task, started, &end, now),
        }
    }

    fn stream_ended(&mut self, name: &DeploymentName, end: &End) {
        let Some(stream) = self.cared.get_mut(name).and_then(|cared| cared.stream.as_mut()) else {
            return;
        };
        let pause = stream.ended(end, Instant::now());
        if end.told {
            return;
        }
        let error = end.error.as_ref();
        let body = json!({
            "exit_code": end.exit,
            "code": error.map(|error| &error.code),
            "message": error.map(|error| &error.message),
            "hint": error.map(|error| &error.hint),
            "again_in_seconds": pause.as_secs(),
        });
        self.tell(Severity::Error, "agent.stream.ended", Some(name), body);
    }

    fn looked(&mut self, name: &DeploymentName, end: End) {
        let Some(cared) = self.cared.get_mut(name) else { return };
        cared.look = None;
        if end.told {
            // It is asked anew.
            return;
        }
        cared.looked = Some(Instant::now());
        if let Some(newest) = newest(&end) {
            (cared.newest, cared.look_error) = (newest, None);
            return;
        }
        let error = end.error.unwrap_or_else(|| {
            let error = Error::new(code::cli::CHILD, "list the backups");
            ErrorReport::from(&error)
        });
        let body = json!({"code": error.code, "message": error.message, "hint": error.hint});
        cared.look_error = Some(error);
        self.tell(Severity::Warning, "agent.repository.not_read", Some(name), body);
    }

    fn task_ended(&mut self, name: &DeploymentName, task: TaskName, started: Timestamp, end: &End, now: Timestamp) {
        let outcome = outcome(end);
        // A clock that was set back must not make it a run of the future.
        let started = started.min(now);
        let record = self.book.record(name, task, now);
        record.end(started, now, outcome);
        if outcome != Outcome::Succeeded {
            record.error.clone_from(&end.error);
        }
        let again = record.retry_at;
        self.book.touch();
        *self.runs.entry((name.clone(), task, outcome)).or_default() += 1;
        if let Some(cared) = self.cared.get_mut(name) {
            cared.running.remove(&task);
            if task.task().makes_backups {
                cared.looked = None;
            }
        }
        let seconds = now.duration_since(started).as_secs();
        if outcome == Outcome::Succeeded {
            let mut body = json!({"task": task.as_str(), "seconds": seconds});
            if task.task().makes_backups {
                body["made"] = end.result["backup_id"].clone();
            }
            self.tell(Severity::Info, "agent.task.succeeded", Some(name), body);
            return;
        }
        let severity = if outcome == Outcome::Stopped {
            Severity::Notice
        } else {
            Severity::Error
        };
        let error = end.error.as_ref();
        let body = json!({
            "task": task.as_str(),
            "outcome": outcome.as_str(),
            "exit_code": end.exit,
            "code": error.map(|error| &error.code),
            "message": error.map(|error| &error.message),
            "hint": error.map(|error| &error.hint),
            "seconds": seconds,
            "again_at": again,
        });
        self.tell(severity, "agent.task.failed", Some(name), body);
    }
}

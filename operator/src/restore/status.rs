//! The status of a Restore, from what is known of it. Pure.

use std::time::Duration;

use hardstorage_crds::condition::restore::TARGET_REACHABLE;
use hardstorage_crds::condition::{READY, STALLED};
use hardstorage_crds::{
    CreatedObject, DrillDestination, NextStep, Reachable, Restore, RestoreFailure, RestorePhase, RestoreProgress,
    RestoreStatus, RestoreStep,
};
use hardstorage_report::{RunReport, RunState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::drill;
use super::plan::Made;
use super::result::{Done, progress};
use crate::backup::target::duration;
use crate::condition::{Conditions, Is, reason_of};

/// Names of steps.
pub mod step {
    /// The plan was made.
    pub const PLAN: &str = "Plan";
    /// The place was made.
    pub const PREPARE: &str = "Prepare";
    /// It was filled: the data is complete.
    pub const RESTORE: &str = "Restore";
    /// CloudNativePG has taken it over.
    pub const ADOPT: &str = "Adopt";
    /// It was looked at.
    pub const CHECK: &str = "Check";
}

/// The status, and the conditions with what has changed.
pub type Written = (RestoreStatus, Conditions);

/// Builds the status of one Restore.
#[derive(Debug, Clone)]
pub struct Writer {
    conditions: Conditions,
    pub(super) status: RestoreStatus,
    pub(super) now: Timestamp,
    /// Of a drill: how long its copy is kept when it has failed.
    keeps_copy: Option<Duration>,
}

impl Writer {
    /// Begins from what the status said.
    pub fn new(restore: &Restore, now: Timestamp) -> Writer {
        let before = restore.status.clone().unwrap_or_default();
        let generation = restore.metadata.generation;
        let mut conditions = Conditions::new(&before.conditions, generation, now);
        conditions.keep(TARGET_REACHABLE);
        Writer {
            conditions,
            status: RestoreStatus {
                observed_generation: generation,
                ..before
            },
            now,
            keeps_copy: restore.spec.destination.drill.as_ref().map(keeps_copy),
        }
    }

    /// It was looked at, and nothing has changed.
    pub fn seen(mut self) -> Written {
        self.conditions.keep(READY);
        self.conditions.keep(STALLED);
        self.finish()
    }

    /// It waits, and gets on by itself or not.
    pub fn waits(mut self, phase: RestorePhase, reason: &str, message: &str, stalled: bool) -> Written {
        self.status.phase = Some(phase);
        if stalled {
            self.conditions.stalled(reason, message);
        } else {
            self.conditions.progressing(reason, message);
        }
        self.finish()
    }

    /// The moment cannot be reached, and the nearest one is to be planned.
    pub fn takes_nearest(mut self, failure: &RestoreFailure, reachable: Reachable) -> Written {
        self.status.reachable = Some(reachable);
        let message = failure.message.clone().unwrap_or_default();
        self.conditions
            .set(TARGET_REACHABLE, Is::False, "TakesNearest", message.clone());
        self.waits(RestorePhase::Pending, "PlanningNearest", &message, false)
    }

    /// There is a plan.
    pub fn planned(mut self, made: Made, nearest: bool) -> Written {
        let id = made.target.backup_id.clone().unwrap_or_default();
        let moment = made.target.moment.clone().unwrap_or_default();
        if !nearest {
            self.conditions.set(TARGET_REACHABLE, Is::True, "Reachable", "");
        }
        self.status.target = Some(made.target);
        self.status.plan = Some(made.plan);
        self.status.reachable = Some(made.reachable);
        self.done(step::PLAN, &format!("from backup {id} to {moment}"));
        self.waits(RestorePhase::Preparing, "Planned", "the plan is made", false)
    }

    /// The plan waits to be let go.
    pub fn waits_for_approval(mut self) -> Written {
        self.status.phase = Some(RestorePhase::Planned);
        let message = "the plan is in the status; set dryRun to false to run it";
        self.conditions.ready("Planned", message);
        self.finish()
    }

    /// It cannot be reached, and that is the end.
    pub fn unreachable(mut self, failure: RestoreFailure, reachable: Option<Reachable>) -> Written {
        let message = failure.message.clone().unwrap_or_default();
        self.conditions.set(TARGET_REACHABLE, Is::False, "Unreachable", message);
        self.status.reachable = reachable.or(self.status.reachable);
        let reason = failure.code.as_deref().map(reason_of).unwrap_or_default();
        self.ends(RestorePhase::Refused, &reason, failure)
    }

    /// It cannot be done, and nothing was touched.
    pub fn refused(self, reason: &str, failure: RestoreFailure) -> Written {
        self.ends(RestorePhase::Refused, reason, failure)
    }

    /// It is not done, and never will be.
    pub fn fails(self, failure: RestoreFailure) -> Written {
        let reason = failure
            .code
            .as_deref()
            .map_or_else(|| "ReportLost".to_owned(), reason_of);
        self.ends(RestorePhase::Failed, &reason, failure)
    }

    fn ends(mut self, phase: RestorePhase, reason: &str, failure: RestoreFailure) -> Written {
        self.status.phase = Some(phase);
        self.status.progress = None;
        let message = failure.message.as_deref().unwrap_or_default();
        let mut text = match failure.hint.as_deref() {
            Some(hint) if !hint.is_empty() => format!("{message}; {hint}"),
            _ => message.to_owned(),
        };
        if let Some(keep) = self.keeps_copy {
            drill::end(&mut self.status, drill::proven(failure.code.as_deref()), self.now, keep);
            let kept = self.status.drill.as_ref().and_then(|drill| drill.kept_until.as_ref());
            if let Some(until) = kept {
                text.push_str(&format!("; the copy is kept until {}", until.0));
            }
        }
        self.conditions.stalled(reason, text);
        self.status.failure = Some(failure);
        self.finish()
    }

    /// Something was made for it.
    #[must_use]
    pub fn with_created(mut self, kind: &str, name: &str) -> Self {
        let made = CreatedObject {
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        if !self.status.created.contains(&made) {
            self.status.created.push(made);
        }
        self
    }

    /// Its place is made, and the Job that fills it.
    pub fn prepared(mut self) -> Written {
        self.done(step::PREPARE, "");
        self.waits(RestorePhase::Preparing, "Prepared", "the destination is made", false)
    }

    /// It runs. A report that says `failed` is of a try that another one follows.
    pub fn runs(mut self, report: Option<&RunReport>) -> Written {
        let failed = report.filter(|report| report.state == RunState::Failed);
        if let Some(error) = failed.and_then(|report| report.error.as_ref()) {
            self.status.progress = None;
            let message = format!("a try has failed, another follows: {}; {}", error.message, error.hint);
            return self.waits(RestorePhase::Copying, "TryFailed", &message, false);
        }
        // A pod that does not answer for a moment is where it was.
        let running = [RestorePhase::Copying, RestorePhase::Recovering, RestorePhase::Promoting];
        let before = self.status.phase.clone().filter(|phase| running.contains(phase));
        let (phase, far): (_, Option<RestoreProgress>) = match report {
            Some(report) => progress(&report.progress),
            None => (before.unwrap_or(RestorePhase::Copying), None),
        };
        self.status.progress = far.or(self.status.progress.take());
        let reason = phase.as_str().to_owned();
        self.waits(phase, &reason, "it is being restored", false)
    }

    /// What is left to do for somebody else, when it is done.
    #[must_use]
    pub fn with_next(mut self, next: Option<NextStep>) -> Self {
        self.status.next = next;
        self
    }

    /// The data is complete; `then` is what follows, when something does.
    pub fn restored(mut self, done: Done, then: Option<RestorePhase>) -> Written {
        self.done(step::RESTORE, &done.sentence);
        self.status.recovered = done.recovered.or(self.status.recovered);
        self.status.failure = None;
        if let Some(far) = &mut self.status.progress {
            far.done = far.total.clone().or(far.done.take());
            far.percent = Some(100);
            far.rate = None;
        }
        if let Some(plan) = &mut self.status.plan {
            let news = done.notes.into_iter().filter(|note| !plan.warnings.contains(note));
            plan.warnings = plan.warnings.iter().cloned().chain(news).collect();
        }
        if let Some(phase) = then {
            let reason = phase.as_str().to_owned();
            return self.waits(phase, &reason, "the data is complete", false);
        }
        let next = self.status.next.as_ref().map(|next| next.text.clone());
        self.completes(&next.map_or_else(|| "it is restored".to_owned(), |next| format!("it is restored. {next}")))
    }

    /// CloudNativePG has taken it over.
    pub fn adopted(mut self, sentence: &str) -> Written {
        self.done(step::ADOPT, sentence);
        self.completes(sentence)
    }

    pub(super) fn completes(mut self, message: &str) -> Written {
        self.status.phase = Some(RestorePhase::Completed);
        self.conditions.ready("Completed", message);
        self.finish()
    }

    pub(super) fn done(&mut self, name: &str, result: &str) {
        if self.status.steps.iter().any(|one| one.name == name) {
            return;
        }
        self.status.steps.push(RestoreStep {
            name: name.to_owned(),
            time: Time(self.now),
            result: Some(result.to_owned()).filter(|text| !text.is_empty()),
        });
    }

    fn finish(mut self) -> Written {
        self.status.conditions = self.conditions.clone().finish();
        (self.status, self.conditions)
    }
}

fn keeps_copy(drill: &DrillDestination) -> Duration {
    duration(Some(&drill.keep_on_failure), Duration::from_hours(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::super::samples::{planned, restore};
    use super::*;
    use hardstorage_report::ErrorReport;
    use serde_json::json;

    fn writer(status: serde_json::Value) -> Writer {
        Writer::new(&restore(json!({}), status), "2026-01-02T09:00:00Z".parse().unwrap())
    }

    fn conditions(status: &RestoreStatus) -> Vec<(&str, &str, &str)> {
        let all = status.conditions.iter();
        all.map(|one| (one.type_.as_str(), one.status.as_str(), one.reason.as_str()))
            .collect()
    }

    #[test]
    fn a_failure_is_stalled_and_kept() {
        let failure = RestoreFailure {
            code: Some("verify.wal_gap".into()),
            message: Some("a hole".into()),
            hint: Some("another moment".into()),
            attempts: Some(3),
        };
        let (status, _) = writer(planned()).fails(failure.clone());
        assert_eq!(
            (status.phase.clone(), status.failure),
            (Some(RestorePhase::Failed), Some(failure.clone()))
        );
        assert_eq!(status.conditions[0].message, "a hole; another moment");
        assert!(status.plan.is_some(), "what was meant is still told");
        let (status, _) = writer(json!({})).unreachable(failure, Some(Reachable::default()));
        assert_eq!(
            conditions(&status),
            [
                ("TargetReachable", "False", "Unreachable"),
                ("Ready", "False", "VerifyWalGap"),
                ("Stalled", "True", "VerifyWalGap")
            ]
        );
    }

    #[test]
    fn a_pod_that_is_silent_is_where_it_was() {
        let mut before = planned();
        before["phase"] = json!("Recovering");
        before["progress"] = json!({"done": "1Mi", "percent": 10});
        let (status, _) = writer(before.clone()).runs(None);
        assert_eq!(status.phase, Some(RestorePhase::Recovering));
        assert_eq!(status.progress.unwrap().percent, Some(10));
        let mut report = RunReport::new("restore", None, "0.1.0");
        report.state = RunState::Failed;
        report.error = Some(ErrorReport {
            code: "unreachable.store".into(),
            message: "m".into(),
            hint: "h".into(),
            exit_code: 8,
        });
        let (status, _) = writer(before).runs(Some(&report));
        assert_eq!(status.conditions[0].reason, "TryFailed");
        assert_eq!(status.progress, None);
    }

    #[test]
    fn a_step_is_told_once() {
        let (status, _) = writer(planned()).restored(Done::default(), Some(RestorePhase::Adopting));
        let again = serde_json::to_value(&status).unwrap();
        let (status, _) = writer(again).restored(Done::default(), None);
        let names: Vec<&str> = status.steps.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["Plan", "Restore"]);
        assert_eq!(status.phase, Some(RestorePhase::Completed));
    }
}

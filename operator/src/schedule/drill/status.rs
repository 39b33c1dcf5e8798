//! What a schedule says of its drills. Pure.
//!
//! A drill that could not be tried is neither a success nor a failure: the condition is Unknown, with the reason, and when
//! something was proven last is left as it was, so that the alert for what is overdue rings in the end.

use hardstorage_crds::condition::schedule::LAST_DRILL_PASSED;
use hardstorage_crds::{BackupSchedule, DrillResult, DrillsStatus, LastScheduledDrill, Restore};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::past::{age, result};
use crate::condition::{Conditions, Is, reason_of};
use crate::names::annotation;
use crate::repository::Refusal;
use hardstorage_schedule::Plan;

/// What came of a look at the drills.
#[derive(Debug, Clone, Default)]
pub struct Drilled {
    status: DrillsStatus,
    /// Why their schedule cannot be followed.
    problem: Option<String>,
    /// What the condition says.
    said: Option<(Is, String, String)>,
}

impl Drilled {
    /// Of a schedule that cannot be followed.
    pub fn unplanned(before: DrillsStatus, problem: String) -> Drilled {
        Drilled {
            status: DrillsStatus {
                interval_seconds: None,
                next_time: None,
                since: None,
                ..before
            },
            problem: Some(problem),
            said: None,
        }
    }

    /// Of all its Restores as they are now.
    pub fn look(
        schedule: &BackupSchedule,
        plan: &Plan,
        before: DrillsStatus,
        all: &[Restore],
        now: Timestamp,
    ) -> Drilled {
        let rests = schedule.spec.suspend;
        let awake = |value: Option<i64>| value.filter(|_| !rests);
        let mut status = DrillsStatus {
            effective_schedule: Some(plan.fields.clone()),
            interval_seconds: awake(plan.interval(now).map(|interval| interval.as_secs())),
            next_time: plan.next(now).filter(|_| !rests).map(Time),
            since: before.since.or(Some(Time(now))).filter(|_| !rests),
            ..before
        };
        // It was begun, and the note of it lost.
        let dues = all
            .iter()
            .filter_map(|restore| restore.annotations().get(annotation::DUE)?.parse().ok());
        status.begun_for = dues.map(Time).chain(status.begun_for.take()).max();
        let last = all
            .iter()
            .filter(|restore| result(restore).is_some())
            .max_by_key(|restore| age(restore));
        let said = last.map(|restore| {
            status.last = Some(told(restore));
            sentence(restore)
        });
        let proofs = all
            .iter()
            .filter(|restore| matches!(result(restore), Some(DrillResult::Passed | DrillResult::Failed)));
        let ended = proofs.filter_map(|restore| restore.status.as_ref()?.drill.as_ref()?.time.clone());
        status.proven_time = ended.chain(status.proven_time.take()).max();
        Drilled {
            status,
            problem: None,
            said,
        }
    }

    /// Since when drills are wanted.
    pub fn since(&self) -> Option<Timestamp> {
        self.status.since.as_ref().map(|time| time.0)
    }

    /// The time for which the last one was begun.
    pub fn begun_for(&self) -> Option<Timestamp> {
        self.status.begun_for.as_ref().map(|time| time.0)
    }

    /// One was begun.
    pub fn begins(&mut self, due: Timestamp) {
        self.status.begun_for = Some(Time(due));
    }

    /// One is due and cannot be begun now.
    pub fn waits(&mut self, refusal: &Refusal) {
        self.said = Some((Is::Unknown, refusal.reason.clone(), refusal.text()));
    }

    /// Why their schedule cannot be followed.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Says it.
    pub fn say(&self, conditions: &mut Conditions) -> DrillsStatus {
        match &self.said {
            Some((is, reason, message)) => conditions.set(LAST_DRILL_PASSED, *is, reason, message.clone()),
            None => conditions.keep(LAST_DRILL_PASSED),
        }
        self.status.clone()
    }
}

fn told(restore: &Restore) -> LastScheduledDrill {
    let status = restore.status.clone().unwrap_or_default();
    let drill = status.drill.unwrap_or_default();
    let passed = drill.result == Some(DrillResult::Passed);
    LastScheduledDrill {
        name: Some(restore.name_any()),
        time: drill.time,
        result: drill.result,
        duration: drill.duration,
        reason: status.failure.and_then(|failure| failure.code).filter(|_| !passed),
    }
}

fn sentence(restore: &Restore) -> (Is, String, String) {
    let (name, status) = (restore.name_any(), restore.status.clone().unwrap_or_default());
    let failure = status.failure.unwrap_or_default();
    let reason = failure.code.as_deref().map_or_else(|| "Failed".to_owned(), reason_of);
    let why = failure.message.unwrap_or_default();
    match result(restore) {
        Some(DrillResult::Passed) => (Is::True, "Passed".to_owned(), format!("Restore {name}")),
        Some(DrillResult::Failed) => (Is::False, reason, format!("Restore {name}: {why}")),
        _ => (Is::Unknown, reason, format!("Restore {name} could not be tried: {why}")),
    }
}

//! The status of a schedule. Pure.

use hardstorage_crds::condition::schedule::{LAST_RUN_SUCCEEDED, RETENTION_SUCCEEDED};
use hardstorage_crds::{Backup, BackupPhase, BackupSchedule, BackupScheduleStatus, LastRun};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::drill::Drilled;
use crate::condition::{Conditions, Is, reason_of};
use crate::deployment::retention::Outcome;
use crate::names::annotation;
use crate::repository::Refusal;
use hardstorage_schedule::Plan;

/// What is known.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The schedule.
    pub schedule: &'a BackupSchedule,
    /// When it runs; an error is a sentence.
    pub plan: Result<&'a Plan, &'a str>,
    /// Why its runs cannot be built now.
    pub refusal: Option<&'a Refusal>,
    /// A CronJob of its name that is not ours.
    pub name_taken: bool,
    /// The Backup objects of its runs.
    pub backups: &'a [Backup],
    /// The last retention of its Deployment.
    pub retention: Option<&'a Outcome>,
    /// Its drills, where some are wanted.
    pub drilled: Option<&'a Drilled>,
    /// The time.
    pub now: Timestamp,
}

/// The status, and the conditions with what has changed.
pub fn status(seen: &Seen<'_>) -> (BackupScheduleStatus, Conditions) {
    let schedule = seen.schedule;
    let before = schedule.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&before.conditions, schedule.metadata.generation, seen.now);
    let next = seen.plan.ok().and_then(|plan| plan.next(seen.now));
    let suspended = schedule.spec.suspend || seen.refusal.is_some_and(rests);
    ready(seen, &mut conditions, next);
    let mut status = BackupScheduleStatus {
        observed_generation: schedule.metadata.generation,
        conditions: Vec::new(),
        effective_schedule: seen.plan.ok().map(|plan| plan.fields.clone()),
        next_time: next.filter(|_| !suspended && !seen.name_taken).map(Time),
        ..before
    };
    let mut runs: Vec<&Backup> = seen.backups.iter().collect();
    runs.sort_by_key(|backup| std::cmp::Reverse((began(backup), backup.name_any())));
    let newest = runs.first().and_then(|backup| began(backup)).map(Time);
    status.last_time = newest.max(status.last_time.take());
    match runs.iter().find(|backup| ended(backup).is_some()) {
        Some(backup) => status.last_backup = Some(last_run(backup, &mut conditions)),
        None => conditions.keep(LAST_RUN_SUCCEEDED),
    }
    retention(seen.retention, &mut status, &mut conditions);
    status.drill = seen.drilled.map(|drilled| drilled.say(&mut conditions));
    status.conditions = conditions.clone().finish();
    (status, conditions)
}

/// The status of one that cannot be looked at: what was known stays.
pub fn unseen(schedule: &BackupSchedule, refusal: &Refusal, now: Timestamp) -> (BackupScheduleStatus, Conditions) {
    let before = schedule.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&before.conditions, schedule.metadata.generation, now);
    conditions.stalled(&refusal.reason, refusal.text());
    before.conditions.iter().for_each(|old| conditions.keep(&old.type_));
    let status = BackupScheduleStatus {
        observed_generation: schedule.metadata.generation,
        conditions: conditions.clone().finish(),
        ..before
    };
    (status, conditions)
}

/// Whether the CronJob is to rest for it: what it backs up is not there, or does not want to be.
pub fn rests(refusal: &Refusal) -> bool {
    use crate::backup::target::{DEPLOYMENT_DELETING, DEPLOYMENT_MISSING, REPOSITORY_READ_ONLY, SOURCE_HIBERNATED};
    [
        DEPLOYMENT_DELETING,
        DEPLOYMENT_MISSING,
        REPOSITORY_READ_ONLY,
        SOURCE_HIBERNATED,
    ]
    .contains(&refusal.reason.as_str())
}

fn ready(seen: &Seen<'_>, conditions: &mut Conditions, next: Option<Timestamp>) {
    let spec = &seen.schedule.spec;
    match (seen.plan, seen.refusal) {
        (Err(sentence), _) => conditions.stalled("InvalidSchedule", sentence),
        _ if seen.name_taken => conditions.stalled(
            "NameTaken",
            format!(
                "there is a CronJob {} that is not ours: give the schedule another name",
                seen.schedule.name_any()
            ),
        ),
        (Ok(_), None) if seen.drilled.is_some_and(|drilled| drilled.problem().is_some()) => {
            let problem = seen.drilled.and_then(Drilled::problem).unwrap_or_default();
            conditions.stalled("InvalidDrillSchedule", format!("drill.schedule: {problem}"));
        }
        (Ok(_), None) if next.is_none() => {
            conditions.stalled(
                "InvalidSchedule",
                format!("{} is a day that never comes", spec.schedule),
            );
        }
        (_, Some(refusal)) if refusal.waits => conditions.progressing(&refusal.reason, refusal.text()),
        (_, Some(refusal)) => conditions.stalled(&refusal.reason, refusal.text()),
        (Ok(_), None) if spec.suspend => conditions.ready("Suspended", "it rests, because suspend says so"),
        (Ok(_), None) => conditions.ready("Scheduled", "its CronJob starts it"),
    }
}

/// When a run began, or was asked for.
pub fn began(backup: &Backup) -> Option<Timestamp> {
    let status = backup.status.as_ref();
    let made = backup.metadata.creation_timestamp.as_ref();
    status
        .and_then(|status| status.start_time.as_ref())
        .or(made)
        .map(|time| time.0)
}

fn ended(backup: &Backup) -> Option<&BackupPhase> {
    let phase = backup.status.as_ref()?.phase.as_ref()?;
    matches!(
        phase,
        BackupPhase::Completed | BackupPhase::Failed | BackupPhase::Tombstoned
    )
    .then_some(phase)
}

fn last_run(backup: &Backup, conditions: &mut Conditions) -> LastRun {
    let status = backup.status.clone().unwrap_or_default();
    let stalled = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == hardstorage_crds::condition::STALLED && condition.status == "True");
    let name = backup.name_any();
    let (result, reason) = if status.phase == Some(BackupPhase::Failed) {
        let code = status.failure.as_ref().and_then(|failure| failure.code.clone());
        ("Failed", code.or_else(|| stalled.map(|stalled| stalled.reason.clone())))
    } else {
        ("Completed", stalled.map(|stalled| stalled.reason.clone()))
    };
    match stalled {
        Some(stalled) => conditions.set(
            LAST_RUN_SUCCEEDED,
            Is::False,
            &stalled.reason,
            format!("Backup {name}: {}", stalled.message),
        ),
        None => conditions.set(LAST_RUN_SUCCEEDED, Is::True, result, format!("Backup {name}")),
    }
    LastRun {
        name: Some(name),
        result: Some(result.to_owned()),
        reason,
        hint: status.failure.and_then(|failure| failure.hint),
    }
}

/// A failing retention never turns a backup red: it has a condition of its own.
fn retention(retained: Option<&Outcome>, status: &mut BackupScheduleStatus, conditions: &mut Conditions) {
    let Some(retained) = retained else {
        conditions.keep(RETENTION_SUCCEEDED);
        return;
    };
    if let Some(code) = &retained.code {
        let message = retained.message.clone().unwrap_or_default();
        conditions.set(RETENTION_SUCCEEDED, Is::False, &reason_of(code), message);
        return;
    }
    status.kept = i64::try_from(retained.kept).ok();
    status.tombstoned = i64::try_from(retained.tombstoned).ok();
    conditions.set(RETENTION_SUCCEEDED, Is::True, "Applied", "");
}

/// Whether a run of it goes on: of its Jobs, one whose result is not stored.
pub fn is_running(jobs: &[Job]) -> bool {
    jobs.iter()
        .any(|job| !job.annotations().contains_key(annotation::STORED) && job.metadata.deletion_timestamp.is_none())
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

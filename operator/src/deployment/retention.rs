//! When the retention is applied, and what came of it. Pure.
//!
//! It counts backups, so that only another backup, or another policy, changes what it does: then it runs, once for each
//! name under which backups lie. The Job stays as the memory of it, until the next one takes its place; nothing else has
//! to be remembered. A failure is tried again after an hour, and is no matter of any backup.

use std::time::Duration;

use hardstorage_crds::Retention;
use hardstorage_report::{BackupRecord, RunReport, RunState};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::{self, Role, short_hash};

/// On the Job: its result, once it was heard.
pub const RESULT: &str = "hardstorage.dev/result";
/// A failure is tried again after so long.
const AGAIN: Duration = Duration::from_hours(1);

/// What a retention did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Backups that stay, those on hold among them.
    pub kept: u64,
    /// Backups that were marked as deleted.
    pub tombstoned: u64,
    /// The code of its failure, when it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// A sentence about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

impl Outcome {
    /// What a run reports.
    pub fn of(report: &RunReport) -> Outcome {
        let counted = |field: &str| {
            let rotations = report.result.as_ref().and_then(|result| result.get("deployments"));
            let rotations = rotations
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let counts = rotations.iter().filter_map(|rotation| rotation.get(field)?.as_u64());
            counts.sum::<u64>()
        };
        let failed = report.state != RunState::Succeeded;
        let error = report.error.as_ref();
        Outcome {
            kept: counted("kept") + counted("held"),
            tombstoned: counted("deleted"),
            code: failed.then(|| error.map_or_else(|| "other".to_owned(), |error| error.code.clone())),
            message: failed
                .then(|| error.map(|error| format!("{}; {}", error.message, error.hint)))
                .flatten(),
        }
    }

    /// Of a run that told nothing.
    pub fn lost(reason: &str, message: String) -> Outcome {
        Outcome {
            kept: 0,
            tombstoned: 0,
            code: Some(reason.to_owned()),
            message: Some(message),
        }
    }

    /// What stands on a Job.
    pub fn on(job: &Job) -> Option<Outcome> {
        serde_json::from_str(job.annotations().get(RESULT)?).ok()
    }

    /// What it came to over all names, by the Jobs of all of them: a failure of one is a failure, and counts are told when
    /// none of them still runs.
    pub fn over(jobs: &[Job]) -> Option<Outcome> {
        let each: Vec<Option<Outcome>> = jobs.iter().map(Outcome::on).collect();
        let failed = each.iter().flatten().find(|outcome| outcome.code.is_some());
        if let Some(failed) = failed {
            return Some(failed.clone());
        }
        let all: Vec<Outcome> = each.into_iter().collect::<Option<_>>()?;
        (!all.is_empty()).then(|| Outcome {
            kept: all.iter().map(|outcome| outcome.kept).sum(),
            tombstoned: all.iter().map(|outcome| outcome.tombstoned).sum(),
            code: None,
            message: None,
        })
    }
}

/// The seed of the Job: another one is another Job.
pub fn seed(name: &str, newest: &str, retention: &Retention) -> String {
    let policy = [
        retention.keep_last,
        retention.keep_daily,
        retention.keep_weekly,
        retention.keep_monthly,
        retention.keep_yearly,
    ];
    format!("{name} {newest} {policy:?}")
}

/// The newest backup of a name that a retention may count on.
pub fn newest<'a>(name: &str, records: &'a [BackupRecord]) -> Option<&'a BackupRecord> {
    records
        .iter()
        .filter(|record| record.backup_id.deployment() == name && !record.deleted && record.problem.is_none())
        .max_by_key(|record| (record.stopped_at, record.backup_id.as_str().to_owned()))
}

/// What is to be done about one name.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// A Job with this seed is to be made.
    Run(String),
    /// This one runs, or its result is to be taken.
    Observe(Box<Job>),
    /// This one is to be removed: another has taken its place, or it is tried again.
    Remove(Box<Job>),
}

/// Decides for one name. `jobs` are all retention Jobs of the Deployment; `newest` is the id of the newest backup, when it
/// is known: an older lineage gets no new ones, so that none has to be.
pub fn step(
    object: &str,
    name: &str,
    current: bool,
    newest: Option<&str>,
    retention: &Retention,
    jobs: &[Job],
    now: Timestamp,
) -> Step {
    if retention.suspend || (current && newest.is_none()) {
        return Step::Rest;
    }
    let seed = seed(name, newest.unwrap_or_default(), retention);
    let job_name = names::job(object, Role::Rotate, &seed);
    let mine: Vec<&Job> = jobs.iter().filter(|job| is_of(job, name)).collect();
    // One at a time: two that rotate the same name would only meet.
    if let Some(running) = mine.iter().find(|job| Outcome::on(job).is_none()) {
        return Step::Observe(Box::new((*running).clone()));
    }
    if let Some(other) = mine.iter().find(|job| job.name_any() != job_name) {
        return Step::Remove(Box::new((*other).clone()));
    }
    let Some(done) = mine.first() else {
        return Step::Run(seed);
    };
    let failed = Outcome::on(done).is_some_and(|outcome| outcome.code.is_some());
    let made = done.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let long_ago =
        made.is_none_or(|made| Duration::try_from(now.duration_since(made)).is_ok_and(|since| since >= AGAIN));
    if failed && long_ago {
        return Step::Remove(Box::new((*done).clone()));
    }
    Step::Rest
}

/// On the Job: a hash of the name that it is about; names are longer than labels.
pub const OF_NAME: &str = "hardstorage.dev/name-hash";

fn is_of(job: &Job, name: &str) -> bool {
    job.labels().get(OF_NAME) == Some(&short_hash(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::*;
    use serde_json::json;

    const NAME: &str = "team.orders";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn job(seed_text: &str, outcome: Option<Outcome>) -> Job {
        let mut job: Job = serde_json::from_value(json!({"metadata": {
            "name": names::job("orders", Role::Rotate, seed_text), "namespace": "team",
            "labels": {OF_NAME: short_hash(NAME)}, "creationTimestamp": at(0).to_string()}}))
        .unwrap();
        if let Some(outcome) = outcome {
            let text = serde_json::to_string(&outcome).unwrap();
            job.annotations_mut().insert(RESULT.to_owned(), text);
        }
        job
    }

    fn outcome(code: Option<&str>) -> Outcome {
        Outcome {
            kept: 3,
            tombstoned: 1,
            code: code.map(str::to_owned),
            message: None,
        }
    }

    fn decide(newest: Option<&str>, retention: &Retention, jobs: &[Job], now: i64) -> Step {
        step("orders", NAME, true, newest, retention, jobs, at(now))
    }

    #[test]
    fn another_backup_or_another_policy_runs_it_once() {
        let policy = Retention::default();
        assert_eq!(decide(None, &policy, &[], 0), Step::Rest, "there is nothing to count");
        let first = seed(NAME, "b1", &policy);
        assert_eq!(decide(Some("b1"), &policy, &[], 0), Step::Run(first.clone()));
        let running = job(&first, None);
        assert!(matches!(
            decide(Some("b1"), &policy, std::slice::from_ref(&running), 0),
            Step::Observe(_)
        ));
        assert!(
            matches!(decide(Some("b2"), &policy, &[running], 0), Step::Observe(_)),
            "one at a time"
        );
        let done = [job(&first, Some(outcome(None)))];
        assert_eq!(decide(Some("b1"), &policy, &done, 100_000), Step::Rest);
        assert!(matches!(decide(Some("b2"), &policy, &done, 0), Step::Remove(_)));
        let other = Retention {
            keep_last: 9,
            ..Retention::default()
        };
        assert!(matches!(decide(Some("b1"), &other, &done, 0), Step::Remove(_)));
        let suspended = Retention {
            suspend: true,
            ..Retention::default()
        };
        assert_eq!(decide(Some("b9"), &suspended, &done, 0), Step::Rest);
    }

    #[test]
    fn the_names_of_a_deployment_count_together() {
        let (one, other) = (job("1", Some(outcome(None))), job("2", Some(outcome(None))));
        assert_eq!(Outcome::over(&[]), None);
        let both = Outcome::over(&[one.clone(), other]).unwrap();
        assert_eq!((both.kept, both.tombstoned, both.code), (6, 2, None));
        assert_eq!(
            Outcome::over(&[one.clone(), job("2", None)]),
            None,
            "the other still runs"
        );
        let failed = job("2", Some(outcome(Some("unreachable.store"))));
        for jobs in [
            [failed.clone(), one.clone()],
            [one, failed.clone()],
            [failed, job("3", None)],
        ] {
            let code = Outcome::over(&jobs).and_then(|outcome| outcome.code);
            assert_eq!(code.as_deref(), Some("unreachable.store"));
        }
    }

    #[test]
    fn a_failure_is_tried_again_later() {
        let policy = Retention::default();
        let failed = [job(
            &seed(NAME, "b1", &policy),
            Some(outcome(Some("unreachable.store"))),
        )];
        assert_eq!(decide(Some("b1"), &policy, &failed, 3599), Step::Rest);
        assert!(matches!(decide(Some("b1"), &policy, &failed, 3600), Step::Remove(_)));
    }

    #[test]
    fn an_older_lineage_needs_no_newest() {
        let policy = Retention::default();
        let step = |current| step("orders", "team.orders.2", current, None, &policy, &[], at(0));
        assert!(matches!(step(false), Step::Run(_)));
        assert_eq!(step(true), Step::Rest);
    }

    #[test]
    fn what_a_run_reports() {
        let mut report = RunReport::new("rotate", None, "1");
        report.state = RunState::Succeeded;
        report.result = Some(json!({"dry_run": false, "deployments": [{"kept": 5, "held": 1, "deleted": 2}]}));
        assert_eq!(
            Outcome::of(&report),
            Outcome {
                kept: 6,
                tombstoned: 2,
                code: None,
                message: None
            }
        );
        report.state = RunState::Failed;
        report.result = None;
        assert_eq!(Outcome::of(&report).code.as_deref(), Some("other"));
    }
}

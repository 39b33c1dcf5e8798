//! What came of a plan, read from the report of the Job that made it. Pure.
//!
//! The Job has no place to restore to: what the engine says of its place is not what stands in the way, everything else is.

use hardstorage_crds::{Bytes, Reachable, ResolvedTarget, Restore, RestoreFailure, RestorePlan};
use hardstorage_report::{Code, ErrorReport, RecoveryPoint, RunReport, TablespacePlace, code};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;
use serde_json::Value;

use super::target::moment;

/// What a plan says of the place that it was made in.
const OF_THE_PLACE: [Code; 5] = [
    code::engine::TARGET_NOT_EMPTY,
    code::engine::TARGET_RUNNING,
    code::engine::TARGET_FOREIGN,
    code::engine::TARGET_SPACE,
    code::engine::TARGET_OWNER,
];
/// The moment lies outside of what can be reached.
const OUT_OF_REACH: [Code; 2] = [code::engine::UNREACHABLE, code::engine::BEFORE_BACKUP];
/// Classes of codes that another try cannot change. A key or a password may come later, and a store comes back.
const FINAL: [&str; 5] = ["usage.", "conflict.", "notfound.", "verify.", "preflight."];

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// There is a plan.
    Made(Box<Made>),
    /// The moment cannot be reached.
    Unreachable(RestoreFailure, Option<Reachable>),
    /// It cannot be restored.
    Refused(RestoreFailure),
    /// It is not known yet: a reason, and a sentence.
    Again(String, String),
}

/// A plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// What is restored.
    pub target: ResolvedTarget,
    /// What it takes.
    pub plan: RestorePlan,
    /// Which moments could be reached.
    pub reachable: Reachable,
}

/// What is read of the engine's `RestorePlanReport`: leniently, because what is missing was cut, or is another version's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Told {
    backup_id: Option<String>,
    stop_at: Option<RecoveryPoint>,
    target_timeline: Option<i64>,
    total_bytes: Option<u64>,
    wal_bytes: Option<u64>,
    pg_version: Option<String>,
    system_identifier: Option<Value>,
    tablespaces: Vec<TablespacePlace>,
    problems: Vec<ErrorReport>,
    warnings: Vec<String>,
    reachable: Option<hardstorage_report::Reachable>,
    source_snapshot: Option<Value>,
}

fn reachable(told: &hardstorage_report::Reachable) -> Reachable {
    Reachable {
        from: Some(MicroTime(told.from)),
        to: Some(MicroTime(told.to)),
    }
}

/// Reads a report. `time` is the one that was planned for.
pub fn read(report: &RunReport, restore: &Restore, time: Option<Timestamp>) -> Outcome {
    let told: Option<Told> = report
        .result
        .clone()
        .filter(Value::is_object)
        .and_then(|result| serde_json::from_value(result).ok());
    let of_the_place = |problem: &&ErrorReport| OF_THE_PLACE.iter().any(|code| code.as_str() == problem.code);
    // What could be reached by any backup goes before what this one leads to.
    let within = report
        .reachable
        .as_ref()
        .or(told.as_ref().and_then(|told| told.reachable.as_ref()));
    let within = within.map(reachable);
    let Some(told) = told else {
        return match &report.error {
            Some(error) => stands_in_the_way(error, within),
            None => Outcome::Again("ReportLost".to_owned(), "the plan did not reach anybody".to_owned()),
        };
    };
    if let Some(problem) = told.problems.iter().find(|problem| !of_the_place(problem)) {
        return stands_in_the_way(problem, within);
    }
    if told.problems.is_empty()
        && let Some(error) = &report.error
    {
        return stands_in_the_way(error, within);
    }
    let (Some(id), Some(bytes)) = (&told.backup_id, told.total_bytes) else {
        return Outcome::Again("ReportLost".to_owned(), "only a part of the plan was read".to_owned());
    };
    let wal = told.wal_bytes.unwrap_or_default();
    let target = ResolvedTarget {
        moment: Some(moment(restore.spec.recovery_target.as_ref(), time)),
        time: time.map(MicroTime),
        lsn: told.stop_at.and_then(|point| point.lsn).map(|lsn| lsn.to_string()),
        timeline: told.target_timeline,
        backup_id: Some(id.clone()),
    };
    let plan = RestorePlan {
        bytes: Some(Bytes::of(bytes)),
        wal: Some(Bytes::of(wal)),
        needed_bytes: i64::try_from(bytes.saturating_add(wal)).ok(),
        claim_size: None,
        image: None,
        postgres_version: told.pg_version.clone(),
        system_identifier: told.system_identifier.as_ref().map(text),
        tablespaces: told
            .tablespaces
            .iter()
            .map(|space| space.path.display().to_string())
            .collect(),
        warnings: told.warnings.clone(),
        source_snapshot: told.source_snapshot.clone().filter(Value::is_object),
    };
    Outcome::Made(Box::new(Made {
        target,
        plan,
        reachable: within.unwrap_or_default(),
    }))
}

fn stands_in_the_way(error: &ErrorReport, reachable: Option<Reachable>) -> Outcome {
    let failure = RestoreFailure {
        code: Some(error.code.clone()),
        message: Some(error.message.clone()),
        hint: Some(error.hint.clone()),
        attempts: None,
    };
    if OUT_OF_REACH.iter().any(|code| code.as_str() == error.code) {
        return Outcome::Unreachable(failure, reachable);
    }
    if FINAL.iter().any(|class| error.code.starts_with(class)) {
        return Outcome::Refused(failure);
    }
    let reason = crate::condition::reason_of(&error.code);
    Outcome::Again(reason, format!("{}; {}", error.message, error.hint))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::needless_pass_by_value,
        reason = "test code"
    )]
    use super::super::samples::{ID, plan_result, restore};
    use super::*;
    use hardstorage_report::RunState;
    use serde_json::json;

    fn report(result: Option<Value>, error: Option<&str>) -> RunReport {
        let mut report = RunReport::new("restore", None, "0.1.0");
        report.state = RunState::Failed;
        report.result = result;
        report.error = error.map(problem);
        report
    }

    fn problem(code: &str) -> ErrorReport {
        ErrorReport {
            code: code.into(),
            message: "m".into(),
            hint: "h".into(),
            exit_code: 7,
        }
    }

    fn read_it(report: &RunReport) -> Outcome {
        read(report, &restore(json!({}), Value::Null), None)
    }

    #[test]
    fn the_sample_is_what_the_engine_writes() {
        let typed: hardstorage_report::RestorePlanReport = serde_json::from_value(plan_result()).unwrap();
        let Outcome::Made(made) = read_it(&report(Some(serde_json::to_value(typed).unwrap()), None)) else {
            panic!("no plan");
        };
        let Outcome::Made(sample) = read_it(&report(Some(plan_result()), None)) else {
            panic!("no plan");
        };
        assert_eq!(made, sample);
    }

    #[test]
    fn a_plan_is_kept_whole() {
        let Outcome::Made(made) = read_it(&report(Some(plan_result()), None)) else {
            panic!("no plan");
        };
        assert_eq!(made.target.backup_id.as_deref(), Some(ID));
        assert_eq!(
            (made.target.moment.as_deref(), made.target.timeline),
            (Some("latest"), Some(3))
        );
        assert_eq!(made.plan.needed_bytes, Some(12 << 20));
        assert_eq!(made.plan.source_snapshot.unwrap()["image"], "postgres:18");
        assert_eq!(made.plan.warnings, ["a note"]);
        assert!(made.reachable.from.is_some() && made.reachable.to.is_some());
        let mut spread = plan_result();
        let hot = "/var/lib/postgresql/tablespaces/hot/data";
        spread["tablespaces"] = json!([{"oid": 16500, "location": hot, "path": hot, "bytes": 1}]);
        spread["stop_at"] = json!({"kind": "lsn", "lsn": "0/5", "inclusive": true});
        spread["source_snapshot"] = Value::Null;
        spread["system_identifier"] = json!(7);
        let Outcome::Made(made) = read_it(&report(Some(spread), None)) else {
            panic!("no plan");
        };
        assert_eq!(made.plan.tablespaces, [hot]);
        assert_eq!(made.target.lsn.as_deref(), Some("0/5"));
        assert_eq!(
            (made.plan.source_snapshot, made.plan.system_identifier.as_deref()),
            (None, Some("7"))
        );
    }

    #[test]
    fn only_the_place_of_the_plan_does_not_matter() {
        let with = |codes: &[&str]| {
            let mut result = plan_result();
            result["problems"] = codes
                .iter()
                .map(|code| serde_json::to_value(problem(code)).unwrap())
                .collect();
            read_it(&report(Some(result), codes.first().copied()))
        };
        assert!(matches!(
            with(&["preflight.no_space", "preflight.owner_unclear"]),
            Outcome::Made(_)
        ));
        assert!(matches!(
            with(&["preflight.no_space", "verify.wal_gap"]),
            Outcome::Refused(_)
        ));
        match with(&["preflight.no_space", "conflict.target_unreachable"]) {
            Outcome::Unreachable(failure, Some(reachable)) => {
                assert_eq!(failure.code.as_deref(), Some("conflict.target_unreachable"));
                assert!(reachable.from.is_some());
            }
            other => panic!("{other:?}"),
        }
        // No backup leads there: what others lead to stands beside the error.
        let mut before = report(None, Some("notfound.backup_before_target"));
        before.reachable = serde_json::from_value(plan_result()["reachable"].clone()).ok();
        assert!(matches!(read_it(&before), Outcome::Unreachable(_, Some(_))));
    }

    #[test]
    fn what_can_heal_is_tried_again() {
        for (code, again) in [
            ("notfound.backup", false),
            ("usage.time", false),
            ("verify.object_corrupt", false),
            ("unreachable.store", true),
            ("auth.key_missing", true),
        ] {
            let outcome = read_it(&report(None, Some(code)));
            assert_eq!(matches!(outcome, Outcome::Again(..)), again, "{code}: {outcome:?}");
            assert_eq!(matches!(outcome, Outcome::Refused(_)), !again, "{code}");
        }
        // A termination message holds no more of a long result than its id.
        for result in [None, Some(json!(ID)), Some(json!({"backup_id": ID}))] {
            assert!(matches!(read_it(&report(result, None)), Outcome::Again(..)));
        }
    }
}

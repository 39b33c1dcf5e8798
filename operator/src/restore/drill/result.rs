//! What a drill has proven, read from what the engine says. Pure.

use hardstorage_crds::{DrillAnswer, DrillResult, DrillStatus};
use hardstorage_report::{Code, RunReport, code};
use serde::Deserialize;
use serde_json::Value;

/// The most checks that a status tells of, and the longest text of one.
const CHECKS: usize = 100;
const TEXT: usize = 200;
/// The most of a message, so that what to do next is still read.
const MESSAGE: usize = 700;

/// Beside all that is said of damage: PostgreSQL had everything, and did not come up from it, or not as far as it should.
const BROKEN: [Code; 2] = [code::engine::RECOVERY, code::engine::TARGET_NOT_REACHED];

/// What is read of the engine's `DrillReport`: leniently, because what is missing was cut, or is another version's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Told {
    databases: Vec<String>,
    indexes_checked: Option<u64>,
    indexes_unchecked: Option<u64>,
    checks: Vec<Value>,
    notes: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct CheckTold {
    name: String,
    database: Option<String>,
    passed: bool,
    expected: Option<String>,
    actual: Option<String>,
    error: Option<String>,
}

/// What the second pod found.
pub fn read(report: &RunReport) -> DrillStatus {
    let result = report.result.clone().filter(Value::is_object);
    let told: Told = result
        .and_then(|result| serde_json::from_value(result).ok())
        .unwrap_or_default();
    let number = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    let mut checks: Vec<DrillAnswer> = told
        .checks
        .into_iter()
        .filter_map(|check| serde_json::from_value(check).ok())
        .map(answer)
        .collect();
    checks.sort_by_key(|check| check.passed);
    checks.truncate(CHECKS);
    DrillStatus {
        databases: told.databases.into_iter().take(CHECKS).collect(),
        indexes_checked: number(told.indexes_checked),
        indexes_unchecked: number(told.indexes_unchecked),
        checks,
        notes: told.notes.iter().take(CHECKS).map(|note| cut(note, TEXT)).collect(),
        ..DrillStatus::default()
    }
}

fn answer(told: CheckTold) -> DrillAnswer {
    let short = |text: Option<String>| text.map(|text| cut(&text, TEXT));
    DrillAnswer {
        name: told.name,
        database: told.database,
        passed: told.passed,
        expected: short(told.expected),
        actual: short(told.actual),
        error: short(told.error),
    }
}

fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit).chain(['…']).collect()
}

/// What has failed, each in a few words; none when nothing did.
pub fn failing(found: &DrillStatus) -> Option<String> {
    let failed: Vec<String> = found.checks.iter().filter(|check| !check.passed).map(words).collect();
    if failed.is_empty() {
        return None;
    }
    Some(cut(
        &format!("{} failed: {}", count(failed.len()), failed.join("; ")),
        MESSAGE,
    ))
}

fn count(number: usize) -> String {
    if number == 1 {
        "1 check".to_owned()
    } else {
        format!("{number} checks")
    }
}

fn words(check: &DrillAnswer) -> String {
    let place = check
        .database
        .as_ref()
        .map_or_else(String::new, |name| format!(" in {name}"));
    let why = match (&check.error, &check.expected, &check.actual) {
        (Some(error), ..) => error.clone(),
        (None, Some(expected), Some(actual)) => format!("expected {expected}, got {actual}"),
        (None, Some(expected), None) => format!("expected {expected}, got nothing"),
        (None, None, Some(actual)) => format!("got {actual}"),
        (None, None, None) => "failed".to_owned(),
    };
    format!("{}{place}: {why}", check.name)
}

/// What the end of a drill says of the backup. A repository that does not answer, a moment that somebody mistyped and a node
/// that is gone say nothing of it.
pub fn proven(code: Option<&str>) -> DrillResult {
    match code {
        Some(code) if code.starts_with("verify.") || BROKEN.iter().any(|one| one.as_str() == code) => {
            DrillResult::Failed
        }
        _ => DrillResult::NotRun,
    }
}

/// How far the second pod is, in percent.
pub fn percent(body: &Value) -> Option<i32> {
    let number = |name: &str| body.get(name).and_then(Value::as_u64);
    let (done, total) = (number("done")?, number("total").filter(|total| *total > 0)?);
    i32::try_from((u128::from(done) * 100 / u128::from(total)).min(99)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use serde_json::json;

    fn report(result: Value) -> RunReport {
        let mut report = RunReport::new("drill", None, "0.1.0");
        report.result = Some(result);
        report
    }

    #[test]
    fn what_the_engine_writes_is_read() {
        let typed: hardstorage_report::DrillReport = serde_json::from_value(json!({
            "databases": ["app", "postgres"], "indexes_checked": 7, "indexes_unchecked": 1, "duration_ms": 90,
            "checks": [{"name": "rows", "database": "app", "passed": true, "expected": "t", "actual": "t"},
                {"name": "orders", "database": "app", "passed": false, "expected": "t", "actual": "f"},
                {"name": "gone", "database": "app", "passed": false, "error": "no such table"}],
            "notes": ["amcheck is not there"]}))
        .unwrap();
        let found = read(&report(serde_json::to_value(typed).unwrap()));
        assert_eq!(found.databases, ["app", "postgres"]);
        assert_eq!((found.indexes_checked, found.indexes_unchecked), (Some(7), Some(1)));
        let names: Vec<(&str, bool)> = found.checks.iter().map(|one| (one.name.as_str(), one.passed)).collect();
        assert_eq!(names, [("orders", false), ("gone", false), ("rows", true)]);
        assert_eq!(
            failing(&found).unwrap(),
            "2 checks failed: orders in app: expected t, got f; gone in app: no such table"
        );
        assert_eq!(found.notes, ["amcheck is not there"]);
    }

    #[test]
    fn what_is_cut_or_strange_is_no_failure_to_read() {
        for result in [
            json!(null),
            json!("cut"),
            json!({"checks": [5, {"name": "a", "passed": true, "colour": 1}]}),
        ] {
            assert_eq!(failing(&read(&report(result))), None);
        }
        let many: Vec<Value> = (0..500)
            .map(|number| json!({"name": format!("n{number}"), "passed": number != 400, "error": "я".repeat(999)}))
            .collect();
        let found = read(&report(json!({"checks": many})));
        assert_eq!((found.checks.len(), found.checks[0].name.as_str()), (100, "n400"));
        assert!(failing(&found).unwrap().chars().count() < 300);
    }

    #[test]
    fn only_what_says_something_of_the_backup_is_a_failed_drill() {
        for code in [
            "verify.drill_failed",
            "verify.wal_gap",
            "restore.recovery_failed",
            "conflict.target_not_reached",
        ] {
            assert_eq!(proven(Some(code)), DrillResult::Failed, "{code}");
        }
        for code in [
            "unreachable.store",
            "Unschedulable",
            "QuotaExceeded",
            "OOMKilled",
            "conflict.target_unreachable",
        ] {
            assert_eq!(proven(Some(code)), DrillResult::NotRun, "{code}");
        }
        assert_eq!(proven(None), DrillResult::NotRun);
    }

    #[test]
    fn what_is_not_over_is_not_at_a_hundred() {
        assert_eq!(percent(&json!({"stage": "checking", "done": 1, "total": 4})), Some(25));
        assert_eq!(percent(&json!({"done": 4, "total": 4})), Some(99));
        assert_eq!(percent(&json!({"stage": "starting", "done": 0, "total": 0})), None);
    }
}

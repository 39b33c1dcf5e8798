//! What a run says of itself: how far it is, what has become of it. Pure.

use hardstorage_crds::{Bytes, Recovered, RestorePhase, RestoreProgress};
use hardstorage_report::{Code, RunReport, code};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;
use serde_json::Value;

/// The engine has found something in the place, and has touched nothing.
const USED: [Code; 3] = [
    code::engine::TARGET_NOT_EMPTY,
    code::engine::TARGET_RUNNING,
    code::engine::TARGET_FOREIGN,
];

/// Whether a run was refused because its place is used.
pub fn found_used(code: &str) -> bool {
    USED.iter().any(|one| one.as_str() == code)
}

/// What was restored; what is missing was cut, or is another version's.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Told {
    recovered: Option<RecoveredTold>,
    bytes_written: Option<u64>,
    duration_ms: Option<u64>,
    disabled_subscriptions: Vec<InDatabase>,
    collation_changes: Vec<InDatabase>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct InDatabase {
    database: String,
    name: Option<String>,
}

impl std::fmt::Display for InDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.database)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, ".{name}"))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct RecoveredTold {
    lsn: Option<String>,
    time: Option<Timestamp>,
    timeline: Option<i64>,
}

/// What has become of a run that succeeded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Done {
    /// Where recovery has ended, when it was recovered.
    pub recovered: Option<Recovered>,
    /// In a sentence.
    pub sentence: String,
    /// What somebody should know.
    pub notes: Vec<String>,
}

impl Done {
    /// Reads a report.
    pub fn of(report: &RunReport) -> Done {
        let told: Told = report
            .result
            .clone()
            .and_then(|result| serde_json::from_value(result).ok())
            .unwrap_or_default();
        let mut notes = told.warnings;
        let names = |list: &[InDatabase]| list.iter().map(InDatabase::to_string).collect::<Vec<_>>().join(", ");
        if !told.disabled_subscriptions.is_empty() {
            notes.push(format!(
                "disabled subscriptions: {}",
                names(&told.disabled_subscriptions)
            ));
        }
        if !told.collation_changes.is_empty() {
            let changed = names(&told.collation_changes);
            notes.push(format!("the version of a collation has changed, reindex: {changed}"));
        }
        let sentence = match (told.bytes_written, told.duration_ms) {
            (Some(bytes), Some(took)) => format!("{} written in {} s", Bytes::of(bytes), took / 1000),
            _ => "written".to_owned(),
        };
        Done {
            recovered: told.recovered.map(|told| Recovered {
                lsn: told.lsn,
                time: told.time.map(MicroTime),
                timeline: told.timeline,
            }),
            sentence,
            notes,
        }
    }

    /// Of a run that has ended well and whose report nobody heard.
    pub fn unheard() -> Done {
        Done {
            sentence: "it ended well, and its report was not heard".to_owned(),
            ..Done::default()
        }
    }
}

/// How far a run is.
pub fn progress(body: &Value) -> (RestorePhase, Option<RestoreProgress>) {
    let phase = match body.get("stage").and_then(Value::as_str) {
        Some("recovering") => RestorePhase::Recovering,
        Some("promoting" | "finishing") => RestorePhase::Promoting,
        _ => RestorePhase::Copying,
    };
    let number = |name: &str| body.get(name).and_then(Value::as_u64);
    let progress = number("done_bytes").map(|done| {
        let total = number("total_bytes").filter(|total| *total > 0);
        RestoreProgress {
            done: Some(Bytes::of(done)),
            total: total.map(Bytes::of),
            // What is not over is not at a hundred.
            percent: total.map(|total| (u128::from(done) * 100 / u128::from(total)).min(99) as i32),
            rate: number("bytes_per_second").map(Bytes::of),
        }
    });
    (phase, progress)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_is_told_in_a_sentence() {
        let mut report = RunReport::new("restore", None, "0.1.0");
        assert_eq!(Done::of(&report).sentence, "written");
        report.result = Some(
            json!({"recovered": {"lsn": "0/5", "time": "2026-01-01T00:00:00Z", "timeline": 4},
            "bytes_written": 1 << 20, "duration_ms": 2500, "disabled_subscriptions": [{"database": "shop", "name": "s"}],
            "collation_changes": [{"database": "shop", "recorded": "1", "actual": "2"}], "warnings": ["n"]}),
        );
        let done = Done::of(&report);
        assert_eq!(done.sentence, "1Mi written in 2 s");
        assert_eq!(done.recovered.unwrap().timeline, Some(4));
        assert_eq!(
            done.notes,
            [
                "n",
                "disabled subscriptions: shop.s",
                "the version of a collation has changed, reindex: shop"
            ]
        );
    }

    #[test]
    fn what_the_engine_writes_is_read() {
        let mut result = super::super::samples::plan_result();
        for (name, value) in [
            ("bytes_written", json!(1 << 20)),
            ("files_checked", json!(1)),
            ("duration_ms", json!(2500)),
            (
                "recovered",
                json!({"lsn": "0/5", "time": "2026-01-01T00:00:00Z", "timeline": 4}),
            ),
            ("disabled_subscriptions", json!([{"database": "shop", "name": "s"}])),
        ] {
            result[name] = value;
        }
        let typed: hardstorage_report::RestoreReport = serde_json::from_value(result).unwrap();
        let mut report = RunReport::new("restore", None, "0.1.0");
        report.result = Some(serde_json::to_value(typed).unwrap());
        let done = Done::of(&report);
        assert_eq!(done.recovered.unwrap().lsn.as_deref(), Some("0/5"));
        assert_eq!(done.notes, ["a note", "disabled subscriptions: shop.s"]);
    }

    #[test]
    fn every_stage_is_a_phase() {
        for (body, wanted) in [
            (json!(null), RestorePhase::Copying),
            (json!({"stage": "copying"}), RestorePhase::Copying),
            (json!({"stage": "recovering"}), RestorePhase::Recovering),
            (json!({"stage": "promoting"}), RestorePhase::Promoting),
            (json!({"stage": "finishing"}), RestorePhase::Promoting),
            (json!({"stage": "a later word"}), RestorePhase::Copying),
        ] {
            assert_eq!(progress(&body).0, wanted, "{body}");
        }
        let (_, far) = progress(&json!({"done_bytes": 100, "total_bytes": 100, "bytes_per_second": 2048}));
        let far = far.unwrap();
        assert_eq!((far.percent, far.rate.unwrap().as_str()), (Some(99), "2Ki"));
        assert_eq!(progress(&json!({"done_bytes": 1})).1.unwrap().percent, None);
    }

    #[test]
    fn a_used_place_is_told_from_a_failure() {
        assert!(found_used("conflict.target_not_empty") && found_used("conflict.target_running"));
        assert!(!found_used("conflict.target_unreachable") && !found_used("verify.wal_gap"));
    }
}

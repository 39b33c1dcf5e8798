//! What the status of a Restore says of its drill. Pure.

use std::time::Duration;

use hardstorage_crds::{DrillResult, DrillStatus, RestorePhase, RestoreProgress, RestoreStatus};
use hardstorage_report::{RunReport, RunState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::result::percent;
use crate::backup::mirror::took;
use crate::restore::status::{Writer, Written, step};

impl Writer {
    /// The copy is being asked.
    pub fn asks(mut self, report: Option<&RunReport>) -> Written {
        let failed = report.filter(|report| report.state == RunState::Failed);
        if let Some(error) = failed.and_then(|report| report.error.as_ref()) {
            let message = format!("a try has failed, another follows: {}; {}", error.message, error.hint);
            return self.waits(RestorePhase::Checking, "TryFailed", &message, false);
        }
        if let Some(report) = report {
            self.status.progress = Some(RestoreProgress {
                percent: percent(&report.progress),
                ..RestoreProgress::default()
            });
        }
        self.waits(RestorePhase::Checking, "Checking", "the copy is being asked", false)
    }

    /// It has been asked, and these are the answers.
    #[must_use]
    pub fn with_answers(mut self, found: DrillStatus) -> Self {
        self.status.drill = Some(found);
        self
    }

    /// Everything that was asked is as it should be.
    pub fn passed(mut self, found: DrillStatus) -> Written {
        let sentence = sentence(&found);
        self.status.drill = Some(found);
        self.status.failure = None;
        if let Some(far) = &mut self.status.progress {
            far.percent = Some(100);
        }
        self.done(step::CHECK, &sentence);
        end(&mut self.status, DrillResult::Passed, self.now, Duration::ZERO);
        self.completes(&sentence)
    }
}

fn sentence(found: &DrillStatus) -> String {
    let read = found.indexes_checked.unwrap_or_default();
    let left = match found.indexes_unchecked {
        Some(left) if left > 0 => format!(" ({left} more were not)"),
        _ => String::new(),
    };
    format!(
        "{} checks passed, {read} indexes were read whole{left}",
        found.checks.len()
    )
}

/// How it ended, and until when the copy is kept: one of a failed drill that was begun, for `keep`.
pub fn end(status: &mut RestoreStatus, result: DrillResult, now: Timestamp, keep: Duration) {
    let began = status
        .steps
        .iter()
        .find(|one| one.name == step::PREPARE)
        .map(|one| one.time.0);
    let millis = began.map(|began| now.duration_since(began).as_millis());
    // As it is written, and read again.
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let kept = (result == DrillResult::Failed && began.is_some() && !keep.is_zero())
        .then(|| second.checked_add(keep).ok())
        .flatten();
    let drill = status.drill.get_or_insert_default();
    drill.duration = millis.and_then(|millis| u64::try_from(millis).ok()).map(took);
    drill.result = Some(result);
    drill.time = Some(Time(now));
    drill.kept_until = kept.map(Time);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use crate::restore::samples::planned;
    use serde_json::json;

    #[test]
    fn only_the_copy_of_a_failed_drill_is_kept() {
        let now: Timestamp = "2026-01-02T09:00:00Z".parse().unwrap();
        let ended = |result: DrillResult, begun: bool, keep: Duration| {
            let mut status: RestoreStatus = serde_json::from_value(planned()).unwrap();
            if begun {
                let step = serde_json::from_value(json!({"name": "Prepare", "time": "2026-01-02T08:56:40Z"})).unwrap();
                status.steps.push(step);
            }
            end(&mut status, result, now, keep);
            let drill = status.drill.unwrap();
            (drill.duration, drill.kept_until.map(|time| time.0.to_string()))
        };
        let hour = Duration::from_hours(1);
        let took = Some("3m20s".to_owned());
        let kept = Some("2026-01-02T10:00:00Z".to_owned());
        assert_eq!(ended(DrillResult::Failed, true, hour), (took.clone(), kept));
        assert_eq!(ended(DrillResult::Failed, true, Duration::ZERO), (took.clone(), None));
        assert_eq!(ended(DrillResult::NotRun, true, hour), (took.clone(), None));
        assert_eq!(ended(DrillResult::Passed, true, hour), (took, None));
        assert_eq!(ended(DrillResult::Failed, false, hour), (None, None));
    }
}

//! What is to be done about a Restore. Pure.
//!
//! The status is the memory: the plan, and each step that was done. The names of Jobs and claims follow from the object, so
//! that what was begun before a crash is found and never begun twice:
//! 1. the plan is made by a Job, and stored,
//! 2. the place is made, and the Job that fills it,
//! 3. its result is stored as a step; from then on nothing is taken away again,
//! 4. a Cluster is made, once, and looked at until it has taken its claims over; or, of a drill, a second Job is made that
//!    looks at the copy, and then everything is thrown away.

use hardstorage_crds::{OnUnreachable, Restore, RestorePhase, RestoreStatus};
use jiff::Timestamp;

use super::status::step;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing more happens.
    Rest,
    /// It is to be planned; for the nearest moment when the wanted one cannot be reached.
    Plan {
        /// The nearest moment.
        nearest: Option<Timestamp>,
    },
    /// The plan waits to be let go.
    Planned,
    /// Its place is to be made, and the Job that fills it.
    Prepare,
    /// That Job tells.
    Run,
    /// The data is complete: CloudNativePG takes it over.
    Adopt,
    /// The data is complete: it is a copy that is looked at.
    Check,
}

/// Whether nothing more happens.
pub fn is_over(status: &RestoreStatus) -> bool {
    matches!(
        status.phase,
        Some(RestorePhase::Completed | RestorePhase::Refused | RestorePhase::Failed | RestorePhase::Cancelled)
    )
}

/// Whether its data is complete.
pub fn is_restored(status: &RestoreStatus) -> bool {
    status.steps.iter().any(|one| one.name == step::RESTORE)
}

/// What follows once the data is complete; nothing where that is all.
pub fn then(restore: &Restore) -> Option<RestorePhase> {
    let destination = &restore.spec.destination;
    let adopted = destination.cloud_native_pg.as_ref().map(|_| RestorePhase::Adopting);
    adopted.or_else(|| destination.drill.as_ref().map(|_| RestorePhase::Checking))
}

/// Decides. `wanted` is the time that is wanted, `has_run` whether the Job that fills is there.
pub fn decide(restore: &Restore, wanted: Option<Timestamp>, has_run: bool) -> Step {
    let status = restore.status.clone().unwrap_or_default();
    if is_over(&status) {
        return Step::Rest;
    }
    if is_restored(&status) {
        return if then(restore) == Some(RestorePhase::Checking) {
            Step::Check
        } else {
            Step::Adopt
        };
    }
    if status.plan.is_none() {
        return Step::Plan {
            nearest: nearest(restore, wanted),
        };
    }
    if restore.spec.dry_run {
        return Step::Planned;
    }
    if has_run { Step::Run } else { Step::Prepare }
}

/// The nearest moment, once it is known that the wanted one cannot be reached.
pub fn nearest(restore: &Restore, wanted: Option<Timestamp>) -> Option<Timestamp> {
    if restore.spec.on_unreachable != OnUnreachable::Nearest {
        return None;
    }
    let reachable = restore.status.as_ref()?.reachable.as_ref()?;
    let (from, to) = (reachable.from.as_ref()?.0, reachable.to.as_ref()?.0);
    (from <= to)
        .then(|| wanted.map(|wanted| wanted.clamp(from, to)))
        .flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::super::samples::{planned, restore};
    use super::*;
    use serde_json::{Value, json};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn every_state_has_one_step() {
        let plan = Step::Plan { nearest: None };
        let restored = |phase: &str| {
            let mut status = planned();
            status["phase"] = json!(phase);
            let steps = status["steps"].as_array_mut().unwrap();
            steps.push(json!({"name": "Restore", "time": "2026-01-02T09:00:00Z"}));
            status
        };
        let phase = |phase: &str| {
            let mut status = planned();
            status["phase"] = json!(phase);
            status
        };
        let cases = [
            (false, Value::Null, false, plan),
            (true, Value::Null, false, plan),
            // Its status is lost: it is planned again, and the Job is found after that.
            (false, Value::Null, true, plan),
            (false, json!({"phase": "Pending"}), false, plan),
            (true, planned(), false, Step::Planned),
            (false, planned(), false, Step::Prepare),
            (false, phase("Preparing"), false, Step::Prepare),
            // Somebody has deleted its Job: the engine knows its own unfinished directory.
            (false, phase("Copying"), false, Step::Prepare),
            (false, phase("Preparing"), true, Step::Run),
            (false, phase("Recovering"), true, Step::Run),
            (false, restored("Promoting"), true, Step::Adopt),
            (false, restored("Adopting"), false, Step::Adopt),
            (false, restored("Completed"), true, Step::Rest),
            (false, phase("Refused"), false, Step::Rest),
            (false, phase("Failed"), true, Step::Rest),
            (false, phase("Cancelled"), true, Step::Rest),
        ];
        for (dry, status, has_run, wanted) in cases {
            let object = restore(json!({"dryRun": dry}), status.clone());
            assert_eq!(decide(&object, None, has_run), wanted, "{dry} {status} {has_run}");
        }
    }

    #[test]
    fn the_nearest_moment_lies_at_an_end() {
        let reachable =
            json!({"phase": "Pending", "reachable": {"from": "2026-01-01T01:00:00Z", "to": "2026-01-01T02:00:00Z"}});
        let spec = |policy: &str| json!({"onUnreachable": policy, "recoveryTarget": {"time": "1 hour ago"}});
        let near = |policy: &str, status: &Value, wanted: &str| {
            nearest(&restore(spec(policy), status.clone()), Some(at(wanted)))
        };
        for (wanted, found) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("2026-01-01T03:00:00Z", "2026-01-01T02:00:00Z"),
        ] {
            assert_eq!(near("Nearest", &reachable, wanted), Some(at(found)));
        }
        assert_eq!(near("Refuse", &reachable, "2026-01-01T00:00:00Z"), None);
        assert_eq!(near("Nearest", &Value::Null, "2026-01-01T00:00:00Z"), None);
        let empty = json!({"reachable": {"from": "2026-01-01T01:00:00Z"}});
        assert_eq!(near("Nearest", &empty, "2026-01-01T00:00:00Z"), None);
    }
}

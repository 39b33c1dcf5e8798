//! Whether a drill is to be begun, and for which time. Pure.
//!
//! The last time that has passed counts, and only as long as startingDeadline says: an operator that was away for a month
//! makes one drill, or none, and never four.

use jiff::{SignedDuration, Timestamp};

use hardstorage_schedule::Plan;

/// What it is decided by.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Since when drills are wanted; none while they rest.
    pub since: Option<Timestamp>,
    /// The time for which the last one was begun.
    pub begun_for: Option<Timestamp>,
    /// Whether one goes on.
    pub running: bool,
    /// How late one may begin.
    pub deadline: std::time::Duration,
}

/// The time for which one is to be begun now.
pub fn due(plan: &Plan, facts: &Facts, now: Timestamp) -> Option<Timestamp> {
    let since = facts.since.filter(|_| !facts.running)?;
    let deadline = SignedDuration::try_from(facts.deadline).unwrap_or(SignedDuration::MAX);
    let earliest = now.checked_sub(deadline).unwrap_or(Timestamp::MIN);
    let after = earliest.max(since).max(facts.begun_for.unwrap_or(Timestamp::MIN));
    last(plan, after, now)
}

/// The last time between the two. It is looked for from the end, further back each time, so that a schedule of minutes with
/// a deadline of months is not walked through.
fn last(plan: &Plan, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let mut back = SignedDuration::from_hours(1);
    loop {
        let from = now.checked_sub(back).unwrap_or(Timestamp::MIN).max(after);
        let mut found = None;
        let mut next = plan.next(from);
        while let Some(moment) = next.filter(|moment| *moment <= now) {
            found = Some(moment);
            next = plan.next(moment);
        }
        if found.is_some() || from == after {
            return found;
        }
        back = back.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use std::time::Duration;

    fn at(text: &str) -> Timestamp {
        format!("2026-06-{text}Z").parse().unwrap()
    }

    #[test]
    fn the_last_time_that_has_passed_once_and_not_too_late() {
        let daily = Plan::new("0 3 * * *", "Etc/UTC", "").unwrap();
        let facts = Facts {
            since: Some(at("01T00:00:00")),
            begun_for: Some(at("14T03:00:00")),
            running: false,
            deadline: Duration::from_hours(1),
        };
        let when = |facts: Facts, now: &str| due(&daily, &facts, at(now));
        assert_eq!(when(facts, "15T02:59:59"), None);
        assert_eq!(when(facts, "15T03:00:00"), Some(at("15T03:00:00")));
        assert_eq!(when(facts, "15T03:59:00"), Some(at("15T03:00:00")));
        assert_eq!(when(facts, "15T04:00:01"), None, "too late");
        // Away for a week: one, and no more.
        let patient = Facts {
            deadline: Duration::from_hours(24 * 30),
            ..facts
        };
        assert_eq!(when(patient, "21T12:00:00"), Some(at("21T03:00:00")));
        assert_eq!(
            when(
                Facts {
                    begun_for: Some(at("21T03:00:00")),
                    ..patient
                },
                "21T12:00:00"
            ),
            None
        );
        // Asked for at noon: nothing before that.
        assert_eq!(
            when(
                Facts {
                    since: Some(at("21T11:00:00")),
                    begun_for: None,
                    ..patient
                },
                "21T12:00:00"
            ),
            None
        );
        for resting in [
            Facts { since: None, ..patient },
            Facts {
                running: true,
                ..patient
            },
        ] {
            assert_eq!(when(resting, "21T12:00:00"), None);
        }
    }

    #[test]
    fn a_schedule_of_minutes_is_not_walked_through() {
        let minutes = Plan::new("* * * * *", "Etc/UTC", "").unwrap();
        let facts = Facts {
            since: Some(Timestamp::UNIX_EPOCH),
            begun_for: None,
            running: false,
            deadline: Duration::MAX,
        };
        let began = std::time::Instant::now();
        assert_eq!(due(&minutes, &facts, at("15T03:00:30")), Some(at("15T03:00:00")));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

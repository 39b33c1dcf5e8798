//! Whether a run begins now that the CronJob does not start: because somebody asked, or because there is no backup yet.
//! Pure.

use jiff::{SignedDuration, Timestamp};

use crate::backup::job_name;
use crate::names::Role;

/// What it is decided by.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// The schedule's name and UID.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// The annotation `run-now`.
    pub run_now: Option<&'a str>,
    /// Its value when a run was last started for it.
    pub done: Option<&'a str>,
    /// Whether the schedule wants to begin at once.
    pub immediate: bool,
    /// Whether it rests.
    pub suspended: bool,
    /// Whether a run of this schedule goes on.
    pub running: bool,
    /// Whether the repository's catalogue was read.
    pub catalog_known: bool,
    /// The newest backup in it.
    pub newest: Option<Timestamp>,
    /// When the last run of this schedule began.
    pub last_run: Option<Timestamp>,
    /// The time between two runs.
    pub interval: Option<SignedDuration>,
}

/// A run that begins now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The name of its Job; the same facts give the same name, so that a second try finds it.
    pub job: String,
    /// Somebody asked for it: it does not matter what there is already.
    pub asked: bool,
}

/// What is to be begun.
pub fn due(facts: &Facts<'_>, now: Timestamp) -> Option<Due> {
    if facts.running {
        return None;
    }
    let job = |seed: &str, asked: bool| {
        let job = job_name(facts.name, Role::Backup, &format!("{}/{seed}", facts.uid));
        Some(Due { job, asked })
    };
    if let Some(value) = facts
        .run_now
        .filter(|value| !value.is_empty() && Some(*value) != facts.done)
    {
        return job(&format!("now/{value}"), true);
    }
    let interval = facts.interval?;
    let young = |time: Option<Timestamp>| is_young(time, interval, now);
    // A run that failed counts too: it is tried again when its time comes.
    if facts.immediate && !facts.suspended && facts.catalog_known && !young(facts.newest) && !young(facts.last_run) {
        let last = facts.last_run.map(Timestamp::as_second).unwrap_or_default();
        return job(&format!("immediate/{last}"), false);
    }
    None
}

/// Whether something is younger than the time between two runs.
pub fn is_young(time: Option<Timestamp>, interval: SignedDuration, now: Timestamp) -> bool {
    time.is_some_and(|time| now.duration_since(time) < interval)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + hour * 3600).unwrap()
    }

    fn facts() -> Facts<'static> {
        Facts {
            name: "nightly",
            uid: "u",
            catalog_known: true,
            interval: Some(SignedDuration::from_hours(24)),
            ..Facts::default()
        }
    }

    #[test]
    fn a_new_word_is_one_run() {
        let asked = |word: Option<&'static str>, done: Option<&'static str>, running: bool| {
            due(
                &Facts {
                    run_now: word,
                    done,
                    running,
                    suspended: true,
                    ..facts()
                },
                at(0),
            )
        };
        let first = asked(Some("1"), None, false).unwrap();
        assert_eq!(asked(Some("1"), None, false), Some(first.clone()));
        assert_eq!(asked(Some("1"), Some("1"), false), None);
        assert_ne!(asked(Some("2"), Some("1"), false), Some(first));
        assert!(asked(Some("2"), Some("1"), false).is_some());
        // It is not lost while another one runs.
        assert_eq!(asked(Some("2"), Some("1"), true), None);
        assert_eq!(asked(Some(""), None, false), None);
        assert_eq!(asked(None, Some("1"), false), None);
    }

    #[test]
    fn at_once_only_when_nothing_is_young() {
        let begins = |change: &dyn Fn(&mut Facts<'static>)| {
            let mut facts = Facts {
                immediate: true,
                ..facts()
            };
            change(&mut facts);
            due(&facts, at(100)).is_some()
        };
        assert!(begins(&|_| {}));
        assert!(begins(&|facts| facts.newest = Some(at(75))));
        assert!(!begins(&|facts| facts.newest = Some(at(77))));
        assert!(!begins(&|facts| facts.last_run = Some(at(99))));
        assert!(begins(&|facts| facts.last_run = Some(at(10))));
        assert!(!begins(&|facts| facts.catalog_known = false));
        assert!(!begins(&|facts| facts.suspended = true));
        assert!(!begins(&|facts| facts.running = true));
        assert!(!begins(&|facts| facts.immediate = false));
        assert!(!begins(&|facts| facts.interval = None));
    }

    #[test]
    fn a_second_try_finds_the_first_ones_job() {
        let first = Facts {
            immediate: true,
            ..facts()
        };
        assert_eq!(due(&first, at(0)), due(&first, at(1)));
        let later = Facts {
            last_run: Some(at(0)),
            ..first.clone()
        };
        assert_ne!(due(&first, at(0)), due(&later, at(48)));
    }
}

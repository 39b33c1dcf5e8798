//! When a task is due. Pure: the clock, what is remembered and what the repository holds are arguments.
//!
//! A *window* is a moment of the schedule. A run settles every window up to its own beginning, so that what was missed
//! while nobody ran is made up by one run, and no window has two. What only a person can cure settles its window too and
//! is told; every other failure is tried again, later each time, until it succeeds or the next window takes over. A run
//! that the agent itself ended settles nothing: it is owed.
//!
//! The clock may jump. A memory of the future is moved to now, once, so that the next window comes in its time: a jump
//! back costs no run and a jump forward makes one.

use std::time::Duration;

use hardstorage_schedule::spread;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The first pause before a failed task is tried again, doubled with each failure.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// When a task runs.
#[derive(Debug, Clone)]
pub(crate) enum When {
    /// Not at all.
    Off,
    /// As soon as there is a new backup.
    AfterBackup,
    /// By the clock.
    Clock {
        /// As it was written.
        words: String,
        /// As it is read.
        plan: Box<hardstorage_schedule::Plan>,
    },
}

impl When {
    /// Reads what the configuration says; an error is a sentence. `seed` spreads the words that are spread.
    pub(crate) fn read(text: &str, zone: TimeZone, seed: &str) -> Result<When, String> {
        let text = text.trim();
        let plan = match text.to_ascii_lowercase().as_str() {
            "off" | "false" | "never" => return Ok(When::Off),
            "after-backup" => return Ok(When::AfterBackup),
            // Between midnight and six: a time of the night that is always the same for one deployment.
            "@nightly" => {
                let minute = spread(seed, 360);
                hardstorage_schedule::Plan::within(&format!("{} {} * * *", minute % 60, minute / 60), zone, seed)
            }
            _ => hardstorage_schedule::Plan::within(text, zone, seed),
        };
        let plan = plan.map_err(|problem| format!("{problem} (or @nightly, after-backup, off)"))?;
        if plan.next(Timestamp::UNIX_EPOCH).is_none() {
            return Err(format!("{text:?} is a day that never comes: off says so"));
        }
        Ok(When::Clock {
            words: text.to_owned(),
            plan: Box::new(plan),
        })
    }

    /// As a person reads it.
    pub(crate) fn shown(&self) -> String {
        match self {
            When::Off => "off".to_owned(),
            When::AfterBackup => "after-backup".to_owned(),
            When::Clock { words, plan } if *words == plan.fields => words.clone(),
            When::Clock { words, plan } => format!("{words} ({})", plan.fields),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Exit 0.
    Succeeded,
    /// It may go better the next time.
    Failed,
    /// Only a person can cure it.
    Refused,
    /// It took longer than it may.
    Hung,
    /// The agent ended it, or was ended with it.
    Stopped,
}

impl Outcome {
    /// Every one, for metrics with one series each.
    pub(crate) const ALL: [Outcome; 5] = [
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::Refused,
        Outcome::Hung,
        Outcome::Stopped,
    ];

    /// The word in JSON and in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Hung => "hung",
            Outcome::Stopped => "stopped",
        }
    }
}

/// What is remembered of one task of one deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Every window up to this moment is dealt with.
    pub(crate) settled: Timestamp,
    /// Whether a run of this agent has settled anything yet.
    #[serde(default)]
    pub(crate) ran: bool,
    /// When the last run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<Timestamp>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<Outcome>,
    /// The last one that succeeded ended then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) succeeded: Option<Timestamp>,
    /// Failures since.
    #[serde(default)]
    pub(crate) failures: u32,
    /// Not again before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_at: Option<Timestamp>,
    /// The last error, as the child told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<hardstorage_report::ErrorReport>,
}

impl Record {
    /// A task that is seen for the first time: nothing is owed for the time before.
    pub(crate) fn new(now: Timestamp) -> Record {
        Record {
            settled: now,
            ran: false,
            started: None,
            ended: None,
            outcome: None,
            succeeded: None,
            failures: 0,
            retry_at: None,
            error: None,
        }
    }

    /// Forgets the future. Whether something changed.
    pub(crate) fn mend(&mut self, now: Timestamp) -> bool {
        let before = self.clone();
        self.settled = self.settled.min(now);
        self.succeeded = self.succeeded.map(|at| at.min(now));
        self.retry_at = self.retry_at.map(|at| at.min(later(now, LONGEST_PAUSE)));
        *self != before
    }

    /// A run begins.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        (self.started, self.ended, self.outcome) = (Some(now), None, None);
    }

    /// A run that began at `started` has ended.
    pub(crate) fn end(&mut self, started: Timestamp, now: Timestamp, outcome: Outcome) {
        (self.started, self.ended, self.outcome) = (Some(started), Some(now), Some(outcome));
        self.retry_at = None;
        match outcome {
            Outcome::Succeeded => {
                self.failures = 0;
                self.succeeded = Some(now);
                self.error = None;
                self.settle(started);
            }
            Outcome::Refused => {
                self.failures = self.failures.saturating_add(1);
                self.settle(started);
            }
            Outcome::Failed | Outcome::Hung => {
                self.failures = self.failures.saturating_add(1);
                let pause = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(10));
                self.retry_at = Some(later(now, pause.min(LONGEST_PAUSE)));
            }
            Outcome::Stopped => {}
        }
    }

    fn settle(&mut self, at: Timestamp) {
        self.settled = self.settled.max(at);
        self.ran = true;
    }
}

/// What the repository says of a deployment's newest backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Newest {
    /// It could not be asked yet.
    #[default]
    Unknown,
    /// There is none.
    None,
    /// It began and ended then.
    At {
        /// The beginning.
        started: Timestamp,
        /// The end.
        stopped: Timestamp,
    },
}

impl Newest {
    /// When it began, as far as the clock can be believed.
    fn began(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Newest::At { started, .. } => Some(started).filter(|at| *at <= now),
            Newest::Unknown | Newest::None => None,
        }
    }

    /// When it was complete.
    fn complete(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Newest::At { stopped, .. } => Some(stopped).filter(|at| *at <= now),
            Newest::Unknown | Newest::None => None,
        }
    }
}

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The clock.
    pub(crate) now: Timestamp,
    /// Since when this agent looks after the deployment.
    pub(crate) since: Timestamp,
    /// What is made up is made up so long after that.
    pub(crate) spread: Duration,
    /// The newest backup.
    pub(crate) newest: Newest,
    /// When a backup of this agent succeeded last.
    pub(crate) backed_up: Option<Timestamp>,
}

/// When a task is due; none is never.
pub(crate) fn due(when: &When, makes_backups: bool, record: &Record, facts: &Facts) -> Option<Timestamp> {
    let regular = match when {
        When::Off => return None,
        When::AfterBackup => {
            let newest = facts.backed_up.max(facts.newest.complete(facts.now))?;
            if newest <= record.settled {
                return None;
            }
            newest
        }
        When::Clock { plan, .. } => {
            if makes_backups && facts.newest == Newest::None {
                // Nothing protects it: no window is waited for.
                match record.outcome {
                    _ if !record.ran => return Some(record.retry_at.unwrap_or(facts.now)),
                    // It has another repository now, or somebody took its backups away. Not in a circle, whatever it is.
                    Some(Outcome::Succeeded) => {
                        let window = plan.next_once(record.settled)?;
                        return Some(window.min(later(record.settled, LONGEST_PAUSE)));
                    }
                    _ => {}
                }
            }
            let mut settled = record.settled;
            if makes_backups && let Some(began) = facts.newest.began(facts.now) {
                // A backup of somebody else is one, and what is there from before this agent is what its windows count from.
                settled = if record.ran { settled.max(began) } else { began };
            }
            let window = plan.next_once(settled)?;
            if window < facts.since {
                window.max(later(facts.since, facts.spread))
            } else {
                window
            }
        }
    };
    let Some(retry) = record.retry_at else {
        return Some(regular);
    };
    // The next window does not wait for a pause.
    let next = match (when, record.started) {
        (When::Clock { plan, .. }, Some(started)) => plan.next_once(started),
        _ => None,
    };
    Some(retry.min(next.unwrap_or(retry)))
}

fn later(at: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;

//! Which part of a repository is due: arithmetic on a small record, without an index of what was read.
//!
//! Every object has a place in a round, between 0 and 2^32, by the hash of its name. A round goes through the places from
//! the lowest to the highest, as time goes by, so that after `within` all of them were passed, whatever came or went
//! meanwhile. A record is where the round stands; what was missed is caught up because only time decides what is due. The
//! next round passes each place the same time after the one before.

use std::collections::BTreeSet;
use std::time::Duration;

use hardstorage_codec::plain_hash;
use hardstorage_storage::Key;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The end of a round: behind every place.
pub(super) const END: u64 = 1 << 32;
/// Whoever comes once a day reads what becomes due until he comes again.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Where an object stands in every round.
pub(super) fn place(key: &Key) -> u64 {
    let [a, b, c, d, ..] = plain_hash(key.as_str().as_bytes());
    u64::from(u32::from_be_bytes([a, b, c, d]))
}

/// A round, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Round {
    /// When it began, or will.
    pub(super) began_at: Timestamp,
    /// Every object below this place was read.
    pub(super) place: u32,
    /// It reads everything at once: the next who wants that goes on with it.
    pub(super) at_once: bool,
    /// What was found damaged, and is read again each time until it is gone or whole.
    pub(super) bad: BTreeSet<String>,
}

impl Round {
    /// The first one.
    pub(super) fn first(now: Timestamp) -> Round {
        Round {
            began_at: now,
            place: 0,
            at_once: false,
            bad: BTreeSet::new(),
        }
    }

    /// As it is gone on with now.
    pub(super) fn resumed(mut self, now: Timestamp, at_once: bool) -> Round {
        // A clock that was wrong once must not put everything off.
        if later(now, AHEAD) < self.began_at {
            self.began_at = now;
        }
        if at_once && !self.at_once {
            (self.began_at, self.place, self.at_once) = (now, 0, true);
        }
        self
    }

    /// The place to which it should have come before the next day.
    pub(super) fn due(&self, now: Timestamp, within: Duration) -> u64 {
        let elapsed = now
            .duration_since(self.began_at)
            .saturating_add(AHEAD)
            .as_millis()
            .max(0);
        let within = length(within).as_millis().max(1);
        let place = elapsed.saturating_mul(i128::from(END)) / within;
        u64::try_from(place).unwrap_or(END).min(END)
    }

    /// The one after it, which is through. It begins when it should, but never later than with the next day.
    pub(super) fn next(self, now: Timestamp, within: Duration) -> Round {
        let planned = later(self.began_at, length(within));
        Round {
            began_at: planned.clamp(now, later(now, AHEAD)),
            place: 0,
            at_once: false,
            bad: self.bad,
        }
    }
}

/// A round is a day shorter than the time that it has: a place may be read a day early in one round and not in the next.
fn length(within: Duration) -> SignedDuration {
    let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
    (within - AHEAD.min(within / 2)).max(SignedDuration::ZERO)
}

fn later(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn day(number: f64) -> Timestamp {
        later(
            "2026-11-22T03:00:00Z".parse().unwrap(),
            SignedDuration::from_secs_f64(number * 86_400.0),
        )
    }

    /// Goes through rounds on the given days. Gives the longest time that a place waited between two reads.
    fn longest_wait(days: impl Iterator<Item = f64>, within: Duration) -> f64 {
        const PLACES: u64 = 512;
        let mut round = Round::first(day(0.0));
        let mut read = [0.0f64; PLACES as usize];
        let mut longest = 0.0f64;
        for at in days {
            let now = day(at);
            round = round.resumed(now, false);
            let due = round.due(now, within);
            for slot in 0..PLACES {
                let place = slot * (END / PLACES);
                if place >= u64::from(round.place) && place < due {
                    longest = longest.max(at - read[slot as usize]);
                    read[slot as usize] = at;
                }
            }
            if due == END {
                round = round.next(now, within);
            } else {
                round.place = round.place.max(due as u32);
            }
        }
        longest
    }

    #[test]
    fn a_daily_timer_reads_everything_within_the_time() {
        let longest = longest_wait((0..400).map(f64::from), 30 * DAY);
        assert!(longest <= 30.0, "{longest}");
        let jitter = longest_wait((0..400).map(|n| f64::from(n) + f64::from(n * 7 % 10) / 40.0), 7 * DAY);
        assert!(jitter <= 7.25, "{jitter}");
        // Days that are missed are caught up, all at once.
        let missed = longest_wait((0..400).filter(|n| !(40..45).contains(n)).map(f64::from), 30 * DAY);
        assert!(missed <= 36.0, "{missed}");
        let hourly = longest_wait((0..2000).map(|n| f64::from(n) / 24.0), 7 * DAY);
        assert!(hourly <= 7.0, "{hourly}");
    }

    #[test]
    fn a_day_reads_its_share() {
        let round = Round::first(day(0.0));
        assert_eq!(round.due(day(0.0), 30 * DAY), END / 29);
        assert_eq!(round.due(day(28.0), 30 * DAY), END);
        assert_eq!(round.due(day(0.0), DAY / 2), END);
        assert_eq!(round.due(day(-3.0), 30 * DAY), 0);
        // A clock that was far ahead.
        assert_eq!(
            Round::first(day(900.0))
                .resumed(day(1.0), false)
                .due(day(1.0), 30 * DAY),
            END / 29
        );
    }

    #[test]
    fn everything_at_once_is_gone_on_with() {
        let mut round = Round::first(day(0.0)).resumed(day(1.0), false);
        round.place = 77;
        let mut whole = round.clone().resumed(day(1.0), true);
        assert_eq!((whole.place, whole.at_once), (0, true));
        whole.place = 99;
        assert_eq!(whole.clone().resumed(day(2.0), true).place, 99);
        assert_eq!(whole.next(day(2.0), 30 * DAY).began_at, day(3.0));
        assert_eq!(round.next(day(45.0), 30 * DAY).began_at, day(45.0));
    }
}

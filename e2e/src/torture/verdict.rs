//! What must be in a restored table, and what must not.
//!
//! It follows from the history of the restored server alone: which timelines it came through, and where it left each. A row
//! before the place where its timeline was left is alive, one behind it is dead, and of one whose commit lies around that
//! place nothing is asked.

use std::collections::{BTreeMap, HashSet};

use super::ledger::{Ledger, Moment, Row};
use crate::postgres::lsn;

/// Where a restored server comes from.
#[derive(Debug)]
pub(super) struct Course {
    /// Where each timeline was left.
    left: BTreeMap<u32, u64>,
    /// The one that recovery was on at the end of the archive.
    pub(super) last: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Alive,
    Dead,
    /// Its timeline is newer than the restored server knows.
    Unknown,
    Either,
}

impl Course {
    /// From the history file that a server wrote when it was promoted: its last line is that promotion.
    #[track_caller]
    pub(super) fn of(history: &str) -> Course {
        let mut left = BTreeMap::new();
        for line in history.lines().filter(|line| !line.trim().is_empty()) {
            let mut words = line.split_ascii_whitespace();
            let mut word = || words.next().unwrap_or_else(|| panic!("{history}"));
            let timeline = word().parse().unwrap();
            left.insert(timeline, lsn(word()));
        }
        let (last, _) = left.pop_last().unwrap_or_else(|| panic!("{history}"));
        Course { left, last }
    }

    fn fate(&self, row: &Row) -> Fate {
        if row.timeline == self.last {
            return Fate::Alive;
        }
        if row.timeline > self.last {
            return Fate::Unknown;
        }
        match self.left.get(&row.timeline) {
            Some(left) if row.after.is_some_and(|after| after <= *left) => Fate::Alive,
            Some(left) if row.before < *left => Fate::Either,
            _ => Fate::Dead,
        }
    }

    /// Whether it goes on behind a moment, on the timeline of that.
    pub(super) fn goes_on(&self, moment: &Moment, rows: &[Row]) -> bool {
        rows.iter()
            .any(|row| row.timeline == moment.timeline && row.before >= moment.lsn && self.fate(row) == Fate::Alive)
    }

    /// Whether a moment lies on it and is known to be stored.
    pub(super) fn reaches(&self, moment: &Moment, promised: &BTreeMap<u32, u64>) -> bool {
        let until = if moment.timeline == self.last {
            promised.get(&self.last)
        } else {
            self.left.get(&moment.timeline)
        };
        until.is_some_and(|until| moment.lsn <= *until)
    }
}

/// What is absent, and may be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Absent {
    /// Rows of branches that died.
    pub(super) dead: usize,
    /// Rows that an asynchronous stream had not promised.
    pub(super) unpromised: usize,
}

/// Holds the rows that are there against the ledger. `promised` says for each timeline how far the stream called it durable;
/// in a synchronous world every acknowledged commit is a promise.
pub(super) fn compare(
    ledger: &Ledger,
    course: &Course,
    there: &HashSet<(u32, u64)>,
    promised: &BTreeMap<u32, u64>,
    synchronous: bool,
) -> Result<Absent, String> {
    if let Some((writer, number)) = there.iter().find(|(writer, number)| !ledger.was_sent(*writer, *number)) {
        return Err(format!("writer {writer} never sent {number}, and it is there"));
    }
    let mut sum = Absent::default();
    // The first row of each writer that is absent although it could be there.
    let mut absent: BTreeMap<u32, Row> = BTreeMap::new();
    for row in ledger.rows() {
        let present = there.contains(&(row.writer, row.number));
        match (course.fate(&row), present) {
            (Fate::Dead | Fate::Unknown, true) => return Err(format!("of a branch that died, and there: {row:?}")),
            (Fate::Dead, false) => sum.dead += 1,
            (Fate::Alive, true) => {
                if let Some(hole) = absent.get(&row.writer) {
                    return Err(format!("a hole: {hole:?} is absent, and {row:?} is there"));
                }
            }
            (Fate::Alive | Fate::Unknown, false) => {
                if synchronous {
                    return Err(format!("LOST, and its commit had waited for the stream: {row:?}"));
                }
                // What a later timeline was promised covers all that led to it.
                let by = promised.range(row.timeline..).find(|(timeline, until)| {
                    let covers = row.after.is_some_and(|after| after <= **until);
                    covers && **timeline <= course.last
                });
                if by.is_some() {
                    return Err(format!("LOST, and promised by {by:?}: {row:?}"));
                }
                sum.unpromised += 1;
                absent.entry(row.writer).or_insert(row);
            }
            (Fate::Either, _) => {}
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::super::ledger::State;
    use super::*;

    /// Timeline 1 was left at 100, the archive ends on timeline 2. Writer 1 wrote one row each at 50 and 95..105 and 150 on
    /// timeline 1, and at 120 and 140 on timeline 2; what it sent last was never answered.
    fn world() -> (Ledger, Course) {
        let ledger = Ledger::default();
        for (number, timeline, before, after) in [
            (1, 1, 40, 50),
            (2, 1, 95, 105),
            (3, 1, 140, 150),
            (4, 2, 110, 120),
            (5, 2, 130, 140),
        ] {
            ledger.acknowledged(Row {
                writer: 1,
                number,
                timeline,
                before,
                after: Some(after),
            });
        }
        ledger.sends(1, 6);
        (ledger, Course::of("1\t0/64\tno reason\n\n2\t0/FF\tno reason\n"))
    }

    fn judged(there: &[u64], promised: u64, synchronous: bool) -> Result<Absent, String> {
        let (ledger, course) = world();
        let there = there.iter().map(|number| (1, *number)).collect();
        compare(&ledger, &course, &there, &BTreeMap::from([(2, promised)]), synchronous)
    }

    #[test]
    fn what_is_right_is_right() {
        let absent = |dead, unpromised| Ok(Absent { dead, unpromised });
        assert_eq!(
            judged(&[1, 2, 4, 5, 6], 140, true),
            absent(1, 0),
            "with what was never answered"
        );
        assert_eq!(
            judged(&[1, 4, 5], 140, true),
            absent(1, 0),
            "around the place where it was left"
        );
        assert_eq!(judged(&[1, 2, 4], 139, false), absent(1, 1), "not promised yet");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (there, promised, synchronous, word) in [
            (&[1, 2, 4][..], 140, false, "LOST, and promised"),
            (&[1, 2, 4], 0, true, "LOST, and its commit"),
            (&[2, 4, 5], 120, false, "LOST, and promised by Some((2"),
            (&[1, 5], 0, false, "a hole"),
            (&[1, 3, 4, 5], 140, false, "a branch that died"),
            (&[1, 4, 5, 7], 140, false, "never sent 7"),
        ] {
            let told = judged(there, promised, synchronous).unwrap_err();
            assert!(told.contains(word), "{there:?}: {told}");
        }
    }

    #[test]
    fn a_moment_has_a_time_only_when_its_timeline_went_on() {
        let (ledger, course) = world();
        let goes_on = |timeline, lsn| {
            let (time, state) = (
                String::new(),
                State {
                    rows: 0,
                    hash: String::new(),
                },
            );
            course.goes_on(
                &Moment {
                    timeline,
                    lsn,
                    time,
                    state,
                },
                &ledger.rows(),
            )
        };
        assert!(goes_on(1, 40), "a row that is alive lies behind it");
        assert!(
            !goes_on(1, 60),
            "only one around the place where it was left, and a dead one"
        );
        assert!(goes_on(2, 130) && !goes_on(2, 131));
    }

    #[test]
    fn a_timeline_that_the_restored_server_does_not_know_is_lost_with_all_its_rows() {
        let (ledger, _) = world();
        let first = Course::of("1\t0/FF\tno reason\n");
        let there = [(1, 1), (1, 2), (1, 3)].into();
        let told = compare(&ledger, &first, &there, &BTreeMap::new(), true).unwrap_err();
        assert!(told.contains("LOST"), "{told}");
        let unpromised = compare(&ledger, &first, &there, &BTreeMap::from([(1, 150)]), false);
        assert_eq!(unpromised, Ok(Absent { dead: 0, unpromised: 2 }));
    }
}

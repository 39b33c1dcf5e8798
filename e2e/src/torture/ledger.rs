//! What the writers know: every commit that was acknowledged, and moments at which the whole table was looked at.
//!
//! A row is noted only after its COMMIT has returned, with two positions: one before the commit record, taken by the same
//! statement, and one behind it, asked for afterwards. What was sent and never answered may exist or not; of it only the
//! number is kept. A moment is taken under a lock that keeps writers out, so the state, the clock and the position belong
//! together exactly; the position is one that is flushed, because what is not may be written otherwise after a crash.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An acknowledged commit.
#[derive(Debug, Clone)]
pub struct Row {
    /// Who wrote it.
    pub writer: u32,
    /// The writer's own number, without an acknowledged one left out.
    pub number: u64,
    /// The timeline it was written on.
    pub timeline: u32,
    /// The commit record begins here or later.
    pub before: u64,
    /// It ends here or earlier; unknown when the connection broke behind the commit.
    pub after: Option<u64>,
}

/// A state of the whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its rows.
    pub rows: u64,
    /// A hash over the numbers of all of them.
    pub hash: String,
}

/// A state with its place in history.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The timeline.
    pub timeline: u32,
    /// Everything up to here is in the state, and nothing behind it.
    pub lsn: u64,
    /// The server's clock.
    pub time: String,
    /// What the table held.
    pub state: State,
}

/// All of it, shared by the threads that fill it.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: Mutex<Vec<Row>>,
    moments: Mutex<Vec<Moment>>,
    sent: Mutex<BTreeMap<u32, u64>>,
}

impl Ledger {
    /// A writer is about to send this number.
    pub fn sends(&self, writer: u32, number: u64) {
        held(&self.sent).insert(writer, number);
    }

    /// A commit was acknowledged.
    pub fn acknowledged(&self, row: Row) {
        held(&self.rows).push(row);
    }

    /// The table was looked at.
    pub fn saw(&self, moment: Moment) {
        held(&self.moments).push(moment);
    }

    /// How many commits were acknowledged until now.
    pub fn commits(&self) -> usize {
        held(&self.rows).len()
    }

    /// How many moments were taken until now.
    pub fn looks(&self) -> usize {
        held(&self.moments).len()
    }

    /// The acknowledged commits, by writer and number.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = held(&self.rows).clone();
        rows.sort_by_key(|row| (row.writer, row.number));
        rows
    }

    /// The moments, in the order in which they were taken.
    pub fn moments(&self) -> Vec<Moment> {
        held(&self.moments).clone()
    }

    /// Whether a writer has ever sent this.
    pub fn was_sent(&self, writer: u32, number: u64) -> bool {
        held(&self.sent)
            .get(&writer)
            .is_some_and(|last| (1..=*last).contains(&number))
    }
}

/// A lock that a panic elsewhere does not make unusable: that panic fails the test by itself.
pub(super) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

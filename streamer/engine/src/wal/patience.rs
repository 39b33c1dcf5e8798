//! Which failures end a stream, and how long it waits after the others.
//!
//! One table for a stream at its start, for one that flowed and lost its connection, and for what has to be there before
//! the first connection. What never heals needs another command line, or a person who finds out which of two clusters is
//! the right one: going on would mix them. What needs a person may come back by itself while somebody rotates a password
//! in two steps or creates a Secret a minute after its reader.

use std::time::Duration;

use hardstorage_report::{Error, Kind, code};

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);

/// Whether trying again makes no sense, ever.
pub(super) fn never_heals(error: &Error) -> bool {
    let for_ever = [
        code::repository::SYSTEM_MISMATCH,
        code::repository::SPLIT_BRAIN,
        code::repository::KEY_WRONG,
    ];
    for_ever.iter().any(|code| error.is(*code)) || error.kind() == Kind::Usage
}

/// Whether somebody has to change something first: whoever starts a stream and looks at it should be told at once.
pub(super) fn needs_a_person(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::Auth | Kind::Preflight | Kind::Conflict | Kind::Verify
    )
}

/// Waits that double up to a limit.
pub(super) struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Backoff {
    pub(super) fn new(limit: Duration) -> Backoff {
        Backoff { next: FIRST, limit }
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The wait before the next attempt.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.next.min(self.limit);
        self.next = (self.next * 2).min(self.limit);
        wait
    }
}

#[cfg(test)]
mod tests {
    use hardstorage_report::Code;

    use super::*;

    #[test]
    fn what_heals_by_itself_and_what_does_not() {
        let table: [(Code, bool, bool); 12] = [
            // code, never heals, needs a person
            (code::usage::CONNINFO, true, false),
            (code::repository::SYSTEM_MISMATCH, true, true),
            (code::repository::SPLIT_BRAIN, true, true),
            (code::repository::KEY_WRONG, true, true),
            (code::repository::KEY_MISSING, false, true),
            (code::repository::MISSING, false, false),
            (code::replication::AUTH, false, true),
            (code::replication::TLS, false, true),
            (code::replication::SENDERS_FULL, false, true),
            (code::replication::UNREACHABLE, false, false),
            (code::storage::UNREACHABLE, false, false),
            (code::cli::IO, false, false),
        ];
        for (code, for_ever, person) in table {
            let error = Error::new(code, "x");
            assert_eq!(
                (never_heals(&error), needs_a_person(&error)),
                (for_ever, person),
                "{code}"
            );
        }
    }

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let waits: Vec<u64> = (0..5).map(|_| backoff.wait().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.wait(), FIRST);
        assert_eq!(
            Backoff::new(Duration::from_millis(10)).wait(),
            Duration::from_millis(10)
        );
    }
}

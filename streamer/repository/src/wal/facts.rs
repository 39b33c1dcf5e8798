//! What the records in a piece of WAL say: commits, restore points, and up to which server clock the piece is complete.
//!
//! The archive never looks into WAL itself; whoever streams it reads these facts out of the records as they pass and
//! hands them over with the bytes. They answer later whether a moment can be reached, without reading any WAL again.

use std::fmt;

use hardstorage_report::Lsn;
use jiff::Timestamp;

/// Microseconds between 1970-01-01 and PostgreSQL's epoch, 2000-01-01 00:00:00 UTC.
const EPOCH: i64 = 946_684_800_000_000;

/// A time of the server's clock as PostgreSQL writes it: microseconds since 2000-01-01 00:00:00 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerTime(pub i64);

impl ServerTime {
    /// From a timestamp; what is finer than a microsecond is cut off, as PostgreSQL does.
    pub fn from_timestamp(time: Timestamp) -> ServerTime {
        // A Timestamp spans years -9999 to 9999: the difference always fits.
        ServerTime(time.as_microsecond().saturating_sub(EPOCH))
    }

    /// As a timestamp; `None` outside of the years that it knows.
    pub fn to_timestamp(self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.0.checked_add(EPOCH)?).ok()
    }
}

impl fmt::Display for ServerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_timestamp() {
            Some(time) => fmt::Display::fmt(&time, f),
            None => write!(f, "{} us after 2000-01-01", self.0),
        }
    }
}

impl fmt::Debug for ServerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A commit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitAt {
    /// Where the record begins, as `pg_waldump` prints it.
    pub lsn: Lsn,
    /// The commit's time.
    pub time: ServerTime,
}

/// A record of `pg_create_restore_point`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// Its name, at most 63 bytes; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Where the record begins.
    pub lsn: Lsn,
    /// When it was made.
    pub time: ServerTime,
}

/// What the records say that *end* in a piece of WAL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFacts {
    /// The first commit by position.
    pub first_commit: Option<CommitAt>,
    /// The last commit by position.
    pub last_commit: Option<CommitAt>,
    /// The commit with the greatest time. Commits are not written in the order of their times.
    pub latest_commit: Option<CommitAt>,
    /// The restore points, by position.
    pub restore_points: Vec<RestorePoint>,
    /// A time of the server's clock at which the server had written nothing beyond this piece: every commit up to it is
    /// in here or before. Never earlier than `latest_commit`.
    pub complete_up_to: Option<ServerTime>,
    /// Where the last whole record ends.
    pub records_end: Option<Lsn>,
}

impl RecordFacts {
    /// Takes note of a commit; in the order of positions.
    pub fn note_commit(&mut self, commit: CommitAt) {
        self.first_commit.get_or_insert(commit);
        self.last_commit = Some(commit);
        if self.latest_commit.is_none_or(|latest| commit.time > latest.time) {
            self.latest_commit = Some(commit);
        }
    }

    /// Takes note that the server had nothing more at this time of its clock.
    pub fn note_complete(&mut self, time: ServerTime) {
        self.complete_up_to = self.complete_up_to.max(Some(time));
    }

    /// Adds the facts of a piece that begins no earlier than this one; the two may overlap.
    pub fn join(&mut self, later: &RecordFacts) {
        for commit in [later.first_commit, later.latest_commit, later.last_commit]
            .into_iter()
            .flatten()
        {
            self.first_commit.get_or_insert(commit);
            if self.last_commit.is_none_or(|last| commit.lsn > last.lsn) {
                self.last_commit = Some(commit);
            }
            if self.latest_commit.is_none_or(|latest| commit.time > latest.time) {
                self.latest_commit = Some(commit);
            }
        }
        for point in &later.restore_points {
            if self.restore_points.last().is_none_or(|last| point.lsn > last.lsn) {
                self.restore_points.push(point.clone());
            }
        }
        self.complete_up_to = self.complete_up_to.max(later.complete_up_to);
        self.records_end = self.records_end.max(later.records_end);
    }

    /// Leaves only what is certain of the part before `end`. Commits that are not named are forgotten: of the last one
    /// before `end` nothing is known then but that it is no earlier than those that stay.
    pub fn end_at(&mut self, end: Lsn) {
        let before = |commit: &CommitAt| commit.lsn < end;
        self.first_commit = self.first_commit.filter(before);
        self.last_commit = self.last_commit.filter(before);
        self.latest_commit = self.latest_commit.filter(before);
        self.complete_up_to = None;
    }

    /// The latest time of the server's clock that is known to be complete: the one that was said, or the latest commit.
    pub fn known_clock(&self) -> Option<ServerTime> {
        self.complete_up_to.max(self.latest_commit.map(|commit| commit.time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn postgresql_epoch() {
        let time: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(ServerTime::from_timestamp(time), ServerTime(0));
        let time: Timestamp = "2026-11-22T08:15:30.123456Z".parse().unwrap();
        assert_eq!(ServerTime::from_timestamp(time).to_timestamp(), Some(time));
        assert_eq!(ServerTime(i64::MAX).to_timestamp(), None);
        assert!(!ServerTime(i64::MAX).to_string().is_empty());
    }

    proptest! {
        // Whatever way a run of commits is cut into pieces, joining the pieces gives the facts of the whole.
        #[test]
        fn joining_pieces_gives_the_whole(
            times in proptest::collection::vec(0i64..20, 1..30), cut in any::<prop::sample::Index>(),
        ) {
            let commits: Vec<CommitAt> = times.iter().enumerate()
                .map(|(at, time)| CommitAt { lsn: Lsn(at as u64 * 8), time: ServerTime(*time) }).collect();
            let facts = |commits: &[CommitAt]| {
                let mut facts = RecordFacts::default();
                for commit in commits {
                    facts.note_commit(*commit);
                    facts.restore_points.push(
                        RestorePoint { name: "x".into(), lsn: commit.lsn, time: commit.time });
                    facts.records_end = Some(commit.lsn.add(8));
                }
                facts
            };
            let cut = cut.index(commits.len());
            let mut joined = facts(&commits[..cut]);
            joined.join(&facts(&commits[cut..]));
            prop_assert_eq!(&joined, &facts(&commits));
            // An overlap changes nothing.
            joined.join(&facts(&commits[cut / 2..]));
            prop_assert_eq!(&joined, &facts(&commits));
        }
    }
}

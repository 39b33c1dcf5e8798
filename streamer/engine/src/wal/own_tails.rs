//! The tails that this process has written, over all of its connections.
//!
//! Every connection writes under an id of its own, because it may have reached another server than the one before: what
//! an earlier one stored is compared like the tails of strangers. Without a memory of whose they are, a connection that
//! breaks again and again would leave a tail each time; with it, what a later tail repeats can be removed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hardstorage_report::SegmentName;
use hardstorage_repository::WriterId;
use hardstorage_repository::wal::ServerTime;

/// Up to which clock of the server the tails say that nothing is missing.
type Known = Option<ServerTime>;

/// Shared by the recorders of one process.
#[derive(Debug, Clone, Default)]
pub struct OwnTails(Arc<Mutex<BTreeMap<(SegmentName, WriterId), Known>>>);

impl OwnTails {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(SegmentName, WriterId), Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a tail.
    pub(super) fn wrote(&self, segment: SegmentName, writer: WriterId, known: Known) {
        let mut all = self.lock();
        let entry = all.entry((segment, writer)).or_default();
        *entry = (*entry).max(known);
    }

    /// Who else of this process has written tails of a segment that say no more than `known`.
    pub(super) fn earlier(&self, segment: SegmentName, writer: WriterId, known: Known) -> Vec<WriterId> {
        let all = self.lock();
        let earlier = all
            .iter()
            .filter(|((of, by), said)| *of == segment && *by != writer && **said <= known);
        earlier.map(|((_, by), _)| *by).collect()
    }

    /// Nothing of this writer is left in the segment.
    pub(super) fn forget(&self, segment: SegmentName, writer: WriterId) {
        self.lock().remove(&(segment, writer));
    }

    /// The segment is finished: its tails go.
    pub(super) fn finished(&self, segment: SegmentName) {
        self.lock().retain(|(of, _), _| *of != segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_no_more_is_left_behind() {
        let tails = OwnTails::default();
        let [one, two, three] = [1, 2, 3].map(|number| WriterId::new([number; 16]));
        let segment: SegmentName = "000000010000000000000005".parse().unwrap();
        let other: SegmentName = "000000010000000000000006".parse().unwrap();
        tails.wrote(segment, one, Some(ServerTime(5)));
        tails.wrote(segment, one, None);
        tails.wrote(segment, two, Some(ServerTime(9)));
        tails.wrote(other, one, None);
        assert_eq!(tails.earlier(segment, three, Some(ServerTime(8))), [one]);
        assert_eq!(tails.earlier(segment, three, None), []);
        assert_eq!(tails.earlier(segment, one, Some(ServerTime(9))), [two]);
        tails.forget(segment, two);
        assert_eq!(tails.earlier(segment, one, Some(ServerTime(9))), []);
        tails.finished(segment);
        assert_eq!(tails.earlier(segment, three, Some(ServerTime(9))), []);
        assert_eq!(tails.earlier(other, three, None), [one]);
    }
}

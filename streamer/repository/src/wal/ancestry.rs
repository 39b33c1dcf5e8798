//! The tree of timelines: which stretch of WAL each ancestor contributes to a timeline's history.

use std::collections::BTreeMap;

use hardstorage_report::{Error, Lsn, Result, SegmentName, SegmentSize, Timeline, code};

use super::history::HistoryFile;

/// The part that one timeline has in the history of another, or of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    /// The timeline.
    pub timeline: Timeline,
    /// Its first byte; 0 for the oldest.
    pub begin: Lsn,
    /// The first byte that belongs to the next one; `None` for the last.
    pub end: Option<Lsn>,
}

/// What a set of history files says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ancestry {
    histories: BTreeMap<Timeline, HistoryFile>,
}

impl Ancestry {
    /// Takes the histories.
    pub fn new(histories: impl IntoIterator<Item = HistoryFile>) -> Ancestry {
        Ancestry {
            histories: histories.into_iter().map(|file| (file.timeline, file)).collect(),
        }
    }

    /// Whether a timeline's history is known. Timeline 1 needs none.
    pub fn knows(&self, timeline: Timeline) -> bool {
        timeline == Timeline(1) || self.histories.contains_key(&timeline)
    }

    /// The newest timeline that has a history file.
    pub fn newest(&self) -> Option<Timeline> {
        self.histories.keys().next_back().copied()
    }

    /// The branches that lead to a timeline, oldest first; the last is the timeline itself. Without a history a
    /// timeline has no ancestors, as for PostgreSQL. Refused when an ancestor's own file tells another story: two
    /// servers have then given one number to two timelines.
    pub fn chain(&self, timeline: Timeline) -> Result<Vec<Branch>> {
        let Some(history) = self.histories.get(&timeline) else {
            return Ok(vec![Branch {
                timeline,
                begin: Lsn::INVALID,
                end: None,
            }]);
        };
        let mut chain = Vec::with_capacity(history.entries.len() + 1);
        let mut begin = Lsn::INVALID;
        for (index, entry) in history.entries.iter().enumerate() {
            if let Some(parent) = self.histories.get(&entry.timeline) {
                let own = parent.entries.iter().map(|entry| (entry.timeline, entry.switch));
                let told = history
                    .entries
                    .iter()
                    .take(index)
                    .map(|entry| (entry.timeline, entry.switch));
                if !own.eq(told) {
                    return Err(Error::new(
                        code::repository::SPLIT_BRAIN,
                        format!(
                            "{} and {} tell different ancestors of timeline {}",
                            timeline.history_name(),
                            entry.timeline.history_name(),
                            entry.timeline
                        ),
                    ));
                }
            }
            chain.push(Branch {
                timeline: entry.timeline,
                begin,
                end: Some(entry.switch),
            });
            begin = entry.switch;
        }
        chain.push(Branch {
            timeline,
            begin,
            end: None,
        });
        Ok(chain)
    }

    /// The timeline on which a byte lies in the history of `timeline` (`tliOfPointInHistory`).
    pub fn timeline_at(&self, timeline: Timeline, lsn: Lsn) -> Result<Timeline> {
        let chain = self.chain(timeline)?;
        let branch = chain.iter().find(|branch| branch.end.is_none_or(|end| lsn < end));
        Ok(branch.map_or(timeline, |branch| branch.timeline))
    }

    /// The copy of the segment with this byte that recovery to `timeline` reads: the one on the newest timeline that
    /// began in or before the segment (`XLogFileReadAnyTLI`).
    pub fn segment_for(&self, timeline: Timeline, lsn: Lsn, size: SegmentSize) -> Result<SegmentName> {
        let chain = self.chain(timeline)?;
        let start = lsn.segment_start(size);
        let branch = chain
            .iter()
            .rev()
            .find(|branch| branch.begin.segment_start(size) <= start);
        let on = branch.map_or(timeline, |branch| branch.timeline);
        Ok(SegmentName::containing(on, start, size))
    }

    /// Whether the history of `timeline` passes through `ancestor` at this position.
    pub fn passes(&self, timeline: Timeline, ancestor: Timeline, lsn: Lsn) -> Result<bool> {
        let chain = self.chain(timeline)?;
        let on = chain.iter().find(|branch| branch.timeline == ancestor);
        Ok(on.is_some_and(|branch| branch.begin <= lsn && branch.end.is_none_or(|end| lsn <= end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ancestry(files: &[(u32, &str)]) -> Ancestry {
        Ancestry::new(
            files
                .iter()
                .map(|(timeline, text)| HistoryFile::parse(Timeline(*timeline), text.as_bytes()).unwrap()),
        )
    }

    #[test]
    fn a_chain_of_switches() {
        let tree = ancestry(&[(2, "1\t0/3000158\tx\n"), (11, "1\t0/3000158\tx\n2\t0/50000A0\ty\n")]);
        let chain = tree.chain(Timeline(11)).unwrap();
        let told: Vec<_> = chain
            .iter()
            .map(|b| (b.timeline.0, b.begin.0, b.end.map(|end| end.0)))
            .collect();
        assert_eq!(
            told,
            [
                (1, 0, Some(0x300_0158)),
                (2, 0x300_0158, Some(0x500_00A0)),
                (11, 0x500_00A0, None)
            ]
        );
        let at = |lsn| tree.timeline_at(Timeline(11), Lsn(lsn)).unwrap().0;
        assert_eq!((at(0x300_0157), at(0x300_0158), at(0x500_00A0)), (1, 2, 11));

        // The segment of a switch is read from the newer timeline, from its first byte on.
        let size = SegmentSize::new(1 << 20).unwrap();
        let name = |lsn| tree.segment_for(Timeline(11), Lsn(lsn), size).unwrap().to_string();
        assert_eq!(name(0x2FF_FFFF), "00000001000000000000002F");
        assert_eq!(name(0x300_0000), "000000020000000000000030");
        assert_eq!(name(0x500_0000), "0000000B0000000000000050");

        assert!(tree.passes(Timeline(11), Timeline(1), Lsn(0x300_0158)).unwrap());
        assert!(!tree.passes(Timeline(11), Timeline(1), Lsn(0x300_0159)).unwrap());
        assert!(!tree.passes(Timeline(2), Timeline(11), Lsn(0x600_0000)).unwrap());
        assert_eq!(tree.newest(), Some(Timeline(11)));
        assert!(tree.knows(Timeline(1)) && tree.knows(Timeline(2)) && !tree.knows(Timeline(3)));
    }

    #[test]
    fn two_stories_of_one_timeline_are_an_alarm() {
        let tree = ancestry(&[(2, "1\t0/3000158\tx\n"), (3, "1\t0/3000200\tx\n2\t0/50000A0\ty\n")]);
        let error = tree.chain(Timeline(3)).unwrap_err();
        assert!(error.is(code::repository::SPLIT_BRAIN), "{error}");
        assert!(tree.chain(Timeline(2)).is_ok());
    }
}

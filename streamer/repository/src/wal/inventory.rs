//! What is stored on one timeline, by names alone: the material of coverage and of the frontier.

use std::collections::{BTreeMap, BTreeSet};

use hardstorage_report::{Lsn, Result, SegmentName, SegmentSize, Timeline};

use super::WalArchive;
use super::assemble::reach;
use super::coverage::{LsnRange, Piece, PieceSource};

/// What is stored on one timeline.
#[derive(Debug, Clone, Default)]
pub(super) struct Inventory {
    pub segments: BTreeSet<Lsn>,
    /// By segment: what its tails hold without a hole from its first byte on, and the first byte behind a hole.
    pub tails: BTreeMap<Lsn, (LsnRange, Option<Lsn>)>,
    /// The first lost byte of every recorded gap.
    pub lost: BTreeSet<Lsn>,
}

impl Inventory {
    /// Whether anything of this timeline lies in the segment at `start` or behind it.
    pub(super) fn has_from(&self, start: Lsn) -> bool {
        self.segments.range(start..).next().is_some() || self.tails.range(start..).next().is_some()
    }

    /// The pieces in a window, as far as recovery can read them.
    pub(super) fn pieces(&self, timeline: Timeline, window: LsnRange, size: SegmentSize, out: &mut Vec<Piece>) {
        self.collect(timeline, window, size, out, |inventory, end, range, beyond| {
            beyond.is_none() && (!inventory.has_from(end) || inventory.lost.contains(&range.to))
        });
    }

    /// The pieces in a window with all tails, wherever they lie: what need not be streamed again.
    pub(super) fn everything(&self, timeline: Timeline, window: LsnRange, size: SegmentSize, out: &mut Vec<Piece>) {
        self.collect(timeline, window, size, out, |_, _, _, _| true);
    }

    /// `counts` says of tails that hold the beginning of a segment, but not all of it, whether they are a piece. It gets
    /// the segment's end, what the tails hold, and what lies behind a hole in them.
    fn collect(
        &self,
        timeline: Timeline,
        window: LsnRange,
        size: SegmentSize,
        out: &mut Vec<Piece>,
        counts: impl Fn(&Inventory, Lsn, LsnRange, Option<Lsn>) -> bool,
    ) {
        let bytes = size.bytes();
        let mut add = |start: Lsn, range: LsnRange, source| {
            let range = LsnRange {
                from: range.from.max(window.from),
                to: range.to.min(window.to),
            };
            if range.from < range.to {
                out.push(Piece {
                    range,
                    segment: SegmentName::containing(timeline, start, size),
                    source,
                });
            }
        };
        // The window may begin within a segment.
        let first = window.from.segment_start(size);
        let starts: BTreeSet<Lsn> = self
            .segments
            .range(first..window.to)
            .chain(self.tails.range(first..window.to).map(|(start, _)| start))
            .copied()
            .collect();
        for start in starts {
            let end = start.add(bytes);
            if self.segments.contains(&start) {
                add(start, LsnRange { from: start, to: end }, PieceSource::Segment);
            } else if let Some((range, beyond)) = self.tails.get(&start) {
                let whole = range.from == start && range.to == end;
                if whole || range.from == start && counts(self, end, *range, *beyond) {
                    add(start, *range, PieceSource::Tails);
                }
            }
        }
    }
}

impl WalArchive {
    /// What is stored of a timeline from the segment with the byte `from` on; gaps are not looked at.
    pub(super) async fn inventory(&self, timeline: Timeline, from: Lsn) -> Result<Inventory> {
        self.look(timeline, from, false).await
    }

    /// The same with the gaps, where they make a difference: only to tails.
    pub(super) async fn inventory_and_gaps(&self, timeline: Timeline, from: Lsn) -> Result<Inventory> {
        self.look(timeline, from, true).await
    }

    async fn look(&self, timeline: Timeline, from: Lsn, gaps: bool) -> Result<Inventory> {
        let size = self.segment_size();
        let first = from.segment_start(size);
        let before = first
            .0
            .checked_sub(size.bytes())
            .map(|start| SegmentName::containing(timeline, Lsn(start), size));
        // Tails first: a segment that is finished in between is then seen as finished.
        let mut tails = BTreeMap::new();
        for (start, objects) in self.tails_from(timeline, first).await? {
            let mut spans = Vec::with_capacity(objects.len());
            for object in &objects {
                spans.extend(object.span(self).await?);
            }
            if let Some(reached) = reach(spans.iter().map(|span| (span.from, span.to))) {
                tails.insert(start, reached);
            }
        }
        let gaps = gaps && !tails.is_empty();
        let lost = async {
            if gaps {
                self.lost_from(timeline).await
            } else {
                Ok(BTreeSet::new())
            }
        };
        let (names, lost) = tokio::try_join!(self.list_segments(timeline, before), lost)?;
        let segments = names.iter().filter_map(|name| name.start(size)).collect();
        Ok(Inventory { segments, tails, lost })
    }
}

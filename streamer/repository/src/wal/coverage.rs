//! What the archive covers along the history of a timeline.
//!
//! A segment counts on the timeline from which recovery reads it: the newest one that began in or before it. So the copy
//! of a switch segment that lies on the old timeline proves nothing once the new one has written (PostgreSQL would read
//! the old copy only where the new one is absent, and then replay a branch that is dead). Tails count where `fetch` would
//! assemble them: at the end of what a timeline has, up to a recorded gap, or where they hold a whole segment.

use std::collections::BTreeMap;

use hardstorage_report::{Lsn, Result, SegmentName, SegmentSize, Timeline};

use super::WalArchive;
use super::ancestry::Branch;
use super::inventory::Inventory;
use crate::{Deployment, Manifest};

/// A stretch of WAL: `from` is in it, `to` is the first byte behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct LsnRange {
    /// The first byte.
    pub from: Lsn,
    /// The first byte behind it.
    pub to: Lsn,
}

/// Where the bytes of a piece come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceSource {
    /// A finished segment.
    Segment,
    /// Tails.
    Tails,
}

/// The part of a segment that recovery can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes.
    pub range: LsnRange,
    /// The copy that recovery reads.
    pub segment: SegmentName,
    /// Whether it is finished.
    pub source: PieceSource,
}

/// What is archived of the history of one timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// The timeline.
    pub timeline: Timeline,
    /// By position, without overlap.
    pub pieces: Vec<Piece>,
}

impl Coverage {
    /// Computes it from the branches that lead to the timeline and what each of them has in store.
    pub(super) fn compute(
        timeline: Timeline,
        chain: &[Branch],
        size: SegmentSize,
        stored: &BTreeMap<Timeline, Inventory>,
    ) -> Coverage {
        let none = Inventory::default();
        let of = |branch: &Branch| stored.get(&branch.timeline).unwrap_or(&none);
        let mut pieces = Vec::new();
        // From the newest branch back: each one ends where the one after it takes over.
        let mut limit = Lsn(u64::MAX);
        for (index, branch) in chain.iter().enumerate().rev() {
            let start = branch.begin.segment_start(size);
            // The newest timeline has nothing yet: recovery then reads the older copy, up to the switch.
            if index + 1 == chain.len() && index > 0 && !of(branch).has_from(start) {
                limit = branch.begin;
                continue;
            }
            if start < limit {
                let window = LsnRange { from: start, to: limit };
                of(branch).pieces(branch.timeline, window, size, &mut pieces);
                limit = start;
            }
        }
        pieces.sort_by_key(|piece| piece.range);
        Coverage { timeline, pieces }
    }

    /// The covered ranges, as long as they can be.
    pub fn ranges(&self) -> Vec<LsnRange> {
        joined(&self.pieces)
    }

    /// Whether a part of a range is a hole: not covered, although something before it is. What lies before everything
    /// that is covered is no hole: the archive begins behind it.
    pub fn lacks(&self, range: LsnRange) -> bool {
        let begins = self.pieces.first().map(|piece| piece.range.from);
        begins.is_some_and(|begin| !self.is_covered(range.from.max(begin), range.to))
    }

    /// Whether every byte from `from` to before `to` is there.
    pub fn is_covered(&self, from: Lsn, to: Lsn) -> bool {
        from >= to || self.recoverable_until(from).is_some_and(|end| end >= to)
    }

    /// How far recovery gets that begins at `from`; `None` when it cannot begin there.
    pub fn recoverable_until(&self, from: Lsn) -> Option<Lsn> {
        // A position at the very end of what is there is reached already.
        let mut ranges = self.ranges().into_iter();
        ranges
            .find(|range| range.from <= from && from <= range.to)
            .map(|range| range.to)
    }

    /// The first hole at or behind `from` with something archived behind it.
    pub fn first_hole(&self, from: Lsn) -> Option<LsnRange> {
        let ranges = self.ranges();
        let mut at = from;
        for range in ranges {
            if range.to < at {
                continue;
            }
            if range.from > at {
                return Some(LsnRange {
                    from: at,
                    to: range.from,
                });
            }
            at = range.to;
        }
        None
    }

    /// The pieces that recovery from `from` reads before the first hole.
    pub fn pieces_from(&self, from: Lsn) -> &[Piece] {
        let first = self.pieces.partition_point(|piece| piece.range.to <= from);
        let rest = self.pieces.get(first..).unwrap_or_default();
        let mut end = match rest.first() {
            Some(piece) if piece.range.from <= from => piece.range.from,
            _ => return &[],
        };
        let holds = rest.iter().take_while(|piece| {
            let joined = piece.range.from == end;
            end = piece.range.to;
            joined
        });
        let count = holds.count();
        rest.get(..count).unwrap_or_default()
    }
}

/// The ranges that pieces in order hold together.
pub(super) fn joined(pieces: &[Piece]) -> Vec<LsnRange> {
    let mut ranges: Vec<LsnRange> = Vec::new();
    for piece in pieces {
        match ranges.last_mut() {
            Some(last) if last.to >= piece.range.from => last.to = last.to.max(piece.range.to),
            _ => ranges.push(piece.range),
        }
    }
    ranges
}

impl WalArchive {
    /// What is archived of the history of a timeline, from the segment with the byte `from` on. Lists names only.
    pub async fn coverage(&self, timeline: Timeline, from: Lsn) -> Result<Coverage> {
        // Of the timeline itself something is looked for whatever its history says.
        let (ancestry, own) = tokio::try_join!(self.ancestry(), self.inventory_and_gaps(timeline, from))?;
        let chain = ancestry.chain(timeline)?;
        let mut stored = BTreeMap::from([(timeline, own)]);
        for branch in &chain {
            let over = |end: Lsn| end < from.segment_start(self.segment_size());
            if branch.timeline == timeline || branch.end.is_some_and(over) {
                continue;
            }
            let inventory = self.inventory_and_gaps(branch.timeline, from).await?;
            stored.insert(branch.timeline, inventory);
        }
        Ok(Coverage::compute(timeline, &chain, self.segment_size(), &stored))
    }

    /// Whether every byte from `from` to before `to` is archived on the way to a timeline.
    pub async fn is_covered(&self, timeline: Timeline, from: Lsn, to: Lsn) -> Result<bool> {
        Ok(self.coverage(timeline, from).await?.is_covered(from, to))
    }

    /// Whether the WAL that makes a backup consistent is archived.
    pub async fn makes_consistent(deployment: &Deployment, manifest: &Manifest) -> Result<bool> {
        let archive = WalArchive::new(deployment.clone(), manifest.lineage, manifest.server.wal_segment_size);
        let wal = &manifest.wal;
        archive.is_covered(wal.timeline, wal.start_lsn, wal.stop_lsn).await
    }

    /// How far recovery to a timeline gets that begins at `from`; `None` when it cannot begin there.
    pub async fn recoverable_until(&self, timeline: Timeline, from: Lsn) -> Result<Option<Lsn>> {
        Ok(self.coverage(timeline, from).await?.recoverable_until(from))
    }

    /// The first hole at or behind `from` with something archived behind it.
    pub async fn first_hole(&self, timeline: Timeline, from: Lsn) -> Result<Option<LsnRange>> {
        Ok(self.coverage(timeline, from).await?.first_hole(from))
    }
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;

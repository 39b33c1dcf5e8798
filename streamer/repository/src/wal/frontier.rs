//! Where a stream goes on: the first byte that is missing along the history of the server's timeline.
//!
//! The newest object says nothing about it: a backup stores its own WAL far ahead of a stream that is down or behind.
//! What the server's slot holds decides from where on nothing may be skipped; a hole that lies before that is asked for
//! once, because a server may still have what no slot holds, and is recorded when it has not. Unlike in coverage all
//! tails count here, and the segment of a switch may come from either timeline: a byte that is stored is not missing.
//!
//! What is listed is bounded: the names of log folders, and the segments of the two that hold the position.

use hardstorage_report::{Lsn, Result, SegmentName, Timeline};

use super::WalArchive;
use super::ancestry::Branch;
use super::coverage::{LsnRange, Piece, PieceSource, joined};

/// The bytes of WAL in one log folder.
const LOG: u32 = 32;

/// Where the archive ends before a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveEnd {
    /// The first byte that is not there.
    pub at: Lsn,
    /// The timeline of what lies before it.
    pub timeline: Timeline,
}

/// Where a stream goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    /// The first missing byte.
    pub at: Lsn,
    /// The timeline of what lies before it.
    pub timeline: Timeline,
    /// Where the hole ends that begins at `at`: with the next stored byte, or with what the slot holds. `None` when
    /// nothing is known behind it.
    pub ahead: Option<Lsn>,
    /// What lies between the slot's position (without one: the beginning of the stretch) and the segment of `at`, and
    /// will not be streamed again.
    pub trusted: Vec<Piece>,
}

/// The first missing byte and the end of the hole there. `held` is the first byte that a slot holds; `known` are holes
/// that need not be asked for again. `None` when nothing is stored at or before `held`.
fn resume(ranges: &[LsnRange], held: Option<Lsn>, known: &[LsnRange]) -> Option<(Lsn, Option<Lsn>)> {
    let reached = ranges.partition_point(|range| held.is_none_or(|held| range.from <= held));
    let before = ranges.get(..reached)?;
    let last = before.last()?;
    let between = before.windows(2).filter_map(|pair| match pair {
        [one, next] => Some((one.to, next.from)),
        _ => None,
    });
    let held_back = held.filter(|held| last.to < *held).map(|held| (last.to, held));
    for (from, to) in between.chain(held_back) {
        if let Some(hole) = unknown(LsnRange { from, to }, known) {
            return Some((hole.from, Some(hole.to)));
        }
    }
    let at = match held {
        // What the slot holds is never passed, whatever is recorded.
        Some(held) => held.max(last.to),
        None => explained(last.to, known),
    };
    Some((at, None))
}

/// The first position at or behind `from` that no known hole holds.
fn explained(mut from: Lsn, known: &[LsnRange]) -> Lsn {
    while let Some(gap) = known.iter().find(|gap| gap.from <= from && from < gap.to) {
        from = gap.to;
    }
    from
}

/// The first part of a hole that no known one explains.
fn unknown(hole: LsnRange, known: &[LsnRange]) -> Option<LsnRange> {
    let from = explained(hole.from, known);
    let next = known.iter().map(|gap| gap.from).filter(|next| *next > from);
    let to = next.min().map_or(hole.to, |next| next.min(hole.to));
    (from < to).then_some(LsnRange { from, to })
}

impl WalArchive {
    /// Where a stream of this timeline goes on; `None` when the archive has nothing of its history at or before what
    /// the slot holds. `asked` are holes that the server was asked for in vain.
    pub async fn frontier(
        &self,
        timeline: Timeline,
        slot_restart: Option<Lsn>,
        asked: &[LsnRange],
    ) -> Result<Option<Frontier>> {
        let size = self.segment_size();
        let ancestry = self.ancestry().await?;
        let chain = ancestry.chain(timeline)?;
        let held = slot_restart.map(|restart| restart.segment_start(size));
        let limit = held.map_or(Lsn(u64::MAX), |held| held.add(size.bytes()));
        let Some(newest) = self.newest_before(&chain, limit).await? else {
            return Ok(None);
        };
        let mut from = Lsn((newest.0 >> LOG).saturating_sub(1) << LOG);
        let mut pieces = self.stored(&chain, from).await?;
        // The stretch begins within what was looked at: what lies before it may be far away.
        if let Some(begin) = pieces
            .first()
            .map(|piece| piece.range.from)
            .filter(|begin| *begin > from)
            && let Some(older) = self.newest_before(&chain, begin).await?
        {
            from = older;
            pieces = self.stored(&chain, from).await?;
        }
        let mut known = asked.to_vec();
        // A damaged record explains nothing: the server is asked again.
        for gap in self.readable_gaps().await? {
            if (gap.was_asked_for() || gap.is_expired()) && ancestry.passes(timeline, gap.timeline, gap.from)? {
                known.push(gap.range());
            }
        }
        let ranges = joined(&pieces);
        let Some((at, ahead)) = resume(&ranges, held, &known) else {
            return Ok(None);
        };
        let trusted_from = held.or_else(|| ranges.iter().rfind(|range| range.from <= at).map(|range| range.from));
        let trusted_to = at.segment_start(size);
        Ok(Some(Frontier {
            at,
            timeline: before(&pieces, at).unwrap_or(timeline),
            ahead,
            trusted: pieces
                .into_iter()
                .filter(|piece| trusted_from.is_some_and(|from| from < piece.range.to) && piece.range.from < trusted_to)
                .collect(),
        }))
    }

    /// Where what is stored along the history of a timeline ends before a position; not before it when it reaches it.
    pub async fn end_before(&self, timeline: Timeline, position: Lsn) -> Result<Option<ArchiveEnd>> {
        // What is there of the timeline itself is asked for with the history that tells its ancestors.
        let (ancestry, newest) = tokio::try_join!(self.ancestry(), self.newest_on(timeline, position))?;
        let chain = ancestry.chain(timeline)?;
        let begin = chain.last().map(|own| own.begin.segment_start(self.segment_size()));
        let newest = match newest.filter(|newest| begin.is_some_and(|begin| *newest >= begin)) {
            Some(newest) => newest,
            None if chain.len() == 1 => return Ok(None),
            None => match self.newest_before(&chain, position).await? {
                Some(newest) => newest,
                None => return Ok(None),
            },
        };
        let pieces = self.stored(&chain, newest).await?;
        let range = joined(&pieces).into_iter().rfind(|range| range.from < position);
        Ok(range.map(|range| ArchiveEnd {
            at: range.to,
            timeline: before(&pieces, range.to).unwrap_or(timeline),
        }))
    }

    /// The farthest byte that is stored of a timeline, whatever lies before it.
    pub async fn farthest(&self, timeline: Timeline) -> Result<Option<Lsn>> {
        let size = self.segment_size();
        let (finished, tails) = tokio::try_join!(
            self.newest_segment(timeline, Lsn(u64::MAX)),
            self.tails_from(timeline, Lsn::INVALID)
        )?;
        let mut end = finished.map(|start| start.add(size.bytes()));
        for object in tails.values().next_back().into_iter().flatten() {
            end = end.max(object.span(self).await?.map(|span| span.to));
        }
        Ok(end)
    }

    /// Makes sure that what others stored is durable, names included. A tail that was removed since it was listed is
    /// `code::storage::OBJECT`.
    pub async fn confirm(&self, pieces: &[Piece]) -> Result<()> {
        let mut keys = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece.source {
                PieceSource::Segment => keys.push(self.segment_key(piece.segment)),
                PieceSource::Tails => {
                    let tails = self.tail_objects(piece.segment).await?;
                    keys.extend(tails.into_iter().map(|tail| tail.key));
                }
            }
        }
        self.deployment().store().confirm(&keys).await
    }

    /// Everything that is stored along a history from a position on, by position.
    async fn stored(&self, chain: &[Branch], from: Lsn) -> Result<Vec<Piece>> {
        let size = self.segment_size();
        let mut pieces = Vec::new();
        for branch in chain {
            let window = LsnRange {
                from: branch.begin.segment_start(size).max(from),
                to: branch.end.unwrap_or(Lsn(u64::MAX)),
            };
            if window.from < window.to {
                let inventory = self.inventory(branch.timeline, window.from).await?;
                inventory.everything(branch.timeline, window, size, &mut pieces);
            }
        }
        pieces.sort_by_key(|piece| piece.range);
        Ok(pieces)
    }

    /// The start of the newest segment along a history that begins before a position and of which anything is stored.
    async fn newest_before(&self, chain: &[Branch], limit: Lsn) -> Result<Option<Lsn>> {
        let size = self.segment_size();
        for branch in chain.iter().rev() {
            let begin = branch.begin.segment_start(size);
            let end = branch.end.map_or(limit, |end| end.min(limit));
            if begin >= end {
                continue;
            }
            let found = self.newest_on(branch.timeline, end).await?;
            if let Some(found) = found.filter(|found| *found >= begin) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl WalArchive {
    /// The start of the newest segment of one timeline that begins before a position and of which anything is stored.
    async fn newest_on(&self, timeline: Timeline, end: Lsn) -> Result<Option<Lsn>> {
        let size = self.segment_size();
        let (finished, tails) =
            tokio::try_join!(self.newest_segment(timeline, end), self.segments_with_tails(timeline))?;
        let unfinished = tails.iter().rev().filter_map(|name| name.start(size));
        Ok(finished.max(unfinished.filter(|start| *start < end).max()))
    }
}

/// The timeline of the piece that ends nearest to a position.
fn before(pieces: &[Piece], at: Lsn) -> Option<Timeline> {
    let near = pieces.iter().filter(|piece| piece.range.from < at);
    let last: Option<SegmentName> = near.max_by_key(|piece| piece.range.to).map(|piece| piece.segment);
    last.map(|segment| segment.timeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64) -> LsnRange {
        LsnRange {
            from: Lsn(from),
            to: Lsn(to),
        }
    }

    fn resumed(ranges: &[(u64, u64)], held: Option<u64>, known: &[(u64, u64)]) -> Option<(u64, Option<u64>)> {
        let of = |pairs: &[(u64, u64)]| pairs.iter().map(|(from, to)| range(*from, *to)).collect::<Vec<_>>();
        resume(&of(ranges), held.map(Lsn), &of(known)).map(|(at, ahead)| (at.0, ahead.map(|ahead| ahead.0)))
    }

    #[test]
    fn what_is_stored_further_on_is_no_reason_to_skip() {
        // The slot holds from where the archive ends; a backup has stored more behind.
        assert_eq!(resumed(&[(10, 50), (200, 201)], Some(50), &[]), Some((50, None)));
        // The slot holds from within the stretch: nothing before it is missing.
        assert_eq!(resumed(&[(10, 100), (200, 202)], Some(60), &[]), Some((100, None)));
        // A recorded gap behind what the slot holds is never jumped.
        assert_eq!(
            resumed(&[(10, 100), (200, 202)], Some(60), &[(100, 200)]),
            Some((100, None))
        );
        // The slot holds nothing of what was archived last.
        assert_eq!(resumed(&[(10, 50)], Some(90), &[]), Some((50, Some(90))));
        assert_eq!(resumed(&[(10, 50), (200, 201)], Some(90), &[]), Some((50, Some(90))));
        assert_eq!(resumed(&[(200, 201)], Some(90), &[]), None);
        assert_eq!(resumed(&[], Some(90), &[]), None);
        assert_eq!(resumed(&[], None, &[]), None);
    }

    #[test]
    fn a_hole_before_what_the_slot_holds_is_asked_for_once() {
        let stored = [(10, 50), (200, 210)];
        assert_eq!(resumed(&stored, Some(205), &[]), Some((50, Some(200))));
        assert_eq!(resumed(&stored, Some(205), &[(50, 200)]), Some((210, None)));
        assert_eq!(resumed(&stored, None, &[]), Some((50, Some(200))));
        assert_eq!(resumed(&stored, None, &[(50, 200)]), Some((210, None)));
        assert_eq!(resumed(&[(10, 50)], Some(90), &[(50, 90)]), Some((90, None)));
        // Without a slot what is gone from the server at the archive's end is passed too, and not asked for for ever.
        assert_eq!(resumed(&[(10, 50)], None, &[(50, 90)]), Some((90, None)));
        // The oldest first; a record that explains a part leaves the rest.
        let stored = [(10, 50), (80, 90), (200, 210)];
        assert_eq!(resumed(&stored, Some(205), &[]), Some((50, Some(80))));
        assert_eq!(resumed(&stored, Some(205), &[(50, 80)]), Some((90, Some(200))));
        assert_eq!(resumed(&stored, Some(205), &[(50, 70), (40, 60)]), Some((70, Some(80))));
        assert_eq!(resumed(&stored, Some(205), &[(60, 100)]), Some((50, Some(60))));
        assert_eq!(resumed(&stored, Some(205), &[(50, 150)]), Some((150, Some(200))));
    }
}

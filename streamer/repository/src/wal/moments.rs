//! Questions about time: can recovery stop at this moment, and where is this restore point?
//!
//! PostgreSQL stops before the first transaction end that is later than the target. So a moment is *reached* when a
//! later commit is archived; it is *covered* without one when the archive is complete up to a server clock at or after
//! it (recovery then has to run to the end of what is durable: asked to stop, PostgreSQL would fail because it never
//! met the target); else it is *not yet* covered.
//!
//! The answer is found by halving: pieces are ordered by the server's clock as they are by position. A clock that was
//! set back by more than a segment's span can make the answer "not yet" where a stop would be possible; it never makes
//! it "reached" where no later commit is archived.

use std::collections::HashMap;
use std::ops::Range;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use hardstorage_report::{Lsn, Result, Timeline};

use super::WalArchive;
use super::coverage::{Coverage, LsnRange, Piece, PieceSource};
use super::facts::{CommitAt, RecordFacts, RestorePoint, ServerTime};

/// How many small reads are in flight at once.
const READS: usize = 8;

/// Whether recovery can stop at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeAnswer {
    /// Yes: a later commit is archived.
    Reached {
        /// A commit later than the moment; recovery stops at or before it.
        by: CommitAt,
        /// The last commit up to the moment that the same or the piece before tells of.
        before: Option<CommitAt>,
    },
    /// Everything up to the moment is archived, and no commit after it: recover to the end.
    CoveredToEnd {
        /// The end of the durable WAL.
        end: Lsn,
        /// The server clock up to which it is complete.
        until: ServerTime,
        /// The last commit at or behind the position from which it was asked, wherever it lies.
        last: Option<CommitAt>,
    },
    /// The archive does not reach that far.
    NotYet {
        /// The server clock up to which it is complete, where anything is known.
        until: Option<ServerTime>,
        /// The hole at which it ends, when more is archived behind one.
        hole: Option<LsnRange>,
    },
    /// The moment lies before the position from which it was asked.
    Before {
        /// A commit later than the moment that lies before that position.
        commit: CommitAt,
    },
}

/// The facts of pieces, read when they are needed.
struct Walk<'a> {
    archive: &'a WalArchive,
    pieces: &'a [Piece],
    known: HashMap<usize, RecordFacts>,
}

impl Walk<'_> {
    /// Reads what is not known yet of these pieces, a few at a time.
    async fn read(&mut self, indexes: Range<usize>) -> Result<()> {
        let archive = self.archive;
        let last = self.pieces.len().saturating_sub(1);
        let missing: Vec<(usize, Piece)> = indexes
            .filter(|index| !self.known.contains_key(index))
            .filter_map(|index| Some((index, self.pieces.get(index).copied()?)))
            .collect();
        let read = stream::iter(missing).map(|(index, piece)| async move {
            let facts = archive.facts_of(&piece, index == last).await?;
            Ok::<_, hardstorage_report::Error>((index, facts))
        });
        let read: Vec<(usize, RecordFacts)> = read.buffered(READS).try_collect().await?;
        self.known.extend(read);
        Ok(())
    }

    async fn facts(&mut self, index: usize) -> Result<RecordFacts> {
        if let Some(facts) = self.known.get(&index) {
            return Ok(facts.clone());
        }
        let Some(piece) = self.pieces.get(index) else {
            return Ok(RecordFacts::default());
        };
        let facts = self.archive.facts_of(piece, index + 1 == self.pieces.len()).await?;
        self.known.insert(index, facts.clone());
        Ok(facts)
    }

    /// The known clock of a piece, or of the nearest one before it within `from..=index` that has one.
    async fn clock(&mut self, from: usize, index: usize) -> Result<Option<ServerTime>> {
        let mut at = index;
        loop {
            if let Some(clock) = self.facts(at).await?.known_clock() {
                return Ok(Some(clock));
            }
            if at <= from {
                return Ok(None);
            }
            at -= 1;
        }
    }

    /// The first piece whose known clock is later than the moment.
    async fn first_later(&mut self, moment: ServerTime) -> Result<usize> {
        let (mut low, mut high) = (0, self.pieces.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.clock(low, middle).await?.is_some_and(|clock| clock > moment) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    /// The last commit at or behind `from` in all of the pieces. The ones at the end may hold none, however many they
    /// are: a bulk load commits once.
    async fn last_commit(&mut self, from: Lsn) -> Result<Option<CommitAt>> {
        let mut behind = self.pieces.len();
        while behind > 0 {
            let group = behind.saturating_sub(READS)..behind;
            self.read(group.clone()).await?;
            behind = group.start;
            for at in group.rev() {
                let last = commits(&self.facts(at).await?).max_by_key(|commit| commit.lsn);
                if last.is_some() {
                    return Ok(last.filter(|commit| commit.lsn >= from));
                }
            }
        }
        Ok(None)
    }
}

fn commits(facts: &RecordFacts) -> impl Iterator<Item = CommitAt> {
    [facts.first_commit, facts.latest_commit, facts.last_commit]
        .into_iter()
        .flatten()
}

impl WalArchive {
    /// The facts of a piece. A piece that ends before its segment does says nothing of what lies behind its end. Behind
    /// the last segment an idle stream leaves marks, which say up to when nothing followed.
    pub(super) async fn facts_of(&self, piece: &Piece, last: bool) -> Result<RecordFacts> {
        let end = self.start_of(piece.segment)?.add(self.segment_size().bytes());
        let is_segment = piece.source == PieceSource::Segment;
        let marks = async {
            if is_segment && last && piece.range.to >= end {
                self.tails_of(piece.segment).await
            } else {
                Ok(Vec::new())
            }
        };
        let mut marked = Vec::new();
        let mut facts = match piece.source {
            PieceSource::Segment => {
                let (metadata, marks) = tokio::try_join!(self.segment_metadata(piece.segment), marks)?;
                marked = marks;
                metadata.map(|metadata| metadata.facts).unwrap_or_default()
            }
            PieceSource::Tails => {
                let mut tails = self.tails_of(piece.segment).await?;
                tails.sort_by_key(|tail| tail.span);
                // Made before they are streamed: a closure over a borrowed tail would keep callers from spawning.
                let end = piece.range.to;
                let reads: Vec<_> = tails.iter().map(|tail| tail.facts_until(self, end)).collect();
                let read = stream::iter(reads).buffered(READS);
                let read: Vec<RecordFacts> = read.try_collect().await?;
                let mut facts = RecordFacts::default();
                for read in &read {
                    facts.join(read);
                }
                facts
            }
        };
        if is_segment && piece.range.to < end {
            facts.end_at(piece.range.to);
        }
        for tail in marked {
            if tail.span.to == end
                && let Some(time) = tail.metadata(self).await?.facts.complete_up_to
            {
                facts.note_complete(time);
            }
        }
        Ok(facts)
    }

    /// Whether recovery that follows `timeline` and is consistent at `from` can stop at this moment of the server's
    /// clock.
    pub async fn time_covered(&self, timeline: Timeline, from: Lsn, moment: ServerTime) -> Result<TimeAnswer> {
        let coverage = self.coverage(timeline, from).await?;
        self.time_covered_in(&coverage, from, moment).await
    }

    /// The same for a coverage that is at hand.
    pub async fn time_covered_in(&self, coverage: &Coverage, from: Lsn, moment: ServerTime) -> Result<TimeAnswer> {
        let mut walk = Walk {
            archive: self,
            pieces: coverage.pieces_from(from),
            known: HashMap::new(),
        };
        let mut before = None;
        let first = walk.facts(0).await?;
        if let Some(commit) = commits(&first).find(|commit| commit.lsn < from && commit.time > moment) {
            return Ok(TimeAnswer::Before { commit });
        }
        let later = walk.first_later(moment).await?;
        if let Some(earlier) = later.checked_sub(1) {
            before = commits(&walk.facts(earlier).await?)
                .filter(|commit| commit.time <= moment)
                .max_by_key(|commit| commit.lsn);
        }
        let mut until = match later.checked_sub(1) {
            Some(earlier) => walk.clock(0, earlier).await?,
            None => None,
        };
        let mut index = later;
        while index < walk.pieces.len() {
            // Pieces behind the first later one are read in groups: most hold a commit, a bulk load may not.
            let group = index..walk.pieces.len().min(index + READS);
            walk.read(group.clone()).await?;
            for at in group {
                let facts = walk.facts(at).await?;
                let later = commits(&facts).filter(|commit| commit.lsn >= from && commit.time > moment);
                if let Some(by) = later.min_by_key(|commit| commit.lsn) {
                    let here = commits(&facts).filter(|commit| commit.time <= moment && commit.lsn < by.lsn);
                    let here = here.max_by_key(|commit| commit.lsn);
                    let before = here.or(before);
                    return Ok(TimeAnswer::Reached { by, before });
                }
                until = until.max(facts.known_clock());
                before = facts.last_commit.or(before);
            }
            index += READS;
        }
        let end = walk.pieces.last().map(|last| last.range.to);
        Ok(match (until, end) {
            (Some(until), Some(end)) if until >= moment => TimeAnswer::CoveredToEnd {
                end,
                until,
                last: walk.last_commit(from).await?,
            },
            _ => TimeAnswer::NotYet {
                until,
                hole: coverage.first_hole(from),
            },
        })
    }

    /// The server clock up to which everything from `from` on is archived, on the way to a timeline.
    pub async fn complete_up_to(&self, coverage: &Coverage, from: Lsn) -> Result<Option<ServerTime>> {
        let mut walk = Walk {
            archive: self,
            pieces: coverage.pieces_from(from),
            known: HashMap::new(),
        };
        match walk.pieces.len().checked_sub(1) {
            Some(last) => walk.clock(0, last).await,
            None => Ok(None),
        }
    }

    /// The first restore point of this name behind `from` that recovery to a timeline meets: PostgreSQL stops at the
    /// first.
    pub async fn find_restore_point(&self, timeline: Timeline, from: Lsn, name: &str) -> Result<Option<RestorePoint>> {
        let coverage = self.coverage(timeline, from).await?;
        let pieces = coverage.pieces_from(from).iter().copied();
        let found = stream::iter(pieces)
            .map(|piece| self.restore_points_of(piece))
            .buffered(READS);
        let mut found = std::pin::pin!(found);
        while let Some(points) = found.next().await {
            let point = points?
                .into_iter()
                .find(|point| point.lsn >= from && point.name == name);
            if point.is_some() {
                return Ok(point);
            }
        }
        Ok(None)
    }

    /// The restore points in a piece; reads a directory only where the metadata says that there are any.
    pub(super) async fn restore_points_of(&self, piece: Piece) -> Result<Vec<RestorePoint>> {
        let mut points: Vec<RestorePoint> = Vec::new();
        match piece.source {
            PieceSource::Segment => {
                let metadata = self.segment_metadata(piece.segment).await?;
                if metadata.is_some_and(|metadata| metadata.restore_points > 0) {
                    points = self.restore_points_in(piece.segment).await?;
                }
            }
            PieceSource::Tails => {
                for tail in self.tails_of(piece.segment).await? {
                    if tail.metadata(self).await?.restore_points > 0
                        && let Some(object) = tail.open(self).await?
                    {
                        points.extend(object.directory.restore_points);
                    }
                }
                points.sort_by_key(|point| point.lsn);
                points.dedup();
            }
        }
        points.retain(|point| point.lsn < piece.range.to);
        Ok(points)
    }
}

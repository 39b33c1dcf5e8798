//! Turns the pieces of one timeline's stream into durable objects, in order, and says how far they are durable.
//!
//! Invariants:
//! - `durable()` never covers a byte whose object, name included, is not durable in the repository; it advances in
//!   order, so a later segment that is stored first counts for nothing until the earlier one is.
//! - A segment that is complete is stored while the next one fills; at most [`FINISHING`] wait at a time. Where its bytes
//!   are durable in a journal, nobody waits for that.
//! - A leg begins at a segment's start, with nothing durable: what the archive holds of that segment may come from
//!   another server. So the first tail repeats it, and is compared with it before anything is acknowledged.
//! - The bytes of the unfinished segment are made durable as a tail by [`Recorder::flush`]; a finished segment replaces
//!   its tails, and removing those is never part of an acknowledgement. Nor is writing many tails together: that runs
//!   beside ([`Recorder::begin_tidy`]).

use std::collections::VecDeque;
use std::future::pending;

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, SegmentName, SegmentSize, Timeline, code};
use hardstorage_repository::WriterId;
use hardstorage_repository::wal::{ServerTime, WalArchive};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::AbortOnDropHandle;

use super::assembler::{Assembler, Piece};
use super::crossing::collector_at;
use super::idle_mark::IdleMark;
use super::open_segment::OpenSegment;
use super::own_tails::OwnTails;
use super::tidying::Tidied;
use crate::records::FactsCollector;

/// Complete segments that are being stored while the next one fills.
const FINISHING: usize = 2;
/// The longest stretch that is held for a tail; a larger unfinished segment is flushed in several.
const TAIL_LIMIT: usize = 8 << 20;

/// What happened to segments since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Segments stored.
    pub segments: u64,
}

/// A complete segment on its way to the repository.
struct Finishing {
    name: SegmentName,
    end: Lsn,
    task: JoinHandle<Result<()>>,
    /// What still works on its tails.
    tidying: Option<AbortOnDropHandle<Result<Tidied>>>,
    /// Whether a journal of it is there, as others may have left of the one before.
    journal: bool,
}

/// Records one leg.
pub struct Recorder {
    pub(super) archive: WalArchive,
    /// Of this leg alone: tails of any other are compared.
    pub(super) streamer: WriterId,
    pub(super) own: OwnTails,
    timeline: Timeline,
    assembler: Assembler,
    collector: FactsCollector,
    pub(super) open: Option<OpenSegment>,
    finishing: VecDeque<Finishing>,
    /// Housekeeping of the open segment.
    pub(super) tidying: Option<AbortOnDropHandle<Result<Tidied>>>,
    /// Told when the segment that was sent last is stored.
    last_finished: Option<oneshot::Receiver<()>>,
    pub(super) durable: Lsn,
    stored: Stored,
    /// Whether somebody waits for every few bytes.
    pub(super) journal: bool,
    /// Whether nobody waits for less than a segment.
    whole: bool,
    /// The server's clock up to which nothing is missing from what was received.
    pub(super) complete_up_to: Option<ServerTime>,
    /// The same, of what is durable.
    pub(super) marked_up_to: Option<ServerTime>,
    /// The same, of what is durable in tails that are no marks.
    pub(super) tailed_up_to: Option<ServerTime>,
    pub(super) mark: IdleMark,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("timeline", &self.timeline)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Begins at the start of a segment. Nothing counts as durable yet.
    pub async fn begin(archive: WalArchive, own: OwnTails, timeline: Timeline, start: Lsn) -> Result<Recorder> {
        let size = archive.segment_size();
        Ok(Recorder {
            streamer: WriterId::new(archive.deployment().surroundings().random()?),
            timeline,
            assembler: Assembler::new(timeline, start, size),
            collector: collector_at(&archive, &archive.ancestry().await?, timeline, start).await?,
            open: None,
            finishing: VecDeque::new(),
            tidying: None,
            last_finished: None,
            durable: start,
            stored: Stored::default(),
            journal: false,
            whole: false,
            complete_up_to: None,
            marked_up_to: None,
            tailed_up_to: None,
            mark: IdleMark::new(timeline, own.clone()),
            own,
            archive,
        })
    }

    /// Every segment comes whole, and nobody waits for less: no tails are written, and a segment that breaks off leaves
    /// nothing behind.
    #[must_use]
    pub fn of_whole_segments(self) -> Recorder {
        Recorder { whole: true, ..self }
    }

    /// Somebody waits for every few bytes: they go into a journal, where the store can let one grow.
    #[must_use]
    pub fn waited_for(self) -> Recorder {
        Recorder { journal: true, ..self }
    }

    /// End of what was received.
    pub fn received(&self) -> Lsn {
        self.assembler.next_lsn()
    }

    /// End of what is durable, on this timeline and without a hole since the start.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The size of a segment.
    pub fn segment_size(&self) -> SegmentSize {
        self.archive.segment_size()
    }

    /// What was stored since the start.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// The server's clock up to which the durable part is complete.
    pub fn durable_up_to(&self) -> Option<ServerTime> {
        self.marked_up_to
    }

    /// Whether bytes or times wait to be made durable.
    pub fn is_behind(&self) -> bool {
        self.durable < self.received()
    }

    /// How many bytes of the open segment wait for a tail.
    pub fn unflushed(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.unflushed_length)
    }

    /// Takes a message. `server_end` at `server_time` tells whether anything was missing then.
    pub async fn push(&mut self, lsn: Lsn, bytes: Bytes, server_end: Lsn, server_time: ServerTime) -> Result<()> {
        let mut pieces = Vec::with_capacity(2);
        self.assembler.push(lsn, bytes, |piece| pieces.push(piece))?;
        for piece in pieces {
            self.take(piece, server_end, server_time).await?;
        }
        Ok(())
    }

    /// Takes note of a sign of life without WAL.
    pub fn heard(&mut self, server_end: Lsn, server_time: ServerTime) {
        if server_end <= self.received() {
            self.complete_up_to = self.complete_up_to.max(Some(server_time));
        }
    }

    async fn take(&mut self, piece: Piece, server_end: Lsn, server_time: ServerTime) -> Result<()> {
        self.collector.push(&piece.bytes);
        let mut facts = self.collector.take();
        let end = piece.lsn.add(piece.bytes.len() as u64);
        if server_end <= end {
            facts.note_complete(server_time);
            self.complete_up_to = self.complete_up_to.max(Some(server_time));
        }
        let open = if let Some(open) = &mut self.open {
            open
        } else {
            self.open.insert(OpenSegment::begin(
                &self.archive,
                piece.segment,
                self.streamer,
                piece.lsn,
            )?)
        };
        let completes = piece.completes;
        self.mark.remember(piece.bytes.clone());
        open.take(piece, &facts, !self.whole).await?;
        if completes {
            self.complete().await
        } else if self
            .open
            .as_ref()
            .is_some_and(|open| open.unflushed_length >= TAIL_LIMIT)
        {
            self.flush_bulk().await
        } else {
            Ok(())
        }
    }

    /// Sends the complete segment on its way.
    async fn complete(&mut self) -> Result<()> {
        let journal = self.open.as_ref().is_some_and(|open| open.tails.has_journal());
        if journal {
            self.write_tail(true).await?;
        }
        let Some(open) = self.open.take() else { return Ok(()) };
        while self.finishing.len() >= FINISHING {
            self.settle().await?;
        }
        let end = self.assembler_boundary(open.name)?;
        let (builder, facts) = (open.builder, open.facts);
        // One after the other: a later segment in the archive without the one before would look like a hole to readers.
        let (done, next) = oneshot::channel();
        let before = self.last_finished.replace(next);
        let task = tokio::spawn(async move {
            if let Some(before) = before
                && before.await.is_err()
            {
                return Err(Error::new(
                    code::cli::INTERNAL,
                    "the segment before this one was not stored",
                ));
            }
            builder.finish(facts).await?;
            // Nobody waits when this is the last segment.
            let _ = done.send(());
            Ok(())
        });
        self.finishing.push_back(Finishing {
            name: open.name,
            end,
            task,
            tidying: self.tidying.take(),
            journal,
        });
        Ok(())
    }

    fn assembler_boundary(&self, name: SegmentName) -> Result<Lsn> {
        let size = self.archive.segment_size();
        name.start(size)
            .map(|start| start.add(size.bytes()))
            .ok_or_else(|| Error::new(code::cli::INTERNAL, format!("{name} is no segment of this size")))
    }

    /// Whether a complete segment is on its way to the repository.
    pub fn has_finishing(&self) -> bool {
        !self.finishing.is_empty()
    }

    /// Whether something is on its way that [`Recorder::advanced`] waits for.
    pub fn has_work(&self) -> bool {
        self.has_finishing() || self.tidying.is_some()
    }

    /// Waits for the oldest segment on its way or for the housekeeping, whichever is done first. Cancel safe: both go on.
    pub async fn advanced(&mut self) -> Result<()> {
        let (finishing, tidying) = (&mut self.finishing, &mut self.tidying);
        let stored = async {
            match finishing.front_mut() {
                Some(finishing) => (&mut finishing.task).await,
                None => pending().await,
            }
        };
        let tidied = async {
            match tidying {
                Some(tidying) => tidying.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            done = stored => self.settled(done),
            done = tidied => self.tidied(done),
        }
    }

    /// Waits for the oldest segment on its way.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let Some(finishing) = self.finishing.front_mut() else {
            return Ok(());
        };
        let done = (&mut finishing.task).await;
        self.settled(done)
    }

    /// The oldest segment is stored, or not.
    fn settled(&mut self, done: Result<Result<()>, JoinError>) -> Result<()> {
        let Some(finishing) = self.finishing.pop_front() else {
            return Ok(());
        };
        let Finishing { name, end, tidying, .. } = finishing;
        done.map_err(|error| Error::new(code::cli::INTERNAL, format!("store segment {name}")).source(error))??;
        self.durable = self.durable.max(end);
        self.stored.segments += 1;
        let mark = self.mark.forget();
        self.own.finished(name);
        let (archive, streamer, timeline) = (self.archive.clone(), self.streamer, self.timeline);
        tokio::spawn(async move {
            let removed = async {
                // It may be writing a tail at this moment. Of what it finds the segment itself was compared with all.
                if let Some(tidying) = tidying
                    && let Ok(Err(error)) = tidying.await
                {
                    tracing::warn!(segment = %name, %error, "the tails of a finished segment were not written together");
                }
                if let Some(key) = mark {
                    archive.deployment().store().delete(&key).await?;
                }
                archive.drop_tails(name, Some(streamer)).await?;
                let size = archive.segment_size();
                if let Some(before) = name.start(size).and_then(|start| start.0.checked_sub(1))
                    && finishing.journal
                {
                    let before = SegmentName::containing(timeline, Lsn(before), size);
                    archive.drop_left_behind(before).await?;
                }
                Ok::<_, Error>(())
            };
            if let Err(error) = removed.await {
                tracing::warn!(segment = %name, %error, "the tails of a finished segment stay");
            }
        });
        Ok(())
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;

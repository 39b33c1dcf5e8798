//! Turns the pieces of one timeline's stream into durable objects, in order, and says how far they are durable.
//!
//! Invariants:
//! - `durable()` never covers a byte whose object, name included, is not durable in the repository; it advances in
//!   order, so a later segment that is stored first counts for nothing until the earlier one is.
//! - A segment that is complete is stored while the next one fills; at most [`FINISHING`] wait at a time.
//! - A leg begins at a segment's start, with nothing durable: what the archive holds of that segment may come from
//!   another server. So the first tail repeats it, and is compared with it before anything is acknowledged.
//! - The bytes of the unfinished segment are made durable as a tail by [`Recorder::flush`]; a finished segment replaces
//!   its tails, and removing those is never part of an acknowledgement.

use std::collections::VecDeque;

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, SegmentName, SegmentSize, Timeline, code};
use hardstorage_repository::WriterId;
use hardstorage_repository::wal::{RecordFacts, SegmentBuilder, ServerTime, TailWriter, WalArchive};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::assembler::{Assembler, Piece};
use super::crossing::collector_at;
use super::idle_mark::IdleMark;
use super::own_tails::OwnTails;
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

struct OpenSegment {
    builder: SegmentBuilder,
    tails: TailWriter,
    name: SegmentName,
    /// Facts of the records that end in this segment.
    facts: RecordFacts,
    /// Bytes after the last tail, and where they begin.
    /// They are slices of the buffers that were read into, not copies.
    unflushed: Vec<Bytes>,
    unflushed_length: usize,
    unflushed_from: Lsn,
    /// Facts since the last tail.
    unflushed_facts: RecordFacts,
}

/// Records one leg.
pub struct Recorder {
    archive: WalArchive,
    /// Of this leg alone: tails of any other are compared.
    streamer: WriterId,
    own: OwnTails,
    timeline: Timeline,
    assembler: Assembler,
    collector: FactsCollector,
    open: Option<OpenSegment>,
    finishing: VecDeque<(SegmentName, Lsn, JoinHandle<Result<()>>)>,
    /// Told when the segment that was sent last is stored.
    last_finished: Option<oneshot::Receiver<()>>,
    durable: Lsn,
    stored: Stored,
    /// The server's clock up to which nothing is missing from what was received.
    complete_up_to: Option<ServerTime>,
    /// The same, of what is durable.
    marked_up_to: Option<ServerTime>,
    /// The same, of what is durable in tails that are no marks.
    tailed_up_to: Option<ServerTime>,
    mark: IdleMark,
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
            collector: collector_at(&archive, timeline, start).await?,
            open: None,
            finishing: VecDeque::new(),
            last_finished: None,
            durable: start,
            stored: Stored::default(),
            complete_up_to: None,
            marked_up_to: None,
            tailed_up_to: None,
            mark: IdleMark::new(timeline, own.clone()),
            own,
            archive,
        })
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
        self.mark.remember(&piece.bytes);
        let open = if let Some(open) = &mut self.open {
            open
        } else {
            self.open.insert(OpenSegment {
                builder: self.archive.segment_builder(piece.segment, Some(self.streamer))?,
                tails: self.archive.tail_writer(piece.segment, self.streamer)?,
                name: piece.segment,
                facts: RecordFacts::default(),
                unflushed: Vec::new(),
                unflushed_length: 0,
                unflushed_from: piece.lsn,
                unflushed_facts: RecordFacts::default(),
            })
        };
        open.builder.append(piece.lsn, &piece.bytes).await?;
        open.facts.join(&facts);
        open.unflushed_facts.join(&facts);
        open.unflushed_length += piece.bytes.len();
        open.unflushed.push(piece.bytes);
        if piece.completes {
            self.complete().await
        } else if self
            .open
            .as_ref()
            .is_some_and(|open| open.unflushed_length >= TAIL_LIMIT)
        {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Sends the complete segment on its way.
    async fn complete(&mut self) -> Result<()> {
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
        self.finishing.push_back((open.name, end, task));
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

    /// Waits for the oldest segment on its way. Cancel safe: the segment goes on being stored.
    pub async fn settle(&mut self) -> Result<()> {
        let Some((name, end, task)) = self.finishing.front_mut() else {
            return Ok(());
        };
        let (name, end) = (*name, *end);
        let finished = task.await;
        self.finishing.pop_front();
        finished.map_err(|error| Error::new(code::cli::INTERNAL, format!("store segment {name}")).source(error))??;
        self.durable = self.durable.max(end);
        self.stored.segments += 1;
        let mark = self.mark.forget();
        self.own.finished(name);
        let (archive, streamer) = (self.archive.clone(), self.streamer);
        tokio::spawn(async move {
            let removed = async {
                if let Some(key) = mark {
                    archive.deployment().store().delete(&key).await?;
                }
                archive.drop_tails(name, Some(streamer)).await
            };
            if let Err(error) = removed.await {
                tracing::warn!(segment = %name, %error, "the tails of a finished segment stay");
            }
        });
        Ok(())
    }

    /// Makes everything received durable.
    pub async fn flush(&mut self) -> Result<()> {
        while self.has_finishing() {
            self.settle().await?;
        }
        let known = self.complete_up_to;
        if let Some(open) = &mut self.open
            && !open.unflushed.is_empty()
        {
            let mut facts = std::mem::take(&mut open.unflushed_facts);
            if let Some(known) = known {
                facts.note_complete(known);
            }
            let end = open
                .tails
                .put_parts(open.unflushed_from, &open.unflushed, facts)
                .await?;
            open.unflushed.clear();
            open.unflushed_length = 0;
            open.unflushed_from = end;
            self.own.wrote(open.name, self.streamer, known);
            self.durable = self.durable.max(end);
            self.marked_up_to = known;
            self.tailed_up_to = known;
        }
        Ok(())
    }

    /// Housekeeping that must not stand in front of an acknowledgement: many tails become one, and what earlier
    /// connections of this process left goes when a tail of this one repeats it and says as much.
    pub async fn tidy(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.tails.consolidate().await? {
            open.tails.drop_replaced().await?;
        }
        let earlier = self.own.earlier(open.name, self.streamer, self.tailed_up_to);
        if earlier.is_empty() {
            return Ok(());
        }
        let spans = self.archive.list_tails(open.name).await?;
        for writer in earlier {
            let mut left = 0;
            for span in spans.iter().filter(|span| span.streamer == writer) {
                if span.to <= self.durable {
                    self.archive.drop_tail(open.name, *span).await?;
                } else {
                    left += 1;
                }
            }
            if left == 0 {
                self.own.forget(open.name, writer);
            }
        }
        Ok(())
    }

    /// On an idle server: makes durable *that nothing happened*, so that a time without any commit can be recovered to.
    pub async fn mark_idle(&mut self) -> Result<bool> {
        let caught_up = self.durable == self.received() && self.complete_up_to > self.marked_up_to;
        let (true, Some(known)) = (caught_up, self.complete_up_to) else {
            return Ok(false);
        };
        let end = self.received();
        if !self.mark.put(&self.archive, end, known).await? {
            return Ok(false);
        }
        self.marked_up_to = self.complete_up_to;
        Ok(true)
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;

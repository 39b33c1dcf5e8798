//! Writes the tails of one segment.
//!
//! A streamer writes its tails one behind the other. A segment that fills slowly would gather thousands, so above
//! [`MOST`] the last ones are written together into one cumulative tail that replaces them, together with every earlier
//! one that is not more than twice as long: so any number of tails stays below `MOST` plus a few, and each byte is
//! rewritten a logarithmic number of times. Neither this nor removing what was replaced is ever part of an
//! acknowledgement; the comparison with what others stored is.

use hardstorage_report::{Error, Lsn, Result, SegmentName, code};
use hardstorage_storage::{Created, Key};

use super::facts::RecordFacts;
use super::format::WalKind;
use super::object_stream::{WalCursor, WalStream};
use super::object_writer::ObjectWriter;
use super::tails::TailSpan;
use super::{Place, WalArchive, compare, split_brain};
use crate::WriterId;

/// How many tails of one segment a streamer leaves beside each other.
const MOST: usize = 64;

/// Writes the tails of one segment for one streamer.
#[derive(Debug)]
pub struct TailWriter {
    archive: WalArchive,
    segment: SegmentName,
    streamer: WriterId,
    /// The tails that are not replaced, in order, without gap.
    live: Vec<TailSpan>,
    replaced: Vec<Key>,
    /// How far others had come when the last comparison was made; `None` before the first.
    others_end: Option<Lsn>,
}

impl TailWriter {
    /// The first byte behind everything that is durable; `None` before the first tail.
    pub fn durable(&self) -> Option<Lsn> {
        self.live.last().map(|span| span.to)
    }

    /// Makes bytes durable. They must follow the ones before; the first may begin anywhere in the segment. As far as
    /// others have stored the same stretch of this segment, the bytes are compared with theirs before this returns.
    pub async fn put(&mut self, from: Lsn, bytes: &[u8], facts: RecordFacts) -> Result<Lsn> {
        self.put_parts(from, &[bytes], facts).await
    }

    /// The same for bytes that lie in several pieces.
    pub async fn put_parts<B: AsRef<[u8]>>(&mut self, from: Lsn, parts: &[B], facts: RecordFacts) -> Result<Lsn> {
        let start = self.archive.start_of(self.segment)?;
        let end = start.add(self.archive.segment_size().bytes());
        let length: usize = parts.iter().map(|part| part.as_ref().len()).sum();
        let to = from.add(length as u64);
        let follows = self.durable().is_none_or(|durable| durable == from);
        if length == 0 || !follows || from < start || to > end {
            return Err(Error::new(
                code::engine::NOT_CONTIGUOUS,
                format!(
                    "the tails of segment {} go on at {}, and {length} bytes came for {from}",
                    self.segment,
                    self.durable().unwrap_or(start),
                ),
            ));
        }
        let span = TailSpan {
            from,
            to,
            streamer: self.streamer,
        };
        let mut writer = self.object(span)?;
        for part in parts {
            writer.append(part.as_ref()).await?;
        }
        self.commit(span, writer, facts).await?;
        self.live.push(span);
        if self.others_end.is_none_or(|end| from < end) {
            self.others_end = Some(self.compare_with_others(&[span]).await?);
        }
        Ok(to)
    }

    fn key(&self, span: TailSpan) -> Key {
        self.archive.tail_key(self.segment, span)
    }

    fn object(&self, span: TailSpan) -> Result<ObjectWriter> {
        let place = Place {
            timeline: self.segment.timeline,
            start: span.from,
            length: span.length(),
        };
        ObjectWriter::new(&self.archive, self.key(span), WalKind::Tail, place)
    }

    async fn commit(&self, span: TailSpan, writer: ObjectWriter, facts: RecordFacts) -> Result<()> {
        let pending = writer.finish(&self.archive, facts).await?;
        let hash = pending.metadata().hash;
        match pending.commit().await? {
            Created::Created => Ok(()),
            Created::Exists => {
                let tail = self.archive.tail(self.segment, span).await?;
                if tail.metadata(&self.archive).await?.hash == hash {
                    self.archive.deployment().store().confirm(&[tail.key]).await
                } else {
                    Err(split_brain(format!(
                        "tail {} is in the archive with other bytes",
                        tail.key
                    )))
                }
            }
        }
    }

    /// Compares own tails with those of other streamers and with the finished segment, if it is there. How far those
    /// reach.
    async fn compare_with_others(&self, spans: &[TailSpan]) -> Result<Lsn> {
        let others = self.archive.tails_of_others(self.segment, Some(self.streamer)).await?;
        let finished = self.archive.has_segment(self.segment).await?;
        let start = self.archive.start_of(self.segment)?;
        let mut reached = others.iter().map(|other| other.span.to).max().unwrap_or(start);
        if finished {
            reached = start.add(self.archive.segment_size().bytes());
        }
        for span in spans.iter().filter(|span| span.from < reached) {
            let Some(object) = self
                .archive
                .tail(self.segment, *span)
                .await?
                .open(&self.archive)
                .await?
            else {
                continue;
            };
            let mut own = WalCursor::new(object);
            for other in &others {
                if other.span.from < span.to
                    && span.from < other.span.to
                    && let Some(object) = other.open(&self.archive).await?
                {
                    compare::overlap(self.segment, &mut own, &mut WalCursor::new(object)).await?;
                }
            }
            if finished && let Some(object) = self.archive.open_segment(self.segment).await? {
                compare::overlap(self.segment, &mut own, &mut WalCursor::new(object)).await?;
            }
        }
        Ok(reached)
    }

    /// Writes the last tails together when there are too many; true when it did. To be called after an
    /// acknowledgement, not before one. Compares with other streamers again.
    pub async fn consolidate(&mut self) -> Result<bool> {
        if self.live.len() <= MOST {
            return Ok(false);
        }
        let mut first = self.live.len() - MOST;
        let mut length: u64 = self.live.iter().skip(first).map(|span| span.length()).sum();
        while let Some(before) = first.checked_sub(1).and_then(|at| self.live.get(at)) {
            if before.length() > 2 * length {
                break;
            }
            length += before.length();
            first -= 1;
        }
        let (Some(begin), Some(end)) = (self.live.get(first).copied(), self.live.last().copied()) else {
            return Ok(false);
        };
        let span = TailSpan { to: end.to, ..begin };
        let mut writer = self.object(span)?;
        let mut facts = RecordFacts::default();
        for part in self.live.iter().skip(first) {
            let tail = self.archive.tail(self.segment, *part).await?;
            let object = tail
                .open(&self.archive)
                .await?
                .ok_or_else(|| Error::new(code::storage::OBJECT, format!("tail {} is gone", tail.key)))?;
            let mut said = object.metadata.facts.clone();
            said.restore_points.clone_from(&object.directory.restore_points);
            facts.join(&said);
            let mut stream = WalStream::new(object);
            while let Some(bytes) = stream.next().await? {
                writer.append(&bytes).await?;
            }
        }
        self.commit(span, writer, facts).await?;
        let replaced: Vec<Key> = self
            .live
            .drain(first..)
            .map(|part| self.archive.tail_key(self.segment, part))
            .collect();
        self.replaced.extend(replaced);
        self.live.push(span);
        self.others_end = Some(self.compare_with_others(&self.live).await?);
        Ok(true)
    }

    /// Removes the tails that a cumulative one has replaced. Best effort; what fails is tried again by the next call.
    pub async fn drop_replaced(&mut self) -> Result<()> {
        while let Some(key) = self.replaced.last() {
            self.archive.deployment().store().delete(key).await?;
            self.replaced.pop();
        }
        Ok(())
    }
}

impl WalArchive {
    /// Begins to write tails of a segment.
    pub fn tail_writer(&self, segment: SegmentName, streamer: WriterId) -> Result<TailWriter> {
        self.start_of(segment)?;
        Ok(TailWriter {
            archive: self.clone(),
            segment,
            streamer,
            live: Vec::new(),
            replaced: Vec::new(),
            others_end: None,
        })
    }
}

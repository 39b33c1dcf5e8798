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
use super::object_reader::WalObject;
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

    /// One of our tails; `None` when it is gone.
    async fn own(&self, span: TailSpan) -> Result<Option<WalObject>> {
        match self.archive.tail(self.segment, span).await {
            Ok(tail) => tail.open(&self.archive).await,
            Err(error) if error.is(code::storage::OBJECT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A tail of ours is gone: whoever finished the segment removes all of its tails, after it has compared each of them
    /// with it. So the segment must be there, and what this writer says is durable then lies in it.
    async fn replaced_by_the_segment(&self, span: TailSpan) -> Result<()> {
        if !self.archive.has_segment(self.segment).await? {
            let message = format!("tail {} is gone", self.key(span));
            return Err(Error::new(code::storage::OBJECT, message));
        }
        let key = self.archive.segment_key(self.segment);
        self.archive.deployment().store().confirm(&[key]).await
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
            let Some(object) = self.own(*span).await? else {
                self.replaced_by_the_segment(*span).await?;
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
            let Some(object) = self.own(*part).await? else {
                self.replaced_by_the_segment(*part).await?;
                return Ok(false);
            };
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use std::sync::Arc;

    use hardstorage_report::{SegmentSize, SystemId, Timeline};
    use hardstorage_storage::MemoryStore;

    use super::*;
    use crate::{Deployment, Lineage};

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn a_tail_that_the_finished_segment_replaced_is_no_loss_and_another_is() {
        let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
        let lineage = Lineage {
            system_id: SystemId(1),
            incarnation: 1,
        };
        let size = SegmentSize::new(MIB as u64).unwrap();
        let archive = WalArchive::new(deployment.clone(), lineage, size);
        let segment = SegmentName::containing(Timeline(1), Lsn(0), size);
        let raw = vec![7; MIB];
        let mut ours = archive.tail_writer(segment, WriterId::new([1; 16])).unwrap();
        ours.put(Lsn(0), &raw[..MIB / 2], RecordFacts::default()).await.unwrap();
        // Somebody else has a tail too, so that there is something to compare with.
        let mut other = archive.tail_writer(segment, WriterId::new([2; 16])).unwrap();
        other
            .put(Lsn(0), &raw[..MIB / 2], RecordFacts::default())
            .await
            .unwrap();
        let spans = ours.live.clone();

        let key = ours.key(spans[0]);
        deployment.store().delete(&key).await.unwrap();
        let lost = ours.compare_with_others(&spans).await.unwrap_err();
        assert!(lost.is(code::storage::OBJECT), "{lost}");

        archive
            .put_segment(segment, &raw, RecordFacts::default())
            .await
            .unwrap();
        let reached = ours.compare_with_others(&spans).await.unwrap();
        assert_eq!(reached, Lsn(MIB as u64));
    }
}

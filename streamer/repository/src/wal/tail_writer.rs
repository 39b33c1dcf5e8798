//! Writes the tails of one segment.
//!
//! A streamer writes its tails one behind the other; a segment that fills slowly would gather thousands, so many become
//! one beside this (`tail_merge`). Neither that nor removing what was replaced is ever part of an acknowledgement; the
//! comparison with what others stored is.
//!
//! Where somebody waits for every few bytes, and the store can do so, they go into a journal instead, which grows
//! ([`TailWriter::append_parts`]). It is not read again for the comparison: its bytes are at hand.

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, SegmentName, code};
use hardstorage_storage::{Created, Key};

use super::facts::RecordFacts;
use super::format::WalKind;
use super::journal_scan::JournalScan;
use super::journal_writer::{Batch, JournalWriter};
use super::object_reader::WalObject;
use super::object_stream::WalCursor;
use super::object_writer::ObjectWriter;
use super::tails::TailSpan;
use super::{Place, WalArchive, compare, split_brain};
use crate::WriterId;

/// One streamer's tails of one segment.
#[derive(Debug, Clone)]
pub(super) struct TailPlace {
    pub(super) archive: WalArchive,
    pub(super) segment: SegmentName,
    pub(super) streamer: WriterId,
}

/// Writes the tails of one segment for one streamer.
#[derive(Debug)]
pub struct TailWriter {
    pub(super) at: TailPlace,
    /// The tails that are not replaced, in order, without gap.
    pub(super) live: Vec<TailSpan>,
    pub(super) replaced: Vec<Key>,
    /// How far others had come when the last comparison was made; `None` before the first.
    pub(super) others_end: Option<Lsn>,
    journal: Journal,
    /// What others stored, as far as it was opened for a comparison.
    seen: Vec<Seen>,
}

#[derive(Debug)]
enum Journal {
    /// Not asked for yet.
    Unknown,
    /// The store has nothing that grows.
    Unable,
    Open(Box<JournalWriter>),
}

/// An object of another streamer, or the finished segment.
#[derive(Debug)]
struct Seen {
    key: Key,
    cursor: WalCursor,
    /// Of a journal, which may hold more by now.
    scan: Option<Box<JournalScan>>,
}

impl Seen {
    fn end(&self) -> Lsn {
        self.cursor.object.metadata.end()
    }
}

impl TailWriter {
    /// The first byte behind everything that is durable; `None` before the first tail.
    pub fn durable(&self) -> Option<Lsn> {
        self.live.last().map(|span| span.to)
    }

    /// Makes bytes durable. They must follow the ones before; the first may begin anywhere in the segment. As far as
    /// others have stored the same stretch of this segment, the bytes are compared with theirs before this returns.
    pub async fn put(&mut self, from: Lsn, bytes: &[u8], facts: RecordFacts) -> Result<Lsn> {
        self.put_parts(from, &[Bytes::copy_from_slice(bytes)], facts).await
    }

    /// The same for bytes that lie in several pieces.
    pub async fn put_parts(&mut self, from: Lsn, parts: &[Bytes], facts: RecordFacts) -> Result<Lsn> {
        let to = self.next(from, parts)?;
        let span = TailSpan {
            from,
            to,
            streamer: self.at.streamer,
            journal: false,
        };
        let mut writer = self.at.object(span)?;
        for part in parts {
            writer.take(part.clone()).await?;
        }
        self.at.commit(span, writer, facts).await?;
        self.live.push(span);
        if self.others_end.is_none_or(|end| from < end) {
            self.others_end = Some(self.at.compare_with_others(&[span]).await?);
        }
        Ok(to)
    }

    /// Where these bytes end, if they are the next ones.
    fn next(&self, from: Lsn, parts: &[Bytes]) -> Result<Lsn> {
        let start = self.at.archive.start_of(self.at.segment)?;
        let end = start.add(self.at.archive.segment_size().bytes());
        let length: usize = parts.iter().map(Bytes::len).sum();
        let to = from.add(length as u64);
        let follows = self.durable().is_none_or(|durable| durable == from);
        if length == 0 || !follows || from < start || to > end {
            return Err(Error::new(
                code::engine::NOT_CONTIGUOUS,
                format!(
                    "the tails of segment {} go on at {}, and {length} bytes came for {from}",
                    self.at.segment,
                    self.durable().unwrap_or(start),
                ),
            ));
        }
        Ok(to)
    }

    /// Whether a journal is open that goes on where all that is durable ends.
    pub fn has_journal(&self) -> bool {
        matches!(&self.journal, Journal::Open(journal) if Some(journal.end()) == self.durable())
    }

    /// [`TailWriter::put_parts`] with a journal, where the store can let one grow; else with a tail.
    pub async fn append_parts(&mut self, from: Lsn, parts: &[Bytes], facts: RecordFacts) -> Result<Lsn> {
        if matches!(self.journal, Journal::Unable) {
            return self.put_parts(from, parts, facts).await;
        }
        let to = self.next(from, parts)?;
        let goes_on = self.has_journal();
        let batch = Batch { parts, facts: &facts };
        match &mut self.journal {
            Journal::Open(journal) if goes_on => {
                journal.append(batch).await?;
                if let Some(span) = self.live.last_mut() {
                    span.to = to;
                }
            }
            journal => {
                let span = TailSpan {
                    from,
                    to,
                    streamer: self.at.streamer,
                    journal: true,
                };
                let begun = JournalWriter::begin(&self.at.archive, self.at.key(span), self.at.place(span), batch);
                let Some(begun) = begun.await? else {
                    *journal = Journal::Unable;
                    return self.put_parts(from, parts, facts).await;
                };
                debug_assert_eq!((begun.from(), begun.end()), (from, to));
                *journal = Journal::Open(Box::new(begun));
                self.live.push(span);
            }
        }
        if self.others_end.is_none_or(|end| from < end) {
            self.others_end = Some(self.compare_parts_with_others(from, to, parts).await?);
        }
        Ok(to)
    }

    /// Compares bytes that are at hand with what others hold of the same stretch. How far those reach.
    async fn compare_parts_with_others(&mut self, from: Lsn, to: Lsn, parts: &[Bytes]) -> Result<Lsn> {
        let (archive, segment) = (self.at.archive.clone(), self.at.segment);
        let store = archive.deployment().store();
        let mut reached = archive.start_of(segment)?;
        let mut before = std::mem::take(&mut self.seen);
        for object in archive.tail_objects(segment).await? {
            if object.name.streamer == self.at.streamer {
                continue;
            }
            let known = before.iter().position(|seen| seen.key == object.key);
            if let Some(mut seen) = known.map(|at| before.swap_remove(at)) {
                if let Some(scan) = seen.scan.as_mut().filter(|_| seen.cursor.object.metadata.end() < to) {
                    scan.go_on(store, &object.key, object.size).await?;
                    scan.sound(&object.key)?;
                    seen.cursor.lengthen(scan);
                }
                reached = reached.max(seen.end());
                self.seen.push(seen);
                continue;
            }
            let key = object.key.clone();
            let Some(tail) = object.look(&archive).await? else {
                continue;
            };
            reached = reached.max(tail.span.to);
            // What lies before these bytes was compared with those before, or is nothing of ours.
            let ended = tail.span.to <= from && !tail.span.journal;
            if !ended && let Some(object) = tail.open(&archive).await? {
                self.seen.push(Seen {
                    key,
                    cursor: WalCursor::new(object),
                    scan: tail.journal,
                });
            }
        }
        if archive.has_segment(segment).await? {
            let key = archive.segment_key(segment);
            reached = archive.start_of(segment)?.add(archive.segment_size().bytes());
            let known = before.iter().position(|seen| seen.key == key);
            if let Some(seen) = known.map(|at| before.swap_remove(at)) {
                self.seen.push(seen);
            } else if let Some(object) = archive.open_segment(segment).await? {
                self.seen.push(Seen {
                    key,
                    cursor: WalCursor::new(object),
                    scan: None,
                });
            }
        }
        for seen in &mut self.seen {
            let mut at = from;
            for bytes in parts {
                compare::bytes_with(segment, at, bytes, &mut seen.cursor).await?;
                at = at.add(bytes.len() as u64);
            }
        }
        self.seen.retain(|seen| seen.scan.is_some() || to < seen.end());
        Ok(reached)
    }
}

impl TailPlace {
    pub(super) fn key(&self, span: TailSpan) -> Key {
        self.archive.tail_key(self.segment, span)
    }

    fn place(&self, span: TailSpan) -> Place {
        Place {
            timeline: self.segment.timeline,
            start: span.from,
            length: span.length(),
        }
    }

    pub(super) fn object(&self, span: TailSpan) -> Result<ObjectWriter> {
        ObjectWriter::new(&self.archive, self.key(span), WalKind::Tail, self.place(span))
    }

    pub(super) async fn commit(&self, span: TailSpan, writer: ObjectWriter, facts: RecordFacts) -> Result<()> {
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
    pub(super) async fn own(&self, span: TailSpan) -> Result<Option<WalObject>> {
        match self.archive.tail(self.segment, span).await {
            Ok(tail) => tail.open(&self.archive).await,
            Err(error) if error.is(code::storage::OBJECT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A tail of ours is gone: whoever finished the segment removes all of its tails, after it has compared each of them
    /// with it. So the segment must be there, and what this writer says is durable then lies in it.
    pub(super) async fn replaced_by_the_segment(&self, span: TailSpan) -> Result<()> {
        if !self.archive.has_segment(self.segment).await? {
            let message = format!("tail {} is gone", self.key(span));
            return Err(Error::new(code::storage::OBJECT, message));
        }
        let key = self.archive.segment_key(self.segment);
        self.archive.deployment().store().confirm(&[key]).await
    }

    /// Compares own tails with those of other streamers and with the finished segment, if it is there. How far those
    /// reach.
    pub(super) async fn compare_with_others(&self, spans: &[TailSpan]) -> Result<Lsn> {
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
}

impl WalArchive {
    /// Begins to write tails of a segment.
    pub fn tail_writer(&self, segment: SegmentName, streamer: WriterId) -> Result<TailWriter> {
        self.start_of(segment)?;
        Ok(TailWriter {
            at: TailPlace {
                archive: self.clone(),
                segment,
                streamer,
            },
            live: Vec::new(),
            replaced: Vec::new(),
            others_end: None,
            journal: Journal::Unknown,
            seen: Vec::new(),
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

        let key = ours.at.key(spans[0]);
        deployment.store().delete(&key).await.unwrap();
        let lost = ours.at.compare_with_others(&spans).await.unwrap_err();
        assert!(lost.is(code::storage::OBJECT), "{lost}");

        archive
            .put_segment(segment, &raw, RecordFacts::default())
            .await
            .unwrap();
        let reached = ours.at.compare_with_others(&spans).await.unwrap();
        assert_eq!(reached, Lsn(MIB as u64));
    }
}

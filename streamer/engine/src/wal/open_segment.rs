//! The segment that fills, in two forms: what is made durable before it is complete, and the segment itself.

use bytes::Bytes;
use hardstorage_report::{Lsn, Result, SegmentName};
use hardstorage_repository::WriterId;
use hardstorage_repository::wal::{RecordFacts, SegmentBuilder, TailWriter, WalArchive};

use super::assembler::Piece;
use super::idle_mark::IdleMark;

/// The builder may be behind by so much. What a commit brings is copied later, with that of many others: it waits until its
/// bytes are durable, and not for that.
const BEHIND: usize = 1 << 20;

pub(super) struct OpenSegment {
    pub(super) builder: SegmentBuilder,
    pub(super) tails: TailWriter,
    pub(super) name: SegmentName,
    /// Facts of the records that end in this segment.
    pub(super) facts: RecordFacts,
    /// Bytes that the builder has not got yet, and where they begin.
    unbuilt: Vec<(Lsn, Bytes)>,
    unbuilt_length: usize,
    /// Bytes after the last tail, and where they begin.
    /// They are slices of the buffers that were read into, not copies.
    pub(super) unflushed: Vec<Bytes>,
    pub(super) unflushed_length: usize,
    pub(super) unflushed_from: Lsn,
    /// Facts since the last tail.
    pub(super) unflushed_facts: RecordFacts,
}

impl OpenSegment {
    /// Begins one whose first bytes are these.
    pub(super) fn begin(archive: &WalArchive, name: SegmentName, streamer: WriterId, from: Lsn) -> Result<OpenSegment> {
        Ok(OpenSegment {
            builder: archive.segment_builder(name, Some(streamer))?,
            tails: archive.tail_writer(name, streamer)?,
            name,
            facts: RecordFacts::default(),
            unbuilt: Vec::new(),
            unbuilt_length: 0,
            unflushed: Vec::new(),
            unflushed_length: 0,
            unflushed_from: from,
            unflushed_facts: RecordFacts::default(),
        })
    }

    /// Takes the next bytes; with `tail` they are to be made durable before the segment is complete.
    pub(super) fn take(&mut self, piece: Piece, facts: &RecordFacts, tail: bool) {
        self.facts.join(facts);
        self.unbuilt_length += piece.bytes.len();
        self.unbuilt.push((piece.lsn, piece.bytes.clone()));
        if tail {
            self.unflushed_facts.join(facts);
            self.unflushed_length += piece.bytes.len();
            self.unflushed.push(piece.bytes);
        }
    }

    /// Whether the builder is to be given what came.
    pub(super) fn builder_is_behind(&self) -> bool {
        self.unbuilt_length >= BEHIND
    }

    /// Gives it to the builder, and to the mark that repeats the last of it.
    pub(super) async fn build(&mut self, mark: &mut IdleMark) -> Result<()> {
        for (at, bytes) in self.unbuilt.drain(..) {
            mark.remember(&bytes);
            self.builder.append(at, &bytes).await?;
        }
        self.unbuilt_length = 0;
        Ok(())
    }
}

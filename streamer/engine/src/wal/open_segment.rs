//! The segment that fills, in two forms: what is made durable before it is complete, and the segment itself.

use bytes::Bytes;
use hardstorage_report::{Lsn, Result, SegmentName};
use hardstorage_repository::WriterId;
use hardstorage_repository::wal::{RecordFacts, SegmentBuilder, TailWriter, WalArchive};

use super::assembler::Piece;

pub(super) struct OpenSegment {
    pub(super) builder: SegmentBuilder,
    pub(super) tails: TailWriter,
    pub(super) name: SegmentName,
    /// Facts of the records that end in this segment.
    pub(super) facts: RecordFacts,
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
            unflushed: Vec::new(),
            unflushed_length: 0,
            unflushed_from: from,
            unflushed_facts: RecordFacts::default(),
        })
    }

    /// Takes the next bytes; with `tail` they are to be made durable before the segment is complete.
    pub(super) async fn take(&mut self, piece: Piece, facts: &RecordFacts, tail: bool) -> Result<()> {
        self.facts.join(facts);
        if tail {
            self.unflushed_facts.join(facts);
            self.unflushed_length += piece.bytes.len();
            self.unflushed.push(piece.bytes.clone());
        }
        self.builder.take(piece.lsn, piece.bytes).await
    }
}

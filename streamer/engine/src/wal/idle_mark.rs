//! The mark of an idle archive: a tail that repeats the last bytes with a later clock, which says that nothing happened
//! until then. There is one at a time; the one before is removed after the next is durable.

use hardstorage_report::{Lsn, Result, SegmentName, Timeline};
use hardstorage_repository::wal::{RecordFacts, ServerTime, WalArchive};
use hardstorage_repository::{WriterId, layout};
use hardstorage_storage::Key;

use super::own_tails::OwnTails;

/// The last bytes that are kept to be repeated.
const KEPT: usize = 8192;

/// The mark of one timeline, and what the next is made from.
#[derive(Debug)]
pub(super) struct IdleMark {
    timeline: Timeline,
    last_bytes: Vec<u8>,
    present: Option<(SegmentName, WriterId, Key)>,
    own: OwnTails,
}

impl IdleMark {
    pub(super) fn new(timeline: Timeline, own: OwnTails) -> IdleMark {
        IdleMark {
            timeline,
            last_bytes: Vec::new(),
            present: None,
            own,
        }
    }

    /// Takes note of bytes that were received.
    pub(super) fn remember(&mut self, bytes: &[u8]) {
        if bytes.len() >= KEPT {
            self.last_bytes.clear();
            self.last_bytes.extend_from_slice(&bytes[bytes.len() - KEPT..]);
        } else {
            self.last_bytes.extend_from_slice(bytes);
            let excess = self.last_bytes.len().saturating_sub(KEPT);
            self.last_bytes.drain(..excess);
        }
    }

    /// Makes a mark durable: up to `known` of the server's clock nothing came after `end`. False when no byte was
    /// received that could be repeated.
    pub(super) async fn put(&mut self, archive: &WalArchive, end: Lsn, known: ServerTime) -> Result<bool> {
        if self.last_bytes.is_empty() {
            return Ok(false);
        }
        let size = archive.segment_size();
        // The last byte that was written, not the first that will be: at a border they lie in different segments.
        let last = Lsn(end.0 - 1);
        let segment = SegmentName::containing(self.timeline, last, size);
        let within = (last.segment_offset(size) + 1).min(self.last_bytes.len() as u64);
        let bytes = &self.last_bytes[self.last_bytes.len() - within as usize..];
        let from = Lsn(end.0 - within);
        let streamer = WriterId::new(archive.deployment().surroundings().random()?);
        let mut facts = RecordFacts::default();
        facts.note_complete(known);
        archive.tail_writer(segment, streamer)?.put(from, bytes, facts).await?;
        let key = layout::tail(
            archive.deployment().name(),
            archive.lineage(),
            segment,
            from,
            end,
            &streamer,
        );
        self.own.wrote(segment, streamer, Some(known));
        if let Some((segment, streamer, key)) = self.present.replace((segment, streamer, key)) {
            archive.deployment().store().delete(&key).await?;
            self.own.forget(segment, streamer);
        }
        Ok(true)
    }

    /// The key of the present mark, which is no longer ours to remember.
    pub(super) fn forget(&mut self) -> Option<Key> {
        let (segment, streamer, key) = self.present.take()?;
        self.own.forget(segment, streamer);
        Some(key)
    }
}

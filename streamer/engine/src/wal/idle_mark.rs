//! The mark of an idle archive: a tail that repeats the last bytes with a later clock, which says that nothing happened
//! until then. There is one at a time; the one before is removed after the next is durable.

use std::collections::VecDeque;

use bytes::Bytes;
use hardstorage_report::{Lsn, Result, SegmentName, Timeline};
use hardstorage_repository::wal::{RecordFacts, ServerTime, WalArchive};
use hardstorage_repository::{WriterId, layout};
use hardstorage_storage::Key;

use super::own_tails::OwnTails;

/// So many of the last bytes are repeated.
const KEPT: usize = 8192;

/// The mark of one timeline, and what the next is made from.
#[derive(Debug)]
pub(super) struct IdleMark {
    timeline: Timeline,
    /// The last pieces that were received: as few as hold so many bytes. They are held, not copied: mostly the next one comes
    /// before a mark does.
    last: VecDeque<Bytes>,
    /// Of these pieces.
    length: usize,
    present: Option<(SegmentName, WriterId, Key)>,
    own: OwnTails,
}

impl IdleMark {
    pub(super) fn new(timeline: Timeline, own: OwnTails) -> IdleMark {
        IdleMark {
            timeline,
            last: VecDeque::new(),
            length: 0,
            present: None,
            own,
        }
    }

    /// Takes note of bytes that were received.
    pub(super) fn remember(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        self.last.push_back(bytes);
        while let Some(first) = self.last.front()
            && self.length - first.len() >= KEPT
        {
            self.length -= first.len();
            self.last.pop_front();
        }
    }

    /// So many of the last bytes as are repeated, or as there are.
    fn last_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.last.iter().flatten().copied().collect();
        bytes.drain(..bytes.len().saturating_sub(KEPT));
        bytes
    }

    /// Makes a mark durable: up to `known` of the server's clock nothing came after `end`. False when no byte was
    /// received that could be repeated.
    pub(super) async fn put(&mut self, archive: &WalArchive, end: Lsn, known: ServerTime) -> Result<bool> {
        let last_bytes = self.last_bytes();
        if last_bytes.is_empty() {
            return Ok(false);
        }
        let size = archive.segment_size();
        // The last byte that was written, not the first that will be: at a border they lie in different segments.
        let last = Lsn(end.0 - 1);
        let segment = SegmentName::containing(self.timeline, last, size);
        let within = (last.segment_offset(size) + 1).min(last_bytes.len() as u64);
        let bytes = &last_bytes[last_bytes.len() - within as usize..];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_those_that_came_last_in_whatever_pieces() {
        let mut mark = IdleMark::new(Timeline(1), OwnTails::default());
        assert!(mark.last_bytes().is_empty());
        let (mut all, mut next) = (Vec::<u8>::new(), 0u32);
        for length in [
            1,
            100,
            KEPT - 102,
            1,
            1,
            KEPT,
            7,
            3 * KEPT,
            KEPT - 1,
            1,
            5000,
            5000,
            5000,
        ] {
            let piece: Vec<u8> = (0..length)
                .map(|_| {
                    next += 1;
                    (next.wrapping_mul(2_654_435_761) >> 24) as u8
                })
                .collect();
            all.extend_from_slice(&piece);
            mark.remember(piece.into());
            assert_eq!(mark.last_bytes(), all[all.len().saturating_sub(KEPT)..], "{length}");
            let first = mark.last.front().map_or(0, Bytes::len);
            assert!(mark.length - first < KEPT, "no more is held than is repeated");
        }
    }
}

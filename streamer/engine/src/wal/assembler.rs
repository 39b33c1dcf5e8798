//! Contiguity, checked in one place: every message must begin where the last one ended, and is cut at segment borders.

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, Retry, SegmentName, SegmentSize, Timeline, code};

/// A piece of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The segment.
    pub segment: SegmentName,
    /// The position of the first byte.
    pub lsn: Lsn,
    /// The bytes, within one segment.
    pub bytes: Bytes,
    /// Whether the segment is complete with them.
    pub completes: bool,
}

/// Follows one leg of a stream.
#[derive(Debug)]
pub struct Assembler {
    timeline: Timeline,
    size: SegmentSize,
    next: Lsn,
}

impl Assembler {
    /// Begins at the start of a segment.
    pub fn new(timeline: Timeline, start: Lsn, size: SegmentSize) -> Assembler {
        debug_assert_eq!(start.segment_offset(size), 0);
        Assembler {
            timeline,
            size,
            next: start,
        }
    }

    /// Where the next message must begin.
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// The segment that is being filled.
    pub fn segment(&self) -> SegmentName {
        SegmentName::containing(self.timeline, self.next, self.size)
    }

    /// Takes a message and gives its pieces, in order. A message that does not begin where the last one ended is an
    /// error, whatever it holds: a hole exactly at a segment's border is invisible in segment numbers.
    pub fn push(&mut self, lsn: Lsn, mut bytes: Bytes, mut give: impl FnMut(Piece)) -> Result<()> {
        if lsn != self.next {
            return Err(Error::new(
                code::engine::NOT_CONTIGUOUS,
                format!("the server sent WAL from {lsn}, expected was {}", self.next),
            )
            .retry(Retry::Now));
        }
        while !bytes.is_empty() {
            let room = self.size.bytes() - self.next.segment_offset(self.size);
            let take = room.min(bytes.len() as u64);
            let piece = Piece {
                segment: self.segment(),
                lsn: self.next,
                bytes: bytes.split_to(take as usize),
                completes: take == room,
            };
            self.next = self.next.add(take);
            give(piece);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_the_stream_cut_at_borders(lengths in proptest::collection::vec(0usize..900_000, 1..12)) {
            let size = SegmentSize::new(1 << 20).unwrap();
            let mut assembler = Assembler::new(Timeline(1), Lsn(5 << 20), size);
            let mut sent = Vec::new();
            let mut got = Vec::new();
            let mut completed = 0u64;
            for (index, length) in lengths.iter().enumerate() {
                let message = vec![index as u8; *length];
                sent.extend_from_slice(&message);
                assembler.push(Lsn((5 << 20) + (sent.len() - length) as u64), message.into(), |piece| {
                    assert_eq!(piece.lsn.0, (5 << 20) + got.len() as u64);
                    assert_eq!(piece.segment.start(size).unwrap(), piece.lsn.segment_start(size));
                    got.extend_from_slice(&piece.bytes);
                    completed += u64::from(piece.completes);
                }).unwrap();
            }
            prop_assert_eq!(completed, sent.len() as u64 >> 20);
            prop_assert_eq!(got, sent);
        }
    }

    #[test]
    fn a_hole_or_an_overlap_is_refused_even_at_a_border() {
        let size = SegmentSize::new(1 << 20).unwrap();
        for wrong in [0u64, 1 << 20, (1 << 20) - 1, 3 << 20] {
            let mut assembler = Assembler::new(Timeline(1), Lsn(2 << 20), size);
            let error = assembler
                .push(Lsn(wrong), Bytes::from_static(b"x"), |_| ())
                .unwrap_err();
            assert!(error.is(code::engine::NOT_CONTIGUOUS));
        }
    }
}

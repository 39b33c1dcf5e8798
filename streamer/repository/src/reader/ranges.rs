//! Which bytes of the packs to read: the frames that a window needs, merged into few large ranges.
//!
//! A request costs a round trip on an object store and a head movement on a disk, so frames whose gap is small are read
//! together and the gap is thrown away. A range has an upper bound all the same: it is the unit of memory in flight.

use std::ops::Range;

/// Gaps below this are read and thrown away, between frames of file content.
pub(super) const GAP: u64 = 1 << 20;

/// A stored frame's place, as far as reading it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Any number that stands for its pack.
    pub(super) pack: u32,
    /// The first byte in the pack.
    pub(super) offset: u64,
    /// How many bytes.
    pub(super) length: u64,
}

/// One read: bytes of one pack, and the frames in it by their positions in the sorted list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) pack: u32,
    pub(super) bytes: Range<u64>,
    pub(super) frames: Range<usize>,
}

/// Merges frames, sorted by pack and offset, with gaps below `gap` into reads of at most `largest` bytes (a single larger
/// frame makes a read of its own).
pub(super) fn merge(frames: impl IntoIterator<Item = Place>, gap: u64, largest: u64) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for (index, frame) in frames.into_iter().enumerate() {
        let end = frame.offset + frame.length;
        match reads.last_mut() {
            Some(read)
                if read.pack == frame.pack
                    && frame.offset >= read.bytes.start
                    && frame.offset.saturating_sub(read.bytes.end) < gap
                    && end.max(read.bytes.end) - read.bytes.start <= largest =>
            {
                read.bytes.end = read.bytes.end.max(end);
                read.frames.end = index + 1;
            }
            _ => reads.push(Read {
                pack: frame.pack,
                bytes: frame.offset..end,
                frames: index..index + 1,
            }),
        }
    }
    reads
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(pack: u32, offset: u64, length: u64) -> Place {
        Place { pack, offset, length }
    }

    #[test]
    fn small_gaps_are_bridged_and_large_ones_are_not() {
        let frames = [
            place(1, 100, 50),
            place(1, 150 + GAP - 1, 10),
            place(1, 160 + 2 * GAP - 1, 10),
            place(2, 160 + 2 * GAP, 10),
        ];
        let reads = merge(frames, GAP, u64::MAX);
        assert_eq!(reads.len(), 3);
        assert_eq!(reads[0].bytes, 100..160 + GAP - 1);
        assert_eq!(reads[0].frames, 0..2);
        assert_eq!(reads[1].frames, 2..3);
        assert_eq!((reads[2].pack, reads[2].frames.clone()), (2, 3..4));
    }

    #[test]
    fn a_read_has_an_upper_bound() {
        let frames: Vec<Place> = (0..10).map(|i| place(0, i * 100, 100)).collect();
        let reads = merge(frames, GAP, 250);
        assert_eq!(reads.len(), 5);
        assert!(reads.iter().all(|read| read.bytes.end - read.bytes.start == 200));
        assert_eq!(merge([place(0, 0, 1000)], GAP, 250)[0].bytes, 0..1000);
    }

    proptest! {
        #[test]
        fn every_frame_lies_in_exactly_one_read(
            gaps in proptest::collection::vec((0u32..3, 0u64..2 * GAP, 1u64..5000), 0..40), largest in 1u64..4 * GAP,
        ) {
            let mut frames = Vec::new();
            let (mut pack, mut at) = (0, 0);
            for (step, gap, length) in gaps {
                if step == 0 { pack += 1; at = 0; }
                frames.push(place(pack, at + gap, length));
                at += gap + length;
            }
            let reads = merge(frames.iter().copied(), GAP, largest);
            let mut next = 0;
            for read in &reads {
                prop_assert_eq!(read.frames.start, next);
                next = read.frames.end;
                for frame in &frames[read.frames.clone()] {
                    prop_assert_eq!(frame.pack, read.pack);
                    prop_assert!(read.bytes.start <= frame.offset && frame.offset + frame.length <= read.bytes.end);
                }
                prop_assert!(read.frames.len() == 1 || read.bytes.end - read.bytes.start <= largest);
            }
            prop_assert_eq!(next, frames.len());
        }
    }
}

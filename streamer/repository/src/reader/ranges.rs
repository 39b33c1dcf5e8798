//! Which bytes of the packs to read: the frames that a window needs, merged into few large ranges.
//!
//! A request costs a round trip on an object store and a head movement on a disk, so frames whose gap is small are read
//! together and the gap is thrown away. A range has an upper bound all the same: it is the unit of memory in flight.

use std::collections::VecDeque;
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

/// Brings reads of one window into an order in which those that follow each other are about different stretches of it: as
/// many as there are `lanes`, of about the same weight each. Threads that work on what came then write different files.
pub(super) fn interleave(reads: Vec<Read>, weight: impl Fn(&Read) -> u64, lanes: usize) -> Vec<Read> {
    let count = reads.len();
    let weights: Vec<u64> = reads.iter().map(weight).collect();
    let share = weights.iter().sum::<u64>() / lanes.max(1) as u64 + 1;
    // For each lane what of it was given out, and what is left.
    let mut queues: Vec<(u64, VecDeque<(Read, u64)>)> = Vec::new();
    let mut sum = 0;
    for (read, weight) in reads.into_iter().zip(weights) {
        let lane = (sum / share) as usize;
        if queues.len() <= lane {
            queues.resize_with(lane + 1, Default::default);
        }
        if let Some((_, queue)) = queues.get_mut(lane) {
            queue.push_back((read, weight));
        }
        sum += weight;
    }
    let mut order = Vec::with_capacity(count);
    let next = |queues: &mut Vec<(u64, VecDeque<(Read, u64)>)>| {
        let waiting = queues.iter_mut().filter(|(_, queue)| !queue.is_empty());
        let (given, queue) = waiting.min_by_key(|(given, _)| *given)?;
        let (read, weight) = queue.pop_front()?;
        *given += weight;
        Some(read)
    };
    while let Some(read) = next(&mut queues) {
        order.push(read);
    }
    order
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

    #[test]
    fn lanes_take_turns() {
        let frames: Vec<Place> = (0..8).map(|i| place(i, 0, 100)).collect();
        let packs = |lanes, weights: [u64; 8]| -> Vec<u32> {
            let reads = merge(frames.iter().copied(), GAP, 250);
            let weight = |read: &Read| weights[read.pack as usize];
            interleave(reads, weight, lanes).iter().map(|read| read.pack).collect()
        };
        assert_eq!(packs(1, [1; 8]), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(packs(2, [1; 8]), [0, 5, 1, 6, 2, 7, 3, 4]);
        assert_eq!(packs(2, [7, 1, 1, 1, 1, 1, 1, 1]), [0, 2, 3, 4, 5, 6, 7, 1]);
        assert_eq!(packs(3, [0; 8]), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn every_read_is_kept(weights in proptest::collection::vec(0u64..1000, 0..40), lanes in 0usize..5) {
            let frames: Vec<Place> = (0..weights.len()).map(|i| place(i as u32, 0, 100)).collect();
            let reads = merge(frames, GAP, 250);
            let mut mixed = interleave(reads.clone(), |read| weights[read.pack as usize], lanes);
            mixed.sort_by_key(|read| read.pack);
            prop_assert_eq!(mixed, reads);
        }

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

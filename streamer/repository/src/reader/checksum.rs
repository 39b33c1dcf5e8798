//! A file's CRC32C out of those of its pieces, which worker threads compute in any order.
//!
//! Appending a piece needs a matrix that depends only on the piece's length. Pieces are runs of pages, so a handful of
//! lengths make up nearly all of them: their matrices are kept.

use std::collections::HashMap;

use hardstorage_codec::{BlockCrc, crc32c};

/// Matrices kept at most; beyond that they are made anew each time.
const KEPT: usize = 512;

/// Combines checksums of pieces in file order.
#[derive(Debug, Default)]
pub(super) struct Combiner {
    matrices: HashMap<u64, BlockCrc>,
    zeros: HashMap<u64, u32>,
}

impl Combiner {
    /// The checksum of what came before followed by a piece of `length` bytes whose own checksum is `piece`.
    pub(super) fn append(&mut self, before: u32, piece: u32, length: u64) -> u32 {
        if let Some(matrix) = self.matrices.get(&length) {
            return matrix.combine(before, piece);
        }
        let matrix = BlockCrc::new(length);
        let joined = matrix.combine(before, piece);
        if self.matrices.len() < KEPT {
            self.matrices.insert(length, matrix);
        }
        joined
    }

    /// The checksum of so many zero bytes.
    pub(super) fn zeros(&mut self, length: u64) -> u32 {
        if let Some(known) = self.zeros.get(&length) {
            return *known;
        }
        // By doubling: the bits of the length from the highest down.
        let mut crc = 0;
        let mut done = 0u64;
        for bit in (0..u64::BITS - length.leading_zeros()).rev() {
            crc = BlockCrc::new(done).combine(crc, crc);
            done *= 2;
            if length >> bit & 1 == 1 {
                crc = BlockCrc::new(1).combine(crc, crc32c(&[0]));
                done += 1;
            }
        }
        if self.zeros.len() < KEPT {
            self.zeros.insert(length, crc);
        }
        crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_make_the_whole(pieces in proptest::collection::vec((any::<bool>(), 0usize..20_000), 0..8)) {
            let mut combiner = Combiner::default();
            let mut whole = Vec::new();
            let mut crc = 0;
            for (index, (zero, length)) in pieces.into_iter().enumerate() {
                let piece = vec![if zero { 0 } else { index as u8 + 1 }; length];
                let own = if zero { combiner.zeros(length as u64) } else { crc32c(&piece) };
                prop_assert_eq!(own, crc32c(&piece));
                crc = combiner.append(crc, own, length as u64);
                whole.extend_from_slice(&piece);
            }
            prop_assert_eq!(crc, crc32c(&whole));
        }
    }
}

//! Zstandard with reused contexts: making one costs as much as compressing a small frame.

use std::fmt;

use zstd::zstd_safe::{CCtx, CParameter, DCtx};

/// Up to this level zstd looks for matches in one hash table only.
const FASTEST: i32 = 2;
/// The shortest match that is looked for there. By default these levels pass over everything below 6 or 7 bytes, which is
/// nearly all that repeats in an index: entries of 16 bytes of which 12 are like those before. Measured on pages: indexes
/// shrink to 0.58-0.97 of what they were (one of random text grows by 3 %), text to 0.97, and other tables and WAL stay, all
/// at the same speed.
const SHORT_MATCH: u32 = 5;
/// Still shorter ones make indexes on numbers smaller by another tenth, but text larger and slower: only after a trial.
const SHORTER_MATCH: u32 = 4;
/// Bytes of a trial, and how much larger than that a frame must be to be worth one.
const TRIAL: usize = 64 << 10;
const WORTH_A_TRIAL: usize = 8;

/// The compressed bytes are damaged, or not of the promised length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressError(pub &'static str);

impl fmt::Display for CompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zstd: {}", self.0)
    }
}

impl std::error::Error for CompressError {}

/// Compresses frames at one level.
pub struct Compressor {
    context: CCtx<'static>,
    fast: bool,
    trial: Vec<u8>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// A context for this level (1 to 19). Frames carry no checksum of their own: theirs is keyed and lies outside.
    pub fn new(level: i32) -> Compressor {
        let mut context = CCtx::create();
        // All parameters exist in every zstd; a refusal leaves the default, which only costs size.
        let _ = context.set_parameter(CParameter::CompressionLevel(level));
        let _ = context.set_parameter(CParameter::ContentSizeFlag(true));
        let mut compressor = Compressor {
            context,
            fast: level <= FASTEST,
            trial: Vec::new(),
        };
        if compressor.fast {
            compressor.look_for(SHORT_MATCH);
        }
        compressor
    }

    fn look_for(&mut self, shortest: u32) {
        let _ = self.context.set_parameter(CParameter::MinMatch(shortest));
    }

    /// The same as [`Compressor::compress`], for frames of about a MiB whose pages belong together: the fastest levels try
    /// with a part from its middle which matches to look for. What comes of it depends on `raw` alone.
    pub fn compress_after_trial(&mut self, raw: &[u8], out: &mut Vec<u8>) -> bool {
        let middle = raw.len() / 2;
        let Some(part) = raw
            .get(middle..middle + TRIAL)
            .filter(|_| self.fast && raw.len() >= TRIAL * WORTH_A_TRIAL)
        else {
            return self.compress(raw, out);
        };
        let mut trial = std::mem::take(&mut self.trial);
        let [short, shorter] = [SHORT_MATCH, SHORTER_MATCH].map(|shortest| {
            self.look_for(shortest);
            trial.clear();
            if self.compress(part, &mut trial) {
                trial.len()
            } else {
                part.len()
            }
        });
        self.trial = trial;
        self.look_for(if shorter < short { SHORTER_MATCH } else { SHORT_MATCH });
        let shrunk = self.compress(raw, out);
        self.look_for(SHORT_MATCH);
        shrunk
    }

    /// Puts the compressed form of `raw` behind what `out` holds. False, and `out` as it was, when it does not shrink.
    pub fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        // One byte less than the input: what does not fit has not shrunk.
        let room = raw.len().saturating_sub(1);
        out.resize(start + room, 0);
        let Ok(length) = self.context.compress2(&mut out[start..], raw) else {
            out.truncate(start);
            return false;
        };
        out.truncate(start + length);
        true
    }
}

/// Decompresses frames of known length.
pub struct Decompressor {
    context: DCtx<'static>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Decompressor {
            context: DCtx::create(),
        }
    }
}

impl Decompressor {
    /// Replaces `out` by exactly `raw_len` bytes, or fails.
    pub fn decompress(&mut self, packed: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
        out.resize(raw_len, 0);
        match self.context.decompress(out.as_mut_slice(), packed) {
            Ok(length) if length == raw_len => Ok(()),
            Ok(_) => Err(CompressError("the frame is shorter than promised")),
            Err(_) => Err(CompressError("the frame is damaged or longer than promised")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(data in proptest::collection::vec(0u8..4, 0..20_000)) {
            let mut packed = b"head".to_vec();
            let mut compressor = Compressor::new(1);
            if compressor.compress(&data, &mut packed) {
                prop_assert!(packed.len() < 4 + data.len());
                let mut out = Vec::new();
                Decompressor::default().decompress(&packed[4..], data.len(), &mut out).unwrap();
                prop_assert_eq!(out, data);
            } else {
                prop_assert_eq!(&packed, b"head");
            }
        }

        #[test]
        fn foreign_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..2000), len in 0usize..5000) {
            let _ = Decompressor::default().decompress(&data, len, &mut Vec::new());
        }
    }

    /// What a page of an index on a number looks like: entries of 16 bytes, place and key, each a little above the last.
    fn index_entries() -> Vec<u8> {
        let entry = |entry: u32| {
            // Keys were inserted at random once: neighbours lie in blocks that are far apart.
            let (block, item) = (entry.wrapping_mul(2_654_435_761) % 160_000, (entry % 61 + 1) as u16);
            let place = [(block >> 16) as u16, block as u16, item, 16]
                .map(u16::to_le_bytes)
                .concat();
            [place, u64::from(entry).to_le_bytes().to_vec()].concat()
        };
        (0u32..1 << 16).flat_map(entry).collect()
    }

    #[test]
    fn entries_of_an_index_shrink_more_after_a_trial() {
        let entries = index_entries();
        let (mut plain, mut tried) = (Vec::new(), Vec::new());
        assert!(Compressor::new(1).compress(&entries, &mut plain));
        assert!(Compressor::new(1).compress_after_trial(&entries, &mut tried));
        assert!(
            tried.len() * 20 < plain.len() * 19,
            "{} of {}",
            tried.len(),
            plain.len()
        );
    }

    #[test]
    fn a_trial_changes_nothing_but_the_length() {
        let text: Vec<u8> = (0u32..90_000)
            .flat_map(|n| format!("{:x} ", n.wrapping_mul(2_654_435_761)).into_bytes())
            .collect();
        assert!(text.len() > TRIAL * WORTH_A_TRIAL);
        let noise = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        let noise: Vec<u8> = std::iter::successors(Some(1), noise)
            .take(1 << 20)
            .map(|state| (state >> 56) as u8)
            .collect();
        for level in [1, 3] {
            let mut compressor = Compressor::new(level);
            for data in [
                &index_entries(),
                &text,
                &noise,
                &index_entries(),
                &noise[..1000].to_vec(),
            ] {
                let (mut first, mut second, mut out) = (b"head".to_vec(), b"head".to_vec(), Vec::new());
                let shrunk = compressor.compress_after_trial(data, &mut first);
                assert_eq!(shrunk, !noise.starts_with(data));
                if shrunk {
                    Decompressor::default()
                        .decompress(&first[4..], data.len(), &mut out)
                        .unwrap();
                    assert!(out == *data);
                }
                assert_eq!(Compressor::new(level).compress_after_trial(data, &mut second), shrunk);
                assert!(first == second, "what came before changes nothing");
            }
        }
    }
}

//! Zstandard with reused contexts: making one costs as much as compressing a small frame.

use std::fmt;

use zstd::zstd_safe::{CCtx, CParameter, DCtx};

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
        // Both parameters exist in every zstd; a refusal leaves the default, which only costs size.
        let _ = context.set_parameter(CParameter::CompressionLevel(level));
        let _ = context.set_parameter(CParameter::ContentSizeFlag(true));
        Compressor { context }
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
}

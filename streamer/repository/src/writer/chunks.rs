//! The buffers in which packs travel to the store: given out as `Bytes` without a copy, and taken back when the store has
//! let go of them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of a chunk.
pub(super) const CHUNK_LEN: usize = 1 << 20;

// More than are ever in flight at once come from a store that holds many parts; those are given back to the allocator.
const KEPT: usize = 24;

/// A pool of chunks.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunks(Arc<Mutex<Vec<Vec<u8>>>>);

struct Lent {
    bytes: Vec<u8>,
    home: Chunks,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut free = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT && bytes.capacity() <= 2 * CHUNK_LEN {
            free.push(bytes);
        }
    }
}

impl Chunks {
    /// An empty chunk.
    pub(super) fn take(&self) -> Vec<u8> {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        used.unwrap_or_else(|| Vec::with_capacity(CHUNK_LEN))
    }

    /// Sends a filled chunk on its way.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent {
            bytes,
            home: self.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_when_the_last_slice_of_it_is_gone() {
        let chunks = Chunks::default();
        let mut chunk = chunks.take();
        chunk.extend_from_slice(b"abc");
        let place = chunk.as_ptr();
        let bytes = chunks.lend(chunk);
        let slice = bytes.slice(1..);
        drop(bytes);
        let other = chunks.take();
        assert_ne!(other.as_ptr(), place);
        assert_eq!(&slice[..], b"bc");
        drop(slice);
        let again = chunks.take();
        assert!(again.is_empty() && again.as_ptr() == place);
    }
}

//! BLAKE3. Hashes of plain content are always keyed, so that nothing stored confirms a guess at it; only
//! ciphertext and public bytes are hashed without a key.

use crate::Secret;

/// Sixteen bytes of hash.
pub type Digest128 = [u8; 16];
/// Thirty-two bytes of hash.
pub type Digest256 = [u8; 32];

/// A keyed hash for one purpose.
#[derive(Clone)]
pub struct KeyedHash([u8; 32]);

impl std::fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHash(..)")
    }
}

impl KeyedHash {
    /// Takes the key.
    pub fn new(key: &Secret) -> KeyedHash {
        KeyedHash(*key.expose())
    }

    /// The first eight bytes, little endian: for a page, beside its CRC and its position.
    pub fn hash64(&self, bytes: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.0, bytes);
        let mut word = [0u8; 8];
        word.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(word)
    }

    /// The first sixteen bytes: for a frame.
    pub fn hash128(&self, bytes: &[u8]) -> Digest128 {
        let hash = blake3::keyed_hash(&self.0, bytes);
        let mut out = [0u8; 16];
        out.copy_from_slice(&hash.as_bytes()[..16]);
        out
    }

    /// The whole hash.
    pub fn hash256(&self, bytes: &[u8]) -> Digest256 {
        *blake3::keyed_hash(&self.0, bytes).as_bytes()
    }

    /// A keyed hash of bytes that come in pieces.
    pub fn start(&self) -> PlainHash {
        PlainHash(blake3::Hasher::new_keyed(&self.0))
    }
}

/// A hash of bytes that come in pieces; keyed when it was started from a [`KeyedHash`].
#[derive(Debug, Clone, Default)]
pub struct PlainHash(blake3::Hasher);

impl PlainHash {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash so far.
    pub fn finish(&self) -> Digest256 {
        *self.0.finalize().as_bytes()
    }
}

/// The hash of public bytes.
pub fn plain_hash(bytes: &[u8]) -> Digest256 {
    *blake3::hash(bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_equal_the_whole_and_the_key_matters() {
        let key = KeyedHash::new(&Secret::new([1; 32]));
        let mut pieces = key.start();
        pieces.update(b"hello ");
        pieces.update(b"world");
        assert_eq!(pieces.finish(), key.hash256(b"hello world"));
        assert_eq!(key.hash128(b"x"), key.hash256(b"x")[..16]);
        assert_eq!(key.hash64(b"x").to_le_bytes(), key.hash256(b"x")[..8]);
        assert_ne!(key.hash256(b"x"), plain_hash(b"x"));
    }
}

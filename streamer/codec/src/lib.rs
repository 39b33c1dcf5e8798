//! Seal, open, hash and compress: the leaf under everything, and the only crate whose inner loops must be fast in a
//! debug build. Nothing here is generic (generic code would be compiled, unoptimised, in the caller) and nothing does IO.

mod aead;
mod checksum;
mod compress;
mod hash;
mod kdf;
mod sign;

pub use aead::{AeadError, SealKey, TAG_LEN};
pub use checksum::{BlockCrc, crc32c, crc32c_append, crc32c_combine, is_zero};
pub use compress::{CompressError, Compressor, Decompressor};
pub use hash::{Digest128, Digest256, KeyedHash, PlainHash, plain_hash};
pub use kdf::derive;
pub use sign::{PublicKey, SigningKey, fingerprint};

/// A 256-bit secret, wiped when dropped and never printed.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: [u8; 32]) -> Secret {
        Secret(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Compares in constant time.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    a.len() == b.len() && bool::from(a.ct_eq(b))
}

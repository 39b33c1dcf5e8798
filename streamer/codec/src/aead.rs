//! AES-256-GCM with a counter as nonce. Safe only while a number is used once with a key: the packer alone
//! numbers frames, and every pack has a key of its own.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

use crate::Secret;

/// Bytes that sealing adds.
pub const TAG_LEN: usize = 16;

/// The bytes were not sealed with this key, number and associated data, or are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AeadError;

impl fmt::Display for AeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sealed bytes do not open: damaged, or sealed with another key")
    }
}

impl std::error::Error for AeadError {}

/// A key with its schedule computed.
#[derive(Clone)]
pub struct SealKey(Aes256Gcm);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

fn nonce(number: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut bytes = [0u8; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

impl SealKey {
    /// Prepares a key.
    pub fn new(key: &Secret) -> SealKey {
        SealKey(Aes256Gcm::new(key.expose().into()))
    }

    /// Encrypts `buffer` in place and appends the tag. `number` must never repeat under one key.
    pub fn seal(&self, number: u64, associated: &[u8], buffer: &mut Vec<u8>) {
        self.seal_from(0, number, associated, buffer);
    }

    /// The same for what `buffer` holds from a place on; what lies before it stays as it is.
    pub fn seal_from(&self, from: usize, number: u64, associated: &[u8], buffer: &mut Vec<u8>) {
        let plain = &mut buffer[from..];
        let tag = self.0.encrypt_inout_detached(&nonce(number), associated, plain.into());
        match tag {
            Ok(tag) => buffer.extend_from_slice(&tag),
            // Only beyond 64 GiB in one message; frames are a thousandth of a thousandth of that.
            Err(_) => unreachable!("a frame is far below the limit of GCM"),
        }
    }

    /// Checks and decrypts in place; on return `buffer` holds the plain bytes, on error nothing useful.
    pub fn open(&self, number: u64, associated: &[u8], buffer: &mut Vec<u8>) -> Result<(), AeadError> {
        let length = buffer.len().checked_sub(TAG_LEN).ok_or(AeadError)?;
        let tag: [u8; TAG_LEN] = buffer[length..].try_into().map_err(|_| AeadError)?;
        buffer.truncate(length);
        self.0
            .decrypt_inout_detached(
                &nonce(number),
                associated,
                buffer.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .map_err(|_| AeadError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn opens_what_it_sealed_and_nothing_else(
            data in proptest::collection::vec(any::<u8>(), 0..4000),
            aad in proptest::collection::vec(any::<u8>(), 0..64),
            number in any::<u64>(),
            flip in any::<prop::sample::Index>(),
        ) {
            let key = SealKey::new(&Secret::new([3; 32]));
            let mut sealed = data.clone();
            key.seal(number, &aad, &mut sealed);
            prop_assert_eq!(sealed.len(), data.len() + TAG_LEN);
            let mut opened = sealed.clone();
            prop_assert!(key.open(number, &aad, &mut opened).is_ok());
            prop_assert_eq!(&opened, &data);

            let at = flip.index(sealed.len());
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            prop_assert!(key.open(number, &aad, &mut damaged).is_err());
            prop_assert!(key.open(number.wrapping_add(1), &aad, &mut sealed.clone()).is_err());
            prop_assert!(SealKey::new(&Secret::new([4; 32])).open(number, &aad, &mut sealed).is_err());
        }
    }
}

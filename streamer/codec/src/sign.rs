//! Ed25519: who committed a backup. The stored bytes are signed and verified before they are parsed.

use ed25519_dalek::{Signer, SigningKey as Inner, VerifyingKey};

use crate::{Secret, plain_hash};

/// A signing key.
pub struct SigningKey(Inner);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// From its 32 secret bytes.
    pub fn new(seed: &Secret) -> SigningKey {
        SigningKey(Inner::from_bytes(seed.expose()))
    }

    /// Signs.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }

    /// The key that verifies.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
}

/// A verifying key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From its 32 bytes; `None` for bytes that are no point.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<PublicKey> {
        VerifyingKey::from_bytes(bytes).ok().map(PublicKey)
    }

    /// Its 32 bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Whether these bytes were signed by the owner. Strict: refuses the malleable forms.
    pub fn verify(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.0
            .verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(signature))
            .is_ok()
    }
}

/// Sixteen hex digits that name a public key for people.
pub fn fingerprint(key: &PublicKey) -> String {
    let hash = plain_hash(&key.to_bytes());
    format!(
        "{:016x}",
        u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        let key = SigningKey::new(&Secret::new([9; 32]));
        let signature = key.sign(b"manifest");
        assert!(key.public().verify(b"manifest", &signature));
        assert!(!key.public().verify(b"manifesT", &signature));
        assert_eq!(PublicKey::from_bytes(&key.public().to_bytes()), Some(key.public()));
        assert_eq!(fingerprint(&key.public()).len(), 16);
    }
}

//! The key encryption key, and every key that follows from it. It wraps data keys, seals signers and makes the MACs of
//! descriptor and policy; nothing else. In an unencrypted repository a public constant stands in its place: MACs then
//! guard against accidents only.

use hardstorage_codec::{KeyedHash, SealKey, Secret, derive};
use serde::{Deserialize, Serialize};

use crate::text_number::hex_bytes;
use crate::{EnvelopeKind, Surroundings};
use hardstorage_report::Result;

const PUBLIC: [u8; 32] = *b"pg_hardstorage public fixed key1";

/// Names a KEK for people and tells two apart; derived, so that it reveals nothing of the key.
pub fn kek_fingerprint(kek: &Secret) -> String {
    hex::encode(&derive(kek, b"hs1 kek", b"fingerprint").expose()[..8])
}

/// The key at the root of a repository.
#[derive(Debug, Clone)]
pub(crate) struct RootKey {
    secret: Secret,
    fingerprint: Option<String>,
}

impl RootKey {
    /// An encrypted repository's.
    pub(crate) fn kek(secret: Secret) -> RootKey {
        let fingerprint = Some(kek_fingerprint(&secret));
        RootKey { secret, fingerprint }
    }

    /// An unencrypted repository's.
    pub(crate) fn public() -> RootKey {
        RootKey {
            secret: Secret::new(PUBLIC),
            fingerprint: None,
        }
    }

    /// Whether it hides anything.
    pub(crate) fn seals(&self) -> bool {
        self.fingerprint.is_some()
    }

    /// Of the KEK; `None` in an unencrypted repository.
    pub(crate) fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// The MAC of small objects of one kind.
    pub(crate) fn mac(&self, kind: EnvelopeKind) -> KeyedHash {
        let info = format!("envelope {}", kind.label());
        KeyedHash::new(&derive(&self.secret, b"hs1 kek", info.as_bytes()))
    }

    /// Wraps 32 bytes for one purpose. `about` goes into the associated data.
    pub(crate) fn wrap(&self, what: &str, about: &[u8], bytes: &[u8; 32], world: &Surroundings) -> Result<Wrapped> {
        if !self.seals() {
            return Ok(Wrapped::Clear { bytes: *bytes });
        }
        let salt = world.random()?;
        let mut sealed = bytes.to_vec();
        // The salt is fresh, so the key is, and number 0 is used once with it.
        self.wrap_key(what, &salt).seal(0, about, &mut sealed);
        let mut out = [0; 48];
        out.copy_from_slice(&sealed);
        Ok(Wrapped::Sealed { salt, bytes: out })
    }

    /// Unwraps; `None` when this key or this `about` is not the one that it was wrapped with.
    pub(crate) fn unwrap(&self, what: &str, about: &[u8], wrapped: &Wrapped) -> Option<Secret> {
        match (wrapped, self.seals()) {
            (Wrapped::Clear { bytes }, false) => Some(Secret::new(*bytes)),
            (Wrapped::Sealed { salt, bytes }, true) => {
                let mut buffer = bytes.to_vec();
                self.wrap_key(what, salt).open(0, about, &mut buffer).ok()?;
                let opened: Option<[u8; 32]> = buffer.as_slice().try_into().ok();
                zeroize::Zeroize::zeroize(&mut buffer);
                opened.map(Secret::new)
            }
            _ => None,
        }
    }

    fn wrap_key(&self, what: &str, salt: &[u8; 32]) -> SealKey {
        SealKey::new(&derive(&self.secret, salt, format!("wrap {what}").as_bytes()))
    }
}

/// Thirty-two bytes as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "lowercase")]
pub(crate) enum Wrapped {
    /// AES-256-GCM under a key derived from the KEK and the salt.
    Sealed {
        #[serde(with = "hex_bytes")]
        salt: [u8; 32],
        #[serde(with = "hex_bytes")]
        bytes: [u8; 48],
    },
    /// As they are: the repository is unencrypted.
    Clear {
        #[serde(with = "hex_bytes")]
        bytes: [u8; 32],
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_open_with_the_same_key_and_context_only() {
        let world = Surroundings::default();
        let root = RootKey::kek(Secret::new([1; 32]));
        let wrapped = root.wrap("data key", b"about", &[7; 32], &world).unwrap();
        assert_eq!(root.unwrap("data key", b"about", &wrapped).unwrap().expose(), &[7; 32]);
        assert!(root.unwrap("data key", b"other", &wrapped).is_none());
        assert!(root.unwrap("signer", b"about", &wrapped).is_none());
        assert!(
            RootKey::kek(Secret::new([2; 32]))
                .unwrap("data key", b"about", &wrapped)
                .is_none()
        );
        assert!(RootKey::public().unwrap("data key", b"about", &wrapped).is_none());
        assert_ne!(root.wrap("data key", b"about", &[7; 32], &world).unwrap(), wrapped);
        let clear = RootKey::public().wrap("data key", b"", &[7; 32], &world).unwrap();
        assert!(
            root.unwrap("data key", b"", &clear).is_none(),
            "a holder of a key takes no clear one"
        );
    }

    #[test]
    fn a_fingerprint_is_not_the_key() {
        let fingerprint = kek_fingerprint(&Secret::new([1; 32]));
        assert_eq!(fingerprint.len(), 16);
        assert_ne!(fingerprint, kek_fingerprint(&Secret::new([2; 32])));
        assert!(!fingerprint.contains("0101"));
    }
}

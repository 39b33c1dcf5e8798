//! The envelope of every small object: one header line in clear, then the payload.
//!
//! `hsenv1 <kind> <64 hex digits>\n<payload>`; the digits are a keyed BLAKE3 of the payload, under a key that belongs
//! to the kind, so that a state cannot be passed off as a session. What an object is about (its deployment, backup,
//! number) stands in its payload, and readers compare it with the name under which they found it.

use bytes::{BufMut, Bytes, BytesMut};
use hardstorage_codec::{KeyedHash, equal};
use hardstorage_report::{Error, Result, code};

/// The kinds of small objects, each with a MAC key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnvelopeKind {
    /// `HARDSTORAGE`.
    Descriptor,
    /// `config/<seq>.json`.
    Config,
    /// `keys/...`: a wrapped data key.
    Key,
    /// `signers/...`: a public signing key.
    Signer,
    /// `manifests/.../state/<seq>.json`.
    State,
    /// `sessions/...`.
    Session,
    /// `sessions/<deployment>/<writer>/progress/...`.
    Progress,
    /// A void at a manifest's name.
    Void,
    /// `manifests/.../gone/<writer>.json`: a backup that was collected.
    Gone,
    /// `wal/.../timelines/<TLI>.history`, verbatim.
    History,
    /// `wal/.../aux/<name>.backup`, verbatim.
    Aux,
    /// `wal/.../gaps/...`.
    Gap,
    /// `damage/...`.
    Damage,
    /// `audit/<deployment>/<yyyymm>/...`.
    Audit,
    /// `audit/<deployment>/anchors/...`.
    Anchor,
    /// `scrub/...`.
    Scrub,
}

impl EnvelopeKind {
    /// The word in the header line.
    pub fn label(self) -> &'static str {
        match self {
            EnvelopeKind::Descriptor => "descriptor",
            EnvelopeKind::Config => "config",
            EnvelopeKind::Key => "key",
            EnvelopeKind::Signer => "signer",
            EnvelopeKind::State => "state",
            EnvelopeKind::Session => "session",
            EnvelopeKind::Progress => "progress",
            EnvelopeKind::Void => "void",
            EnvelopeKind::Gone => "gone",
            EnvelopeKind::History => "history",
            EnvelopeKind::Aux => "aux",
            EnvelopeKind::Gap => "gap",
            EnvelopeKind::Damage => "damage",
            EnvelopeKind::Audit => "audit",
            EnvelopeKind::Anchor => "anchor",
            EnvelopeKind::Scrub => "scrub",
        }
    }
}

const MAGIC: &str = "hsenv1 ";
const MAC_HEX: usize = 64;

/// Wraps a payload.
pub fn seal_envelope(kind: EnvelopeKind, mac: &KeyedHash, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 100);
    out.put_slice(MAGIC.as_bytes());
    out.put_slice(kind.label().as_bytes());
    out.put_u8(b' ');
    out.put_slice(hex::encode(mac.hash256(payload)).as_bytes());
    out.put_u8(b'\n');
    out.put_slice(payload);
    out.freeze()
}

/// Splits an envelope without checking its MAC: for those who hold no key and trust nothing that they read.
pub fn split_envelope(kind: EnvelopeKind, stored: &Bytes) -> Option<(&[u8], Bytes)> {
    let line = MAGIC.len() + kind.label().len() + 1 + MAC_HEX;
    let header = stored.get(..line)?;
    let rest = header
        .strip_prefix(MAGIC.as_bytes())?
        .strip_prefix(kind.label().as_bytes())?;
    let mac = rest.strip_prefix(b" ")?;
    (stored.get(line) == Some(&b'\n')).then(|| (mac, stored.slice(line + 1..)))
}

/// Checks and unwraps. `name` is the object's key, for the message.
pub fn open_envelope(kind: EnvelopeKind, mac: &KeyedHash, stored: &Bytes, name: &str) -> Result<Bytes> {
    let damaged = |what: &str| Error::new(code::repository::OBJECT_CORRUPT, format!("object {name}: {what}"));
    let (found, payload) =
        split_envelope(kind, stored).ok_or_else(|| damaged(&format!("not an envelope of kind {}", kind.label())))?;
    if equal(found, hex::encode(mac.hash256(&payload)).as_bytes()) {
        Ok(payload)
    } else {
        Err(damaged("its MAC does not match: damaged, or written with another key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hardstorage_codec::Secret;
    use proptest::prelude::*;

    fn mac(seed: u8) -> KeyedHash {
        KeyedHash::new(&Secret::new([seed; 32]))
    }

    proptest! {
        #[test]
        fn round_trip_and_every_flip_is_seen(
            payload in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(),
        ) {
            let stored = seal_envelope(EnvelopeKind::State, &mac(1), &payload);
            prop_assert_eq!(&open_envelope(EnvelopeKind::State, &mac(1), &stored, "x").unwrap()[..], &payload[..]);
            let mut damaged = stored.to_vec();
            let at = at.index(damaged.len());
            damaged[at] ^= 1;
            prop_assert!(open_envelope(EnvelopeKind::State, &mac(1), &damaged.into(), "x").is_err());
            prop_assert!(open_envelope(EnvelopeKind::Session, &mac(1), &stored, "x").is_err());
            prop_assert!(open_envelope(EnvelopeKind::State, &mac(2), &stored, "x").is_err());
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open_envelope(EnvelopeKind::Gap, &mac(1), &bytes.into(), "x").is_err());
        }
    }
}

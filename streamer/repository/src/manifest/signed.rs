//! The stored form of a manifest: `hsmanifest1 <signer, 16 hex> <signature, 128 hex>\n`, then the JSON. The signature
//! covers the JSON bytes behind a domain prefix and is verified *before* they are parsed.

use bytes::{BufMut as _, Bytes, BytesMut};
use hardstorage_codec::{PublicKey, SigningKey, fingerprint, plain_hash};
use hardstorage_report::{Error, Result, code};
use serde::Deserialize;

use super::model::{MANIFEST_FORMAT, Manifest};
use crate::text_number::from_hex;

const MAGIC: &[u8] = b"hsmanifest1 ";
const DOMAIN: &[u8] = b"pg_hardstorage manifest v1\n";
const SIGNER_HEX: usize = 16;
const SIGNATURE_HEX: usize = 128;
const HEADER: usize = MAGIC.len() + SIGNER_HEX + 1 + SIGNATURE_HEX + 1;

// Features of manifests that this program knows.
const KNOWN_FEATURES: &[&str] = &[];

/// A manifest whose signature was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedManifest {
    /// What it says.
    pub manifest: Manifest,
    /// The hash of its stored bytes: what a descendant names it by.
    pub hash: [u8; 32],
    /// Bytes stored.
    pub stored_bytes: u64,
}

/// Stored bytes taken apart; nothing is believed yet.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) signer: String,
    signature: [u8; 64],
    payload: Bytes,
}

fn corrupt(name: &str, what: &str) -> Error {
    Error::new(code::repository::MANIFEST_CORRUPT, format!("manifest {name}: {what}"))
}

fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    [DOMAIN, payload].concat()
}

/// Signs and encodes.
pub(crate) fn sign(manifest: &Manifest, key: &SigningKey, name: &str) -> Result<Bytes> {
    let payload =
        serde_json::to_vec(manifest).map_err(|error| corrupt(name, "it cannot be written as JSON").source(error))?;
    let signature = key.sign(&signed_bytes(&payload));
    let mut out = BytesMut::with_capacity(HEADER + payload.len());
    out.put_slice(MAGIC);
    out.put_slice(fingerprint(&key.public()).as_bytes());
    out.put_u8(b' ');
    out.put_slice(hex::encode(signature).as_bytes());
    out.put_u8(b'\n');
    out.put_slice(&payload);
    Ok(out.freeze())
}

/// Takes stored bytes apart.
pub(crate) fn split(stored: &Bytes, name: &str) -> Result<Signed> {
    let header = || {
        let text = std::str::from_utf8(stored.get(MAGIC.len()..HEADER)?)
            .ok()?
            .strip_suffix('\n')?;
        let (signer, signature) = text.split_once(' ')?;
        let _: [u8; SIGNER_HEX / 2] = from_hex(signer)?;
        Some((signer.to_owned(), from_hex(signature)?))
    };
    let found = stored.starts_with(MAGIC).then(header).flatten();
    let (signer, signature) = found.ok_or_else(|| corrupt(name, "its first line is not that of a manifest"))?;
    Ok(Signed {
        signer,
        signature,
        payload: stored.slice(HEADER..),
    })
}

// What every future format keeps, so that an old program can tell that it is old.
#[derive(Deserialize)]
struct Heading {
    format: u32,
    #[serde(default)]
    features: Vec<String>,
}

impl Signed {
    /// What is signed, before anything is believed of it.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Verifies, then parses.
    pub(crate) fn verify(&self, key: &PublicKey, stored: &Bytes, name: &str) -> Result<VerifiedManifest> {
        if fingerprint(key) != self.signer || !key.verify(&signed_bytes(&self.payload), &self.signature) {
            return Err(corrupt(
                name,
                "its signature does not hold: damaged, or not by whom it names",
            ));
        }
        let json = |error: serde_json::Error| corrupt(name, "its JSON is not of the expected form").source(error);
        let heading: Heading = serde_json::from_slice(&self.payload).map_err(json)?;
        let unknown = heading
            .features
            .iter()
            .find(|feature| !KNOWN_FEATURES.contains(&feature.as_str()));
        if heading.format > MANIFEST_FORMAT || unknown.is_some() {
            let message = match unknown {
                Some(feature) => format!("manifest {name} needs the feature {feature:?}"),
                None => format!(
                    "manifest {name} has format {}; this program knows {MANIFEST_FORMAT}",
                    heading.format
                ),
            };
            return Err(Error::new(code::repository::NEWER_FORMAT, message));
        }
        let manifest: Manifest = serde_json::from_slice(&self.payload).map_err(json)?;
        if manifest.signer != self.signer {
            return Err(corrupt(name, "it names another signer than its first line"));
        }
        Ok(VerifiedManifest {
            manifest,
            hash: plain_hash(stored),
            stored_bytes: stored.len() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::samples;
    use hardstorage_codec::Secret;
    use proptest::prelude::*;

    #[test]
    fn signed_and_read_back() {
        let (manifest, key) = samples::signed();
        let stored = sign(&manifest, &key, "m").unwrap();
        let signed = split(&stored, "m").unwrap();
        let verified = signed.verify(&key.public(), &stored, "m").unwrap();
        assert_eq!(verified.manifest, manifest);
        let other = SigningKey::new(&Secret::new([8; 32])).public();
        assert!(
            signed
                .verify(&other, &stored, "m")
                .unwrap_err()
                .is(code::repository::MANIFEST_CORRUPT)
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let (manifest, key) = samples::signed();
        let stored = sign(&manifest, &key, "m").unwrap();
        let public = key.public();
        let opens = |bytes: Vec<u8>| {
            let bytes = Bytes::from(bytes);
            split(&bytes, "m")
                .and_then(|signed| signed.verify(&public, &bytes, "m"))
                .is_ok()
        };
        assert!(opens(stored.to_vec()));
        for at in 0..stored.len() {
            let mut damaged = stored.to_vec();
            damaged[at] ^= 1 << (at % 8);
            assert!(!opens(damaged), "byte {at}");
        }
        for length in 0..stored.len() {
            assert!(!opens(stored[..length].to_vec()), "cut to {length}");
        }
        assert!(!opens([&stored[..], b" "].concat()));
    }

    #[test]
    fn newer_ones_are_told_from_damaged_ones() {
        let (mut manifest, key) = samples::signed();
        manifest.features = vec!["holograms".into()];
        let stored = sign(&manifest, &key, "m").unwrap();
        let refused = split(&stored, "m")
            .unwrap()
            .verify(&key.public(), &stored, "m")
            .unwrap_err();
        assert!(refused.is(code::repository::NEWER_FORMAT));
    }

    #[test]
    fn sixty_four_bit_numbers_are_text() {
        let (mut manifest, _) = samples::signed();
        manifest.totals.logical_bytes = u64::MAX;
        let value = serde_json::to_value(&manifest).unwrap();
        assert_eq!(value["totals"]["logical_bytes"], u64::MAX.to_string());
        assert_eq!(value["lineage"]["system_id"], manifest.lineage.system_id.to_string());
        assert_eq!(serde_json::from_value::<Manifest>(value).unwrap(), manifest);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(tail in proptest::collection::vec(any::<u8>(), 0..400), json in ".{0,200}") {
            let key = samples::signed().1;
            for stored in [tail.clone(), [MAGIC, &tail].concat()] {
                prop_assert!(split(&stored.into(), "m").is_err());
            }
            let signature = key.sign(&signed_bytes(json.as_bytes()));
            let stored = Bytes::from(format!(
                "hsmanifest1 {} {}\n{json}", fingerprint(&key.public()), hex::encode(signature),
            ));
            // Signed by a known key, and nonsense all the same.
            prop_assert!(split(&stored, "m").unwrap().verify(&key.public(), &stored, "m").is_err());
        }
    }
}

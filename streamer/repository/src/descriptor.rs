//! `HARDSTORAGE`: the immutable facts of a repository. Readable by all, so that `repo probe` needs no key; believed
//! only when its MAC, or a policy under the present KEK that names its hash, says so.

use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{corrupt, parse};
use crate::keys::RootKey;
use crate::text_number::hex_bytes;
use crate::{EnvelopeKind, document, layout, split_envelope};

/// The repository format that this program writes.
pub const REPOSITORY_FORMAT: u32 = 1;
const SCHEMA: &str = "hardstorage.repository.v1";

// Features that this program knows, each named by what may not be done without knowing it.
const KNOWN_READ: &[&str] = &[];
const KNOWN_WRITE: &[&str] = &[];
const KNOWN_COLLECT: &[&str] = &[];

/// Whether a repository is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// From the first byte.
    Required,
    /// Explicitly not.
    None,
}

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    schema: String,
    /// Random; tells repositories apart.
    #[serde(with = "hex_bytes")]
    pub repository_id: [u8; 16],
    /// [`REPOSITORY_FORMAT`].
    pub format: u32,
    /// Features without which nothing can be read.
    pub must_read: Vec<String>,
    /// Features without which nothing may be written.
    pub must_write: Vec<String>,
    /// Features without which nothing may be collected.
    pub must_collect: Vec<String>,
    /// Whether it is encrypted.
    pub encryption: Encryption,
    /// The fingerprint of the KEK that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kek_fingerprint: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// By which program.
    pub created_by: String,
    /// The store does not keep create-only under a race, and a person promised to run one writer at a time.
    pub single_writer: bool,
}

// What every future format keeps, so that an old program can tell that it is old.
#[derive(Deserialize)]
struct Heading {
    schema: String,
    format: u32,
    #[serde(default)]
    must_read: Vec<String>,
}

impl Descriptor {
    pub(crate) fn new(
        repository_id: [u8; 16],
        root: &RootKey,
        created_at: Timestamp,
        created_by: String,
        single_writer: bool,
    ) -> Descriptor {
        Descriptor {
            schema: SCHEMA.to_owned(),
            repository_id,
            format: REPOSITORY_FORMAT,
            must_read: Vec::new(),
            must_write: Vec::new(),
            must_collect: Vec::new(),
            encryption: if root.seals() {
                Encryption::Required
            } else {
                Encryption::None
            },
            kek_fingerprint: root.fingerprint().map(str::to_owned),
            created_at,
            created_by,
            single_writer,
        }
    }

    /// The repository's id as 32 hex digits.
    pub fn id(&self) -> String {
        hex::encode(self.repository_id)
    }

    /// Reads without a key: a claim, not a fact.
    pub(crate) fn peek(stored: &Bytes) -> Result<Descriptor> {
        let key = layout::descriptor();
        let (_, payload) =
            split_envelope(EnvelopeKind::Descriptor, stored).ok_or_else(|| corrupt(&key, "not a descriptor"))?;
        let heading: Heading = parse(&key, &payload)?;
        if !heading.schema.starts_with("hardstorage.repository.") {
            return Err(corrupt(&key, format!("its schema is {:?}", heading.schema)));
        }
        if heading.format > REPOSITORY_FORMAT || heading.schema != SCHEMA {
            let message = format!(
                "the repository has format {}; this program knows {REPOSITORY_FORMAT}",
                heading.format
            );
            return Err(Error::new(code::repository::NEWER_FORMAT, message));
        }
        refuse_unknown("reading", &heading.must_read, KNOWN_READ)?;
        parse(&key, &payload)
    }

    /// Whether its MAC is by this key.
    pub(crate) fn is_authentic(stored: &Bytes, root: &RootKey) -> bool {
        let mac = root.mac(EnvelopeKind::Descriptor);
        crate::open_envelope(EnvelopeKind::Descriptor, &mac, stored, "HARDSTORAGE").is_ok()
    }

    pub(crate) fn encode(&self, root: &RootKey) -> Result<Bytes> {
        let mac = root.mac(EnvelopeKind::Descriptor);
        document::encode(EnvelopeKind::Descriptor, &mac, &layout::descriptor(), self)
    }

    /// Refuses when writing needs something that this program does not know.
    pub(crate) fn check_write(&self) -> Result<()> {
        refuse_unknown("writing", &self.must_write, KNOWN_WRITE)
    }

    /// Refuses when collecting needs something that this program does not know.
    pub(crate) fn check_collect(&self) -> Result<()> {
        refuse_unknown("collecting", &self.must_collect, KNOWN_COLLECT)
    }
}

fn refuse_unknown(doing: &str, needed: &[String], known: &[&str]) -> Result<()> {
    match needed.iter().find(|feature| !known.contains(&feature.as_str())) {
        None => Ok(()),
        Some(feature) => Err(Error::new(
            code::repository::NEWER_FORMAT,
            format!("{doing} this repository needs the feature {feature:?}, which this program does not know"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hardstorage_codec::Secret;
    use proptest::prelude::*;

    fn sample() -> (Descriptor, RootKey) {
        let root = RootKey::kek(Secret::new([5; 32]));
        let descriptor = Descriptor::new([3; 16], &root, Timestamp::UNIX_EPOCH, "test".into(), false);
        (descriptor, root)
    }

    #[test]
    fn readable_by_all_believed_by_key() {
        let (descriptor, root) = sample();
        let stored = descriptor.encode(&root).unwrap();
        assert_eq!(Descriptor::peek(&stored).unwrap(), descriptor);
        assert!(Descriptor::is_authentic(&stored, &root));
        assert!(!Descriptor::is_authentic(&stored, &RootKey::public()));
        for at in 0..stored.len() {
            let mut damaged = stored.to_vec();
            damaged[at] ^= 1;
            assert!(!Descriptor::is_authentic(&damaged.into(), &root), "byte {at}");
        }
    }

    #[test]
    fn newer_ones_are_told_from_damaged_ones() {
        let (descriptor, root) = sample();
        let with = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = serde_json::to_value(&descriptor).unwrap();
            change(&mut value);
            let mac = root.mac(EnvelopeKind::Descriptor);
            let stored = crate::seal_envelope(EnvelopeKind::Descriptor, &mac, value.to_string().as_bytes());
            Descriptor::peek(&stored)
        };
        let newer = |result: Result<Descriptor>| result.unwrap_err().is(code::repository::NEWER_FORMAT);
        assert!(newer(with(&|v| v["format"] = 2.into())));
        assert!(newer(with(&|v| v["must_read"] = serde_json::json!(["holograms"]))));
        assert!(newer(with(&|v| {
            v["format"] = 9.into();
            v["encryption"] = "quantum".into();
        })));
        let writes = with(&|v| v["must_write"] = serde_json::json!(["holograms"])).unwrap();
        assert!(writes.check_write().is_err() && writes.check_collect().is_ok());
        assert!(
            with(&|v| v["schema"] = "else".into())
                .unwrap_err()
                .is(code::repository::OBJECT_CORRUPT)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300), json in ".{0,80}") {
            let _ = Descriptor::peek(&bytes.into());
            let mac = RootKey::public().mac(EnvelopeKind::Descriptor);
            let sealed = crate::seal_envelope(EnvelopeKind::Descriptor, &mac, json.as_bytes());
            prop_assert!(Descriptor::peek(&sealed).is_err());
        }
    }
}

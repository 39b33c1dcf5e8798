//! `signers/<deployment>/<fingerprint>.json`: whose manifests are believed. Each public key is sealed under the KEK,
//! so that one who can only write into the bucket cannot add himself. A generation is added when the KEK is rotated.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use hardstorage_codec::{PublicKey, fingerprint};
use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_storage::Key;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::EnvelopeKind;
use crate::document::{self, Made, corrupt};
use crate::keys::data::KeyShelf;
use crate::keys::root::{RootKey, Wrapped};
use crate::layout;
use crate::listing::Objects;

const SCHEMA: &str = "hardstorage.signer.v1";
const PURPOSE: &str = "signer";
/// Objects read at the same time.
const AT_ONCE: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SignerObject {
    schema: String,
    deployment: DeploymentName,
    fingerprint: String,
    generation: u16,
    created_at: Timestamp,
    key: Wrapped,
}

/// The public keys that a deployment believes.
#[derive(Debug, Default)]
pub struct Signers {
    known: BTreeMap<String, PublicKey>,
    broken: BTreeMap<String, String>,
}

impl Signers {
    /// Only these, whatever the repository says.
    pub fn only(keys: &[PublicKey]) -> Signers {
        Signers {
            known: keys.iter().map(|key| (fingerprint(key), *key)).collect(),
            broken: BTreeMap::new(),
        }
    }

    /// The key of a fingerprint.
    pub fn get(&self, fingerprint: &str) -> Result<&PublicKey> {
        if let Some(key) = self.known.get(fingerprint) {
            return Ok(key);
        }
        let why = match self.broken.get(fingerprint) {
            Some(problem) => format!("the signer {fingerprint} cannot be read: {problem}"),
            None => format!("the signer {fingerprint} is not among the known ones"),
        };
        Err(Error::new(code::repository::SIGNER_UNKNOWN, why))
    }

    /// All fingerprints.
    pub fn fingerprints(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Signers whose objects cannot be read, and why.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.broken.iter().map(|(name, why)| (name.as_str(), why.as_str()))
    }

    /// Reads those of a deployment. A broken one is kept as such: it hurts only its own manifests.
    pub(crate) async fn load(shelf: KeyShelf<'_>, name: &DeploymentName, root: &RootKey) -> Result<Signers> {
        Signers::of(shelf, name, root, &generations(shelf, name).await?).await
    }

    /// Those of these generations, a few read at a time.
    async fn of(
        shelf: KeyShelf<'_>,
        name: &DeploymentName,
        root: &RootKey,
        generations: &BTreeMap<String, Vec<u16>>,
    ) -> Result<Signers> {
        let mut reads = Vec::with_capacity(generations.len());
        for (fingerprint, generations) in generations {
            reads.push(newest(shelf, name, root, fingerprint, generations));
        }
        let mut signers = Signers::default();
        let mut read = stream::iter(reads).buffered(AT_ONCE);
        while let Some((fingerprint, found)) = read.try_next().await? {
            match found {
                Ok(key) => drop(signers.known.insert(fingerprint, key)),
                Err(problem) => drop(signers.broken.insert(fingerprint, problem)),
            }
        }
        Ok(signers)
    }

    /// The generation that a public key is to be added with; `None` when it is believed already.
    pub(crate) async fn look(
        shelf: KeyShelf<'_>,
        name: &DeploymentName,
        root: &RootKey,
        key: &PublicKey,
    ) -> Result<Option<u16>> {
        let mut generations = generations(shelf, name).await?;
        let known = Signers::of(shelf, name, root, &generations).await?;
        let fingerprint = fingerprint(key);
        match known.known.get(&fingerprint) {
            Some(found) if found == key => return Ok(None),
            Some(_) => return Err(conflict(&fingerprint)),
            None => {}
        }
        let existing = generations.remove(&fingerprint);
        let last = existing.and_then(|all| all.last().copied()).unwrap_or(0);
        Ok(Some(last.saturating_add(1)))
    }

    /// Adds a public key, durable on return. That another adds the same at this moment is fine.
    pub(crate) async fn add(
        shelf: KeyShelf<'_>,
        name: &DeploymentName,
        root: &RootKey,
        key: &PublicKey,
        generation: u16,
    ) -> Result<()> {
        create(shelf, name, root, key, generation).await
    }

    /// Seals every signer anew for another KEK. Returns how many.
    pub(crate) async fn reseal(
        shelf: KeyShelf<'_>,
        name: &DeploymentName,
        from: &RootKey,
        to: &RootKey,
    ) -> Result<usize> {
        let (old, new) = (
            Signers::load(shelf, name, from).await?,
            Signers::load(shelf, name, to).await?,
        );
        let generations = generations(shelf, name).await?;
        let mut count = 0;
        for (fingerprint, key) in &old.known {
            if new.known.get(fingerprint) == Some(key) {
                continue;
            }
            let last = generations
                .get(fingerprint)
                .and_then(|all| all.last().copied())
                .unwrap_or(0);
            create(shelf, name, to, key, last.saturating_add(1)).await?;
            count += 1;
        }
        Ok(count)
    }
}

fn conflict(fingerprint: &str) -> Error {
    let message = format!("another public key lies under the fingerprint {fingerprint}");
    Error::new(code::repository::SIGNER_CONFLICT, message)
}

// The key of the highest generation that opens, or why none does.
async fn newest(
    shelf: KeyShelf<'_>,
    name: &DeploymentName,
    root: &RootKey,
    fingerprint: &str,
    generations: &[u16],
) -> Result<(String, std::result::Result<PublicKey, String>)> {
    let mut problem = String::new();
    for generation in generations.iter().rev() {
        match open(shelf, name, root, fingerprint, *generation).await {
            Ok(key) => return Ok((fingerprint.to_owned(), Ok(key))),
            Err(error) if error.is(code::repository::OBJECT_CORRUPT) => problem = error.to_string(),
            Err(error) => return Err(error),
        }
    }
    Ok((fingerprint.to_owned(), Err(problem)))
}

// Fingerprint -> generations in ascending order.
async fn generations(shelf: KeyShelf<'_>, name: &DeploymentName) -> Result<BTreeMap<String, Vec<u16>>> {
    let folder = layout::signers_folder(name);
    let mut found = BTreeMap::<String, Vec<u16>>::new();
    for object in Objects::under(shelf.store, folder.clone()).all().await? {
        if let Some((fingerprint, generation)) = signer_name(&folder, &object.key) {
            found.entry(fingerprint).or_default().push(generation);
        }
    }
    for all in found.values_mut() {
        all.sort_unstable();
    }
    Ok(found)
}

fn signer_name(folder: &str, key: &Key) -> Option<(String, u16)> {
    let stem = key.as_str().strip_prefix(folder)?.strip_suffix(".json")?;
    let (fingerprint, generation) = match stem.split_once('-') {
        None => (stem, 1),
        Some((fingerprint, digits)) => (fingerprint, u16::try_from(layout::fixed_hex(digits, 4)?).ok()?),
    };
    let plain = fingerprint.len() == 16
        && fingerprint
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (plain && generation > 0).then(|| (fingerprint.to_owned(), generation))
}

fn about(shelf: KeyShelf<'_>, name: &DeploymentName, fingerprint: &str, generation: u16) -> Vec<u8> {
    let mut about = format!("{SCHEMA}\0{name}\0{fingerprint}\0{generation}\0").into_bytes();
    about.extend_from_slice(shelf.descriptor_hash);
    about
}

async fn create(
    shelf: KeyShelf<'_>,
    name: &DeploymentName,
    root: &RootKey,
    public: &PublicKey,
    generation: u16,
) -> Result<()> {
    let fingerprint = fingerprint(public);
    let about = about(shelf, name, &fingerprint, generation);
    let object = SignerObject {
        schema: SCHEMA.to_owned(),
        deployment: name.clone(),
        fingerprint: fingerprint.clone(),
        generation,
        created_at: shelf.surroundings.now(),
        key: root.wrap(PURPOSE, &about, &public.to_bytes(), shelf.surroundings)?,
    };
    let key = layout::signer_generation(name, &fingerprint, generation);
    let bytes = document::encode(EnvelopeKind::Signer, &root.mac(EnvelopeKind::Signer), &key, &object)?;
    if let Made::Theirs(_) = document::create(shelf.store, &key, &bytes).await? {
        // Two writers with one signing key start at once: the seal differs, the key must not.
        if open(shelf, name, root, &fingerprint, generation).await? != *public {
            return Err(conflict(&fingerprint));
        }
    }
    shelf.store.sync().await
}

async fn open(
    shelf: KeyShelf<'_>,
    name: &DeploymentName,
    root: &RootKey,
    wanted: &str,
    generation: u16,
) -> Result<PublicKey> {
    let key = layout::signer_generation(name, wanted, generation);
    let mac = root.mac(EnvelopeKind::Signer);
    let object: SignerObject = document::read(shelf.store, EnvelopeKind::Signer, &mac, &key)
        .await?
        .ok_or_else(|| corrupt(&key, "listed, but not there"))?;
    let about = about(shelf, name, wanted, generation);
    let public = root
        .unwrap(PURPOSE, &about, &object.key)
        .and_then(|bytes| PublicKey::from_bytes(bytes.expose()))
        .filter(|public| fingerprint(public) == wanted && object.deployment == *name);
    public.ok_or_else(|| {
        corrupt(
            &key,
            "its seal does not open, or it holds another key than its name says",
        )
    })
}

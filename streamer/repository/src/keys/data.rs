//! `keys/<deployment>/<number>/<generation>.json`: a deployment's data key, wrapped by the KEK. The first is always
//! `1/0001.json`: of two writers one creates it and the other reads it back. Rotation of the KEK adds a generation;
//! the highest that opens wins. A key that exists but cannot be opened is an error, never a reason to mint another.

use bytes::Bytes;
use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_storage::{DynStore, Key, ObjectMeta};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{self, Made, corrupt, parse};
use crate::keys::root::{RootKey, Wrapped};
use crate::layout;
use crate::listing::Objects;
use crate::text_number::hex_bytes;
use crate::{DataKey, EnvelopeKind, Surroundings, split_envelope};

const SCHEMA: &str = "hardstorage.data_key.v1";
const PURPOSE: &str = "data key";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeyObject {
    schema: String,
    deployment: DeploymentName,
    number: u32,
    generation: u16,
    #[serde(with = "hex_bytes")]
    key_id: [u8; 16],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kek_fingerprint: Option<String>,
    created_at: Timestamp,
    key: Wrapped,
}

#[derive(Deserialize)]
struct Claim {
    kek_fingerprint: Option<String>,
}

/// Where keys lie and what they are bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyShelf<'a> {
    pub(crate) store: &'a DynStore,
    /// The hash of the stored descriptor: part of every seal.
    pub(crate) descriptor_hash: &'a [u8; 32],
    pub(crate) surroundings: &'a Surroundings,
}

/// A key and the generation that it was read from.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) key: DataKey,
    /// The one that opened.
    pub(crate) generation: u16,
    /// The highest there is, openable or not.
    pub(crate) highest: u16,
}

/// What lies in the folder of a deployment's keys: read without a key, so that it can be asked for together with the
/// descriptor. Of most deployments it is one object, the first: that is read while the folder is listed.
#[derive(Debug)]
pub(crate) struct StoredKeys {
    objects: Vec<ObjectMeta>,
    /// The first key, if it was to be had.
    first: Option<Bytes>,
}

impl StoredKeys {
    pub(crate) async fn read(store: &DynStore, name: &DeploymentName) -> Result<StoredKeys> {
        let first = layout::wrapped_key(name, 1, 1);
        let listed = Objects::under(store, layout::keys_folder(name)).all();
        let (objects, first) = tokio::join!(listed, store.get(&first));
        Ok(StoredKeys {
            objects: objects?,
            // Whoever needs it asks again, and hears of the failure.
            first: first.ok().flatten(),
        })
    }
}

impl KeyShelf<'_> {
    /// The data key, or `None` when nothing at all lies in the deployment's folder. Creates nothing.
    pub(crate) async fn read(&self, name: &DeploymentName, root: &RootKey) -> Result<Option<Opened>> {
        self.open_newest(name, root, StoredKeys::read(self.store, name).await?)
            .await
    }

    /// The same, out of what was read.
    pub(crate) async fn open_newest(
        &self,
        name: &DeploymentName,
        root: &RootKey,
        stored: StoredKeys,
    ) -> Result<Option<Opened>> {
        let folder = layout::keys_folder(name);
        let StoredKeys { objects, mut first } = stored;
        let Some(example) = objects.first().map(|object| object.key.clone()) else {
            return Ok(None);
        };
        let mut found: Vec<(u32, u16, Key)> = objects
            .into_iter()
            .filter_map(|object| {
                let (number, generation) = key_name(&folder, &object.key)?;
                Some((number, generation, object.key))
            })
            .collect();
        found.sort();
        let Some((number, highest, _)) = found.last().cloned() else {
            return Err(corrupt(&example, "there are objects in the folder of keys, but no key"));
        };
        let mut refusal = None;
        for (_, generation, key) in found.iter().rev().filter(|(of, ..)| *of == number) {
            let read = first.take_if(|_| (number, *generation) == (1, 1));
            match self.open(name, root, number, *generation, key, read).await {
                Ok(key) => {
                    return Ok(Some(Opened {
                        key,
                        generation: *generation,
                        highest,
                    }));
                }
                // Damage tells more than a key of another generation; a store that fails is neither.
                Err(error) if error.is(code::repository::KEY_WRONG) => refusal = refusal.or(Some(error)),
                Err(error) if error.is(code::repository::OBJECT_CORRUPT) => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refusal.unwrap_or_else(|| corrupt(&example, "it opens with no key")))
    }

    /// A data key for a deployment that was seen to have none: our own, or that of one who was faster. Only for writers.
    pub(crate) async fn create(&self, name: &DeploymentName, root: &RootKey) -> Result<DataKey> {
        let secret = zeroize::Zeroizing::new(self.surroundings.random::<32>()?);
        let key_id = self.surroundings.random()?;
        let (object, bytes) = self.seal(name, root, 1, 1, key_id, &secret)?;
        document::create(self.store, &object, &bytes).await?;
        // A key whose name is lost in a power cut would take every pack with it; also when another made it just now.
        self.store.sync().await?;
        // Also after our own creation: what is used is what can be read back.
        let opened = self.read(name, root).await?;
        Ok(opened.ok_or_else(|| corrupt(&object, "created, but not there"))?.key)
    }

    /// Wraps the data key anew for another KEK; nothing when its highest generation opens with that already.
    pub(crate) async fn rewrap(&self, name: &DeploymentName, from: &RootKey, to: &RootKey) -> Result<bool> {
        if self
            .read(name, to)
            .await
            .is_ok_and(|found| found.is_some_and(|o| o.generation == o.highest))
        {
            return Ok(false);
        }
        let Some(opened) = self.read(name, from).await? else {
            return Ok(false);
        };
        let generation = opened.highest.checked_add(1).ok_or_else(|| {
            Error::new(
                code::repository::OBJECT_CORRUPT,
                format!("deployment {name} has no generation left for its key"),
            )
        })?;
        let key = &opened.key;
        let (object, bytes) = self.seal(name, to, key.number(), generation, *key.id(), key.secret().expose())?;
        match document::create(self.store, &object, &bytes).await? {
            Made::Ours => self.store.sync().await?,
            Made::Theirs(_) => {
                let message = format!("another process wrote {object} first");
                return Err(Error::new(code::repository::CONFIG_RACE, message));
            }
        }
        // Proof before anyone throws the old KEK away.
        self.open(name, to, key.number(), generation, &object, None).await?;
        Ok(true)
    }

    fn seal(
        &self,
        name: &DeploymentName,
        root: &RootKey,
        number: u32,
        generation: u16,
        key_id: [u8; 16],
        secret: &[u8; 32],
    ) -> Result<(Key, Bytes)> {
        let about = self.about(name, number, generation, &key_id);
        let object = KeyObject {
            schema: SCHEMA.to_owned(),
            deployment: name.clone(),
            number,
            generation,
            key_id,
            kek_fingerprint: root.fingerprint().map(str::to_owned),
            created_at: self.surroundings.now(),
            key: root.wrap(PURPOSE, &about, secret, self.surroundings)?,
        };
        let key = layout::wrapped_key(name, number, generation);
        let bytes = document::encode(EnvelopeKind::Key, &root.mac(EnvelopeKind::Key), &key, &object)?;
        Ok((key, bytes))
    }

    async fn open(
        &self,
        name: &DeploymentName,
        root: &RootKey,
        number: u32,
        generation: u16,
        key: &Key,
        read: Option<Bytes>,
    ) -> Result<DataKey> {
        let stored = match read {
            Some(read) => read,
            None => self
                .store
                .get(key)
                .await?
                .ok_or_else(|| corrupt(key, "listed, but not there"))?,
        };
        let object: KeyObject = match document::decode(EnvelopeKind::Key, &root.mac(EnvelopeKind::Key), key, &stored) {
            Ok(object) => object,
            Err(error) => return Err(wrong_key(&stored, key, root).unwrap_or(error)),
        };
        let is_itself = object.schema == SCHEMA
            && object.deployment == *name
            && object.number == number
            && object.generation == generation;
        document::must_be_itself(key, is_itself)?;
        let about = self.about(name, number, generation, &object.key_id);
        let secret = root.unwrap(PURPOSE, &about, &object.key);
        let secret = secret.ok_or_else(|| {
            corrupt(
                key,
                "its seal does not open: damaged, or brought from a repository with another descriptor",
            )
        })?;
        Ok(DataKey::new(secret, object.key_id, number, root.seals()))
    }

    fn about(&self, name: &DeploymentName, number: u32, generation: u16, key_id: &[u8; 16]) -> Vec<u8> {
        let mut about = format!("{SCHEMA}\0{name}\0{number}\0{generation}\0").into_bytes();
        about.extend_from_slice(key_id);
        about.extend_from_slice(self.descriptor_hash);
        about
    }
}

fn key_name(folder: &str, key: &Key) -> Option<(u32, u16)> {
    let (number, file) = key.as_str().strip_prefix(folder)?.split_once('/')?;
    let generation = layout::fixed_hex(file.strip_suffix(".json")?, 4)?;
    let plain = !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
    Some((plain.then(|| number.parse().ok())??, u16::try_from(generation).ok()?))
}

// A MAC that does not hold means damage, unless the object says that it was made with another KEK.
fn wrong_key(stored: &Bytes, key: &Key, root: &RootKey) -> Option<Error> {
    let (_, payload) = split_envelope(EnvelopeKind::Key, stored)?;
    let claim: Claim = parse(key, &payload).ok()?;
    (claim.kek_fingerprint.as_deref() != root.fingerprint()).then(|| {
        let say = |fingerprint: Option<&str>| fingerprint.unwrap_or("none").to_owned();
        let message = format!(
            "object {key} was wrapped with the key of fingerprint {}, the given one has {}",
            say(claim.kek_fingerprint.as_deref()),
            say(root.fingerprint())
        );
        Error::new(code::repository::KEY_WRONG, message)
    })
}

//! `config/<seq>.json` as objects: finding the newest, writing the next. Each names the descriptor by hash, so that
//! after the KEK was rotated the newest policy vouches for the descriptor that the old KEK made.

use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::{DynStore, Key};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{self, Made, corrupt, parse};
use crate::keys::RootKey;
use crate::listing::Objects;
use crate::text_number::hex_bytes;
use crate::{EnvelopeKind, RepoConfig, layout, split_envelope};

const SCHEMA: &str = "hardstorage.config.v1";

/// A stored policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    pub(crate) schema: String,
    pub(crate) sequence: u32,
    #[serde(with = "hex_bytes")]
    pub(crate) repository_id: [u8; 16],
    #[serde(with = "hex_bytes")]
    pub(crate) descriptor_hash: [u8; 32],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kek_fingerprint: Option<String>,
    /// Whether `repo init` saw the store keep create-only under a real race.
    pub(crate) create_only_proven: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) settings: RepoConfig,
}

#[derive(Deserialize)]
struct Claim {
    kek_fingerprint: Option<String>,
}

impl Policy {
    /// The one before the first object: what a repository has whose `init` died after the descriptor.
    pub(crate) fn initial(repository_id: [u8; 16], descriptor_hash: [u8; 32], root: &RootKey, at: Timestamp) -> Policy {
        Policy {
            schema: SCHEMA.to_owned(),
            sequence: 0,
            repository_id,
            descriptor_hash,
            kek_fingerprint: root.fingerprint().map(str::to_owned),
            create_only_proven: false,
            created_at: at,
            settings: RepoConfig::default(),
        }
    }

    /// The next one, as it was but for what the caller changes.
    pub(crate) fn next(&self, root: &RootKey, at: Timestamp) -> Result<Policy> {
        let sequence = self.sequence.checked_add(1);
        Ok(Policy {
            sequence: sequence
                .ok_or_else(|| Error::new(code::repository::CONFIG_RACE, "no number is left for a policy"))?,
            kek_fingerprint: root.fingerprint().map(str::to_owned),
            created_at: at,
            ..self.clone()
        })
    }

    /// Writes it, durable on return.
    pub(crate) async fn create(&self, store: &DynStore, root: &RootKey) -> Result<()> {
        if let Some(problem) = self.settings.problem() {
            return Err(Error::new(code::repository::CONFIG_INVALID, problem));
        }
        let key = layout::config(self.sequence);
        let bytes = document::encode(EnvelopeKind::Config, &root.mac(EnvelopeKind::Config), &key, self)?;
        match document::create(store, &key, &bytes).await? {
            Made::Ours => store.sync().await,
            Made::Theirs(_) => {
                let message = format!("another process wrote {key} first");
                Err(Error::new(code::repository::CONFIG_RACE, message))
            }
        }
    }

    /// The newest, checked under this key; `None` when there is none.
    pub(crate) async fn newest(store: &DynStore, root: &RootKey) -> Result<Option<Policy>> {
        let stored = StoredPolicy::newest(store).await?;
        stored.map(|stored| stored.open(root)).transpose()
    }

    /// The fingerprint that the newest policy claims; for `repo probe`, which has no key.
    pub(crate) async fn claimed_fingerprint(store: &DynStore) -> Result<Option<String>> {
        let Some((_, key)) = newest_key(store).await? else {
            return Ok(None);
        };
        let Some(stored) = store.get(&key).await? else {
            return Ok(None);
        };
        let (_, payload) = split_envelope(EnvelopeKind::Config, &stored)
            .ok_or_else(|| corrupt(&key, "not an envelope of kind config"))?;
        Ok(parse::<Claim>(&key, &payload)?.kek_fingerprint)
    }
}

/// The newest policy as it lies in the store: read without a key, so that it can be asked for together with the
/// descriptor that tells which key there is.
#[derive(Debug)]
pub(crate) struct StoredPolicy {
    sequence: u32,
    key: Key,
    bytes: Bytes,
}

impl StoredPolicy {
    /// Reads it; `None` when there is none. Most repositories have one, the first: that is read while the listing tells
    /// whether it is the newest.
    pub(crate) async fn newest(store: &DynStore) -> Result<Option<StoredPolicy>> {
        let first = layout::config(1);
        let (newest, guess) = tokio::join!(newest_key(store), store.get(&first));
        let Some((sequence, key)) = newest? else {
            return Ok(None);
        };
        let bytes = match guess {
            Ok(Some(bytes)) if key == first => bytes,
            _ => store
                .get(&key)
                .await?
                .ok_or_else(|| corrupt(&key, "listed, but not there"))?,
        };
        Ok(Some(StoredPolicy { sequence, key, bytes }))
    }

    /// Checks it under this key.
    pub(crate) fn open(self, root: &RootKey) -> Result<Policy> {
        let StoredPolicy {
            sequence,
            key,
            bytes: stored,
        } = self;
        let policy =
            match document::decode::<Policy>(EnvelopeKind::Config, &root.mac(EnvelopeKind::Config), &key, &stored) {
                Ok(policy) => policy,
                Err(error) => return Err(wrong_key(&stored, &key, root).unwrap_or(error)),
            };
        if policy.sequence != sequence || policy.schema != SCHEMA {
            return Err(corrupt(&key, "it says that it is another object"));
        }
        if let Some(problem) = policy.settings.problem() {
            return Err(corrupt(&key, problem));
        }
        Ok(policy)
    }
}

async fn newest_key(store: &DynStore) -> Result<Option<(u32, Key)>> {
    let objects = Objects::under(store, layout::CONFIG_FOLDER).all().await?;
    let numbered = objects
        .into_iter()
        .filter_map(|object| Some((layout::numbered(layout::CONFIG_FOLDER, &object.key)?, object.key)));
    Ok(numbered.max_by_key(|(sequence, _)| *sequence))
}

// A MAC that does not hold means damage, unless the object says that it was made with another KEK.
fn wrong_key(stored: &Bytes, key: &Key, root: &RootKey) -> Option<Error> {
    let (_, payload) = split_envelope(EnvelopeKind::Config, stored)?;
    let claim: Claim = parse(key, &payload).ok()?;
    let (claimed, ours) = (claim.kek_fingerprint?, root.fingerprint()?);
    (claimed != ours).then(|| {
        Error::new(
            code::repository::KEY_WRONG,
            format!("the repository's key has the fingerprint {claimed}, the given one {ours}"),
        )
    })
}

//! `Repository`: an open repository. Opening proves that descriptor and policy are authentic under the caller's key,
//! and that caller and repository agree about encryption, before anything else is read or written.

mod access;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::try_join_all;
use hardstorage_codec::{PublicKey, plain_hash};
use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_storage::DynStore;

use self::access::agree;
pub use self::access::{Access, Mode};
use crate::create_only::{self, CreateOnly};
use crate::document::corrupt;
use crate::keys::{KeyShelf, Opened, RootKey, StoredKeys};
use crate::listing::{Objects, folders};
use crate::policy::{Policy, StoredPolicy};
use crate::probe::{self, Probe};
use crate::{AuditAction, AuditEvent, Deployment, Descriptor, RepoConfig, Surroundings, layout};

/// An open repository; cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository(pub(crate) Arc<Shared>);

/// What every part of an open repository shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: DynStore,
    pub(crate) descriptor: Descriptor,
    pub(crate) descriptor_hash: [u8; 32],
    pub(crate) policy: Policy,
    pub(crate) root: RootKey,
    pub(crate) mode: Mode,
    pub(crate) only_signers: Option<Vec<PublicKey>>,
    pub(crate) surroundings: Surroundings,
    /// The keys of the deployment that was named at opening, until it is opened.
    pub(crate) keys_ahead: Mutex<Option<(DeploymentName, StoredKeys)>>,
}

impl Shared {
    pub(crate) fn shelf(&self) -> KeyShelf<'_> {
        KeyShelf {
            store: &self.store,
            descriptor_hash: &self.descriptor_hash,
            surroundings: &self.surroundings,
        }
    }

    /// The same, with another store.
    pub(crate) fn over(&self, store: DynStore) -> Shared {
        Shared {
            store,
            descriptor: self.descriptor.clone(),
            descriptor_hash: self.descriptor_hash,
            policy: self.policy.clone(),
            root: self.root.clone(),
            mode: Mode::Read,
            only_signers: self.only_signers.clone(),
            surroundings: self.surroundings.clone(),
            keys_ahead: Mutex::default(),
        }
    }

    /// The data key of a deployment; `None` when it has none.
    async fn key(&self, name: &DeploymentName) -> Result<Option<Opened>> {
        let ahead = {
            let mut ahead = self.keys_ahead.lock().unwrap_or_else(PoisonError::into_inner);
            ahead.take().filter(|(of, _)| of == name)
        };
        match ahead {
            Some((_, stored)) => self.shelf().open_newest(name, &self.root, stored).await,
            None => self.shelf().read(name, &self.root).await,
        }
    }

    /// Refuses when this repository was opened for reading, or may not be written by this program.
    pub(crate) fn writable(&self) -> Result<()> {
        self.descriptor.check_write()?;
        match self.mode {
            Mode::Write => Ok(()),
            Mode::Read => Err(Error::new(
                code::repository::OPENED_READ_ONLY,
                format!("the repository {} is open for reading only", self.store.url()),
            )),
        }
    }
}

impl Repository {
    /// What lies in a store, told without a key.
    pub async fn probe(store: &DynStore) -> Result<Probe> {
        probe::probe(store).await
    }

    /// Tries by a real race of writers whether the store of a repository keeps create-only, as its creation did. Writes
    /// beside the repository and removes what it wrote; nothing is written where no repository is.
    pub async fn prove_create_only(store: &DynStore, surroundings: &Surroundings) -> Result<CreateOnly> {
        if store.get(&layout::descriptor()).await?.is_none() {
            return Err(missing(store).await?);
        }
        create_only::prove(store, surroundings).await
    }

    /// Opens a repository.
    pub async fn open(store: DynStore, access: Access) -> Result<Repository> {
        let key = layout::descriptor();
        let keys = async {
            let name = access.deployment.as_ref()?;
            Some((name.clone(), StoredKeys::read(&store, name).await))
        };
        // None of them tells where to find another, and each is believed only once it was checked.
        let (stored, policy, keys) = tokio::join!(store.get(&key), StoredPolicy::newest(&store), keys);
        let Some(stored) = stored? else {
            return Err(missing(&store).await?);
        };
        let descriptor = Descriptor::peek(&stored)?;
        let root = agree(&descriptor, &access, &store)?;
        let descriptor_hash = plain_hash(&stored);
        // The policy first: under another KEK it says so, where the descriptor's MAC could only say "no".
        let policy = policy?.map(|policy| policy.open(&root)).transpose()?;
        let vouched = policy
            .as_ref()
            .is_some_and(|policy| policy.descriptor_hash == descriptor_hash);
        if !vouched && !Descriptor::is_authentic(&stored, &root) {
            let other_key = descriptor.kek_fingerprint.as_deref() != root.fingerprint() && policy.is_none();
            return Err(if other_key {
                let (theirs, ours) = (descriptor.kek_fingerprint.as_deref(), root.fingerprint());
                let message = format!(
                    "the repository's key has the fingerprint {}, the given one {}",
                    theirs.unwrap_or("none"),
                    ours.unwrap_or("none")
                );
                Error::new(code::repository::KEY_WRONG, message)
            } else {
                corrupt(
                    &key,
                    "it was changed: its MAC does not match, and no policy vouches for it",
                )
                .hint("put the object HARDSTORAGE back from a copy of the repository")
            });
        }
        let policy = match policy {
            Some(policy)
                if policy.descriptor_hash != descriptor_hash || policy.repository_id != descriptor.repository_id =>
            {
                let what = "it belongs to another descriptor than the one that lies here";
                return Err(corrupt(&layout::config(policy.sequence), what));
            }
            Some(policy) => policy,
            None => Policy::initial(descriptor.repository_id, descriptor_hash, &root, descriptor.created_at),
        };
        if access.mode == Mode::Write {
            descriptor.check_write()?;
        }
        Ok(Repository(Arc::new(Shared {
            store,
            descriptor,
            descriptor_hash,
            policy,
            root,
            mode: access.mode,
            only_signers: access.only_signers,
            surroundings: access.surroundings,
            // What could not be read is read again by whoever opens the deployment, who hears why.
            keys_ahead: Mutex::new(keys.and_then(|(name, stored)| Some((name, stored.ok()?)))),
        })))
    }

    /// The store.
    pub fn store(&self) -> &DynStore {
        &self.0.store
    }

    /// The immutable facts.
    pub fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    /// The policy as of opening.
    pub fn config(&self) -> &RepoConfig {
        &self.0.policy.settings
    }

    /// The number of the policy; 0 when none was ever written.
    pub fn config_sequence(&self) -> u32 {
        self.0.policy.sequence
    }

    /// Whether the store was seen to keep create-only when the repository was made.
    pub fn create_only_proven(&self) -> bool {
        self.0.policy.create_only_proven
    }

    /// The fingerprint of the present KEK; `None` in an unencrypted repository.
    pub fn kek_fingerprint(&self) -> Option<&str> {
        self.0.root.fingerprint()
    }

    /// Refuses when collecting needs something that this program does not know.
    pub fn check_collect(&self) -> Result<()> {
        self.0.writable()?;
        self.0.descriptor.check_collect()
    }

    /// Writes the next policy, and returns the repository under it.
    pub async fn update_config(&self, settings: RepoConfig) -> Result<Repository> {
        self.0.writable()?;
        let mut policy = self.0.policy.next(&self.0.root, self.0.surroundings.now())?;
        policy.settings = settings;
        policy.create(&self.0.store, &self.0.root).await?;
        let body = serde_json::json!({"from": self.config_sequence(), "to": policy.sequence});
        let changed = self.under(policy, self.0.root.clone());
        let event = AuditEvent::new(AuditAction::PolicyChanged, None).body(body);
        changed.audit_done(&event).await;
        Ok(changed)
    }

    pub(crate) fn under(&self, policy: Policy, root: RootKey) -> Repository {
        let shared = &self.0;
        Repository(Arc::new(Shared {
            store: shared.store.clone(),
            descriptor: shared.descriptor.clone(),
            descriptor_hash: shared.descriptor_hash,
            policy,
            root,
            mode: shared.mode,
            only_signers: shared.only_signers.clone(),
            surroundings: shared.surroundings.clone(),
            keys_ahead: Mutex::default(),
        }))
    }

    /// Every deployment that has a key, a signer, a manifest, WAL or an audit chain here.
    pub async fn deployments(&self) -> Result<Vec<DeploymentName>> {
        let mut names = BTreeSet::new();
        for folder in [
            "keys/",
            layout::MANIFESTS_FOLDER,
            "signers/",
            "wal/",
            layout::AUDIT_FOLDER,
        ] {
            for name in folders(&self.0.store, folder).await? {
                if let Ok(name) = name.parse::<DeploymentName>() {
                    names.insert(name);
                } else {
                    tracing::warn!(folder, name, "a folder in the repository has no deployment's name");
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    /// A deployment that exists. Creates nothing.
    pub async fn deployment(&self, name: &DeploymentName) -> Result<Deployment> {
        if let Some(opened) = self.0.key(name).await? {
            return Ok(Deployment::new(self.0.clone(), name.clone(), opened.key));
        }
        if let Some(created) = self.created_meanwhile(name).await? {
            return Ok(created);
        }
        let message = format!("the repository {} holds no deployment {name}", self.0.store.url());
        Err(Error::new(code::repository::DEPLOYMENT_MISSING, message))
    }

    /// A deployment, with a new data key when there is none. Only for writers.
    pub async fn deployment_or_create(&self, name: &DeploymentName) -> Result<Deployment> {
        self.0.writable()?;
        let root = &self.0.root;
        // The KEK may have been rotated since we opened: a key under the old one would be lost with it.
        let (opened, created, policy) = tokio::join!(
            self.0.key(name),
            self.created_meanwhile(name),
            Policy::newest(&self.0.store, root)
        );
        if let Some(opened) = opened? {
            return Ok(Deployment::new(self.0.clone(), name.clone(), opened.key));
        }
        // A new key would not open what is there.
        if let Some(created) = created? {
            return Ok(created);
        }
        policy?;
        let key = self.0.shelf().create(name, root).await?;
        Ok(Deployment::new(self.0.clone(), name.clone(), key))
    }

    /// A deployment that another process has made since its key was looked for. Objects without a key are refused: each of
    /// them was written after the key, so that a key which is not there when they are seen is gone.
    async fn created_meanwhile(&self, name: &DeploymentName) -> Result<Option<Deployment>> {
        let Err(refused) = self.refuse_orphans(name).await else {
            return Ok(None);
        };
        if !refused.is(code::repository::DATA_KEY_MISSING) {
            return Err(refused);
        }
        let opened = self.0.shelf().read(name, &self.0.root).await?.ok_or(refused)?;
        Ok(Some(Deployment::new(self.0.clone(), name.clone(), opened.key)))
    }

    async fn refuse_orphans(&self, name: &DeploymentName) -> Result<()> {
        let folders = [
            layout::packs_folder(name),
            layout::manifests_folder(name),
            layout::wal_folder(name),
            layout::audit_folder(name),
        ];
        let firsts = folders.map(|folder| async move { Objects::under(&self.0.store, folder).next().await });
        if let Some(object) = try_join_all(firsts).await?.into_iter().flatten().next() {
            let message = format!(
                "deployment {name} has no data key, but it has objects, such as {}",
                object.key
            );
            return Err(Error::new(code::repository::DATA_KEY_MISSING, message));
        }
        Ok(())
    }
}

/// Why there is nothing to open.
async fn missing(store: &DynStore) -> Result<Error> {
    let url = store.url();
    Ok(match probe::probe(store).await? {
        Probe::Foreign {
            examples,
            looks_like_ours: true,
        } => {
            let message = format!(
                "the descriptor is gone from {url}, but there are {}",
                examples.join(", ")
            );
            Error::new(code::repository::DESCRIPTOR_MISSING, message)
        }
        Probe::Foreign { examples, .. } => {
            let message = format!("there is no repository at {url}, but there are {}", examples.join(", "));
            Error::new(code::repository::MISSING, message)
        }
        _ => Error::new(code::repository::MISSING, format!("there is no repository at {url}")),
    })
}

#[cfg(test)]
mod tests;

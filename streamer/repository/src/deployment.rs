//! `Deployment`: everything that code about one deployment needs, cheap to clone.

use std::sync::Arc;

use hardstorage_codec::PublicKey;
use hardstorage_report::{DeploymentName, Result};
use hardstorage_storage::DynStore;
use tokio::sync::Mutex;

use crate::audit::KnownHead;
use crate::keys::{RootKey, Signers};
use crate::repository::Shared;
use crate::{DataKey, Descriptor, RepoConfig, Surroundings};

/// One deployment of an open repository, with its data key.
#[derive(Debug, Clone)]
pub struct Deployment(Arc<Inner>);

/// What a look for a signer's key found.
#[derive(Debug)]
pub struct SignerLook {
    key: PublicKey,
    /// The generation that it would have; `None` when it is there.
    missing: Option<u16>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    name: DeploymentName,
    key: DataKey,
    signers: Mutex<Option<Arc<Signers>>>,
    known_head: KnownHead,
}

impl Deployment {
    pub(crate) fn new(shared: Arc<Shared>, name: DeploymentName, key: DataKey) -> Deployment {
        Deployment(Arc::new(Inner {
            shared,
            name,
            key,
            signers: Mutex::new(None),
            known_head: KnownHead::default(),
        }))
    }

    /// The store.
    pub fn store(&self) -> &DynStore {
        &self.0.shared.store
    }

    /// The name.
    pub fn name(&self) -> &DeploymentName {
        &self.0.name
    }

    /// The data key.
    pub fn key(&self) -> &DataKey {
        &self.0.key
    }

    /// The repository's policy as of opening.
    pub fn config(&self) -> &RepoConfig {
        &self.0.shared.policy.settings
    }

    /// The repository's immutable facts.
    pub fn descriptor(&self) -> &Descriptor {
        &self.0.shared.descriptor
    }

    /// The hash of the stored descriptor, as of opening.
    pub(crate) fn descriptor_hash(&self) -> &[u8; 32] {
        &self.0.shared.descriptor_hash
    }

    /// Clock and randomness.
    pub fn surroundings(&self) -> &Surroundings {
        &self.0.shared.surroundings
    }

    /// Refuses when the repository was opened for reading.
    pub fn writable(&self) -> Result<()> {
        self.0.shared.writable()
    }

    /// The key of what belongs to the whole repository.
    pub(crate) fn root(&self) -> &RootKey {
        &self.0.shared.root
    }

    /// Whose manifests are believed, as of the first call.
    pub async fn signers(&self) -> Result<Arc<Signers>> {
        let mut cached = self.0.signers.lock().await;
        if let Some(signers) = &*cached {
            return Ok(signers.clone());
        }
        let shared = &self.0.shared;
        let signers = Arc::new(match &shared.only_signers {
            Some(keys) => Signers::only(keys),
            None => Signers::load(shared.shelf(), &self.0.name, &shared.root).await?,
        });
        *cached = Some(signers.clone());
        Ok(signers)
    }

    /// The key of a fingerprint. Looks into the repository again before it says that there is none: another writer may
    /// have come since.
    pub async fn signer(&self, fingerprint: &str) -> Result<PublicKey> {
        if let Ok(key) = self.signers().await?.get(fingerprint) {
            return Ok(*key);
        }
        *self.0.signers.lock().await = None;
        self.signers().await?.get(fingerprint).copied()
    }

    /// Looks whether a public key is among those that are believed; a conflict is an error. Writes nothing.
    pub async fn look_for_signer(&self, key: &PublicKey) -> Result<SignerLook> {
        let shared = &self.0.shared;
        let missing = Signers::look(shared.shelf(), &self.0.name, &shared.root, key).await?;
        Ok(SignerLook { key: *key, missing })
    }

    /// Adds the key that was looked for, if it was not there, durable on return.
    pub async fn add_signer(&self, look: SignerLook) -> Result<()> {
        self.writable()?;
        if let Some(generation) = look.missing {
            let shared = &self.0.shared;
            Signers::add(shared.shelf(), &self.0.name, &shared.root, &look.key, generation).await?;
            *self.0.signers.lock().await = None;
        }
        Ok(())
    }

    /// Adds a public key to those that are believed, durable on return. Adding it again is fine.
    pub async fn register_signer(&self, key: &PublicKey) -> Result<()> {
        self.add_signer(self.look_for_signer(key).await?).await
    }

    /// Where its audit chain ends, as far as is known.
    pub(crate) fn known_head(&self) -> &KnownHead {
        &self.0.known_head
    }

    /// The same deployment, read through another store.
    pub(crate) fn over(&self, store: DynStore) -> Deployment {
        Deployment::new(
            Arc::new(self.0.shared.over(store)),
            self.0.name.clone(),
            self.0.key.clone(),
        )
    }

    /// The same deployment as another process has it: nothing cached.
    #[cfg(test)]
    pub(crate) fn twin(&self) -> Deployment {
        Deployment::new(self.0.shared.clone(), self.0.name.clone(), self.0.key.clone())
    }
}

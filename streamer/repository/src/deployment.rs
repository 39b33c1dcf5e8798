//! `Deployment`: everything that code about one deployment needs, cheap to clone.

use std::sync::Arc;

use hardstorage_codec::PublicKey;
use hardstorage_report::{DeploymentName, Result};
use hardstorage_storage::DynStore;
use tokio::sync::Mutex;

use crate::keys::Signers;
use crate::repository::Shared;
use crate::{DataKey, Descriptor, RepoConfig, Surroundings};

/// One deployment of an open repository, with its data key.
#[derive(Debug, Clone)]
pub struct Deployment(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    name: DeploymentName,
    key: DataKey,
    signers: Mutex<Option<Arc<Signers>>>,
}

impl Deployment {
    pub(crate) fn new(shared: Arc<Shared>, name: DeploymentName, key: DataKey) -> Deployment {
        Deployment(Arc::new(Inner {
            shared,
            name,
            key,
            signers: Mutex::new(None),
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

    /// Clock and randomness.
    pub fn surroundings(&self) -> &Surroundings {
        &self.0.shared.surroundings
    }

    /// Refuses when the repository was opened for reading.
    pub fn writable(&self) -> Result<()> {
        self.0.shared.writable()
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

    /// Adds a public key to those that are believed, durable on return. Adding it again is fine.
    pub async fn register_signer(&self, key: &PublicKey) -> Result<()> {
        self.writable()?;
        let shared = &self.0.shared;
        Signers::register(shared.shelf(), &self.0.name, &shared.root, key).await?;
        *self.0.signers.lock().await = None;
        Ok(())
    }

    /// The same deployment as another process has it: nothing cached.
    #[cfg(test)]
    pub(crate) fn twin(&self) -> Deployment {
        Deployment::new(self.0.shared.clone(), self.0.name.clone(), self.0.key.clone())
    }
}

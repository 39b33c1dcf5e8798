//! `Deployment`: everything that code about one deployment needs, cheap to clone.

use std::sync::Arc;

use hardstorage_report::DeploymentName;
use hardstorage_storage::DynStore;

use crate::{DataKey, RepoConfig, Surroundings};

/// One deployment of an open repository, with its data key.
#[derive(Debug, Clone)]
pub struct Deployment(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: DynStore,
    name: DeploymentName,
    key: DataKey,
    config: RepoConfig,
    surroundings: Surroundings,
}

impl Deployment {
    pub(crate) fn new(
        store: DynStore,
        name: DeploymentName,
        key: DataKey,
        config: RepoConfig,
        surroundings: Surroundings,
    ) -> Deployment {
        Deployment(Arc::new(Inner {
            store,
            name,
            key,
            config,
            surroundings,
        }))
    }

    /// The store.
    pub fn store(&self) -> &DynStore {
        &self.0.store
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
        &self.0.config
    }

    /// Clock and randomness.
    pub fn surroundings(&self) -> &Surroundings {
        &self.0.surroundings
    }
}

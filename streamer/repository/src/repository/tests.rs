#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]
//! The life of a repository: made once, opened with the right key only, its keys minted by writers alone.

mod keys;
mod life;
mod not_create_only;
mod rotation;

use std::sync::Arc;

use hardstorage_codec::Secret;
use hardstorage_report::{Code, DeploymentName, Result};
use hardstorage_storage::{DynStore, ListRequest, MemoryStore};

use super::{Access, Mode, Repository};
use crate::{CreateOnly, InitOptions, RepoConfig, Surroundings};

fn kek(seed: u8) -> Secret {
    Secret::new([seed; 32])
}

fn options(kek: Option<Secret>) -> InitOptions {
    InitOptions {
        kek,
        single_writer: false,
        config: RepoConfig::default(),
        created_by: "test".into(),
        surroundings: Surroundings::default(),
    }
}

fn name() -> DeploymentName {
    "db1".parse().unwrap()
}

async fn made(store: &DynStore) -> Repository {
    Repository::init(store.clone(), options(Some(kek(1)))).await.unwrap()
}

async fn open(store: &DynStore, kek: Option<Secret>, mode: Mode) -> Result<Repository> {
    Repository::open(store.clone(), Access::new(kek, mode)).await
}

async fn refusal(store: &DynStore, kek: Option<Secret>, mode: Mode) -> Code {
    open(store, kek, mode).await.unwrap_err().code()
}

fn memory() -> (Arc<MemoryStore>, DynStore) {
    let memory = Arc::new(MemoryStore::new());
    (memory.clone(), memory)
}

async fn names(store: &DynStore) -> Vec<String> {
    let listing = store.list(&ListRequest::under("")).await.unwrap();
    listing
        .objects
        .into_iter()
        .map(|object| object.key.to_string())
        .collect()
}

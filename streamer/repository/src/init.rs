//! Making a repository: look first, race for create-only, then the descriptor. Of two simultaneous inits one creates
//! the descriptor and the other is told that a repository exists.

use std::sync::{Arc, Mutex};

use hardstorage_codec::{Secret, plain_hash};
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::DynStore;

use crate::create_only::{self, CreateOnly};
use crate::document::{self, Made};
use crate::keys::RootKey;
use crate::policy::Policy;
use crate::probe::{self, Probe};
use crate::repository::{Mode, Repository, Shared};
use crate::{Descriptor, RepoConfig, Surroundings, layout};

/// How a repository is made.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The KEK; `None` is the explicit wish for no encryption.
    pub kek: Option<Secret>,
    /// A person promises to run one writer at a time, on a store that does not keep create-only.
    pub single_writer: bool,
    /// The first policy.
    pub config: RepoConfig,
    /// Program and version, for the descriptor.
    pub created_by: String,
    /// Clock and randomness.
    pub surroundings: Surroundings,
}

impl Repository {
    /// Makes a repository where none is, open for writing.
    pub async fn init(store: DynStore, options: InitOptions) -> Result<Repository> {
        if let Some(problem) = options.config.problem() {
            return Err(Error::new(code::repository::CONFIG_INVALID, problem));
        }
        refuse_occupied(&store).await?;
        let surroundings = options.surroundings;
        let proven = match create_only::prove(&store, &surroundings).await? {
            CreateOnly::Kept => true,
            CreateOnly::Broken(what) if options.single_writer => {
                tracing::warn!(
                    what,
                    "the store does not keep create-only; one writer at a time was promised"
                );
                false
            }
            CreateOnly::Broken(what) => return Err(Error::new(code::repository::NOT_CREATE_ONLY, what)),
        };
        let root = options.kek.map_or_else(RootKey::public, RootKey::kek);
        let now = surroundings.now();
        let descriptor = Descriptor::new(
            surroundings.random()?,
            &root,
            now,
            options.created_by,
            options.single_writer,
        );
        let bytes = descriptor.encode(&root)?;
        if let Made::Theirs(_) = document::create(&store, &layout::descriptor(), &bytes).await? {
            return Err(exists(&store));
        }
        store.sync().await?;
        let descriptor_hash = plain_hash(&bytes);
        let mut policy = Policy::initial(descriptor.repository_id, descriptor_hash, &root, now).next(&root, now)?;
        policy.create_only_proven = proven;
        policy.settings = options.config;
        policy.create(&store, &root).await?;
        Ok(Repository(Arc::new(Shared {
            store,
            descriptor,
            descriptor_hash,
            policy,
            root,
            mode: Mode::Write,
            only_signers: None,
            surroundings,
            keys_ahead: Mutex::default(),
        })))
    }
}

fn exists(store: &DynStore) -> Error {
    Error::new(
        code::repository::EXISTS,
        format!("there is a repository at {} already", store.url()),
    )
}

async fn refuse_occupied(store: &DynStore) -> Result<()> {
    let found = match probe::probe(store).await {
        Ok(found) => found,
        // Whatever lies under that name, it is somebody's.
        Err(error) if error.is(code::repository::NEWER_FORMAT) || error.is(code::repository::OBJECT_CORRUPT) => {
            return Err(exists(store).source(error));
        }
        Err(error) => return Err(error),
    };
    match found {
        Probe::Absent => Ok(()),
        Probe::Present(_) => Err(exists(store)),
        Probe::Foreign {
            examples,
            looks_like_ours,
        } => {
            let (code, what) = if looks_like_ours {
                (
                    code::repository::DESCRIPTOR_MISSING,
                    "a repository without its descriptor",
                )
            } else {
                (code::repository::NOT_EMPTY, "other objects")
            };
            Err(Error::new(
                code,
                format!("{} holds {what}: {}", store.url(), examples.join(", ")),
            ))
        }
    }
}

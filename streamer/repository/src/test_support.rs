//! What tests of this crate and of the engine start from. Never used by the product.

use std::sync::{Arc, Mutex};

use hardstorage_codec::Secret;
use hardstorage_storage::DynStore;

use crate::keys::RootKey;
use crate::policy::Policy;
use crate::repository::{Mode, Shared};
use crate::{DataKey, Deployment, Descriptor, RepoConfig, Surroundings};

impl Deployment {
    /// A deployment with a random KEK and data key on any store, without a descriptor.
    #[doc(hidden)]
    pub fn for_tests(store: DynStore, name: &str) -> Deployment {
        Deployment::for_tests_in(store, name, Surroundings::default())
    }

    /// The same with a clock and a randomness of the test's own.
    #[doc(hidden)]
    #[expect(clippy::unwrap_used, reason = "tests only")]
    pub fn for_tests_in(store: DynStore, name: &str, surroundings: Surroundings) -> Deployment {
        let key = DataKey::new(
            Secret::new(surroundings.random().unwrap()),
            surroundings.random().unwrap(),
            1,
            true,
        );
        Deployment::for_tests_with(store, name, surroundings, key, RepoConfig::default())
    }

    /// The same with a given data key and policy.
    #[doc(hidden)]
    #[expect(clippy::unwrap_used, reason = "tests only")]
    pub fn for_tests_with(
        store: DynStore,
        name: &str,
        surroundings: Surroundings,
        key: DataKey,
        settings: RepoConfig,
    ) -> Deployment {
        let root = RootKey::kek(Secret::new(surroundings.random().unwrap()));
        let now = surroundings.now();
        let descriptor = Descriptor::new(surroundings.random().unwrap(), &root, now, "test".to_owned(), false);
        let mut policy = Policy::initial(descriptor.repository_id, [0; 32], &root, now);
        policy.settings = settings;
        let shared = Shared {
            store,
            policy,
            descriptor,
            descriptor_hash: [0; 32],
            root,
            mode: Mode::Write,
            only_signers: None,
            keys_ahead: Mutex::default(),
            surroundings,
        };
        Deployment::new(Arc::new(shared), name.parse().unwrap(), key)
    }
}

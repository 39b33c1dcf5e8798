//! What tests of this crate and of the engine start from. Never used by the product.

use hardstorage_codec::Secret;
use hardstorage_storage::DynStore;

use crate::{DataKey, Deployment, RepoConfig, Surroundings};

impl Deployment {
    /// A deployment with a random data key on any store, without a descriptor.
    #[doc(hidden)]
    #[expect(clippy::unwrap_used, reason = "tests only")]
    pub fn for_tests(store: DynStore, name: &str) -> Deployment {
        let surroundings = Surroundings::default();
        let key = DataKey::new(
            Secret::new(surroundings.random().unwrap()),
            surroundings.random().unwrap(),
            1,
            true,
        );
        Deployment::new(store, name.parse().unwrap(), key, RepoConfig::default(), surroundings)
    }
}

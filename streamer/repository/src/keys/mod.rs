//! Keys: the keyring's files, the KEK at the root, the data keys that it wraps and the signers that it seals.
//! Reading never creates one, and none is ever overwritten.

mod data;
mod keyring;
mod root;
mod signers;

pub use keyring::{KeyFiles, Keyring};
pub use root::kek_fingerprint;
pub use signers::Signers;

pub(crate) use data::{KeyShelf, Opened, StoredKeys};
pub(crate) use root::RootKey;

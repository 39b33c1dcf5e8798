//! Object stores: one trait, its backends, and decorators for retry, limits and faults.
//!
//! A store keeps small and large immutable objects under relative keys. The primitive that the whole
//! repository format stands on is [`Store::put_new`]: an object is created once or not at all, and never
//! overwritten. Knows nothing of PostgreSQL, of keys or of the repository's layout.
//!
//! [`open`] turns a repository URL into a store: the backend, wrapped in the limits and in the one retry layer.
//! Every backend runs the same [`conformance`] suite, which also holds the race that proves create-only.

pub mod conformance;
mod fault;
mod file;
mod key;
mod location;
mod memory;
mod open;
mod read_only;
mod retry;
mod s3;
mod store;
mod throttle;
pub mod trial;

pub use fault::{Call, Fault, FaultStore, Gate};
pub use file::FileStore;
pub use key::{Key, KeyError};
pub use location::{Checksum, Location, S3Location};
pub use memory::MemoryStore;
pub use open::{Credentials, OpenOptions, open};
pub use read_only::ReadOnly;
pub use retry::{RetryPolicy, Retrying};
pub use s3::S3Store;
pub use store::{
    Caps, Created, DynStore, Growing, Heard, ListRequest, Listing, ObjectMeta, Store, SweepRequest, Swept, Upload,
};
pub use throttle::Throttle;

//! Object stores: one trait, its backends, and decorators for retry, limits and faults.
//!
//! A store keeps small and large immutable objects under relative keys. The primitive that the whole
//! repository format stands on is [`Store::put_new`]: an object is created once or not at all, and never
//! overwritten. Knows nothing of PostgreSQL, of keys or of the repository's layout.

mod key;
mod store;

pub use key::{Key, KeyError};
pub use store::{Caps, Created, DynStore, ListRequest, Listing, ObjectMeta, Store, Upload};

//! The repository format: packs, frames, map layers, manifests, keys, WAL objects, sessions.
//!
//! Knows the object store and the codec; knows nothing of PostgreSQL's wire, of tar or of processes. Everything
//! that is stored is created once and never overwritten; the presence of a manifest *is* the commit of a backup.

mod data_key;
mod envelope;
pub mod layout;

pub use data_key::{DataKey, PackKind};
pub use envelope::{EnvelopeKind, open_envelope, seal_envelope, split_envelope};
pub use layout::{Lineage, WriterId};

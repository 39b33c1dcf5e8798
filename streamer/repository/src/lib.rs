//! The repository format: packs, frames, map layers, manifests, keys, WAL objects, sessions.
//!
//! Knows the object store and the codec; knows nothing of PostgreSQL's wire, of tar or of processes. Everything
//! that is stored is created once and never overwritten; the presence of a manifest *is* the commit of a backup.

mod config;
mod data_key;
mod deployment;
mod envelope;
pub mod layout;
mod manifest;
mod surroundings;
mod test_support;
mod text_number;

pub use config::RepoConfig;
pub use data_key::{DataKey, PackKind};
pub use deployment::Deployment;
pub use envelope::{EnvelopeKind, open_envelope, seal_envelope, split_envelope};
pub use layout::{Lineage, WriterId};
pub use manifest::{
    Ancestor, BackupKind, DamagedPage, DataChecksums, ExternalFile, FrameAt, HistoryHash, MANIFEST_FORMAT, Manifest,
    PackId, Root, ServerFacts, Tablespace, Times, Totals, WalFacts, WalRange, WriterFacts,
};
pub use surroundings::{Clock, Entropy, Surroundings, SystemClock, SystemEntropy};
pub use text_number::{decimal, hex_bytes};

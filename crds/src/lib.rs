//! The API of the operator: the kinds of `hardstorage.dev/v1alpha1` as Rust types, and their definitions
//! (CustomResourceDefinitions) as the YAML that is installed.
//!
//! The types are the only source: `cargo run -p hardstorage-crds --bin crdgen` writes the definitions and their pages of the
//! book into the tree, and tests compare them with what lies there. A field that no code obeys is not in the types: what the API server
//! accepts is done.
//!
//! Reading is lenient, so that one strange object does not hide a thousand good ones: unknown fields are skipped, an
//! unknown word is kept as it is ([`words`](crate::Creation)), durations and quantities are text until they are used.
//! Everything else is the matter of `kube::core::DeserializeGuard`, in which every list and watch is read.
//! Writing is strict: the API server refuses what the schema and its rules do not allow, with a sentence that says why.
//!
//! It links neither the engine nor a Kubernetes client.

mod backup;
mod backup_schedule;
pub mod condition;
mod definition;
mod deployment;
mod duration;
mod page;
mod pod_template;
mod quantity;
mod reference;
mod repository;
mod restore;
mod rules;
mod schedule;
mod source;
mod words;

pub use backup::*;
pub use backup_schedule::*;
pub use definition::{Definition, definitions};
pub use deployment::*;
pub use duration::Duration;
pub use pod_template::{PodTemplate, Resources};
pub use quantity::{Bytes, Rate, Size};
pub use reference::*;
pub use repository::*;
pub use restore::*;
pub use schedule::Schedule;
pub use source::*;

/// The group of all kinds.
pub const GROUP: &str = "hardstorage.dev";
/// Their version.
pub const VERSION: &str = "v1alpha1";

//! PostgreSQL servers of all supported versions: built from a template, from a backup, or as a standby.

mod builder;
mod cluster;
pub(crate) mod family;
mod position;
pub(crate) mod programs;
pub(crate) mod query;
mod template;

pub use builder::Builder;
pub use cluster::Cluster;
pub use position::{lsn, lsn_text};

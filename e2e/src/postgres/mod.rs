//! PostgreSQL servers of all supported versions: built from a template, from a backup, or as a standby.

mod builder;
mod cluster;
mod programs;
mod query;
mod template;

pub use builder::Builder;
pub use cluster::Cluster;

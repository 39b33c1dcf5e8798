//! What a user of Kubernetes does with the operator, on a real node with real databases: manifests in, `kubectl wait`, and the
//! proof from outside. Each test has a namespace of its own. It is not part of `cargo test`, because it needs root and a
//! node: `make e2e`, or `cargo test -p hardstorage-e2e --test kubernetes`, which starts the node.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod chart;
mod claim;
mod drill;
mod faults;
mod fleet;
mod leader;
mod major;
mod patroni;
mod protect;
mod rebuilt;
mod removal;
mod restore;
mod retention;
mod rights;
mod runs;
mod secrets;
mod servers;
mod shown;
mod site;
mod sources;
mod tutorial;
mod upgrade;

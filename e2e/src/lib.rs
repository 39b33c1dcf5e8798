//! Real servers for tests, benchmarks and demonstrations: PostgreSQL 15 to 18 (14 to be refused), object stores, and the
//! product's binary run as a user would run it.
//!
//! It links none of the product's crates, so that a test through it knows only what a user can know: commands, exit
//! codes, files, SQL. Everything it starts is stopped, and everything it writes is removed, when the value is dropped;
//! `HARDSTORAGE_KEEP=1` keeps the directories of a test that failed.
//!
//! Two rules hold everywhere. PostgreSQL refuses root, so as root all of it runs as an unprivileged user, the product
//! included, as the introduction's unit does (`User=postgres`). And `LD_LIBRARY_PATH` is set for PostgreSQL's own
//! programs only: its libpq must not reach anything else, and a standby must not load the system's.
#![allow(
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::return_self_not_must_use,
    clippy::unwrap_used,
    reason = "a harness tells what went wrong by panicking in the test that uses it"
)]

mod answer;
mod background;
mod http;
pub mod kubernetes;
mod ledger;
mod place;
mod postgres;
mod product;
mod scratch;
mod store;

pub use answer::{Answer, run, until};
pub use background::Background;
pub use http::get;
pub use kubernetes::ApiServer;
pub use ledger::Ledger;
pub use place::{cache_root, free_loopback, postgres_program, product_binary};
pub use postgres::{Builder, Cluster};
pub use product::Hardstorage;
pub use scratch::{Scratch, unprivileged};
pub use store::ObjectStore;

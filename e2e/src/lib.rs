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
mod delay;
pub mod disk;
pub mod golden;
mod http;
pub mod kubernetes;
mod ledger;
mod patroni;
mod place;
mod points;
mod postgres;
mod product;
mod reader;
mod relay;
mod rounds;
mod scratch;
mod store;
mod tap;
pub mod torture;
mod wire;

pub use answer::{Answer, command_line, run, until};
pub use background::Background;
pub use delay::Distance;
pub use http::get;
pub use kubernetes::ApiServer;
pub use ledger::Ledger;
pub use patroni::{Etcd, Member, Recipe};
pub use place::{cache_root, free_loopback, postgres_program, product_binary, tree};
pub use points::{Point, Walk};
pub use postgres::{Builder, Cluster, lsn, lsn_text};
pub use product::Hardstorage;
pub use reader::Reader;
pub use rounds::Rounds;
pub use scratch::{Scratch, unprivileged};
pub use store::{ObjectStore, url_by};
pub use tap::Tap;
pub use wire::{Break, Way, Wire};

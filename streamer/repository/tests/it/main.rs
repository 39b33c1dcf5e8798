//! Integration tests of the repository, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "test code"
)]

mod wal;

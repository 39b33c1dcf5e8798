//! Backups written by the writer, read back from stores that behave and from stores that do not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod damaged;
mod round_trip;
pub(crate) mod scenario;
mod store_faults;

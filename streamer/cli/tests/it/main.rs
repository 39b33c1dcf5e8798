//! The program as it is run: one binary for all integration tests of the command line.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod fetch;

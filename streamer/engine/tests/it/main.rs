//! Integration tests of the engine, in one binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod audit;
mod bench;
mod records;
mod restore;
mod retry;
mod verify;

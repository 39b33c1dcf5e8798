//! What a user does with the product, on real servers, through the command line alone: one story on every supported
//! PostgreSQL and once more over an object store; everything else on the newest version.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod book;
mod harness;
mod introduction;
mod reader;

//! Stores against real servers, and against servers that answer wrongly on purpose.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "tests")]

mod answers;
mod chain;
mod directory;
mod leftovers;
mod proxy;
mod root;
mod scripted;
mod servers;
mod suites;
mod tls;
mod uploads;
mod wire;

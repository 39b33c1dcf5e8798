//! The walsender protocol: one replication connection to a PostgreSQL server, 15 to 18.
//!
//! It opens and authenticates a connection, asks what a walsender can answer, receives base backups and streams
//! WAL. It knows no repository and no tar; it neither stores nor retries. What it hands out are positions and
//! slices of what was received.

mod message;
mod server_error;
mod wire;

pub use message::{Authentication, Column, Message};
pub use server_error::ServerError;
pub use wire::{AsyncStream, BoxStream, Wire};

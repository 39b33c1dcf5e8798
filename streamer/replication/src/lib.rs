//! The walsender protocol: one replication connection to a PostgreSQL server, 15 to 18.
//!
//! It opens and authenticates a connection, asks what a walsender can answer, receives base backups and streams
//! WAL. It knows no repository and no tar; it neither stores nor retries. What it hands out are positions and
//! slices of what was received.

mod archive_frame;
mod auth;
mod base_backup;
mod command;
mod connect;
mod connection;
mod conninfo;
#[doc(hidden)]
pub mod fuzz;
mod here;
mod line;
mod message;
mod passfile;
mod pump;
mod rows;
mod server_error;
mod setting;
mod shared_line;
mod stream;
mod tls;
mod transport;
mod wal_frame;
mod wire;

pub use base_backup::{BackupEnd, BackupEvent, BackupStart, BaseBackup, BaseBackupOptions, Checkpoint, Tablespace};
pub use connect::{ConnectMode, Connected, connect, connect_avoiding};
pub use connection::{Connection, SlotState, SystemIdentity};
pub use conninfo::{Address, ConnInfo, Environment, Host, Secret, Settings};
pub use message::{Authentication, Column, Message};
pub use server_error::ServerError;
pub use stream::{Acknowledge, ReplicationStream, StreamEvent, StreamOptions};
pub use wal_frame::ServerTime;
pub use wire::{AsyncStream, BoxStream, Wire};

//! PostgreSQL's own programs over a restored data directory: a server that is started, watched, asked and stopped.
//!
//! What the server is for belongs to who asks for it: a proof throws its copy away, a recovery hands it over.

mod client;
mod control;
mod private;
mod programs;
mod server;
mod superuser;

use std::path::Path;

use hardstorage_report::{Error, Result, code};

pub(crate) use client::{Asker, Reply, Session};
pub(crate) use control::Control;
pub(crate) use private::{LONGEST, PRIVATE, owner_of, private};
pub(crate) use programs::major_of;
pub use programs::{Programs, verifybackup};
pub(crate) use server::{EVERYBODY, Place, Server, State};
pub(crate) use superuser::USUAL_USER;

/// Runs what waits for another program where nothing else waits.
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(code::cli::INTERNAL, "wait for PostgreSQL's programs").source(error))?
}

pub(crate) fn failed(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!("{doing} {}", path.display());
    move |error| Error::new(code::cli::IO, message).source(error)
}

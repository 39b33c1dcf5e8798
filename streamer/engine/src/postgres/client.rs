//! Asks a server through PostgreSQL's own client, over the socket in its private directory.

use std::process::Stdio;

use hardstorage_report::{Error, Result, code};
use tokio_util::sync::CancellationToken;

use super::off_thread;
use super::server::{PORT, Place};

/// Who asks, and where.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The role.
    pub(crate) user: String,
    /// The database.
    pub(crate) database: String,
}

/// One who asks, until it is told to stop.
pub(crate) struct Asker<'a> {
    pub(crate) place: &'a Place,
    pub(crate) cancel: &'a CancellationToken,
    /// Settings of the session, as `-c name=value`; they win over those that the copy has for its roles and databases.
    pub(crate) options: &'static str,
    /// The error of a stop.
    pub(crate) interrupted: fn() -> Error,
}

impl Asker<'_> {
    /// Asks through PostgreSQL's own client: the query may give anything that PostgreSQL can show as text, and a client
    /// is where the server is. The inner error is the client's words.
    pub(crate) async fn ask(&self, session: &Session, query: &str) -> Result<Result<String, String>> {
        let mut command = self.place.programs.command("psql", Some(&self.place.data))?;
        command.args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-p", PORT]);
        command.args(["-U", &session.user, "-d", &session.database, "-c", query, "-h"]);
        command.arg(&self.place.private).stdin(Stdio::null());
        command.env("PGOPTIONS", self.options);
        let asked = off_thread(move || {
            let output = command.output();
            output.map_err(|error| Error::new(code::engine::PROGRAMS, "run psql").source(error))
        });
        let output = tokio::select! {
            biased;
            // The client ends with its server.
            () = self.cancel.cancelled() => return Err((self.interrupted)()),
            output = asked => output?,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr)
                .lines()
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" "))
        })
    }
}

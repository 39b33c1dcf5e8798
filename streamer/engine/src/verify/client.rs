//! Asks the server over a scratch copy through PostgreSQL's own client.

use std::process::Stdio;

use hardstorage_report::{Error, Result, code};
use tokio_util::sync::CancellationToken;

use super::scratch::{interrupted, off_thread};
use super::server::{PORT, Place};

/// Asks through PostgreSQL's own client: the query may give anything that PostgreSQL can show as text, and a client is
/// where the server is. The inner error is the client's words.
pub(super) async fn psql(
    place: &Place,
    user: &str,
    database: &str,
    query: &str,
    cancel: &CancellationToken,
) -> Result<Result<String, String>> {
    let mut command = place.programs.command("psql", Some(&place.data))?;
    command.args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-p", PORT]);
    command.args(["-U", user, "-d", database, "-c", query, "-h"]);
    command.arg(&place.scratch).stdin(Stdio::null());
    let asked = off_thread(move || {
        let output = command.output();
        output.map_err(|error| Error::new(code::engine::PROGRAMS, "run psql").source(error))
    });
    let output = tokio::select! {
        biased;
        // The client ends with its server.
        () = cancel.cancelled() => return Err(interrupted()),
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

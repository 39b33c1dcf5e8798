//! Asks a server through PostgreSQL's own client, over the socket in its private directory.
//!
//! The client ends with whoever asked: one that is no longer waited for is killed.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use hardstorage_report::{Error, Result, code};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::server::{PORT, Place};

/// As much of an answer as is kept; what is more is read and dropped. Our own questions give lists.
const LIST: u64 = 64 << 20;
/// As much of an answer to somebody's own statements: more than anybody expects.
const FIRST: u64 = 128 << 10;
/// As much of the words of a refusal.
const WORDS: u64 = 16 << 10;

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
    pub(crate) options: String,
    /// The error of a stop.
    pub(crate) interrupted: fn() -> Error,
}

/// What came of a question with a limit of time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The first field of the first row; none without a row.
    First(Option<String>),
    /// The client's words.
    Refused(String),
    /// It did not end in time, and was ended.
    TimeIsOver,
}

/// What a client that has ended said.
struct Said {
    status: ExitStatus,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Said {
    fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.err);
        text.trim().lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }
}

impl Asker<'_> {
    /// Asks through PostgreSQL's own client: the query may give anything that PostgreSQL can show as text, and a client
    /// is where the server is. The inner error is the client's words.
    pub(crate) async fn ask(&self, session: &Session, query: &str) -> Result<Result<String, String>> {
        let said = self.run(session, query, LIST, &[]).await?;
        Ok(if said.status.success() {
            Ok(String::from_utf8_lossy(&said.out).trim().to_owned())
        } else {
            Err(said.words())
        })
    }

    /// Asks somebody's own statements for the first field of what they give, for so long at most. The server may go on
    /// with them when the time is over.
    pub(crate) async fn first(&self, session: &Session, statements: &str, limit: Duration) -> Result<Reply> {
        // The client takes a text that begins with a backslash for a command of its own, one that starts programs among
        // them; behind a blank everything goes to the server. No text holds the byte 0, so it can part the fields.
        let statements = format!(" {statements}");
        let asked = self.run(session, &statements, FIRST, &["-z", "-0"]);
        let Ok(said) = tokio::time::timeout(limit, asked).await else {
            return Ok(Reply::TimeIsOver);
        };
        let said = said?;
        if !said.status.success() {
            return Ok(Reply::Refused(said.words()));
        }
        Ok(Reply::First(first_field(&said.out)))
    }

    async fn run(&self, session: &Session, statements: &str, keep: u64, more: &[&str]) -> Result<Said> {
        let io = |error: std::io::Error| Error::new(code::engine::PROGRAMS, "run psql").source(error);
        let mut command = self.place.programs.command("psql", Some(&self.place.data))?;
        command.args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-p", PORT]);
        command
            .args(more)
            .args(["-c", statements, "-h"])
            .arg(&self.place.private);
        // Not as an option: the client takes one with a sign in it for a whole connection string.
        command
            .env("PGDATABASE", &session.database)
            .env("PGUSER", &session.user);
        command.env("PGOPTIONS", &self.options);
        let mut command = tokio::process::Command::from(command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let ended = async {
            let mut child = command.spawn().map_err(io)?;
            let (out, err) = (child.stdout.take(), child.stderr.take());
            let (out, err) = tokio::try_join!(kept(out, keep), kept(err, WORDS)).map_err(io)?;
            let status = child.wait().await.map_err(io)?;
            Ok(Said { status, out, err })
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err((self.interrupted)()),
            said = ended => said,
        }
    }
}

/// The beginning of what a program writes; the rest is read, so that it does not wait for us.
async fn kept(stream: Option<impl AsyncRead + Unpin>, keep: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(keep).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// The first field where each field and each row ends with the byte 0. Only what is copied out has none, and ends with a
/// line feed.
fn first_field(out: &[u8]) -> Option<String> {
    if out.is_empty() {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match out.iter().position(|byte| *byte == 0) {
        Some(end) => text(&out[..end]),
        None => text(out.strip_suffix(b"\n").unwrap_or(out)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_is_whole_whatever_is_in_it() {
        for (out, first) in [
            (&b""[..], None),
            (b"\0", Some("")),
            (b"t\0", Some("t")),
            (b"a|b\nc\0d\0", Some("a|b\nc")),
            (b"copied\n", Some("copied")),
        ] {
            assert_eq!(first_field(out).as_deref(), first, "{out:?}");
        }
    }
}

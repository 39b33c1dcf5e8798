//! A PostgreSQL server over a restored copy: what keeps it harmless, its start, its state, its end.
//!
//! It reads none of the source's `postgresql.conf`: on this machine, that may name libraries, files, addresses and sizes
//! that are not here. It listens on a Unix socket in a private directory only. Connections are refused until recovery
//! has ended (no hot standby), so "ready" in `postmaster.pid` means recovered.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hardstorage_report::{Code, Error, Result, code};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::programs::Programs;
use super::{failed, off_thread};

/// Programs and directories.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) programs: Programs,
    pub(crate) data: PathBuf,
    /// Socket, settings and log lie here; only the owner can enter.
    pub(crate) private: PathBuf,
    /// What the server's own commands find in their environment, beside the little that every program gets.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// Only part of the socket's name here; the source's own port means nothing in a private directory.
pub(crate) const PORT: &str = "5432";
/// Lines of the server's log in a message.
const LAST_LINES: usize = 5;
/// How often a server that starts is looked at, as `pg_ctl` does.
const POLL: Duration = Duration::from_millis(100);
/// As much of the log's end as is ever looked at: it grows as long as recovery lasts.
const LOG_END: u64 = 64 << 10;

/// What wins over every file of the copy: the command line.
const QUIET: [&str; 17] = [
    "listen_addresses=",
    "ssl=off",
    "hot_standby=off",
    "logging_collector=off",
    "log_destination=stderr",
    "session_preload_libraries=",
    "local_preload_libraries=",
    "archive_mode=off",
    "wal_level=replica",
    "synchronous_standby_names=",
    "max_logical_replication_workers=0",
    "autovacuum=off",
    "huge_pages=off",
    "restart_after_crash=off",
    "external_pid_file=",
    "unix_socket_permissions=0700",
    "jit=off",
];

/// Everybody who can enter the private directory.
pub(crate) const EVERYBODY: &str = "all";

/// How far a server is.
#[derive(Debug)]
pub(crate) enum State {
    /// It starts, or recovers.
    Starting,
    /// It answers.
    Ready,
    /// It is gone.
    Ended(ExitStatus),
}

/// A running server; stopped when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Server {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(%error, "the server has gone");
        }
    }

    /// How far it is.
    pub(crate) fn state(&mut self) -> Result<State> {
        let ended = self.child.try_wait();
        let ended = ended.map_err(|error| Error::new(code::cli::IO, "look at postgres").source(error))?;
        Ok(match ended {
            Some(status) => State::Ended(status),
            None if is_ready(&self.data, self.child.id()) => State::Ready,
            None => State::Starting,
        })
    }

    /// Waits until it answers. `starting` says what it does until then, for the messages.
    pub(crate) async fn until_ready(
        &mut self,
        starting: &str,
        patience: Duration,
        cancel: &CancellationToken,
        interrupted: fn() -> Error,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if cancel.is_cancelled() {
                return Err(interrupted());
            }
            match self.state()? {
                State::Ready => return Ok(()),
                State::Ended(status) => {
                    let what = format!("PostgreSQL ended with {status}");
                    return Err(self.refused(code::engine::RESTORE_TEST, &what));
                }
                State::Starting => {}
            }
            if Instant::now() > deadline {
                return Err(self.refused(code::engine::RESTORE_TEST, &format!("{starting} did not end")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A clean end, so that the copy can be opened again.
    pub(crate) async fn stop(mut self) -> Result<ExitStatus> {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::INT);
        }
        off_thread(move || {
            let ended = self.child.wait();
            ended.map_err(|error| Error::new(code::cli::IO, "wait for postgres").source(error))
        })
        .await
    }

    /// A clean end if that comes soon, else one at once: somebody's own statement may not let itself be ended.
    pub(crate) async fn stop_within(mut self, patience: Duration) -> Result<()> {
        self.signal(Signal::INT);
        let deadline = Instant::now() + patience;
        while !matches!(self.state()?, State::Ended(_)) && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        off_thread(move || {
            drop(self);
            Ok(())
        })
        .await
    }

    /// The end of what it said.
    pub(crate) fn log_end(&self) -> Result<String> {
        let mut file = fs::File::open(&self.log).map_err(failed("open", &self.log))?;
        let length = file.metadata().map_err(failed("look at", &self.log))?.len();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(failed("read", &self.log))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// An error with the server's last words.
    pub(crate) fn refused(&self, code: Code, what: &str) -> Error {
        let text = match self.log_end() {
            Ok(text) => text,
            Err(error) => format!("its log could not be read: {error}"),
        };
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        Error::new(code, format!("{what}; the server's last words: {}", last.join(" | ")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // PostgreSQL's immediate shutdown; what it leaves is thrown away.
            self.signal(Signal::QUIT);
            if let Err(error) = self.child.wait() {
                tracing::warn!(%error, "the server was not seen to end");
            }
        }
        // A postmaster that was killed leaves its file, and nothing would be removed under it.
        let pid = self.data.join("postmaster.pid");
        if first_line(&pid).as_deref() == Some(self.child.id().to_string().as_str())
            && let Err(error) = fs::remove_file(&pid)
        {
            tracing::warn!(%error, "{} stays", pid.display());
        }
    }
}

fn first_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// What the postmaster says of itself: its process on the first line of its file, its state on the eighth.
fn is_ready(data: &Path, pid: u32) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
}

impl Place {
    /// Writes the configuration files, and gives the words of the command line that point to them and keep the server
    /// quiet. `own` is the whole of its `postgresql.conf`, `who` of a rule says who gets in through the socket, and `more`
    /// wins over every file.
    pub(crate) fn settings(&self, own: &str, who: &str, more: &[String]) -> Result<Vec<String>> {
        let write = |name: &str, text: &str| {
            let path = self.private.join(name);
            fs::write(&path, text).map_err(failed("write", &path))?;
            let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            fs::set_permissions(&path, readable).map_err(failed("set the mode of", &path))?;
            Ok::<String, Error>(path.display().to_string())
        };
        let mut settings = vec![
            format!("config_file={}", write("postgresql.conf", own)?),
            format!(
                "hba_file={}",
                write("pg_hba.conf", &format!("local all {who} trust\n"))?
            ),
            format!("ident_file={}", write("pg_ident.conf", "")?),
            format!("data_directory={}", self.data.display()),
            format!("unix_socket_directories={}", self.private.display()),
            "unix_socket_group=".to_owned(),
            format!("port={PORT}"),
        ];
        settings.extend(QUIET.map(str::to_owned));
        settings.extend_from_slice(more);
        Ok(settings)
    }

    /// Starts it. Signals of a terminal are not for it: who started it tells it to end.
    pub(crate) fn start(&self, settings: &[String]) -> Result<Server> {
        let log = self.private.join("server.log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.map_err(failed("create", &log))?;
        let other = file.try_clone().map_err(failed("open", &log))?;
        let mut command = self.programs.command("postgres", Some(&self.data))?;
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("-D").arg(&self.data);
        command.args(settings.iter().flat_map(|setting| ["-c", setting.as_str()]));
        command.stdin(Stdio::null()).stdout(file).stderr(other).process_group(0);
        let child = command.spawn();
        let child = child.map_err(|error| Error::new(code::engine::PROGRAMS, "start postgres").source(error))?;
        Ok(Server {
            child,
            data: self.data.clone(),
            log,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn ready_is_what_the_postmaster_says_of_itself() {
        let data = tempfile::tempdir().unwrap();
        assert!(!is_ready(data.path(), 42));
        let state = |word: &str| {
            let text = format!("42\n/data\n1700000000\n5432\n/tmp\n\n  1 2\n{word}\n");
            fs::write(data.path().join("postmaster.pid"), text).unwrap();
        };
        state("starting");
        assert!(!is_ready(data.path(), 42));
        state("ready   ");
        assert!(is_ready(data.path(), 42));
        assert!(!is_ready(data.path(), 43), "the file of a server before this one");
    }
}

//! A PostgreSQL server over a restored scratch copy: it recovers, is asked one thing, and is thrown away.
//!
//! It reads none of the source's `postgresql.conf`: on this machine, that may name libraries, files, addresses and sizes
//! that are not here. It listens on a Unix socket in a private directory only. Connections are refused until recovery
//! has ended (no hot standby), so "ready" in `postmaster.pid` means recovered; the limits that prepared transactions and
//! locks need are those in `pg_control`.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hardstorage_report::{Error, Result, code};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::client::psql;
use super::programs::Programs;
use super::scratch::{failed, interrupted, off_thread};

/// Programs and directories.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) programs: Programs,
    pub(super) data: PathBuf,
    /// Socket, settings and log lie here; only the owner can enter.
    pub(super) scratch: PathBuf,
}

/// How long recovery to the backup's end may take.
const RECOVERY: Duration = Duration::from_hours(1);
/// Only part of the socket's name here; the source's own port means nothing in the scratch directory.
pub(super) const PORT: &str = "5432";
/// How often the server's own file is looked at, as `pg_ctl` does.
const POLL: Duration = Duration::from_millis(100);
/// The superuser that most clusters have.
const USUAL_USER: &str = "postgres";
/// Lines of the server's log in a message.
const LAST_LINES: usize = 5;

/// Settings of `pg_controldata`, and what they are called elsewhere.
const LIMITS: [(&str, &str); 6] = [
    ("max_connections setting", "max_connections"),
    ("max_worker_processes setting", "max_worker_processes"),
    ("max_wal_senders setting", "max_wal_senders"),
    ("max_prepared_xacts setting", "max_prepared_transactions"),
    ("max_locks_per_xact setting", "max_locks_per_transaction"),
    ("track_commit_timestamp setting", "track_commit_timestamp"),
];

/// What wins over every file of the copy: the command line.
const FIXED: [&str; 20] = [
    "listen_addresses=",
    "ssl=off",
    "hot_standby=off",
    "logging_collector=off",
    "log_destination=stderr",
    "shared_preload_libraries=",
    "session_preload_libraries=",
    "local_preload_libraries=",
    "archive_mode=off",
    "wal_level=replica",
    "max_logical_replication_workers=0",
    "autovacuum=off",
    "shared_buffers=64MB",
    "huge_pages=off",
    "restart_after_crash=off",
    "external_pid_file=",
    "unix_socket_group=",
    "unix_socket_permissions=0700",
    "jit=off",
    "fsync=off",
];

/// A running server; stopped when it is dropped.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(%error, "the scratch server has gone");
        }
    }

    /// A clean end, so that the copy can be opened again.
    async fn stop(mut self) -> Result<()> {
        self.signal(Signal::INT);
        off_thread(move || {
            let ended = self.child.wait();
            ended.map_err(|error| Error::new(code::cli::IO, "wait for postgres").source(error))
        })
        .await
        .map(drop)
    }

    fn refused(&self, what: &str) -> Error {
        let text = match fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("its log could not be read: {error}"),
        };
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        Error::new(
            code::engine::RESTORE_TEST,
            format!("{what}; the server's last words: {}", last.join(" | ")),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // PostgreSQL's immediate shutdown; what it leaves is thrown away.
            self.signal(Signal::QUIT);
            if let Err(error) = self.child.wait() {
                tracing::warn!(%error, "the scratch server was not seen to end");
            }
        }
    }
}

/// Starts a server, waits until it has recovered, and asks.
pub(super) async fn ask(place: Place, database: &str, query: &str, cancel: &CancellationToken) -> Result<String> {
    let limits = off_thread({
        let place = place.clone();
        move || place.limits()
    });
    let settings = place.settings(&limits.await?)?;
    let mut server = place.start(&settings)?;
    until_ready(&place, &mut server, cancel).await?;
    let mut answer = psql(&place, USUAL_USER, database, query, cancel).await?;
    if answer
        .as_ref()
        .is_err_and(|words| words.contains("role \"postgres\" does not exist"))
    {
        // Whoever made the cluster chose another name; only single-user mode needs none.
        server.stop().await?;
        let user = off_thread({
            let (place, settings) = (place.clone(), settings.clone());
            move || place.superuser(&settings)
        });
        let user = user.await?;
        server = place.start(&settings)?;
        until_ready(&place, &mut server, cancel).await?;
        answer = psql(&place, &user, database, query, cancel).await?;
    }
    answer.map_err(|words| server.refused(&format!("the query failed: {words}")))
}

async fn until_ready(place: &Place, server: &mut Server, cancel: &CancellationToken) -> Result<()> {
    let deadline = Instant::now() + RECOVERY;
    loop {
        if cancel.is_cancelled() {
            return Err(interrupted());
        }
        let ended = server.child.try_wait();
        if let Some(status) = ended.map_err(|error| Error::new(code::cli::IO, "look at postgres").source(error))? {
            return Err(server.refused(&format!("PostgreSQL ended with {status}")));
        }
        if is_ready(&place.data, server.child.id()) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(server.refused("recovery did not end"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What the postmaster says of itself: its process on the first line of its file, its state on the eighth.
fn is_ready(data: &Path, pid: u32) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
}

/// Reads the settings that WAL replay depends on.
fn parse_limits(text: &str) -> Vec<String> {
    let facts = text.lines().filter_map(|line| line.split_once(':'));
    let limits = facts.filter_map(|(name, value)| {
        let (_, setting) = LIMITS.iter().find(|(known, _)| *known == name.trim())?;
        Some(format!("{setting}={}", value.trim()))
    });
    limits.collect()
}

/// The name in the answer of single-user mode: `1: rolname = "alice" (typeid = 19, ...)`.
fn parse_superuser(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("rolname = \"")?;
    let (name, _) = rest.rsplit_once("\"\t(typeid").or_else(|| rest.split_once('"'))?;
    Some(name.to_owned())
}

impl Place {
    fn limits(&self) -> Result<Vec<String>> {
        let mut command = self.programs.command("pg_controldata", Some(&self.data))?;
        let output = command.arg(&self.data).output();
        let output = output.map_err(|error| Error::new(code::engine::PROGRAMS, "run pg_controldata").source(error))?;
        if !output.status.success() {
            return Err(Error::new(
                code::engine::RESTORE_TEST,
                format!("pg_controldata: {}", String::from_utf8_lossy(&output.stderr).trim()),
            ));
        }
        Ok(parse_limits(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Writes the configuration files, and gives the words of the command line that point to them.
    fn settings(&self, limits: &[String]) -> Result<Vec<String>> {
        let write = |name: &str, text: &str| {
            let path = self.scratch.join(name);
            fs::write(&path, text).map_err(failed("write", &path))?;
            let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            fs::set_permissions(&path, readable).map_err(failed("set the mode of", &path))?;
            Ok::<String, Error>(path.display().to_string())
        };
        let mut settings = vec![
            format!("config_file={}", write("postgresql.conf", "")?),
            format!("hba_file={}", write("pg_hba.conf", "local all all trust\n")?),
            format!("ident_file={}", write("pg_ident.conf", "")?),
            format!("data_directory={}", self.data.display()),
            format!("unix_socket_directories={}", self.scratch.display()),
            format!("port={PORT}"),
        ];
        settings.extend(FIXED.map(str::to_owned));
        settings.extend_from_slice(limits);
        Ok(settings)
    }

    fn start(&self, settings: &[String]) -> Result<Server> {
        let log = self.scratch.join("server.log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.map_err(failed("create", &log))?;
        let other = file.try_clone().map_err(failed("open", &log))?;
        let mut command = self.programs.command("postgres", Some(&self.data))?;
        command.arg("-D").arg(&self.data);
        command.args(settings.iter().flat_map(|setting| ["-c", setting.as_str()]));
        let child = command.stdin(Stdio::null()).stdout(file).stderr(other).spawn();
        let child = child.map_err(|error| Error::new(code::engine::PROGRAMS, "start postgres").source(error))?;
        Ok(Server { child, log })
    }

    /// The name of the superuser that `initdb` made.
    fn superuser(&self, settings: &[String]) -> Result<String> {
        let io = |error: std::io::Error| Error::new(code::engine::PROGRAMS, "run postgres --single").source(error);
        let mut command = self.programs.command("postgres", Some(&self.data))?;
        command.arg("--single").arg("-D").arg(&self.data);
        command.args(settings.iter().flat_map(|setting| ["-c", setting.as_str()]));
        command.arg("template1");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(io)?;
        if let Some(mut stdin) = child.stdin.take() {
            let query = b"SELECT rolname FROM pg_authid WHERE oid = 10\n";
            stdin.write_all(query).map_err(io)?;
        }
        let mut text = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut text).map_err(io)?;
        }
        child.wait().map_err(io)?;
        parse_superuser(&text).ok_or_else(|| {
            Error::new(
                code::engine::RESTORE_TEST,
                "the restored copy does not tell the name of its superuser",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_limits_of_pg_controldata_become_settings() {
        let text = "pg_control version number:            1700\n\
                    wal_level setting:                    replica\n\
                    max_connections setting:              250\n\
                    max_prepared_xacts setting:           7\n\
                    track_commit_timestamp setting:       off\n";
        assert_eq!(
            parse_limits(text),
            [
                "max_connections=250",
                "max_prepared_transactions=7",
                "track_commit_timestamp=off"
            ]
        );
    }

    #[test]
    fn the_superuser_is_found_in_what_single_user_mode_says() {
        let text = "\nPostgreSQL stand-alone backend 18.0\nbackend> \t 1: rolname\t(typeid = 19, len = 64, typmod = -1, \
                    byval = f)\n\t----\n\t 1: rolname = \"al\"ice\"\t(typeid = 19, len = 64, typmod = -1, byval = f)\n\t----\n";
        assert_eq!(parse_superuser(text).as_deref(), Some("al\"ice"));
        assert_eq!(parse_superuser("backend> "), None);
    }

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

//! The server that a killed recovery left behind. Whoever takes its place ends it first: it writes into files that are
//! about to be removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hardstorage_report::{Error, Result, code};
use rustix::process::{Pid, Signal, kill_process};

use crate::postgres::{PRIVATE, failed};

/// PostgreSQL's immediate end takes five seconds at most before it kills what hangs.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(50);

/// What is behind the number in a `postmaster.pid`.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nothing, or a process that has nothing to do with the directory: numbers are given again.
    Nothing,
    /// The server of a recovery.
    Ours,
    /// Another server.
    Other,
}

fn process(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// A postmaster works in its data directory, and its command line stays as it was given.
fn look(data: &Path, pid: i32) -> Found {
    let process = process(pid);
    let Ok(line) = fs::read(process.join("cmdline")) else {
        return Found::Nothing;
    };
    match (fs::read_link(process.join("cwd")), data.canonicalize()) {
        (Ok(at), Ok(data)) if at != data => Found::Nothing,
        // One that has ended and waits for its parent has neither.
        _ if line.is_empty() => Found::Nothing,
        (Ok(_), Ok(_)) if String::from_utf8_lossy(&line).contains(PRIVATE) => Found::Ours,
        _ => Found::Other,
    }
}

/// The process that a directory names as its server; `None` when it names none.
fn named(data: &Path) -> Result<Option<i32>> {
    let file = data.join("postmaster.pid");
    match fs::read_to_string(&file) {
        Ok(text) => {
            let number = text.lines().next().and_then(|line| line.trim().parse().ok());
            Ok(Some(number.unwrap_or(0)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &file)(error)),
    }
}

/// Whether no server stands in the way of whoever begins anew in a directory.
pub(crate) fn can_be_ended(data: &Path) -> Result<bool> {
    Ok(named(data)?.is_none_or(|pid| look(data, pid) != Found::Other))
}

/// Ends the server that an earlier run of ours left in a directory, and removes what a dead one left. Another server is
/// an error.
pub(crate) fn end_orphan(data: &Path) -> Result<()> {
    let Some(pid) = named(data)? else { return Ok(()) };
    let file = data.join("postmaster.pid");
    let running = |what: String| Error::new(code::engine::TARGET_RUNNING, what);
    match look(data, pid) {
        Found::Nothing => {}
        Found::Other => {
            return Err(running(format!("a server runs in {}: process {pid}", data.display())));
        }
        Found::Ours => {
            if let Some(pid) = Pid::from_raw(pid)
                && let Err(error) = kill_process(pid, Signal::QUIT)
            {
                tracing::debug!(%error, "the server has gone");
            }
            let deadline = Instant::now() + PATIENCE;
            while look(data, pid) == Found::Ours {
                if Instant::now() > deadline {
                    return Err(running(format!(
                        "the server of an earlier recovery in {} does not end: process {pid}",
                        data.display()
                    )));
                }
                std::thread::sleep(POLL);
            }
            tracing::info!("ended the server that a killed recovery had left: process {pid}");
        }
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", &file)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_our_own_server_is_ended() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().canonicalize().unwrap();
        let file = data.join("postmaster.pid");
        end_orphan(&data).unwrap();
        fs::write(&file, format!("{}\n/data\n", std::process::id())).unwrap();
        end_orphan(&data).unwrap();
        assert!(
            !file.exists(),
            "this process works elsewhere: the number was given again"
        );

        let start = |word: &str| {
            let mut command = Command::new("sh");
            command
                .args(["-c", "echo; read line; exit 0", "sh", word])
                .current_dir(&data);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // A process that has only just begun has no command line yet.
            child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
            fs::write(&file, format!("{}\n", child.id())).unwrap();
            child
        };
        let mut other = start("postgres");
        let refused = end_orphan(&data).unwrap_err();
        assert!(refused.is(code::engine::TARGET_RUNNING), "{refused}");
        assert!(!can_be_ended(&data).unwrap());
        assert!(other.try_wait().unwrap().is_none() && file.exists());
        drop(other.stdin.take());
        other.wait().unwrap();

        let mut ours = start("config_file=/tmp/pg_hardstorage-recover-x/postgresql.conf");
        assert!(can_be_ended(&data).unwrap());
        std::thread::scope(|scope| {
            // Its parent has to take notice of its end.
            scope.spawn(|| ours.wait().unwrap());
            end_orphan(&data).unwrap();
        });
        assert!(!file.exists());
    }
}

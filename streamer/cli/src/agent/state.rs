//! What must outlive the agent: one small file in the state directory, replaced in one step, and a lock beside it, so that
//! one directory has one agent.
//!
//! It may be lost: what it says of backups is in the repository too. One that cannot be read is told and begun anew,
//! because an agent that does not start protects nobody.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hardstorage_report::{DeploymentName, Error, Result, code};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::schedule::Record;
use super::task::TaskName;
use crate::config::{private_folder, replace_file};

const SCHEMA: &str = "pg_hardstorage.agent.v1";

/// Deployments, their tasks, and what is remembered of each.
type Records = BTreeMap<DeploymentName, BTreeMap<TaskName, Record>>;

#[derive(Debug, Serialize, Deserialize)]
struct Page {
    schema: String,
    deployments: Records,
}

/// The records, and where they are kept.
#[derive(Debug)]
pub(crate) struct Book {
    file: PathBuf,
    records: Records,
    changed: bool,
    _lock: Option<File>,
}

impl Book {
    /// Opens the directory for this process alone. The error beside it is that of a file that could not be read.
    pub(crate) fn open(directory: &Path) -> Result<(Book, Option<Error>)> {
        let failed = |what: &str, error: std::io::Error| {
            Error::new(code::cli::IO, format!("{what} {}", directory.display()))
                .source(error)
                .hint("the agent keeps its memory there; PG_HARDSTORAGE_STATE_DIR names another directory")
        };
        private_folder(directory).map_err(|error| failed("make", error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(|error| failed("write into", error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(Error::new(
                    code::cli::AGENT_RUNNING,
                    format!("another agent works with {}", directory.display()),
                ));
            }
            Err(error) => return Err(failed("lock", error.into())),
        }
        let (records, problem) = read(&directory.join("state.json"));
        let book = Book {
            file: directory.join("state.json"),
            records,
            changed: false,
            _lock: Some(lock),
        };
        Ok((book, problem))
    }

    /// Reads what is there, without a lock and never to be saved: for a preview.
    pub(crate) fn look(directory: &Path) -> Book {
        let file = directory.join("state.json");
        Book {
            records: read(&file).0,
            file,
            changed: false,
            _lock: None,
        }
    }

    /// What is remembered of a task; made when it is seen for the first time.
    pub(crate) fn record(&mut self, deployment: &DeploymentName, task: TaskName, now: Timestamp) -> &mut Record {
        let tasks = self.records.entry(deployment.clone()).or_default();
        tasks.entry(task).or_insert_with(|| {
            self.changed = true;
            Record::new(now)
        })
    }

    /// The next save is not for nothing.
    pub(crate) fn touch(&mut self) {
        self.changed = true;
    }

    /// Writes it, when something changed. After a failure the next call tries again.
    pub(crate) fn save(&mut self) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        let page = Page {
            schema: SCHEMA.to_owned(),
            deployments: self.records.clone(),
        };
        let failed = || Error::new(code::cli::IO, format!("write {}", self.file.display()));
        let text = serde_json::to_vec_pretty(&page).map_err(|error| failed().source(error))?;
        replace_file(&self.file, &text).map_err(|error| failed().source(error))?;
        self.changed = false;
        Ok(())
    }
}

fn read(file: &Path) -> (Records, Option<Error>) {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        let error = Error::new(code::cli::IO, format!("read {}", file.display()))
            .source(error)
            .hint("it is begun anew: what was missed is found in the repository");
        (Records::new(), Some(error))
    };
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return (Records::new(), None),
        Err(error) => return failed(error.into()),
    };
    match serde_json::from_slice::<Page>(&text) {
        Ok(page) if page.schema == SCHEMA => (page.deployments, None),
        Ok(page) => failed(format!("it is of another version: {:?}", page.schema).into()),
        Err(error) => failed(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::schedule::Outcome;

    #[test]
    fn it_is_remembered_and_one_directory_has_one_agent() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("new/agent");
        let (name, now) = ("db1".parse().unwrap(), Timestamp::UNIX_EPOCH);
        let backup = TaskName::all().next().unwrap();
        let (mut book, problem) = Book::open(&place).unwrap();
        assert!(problem.is_none());
        assert!(Book::open(&place).unwrap_err().is(code::cli::AGENT_RUNNING));
        book.record(&name, backup, now).end(now, now, Outcome::Failed);
        book.save().unwrap();
        let kept = book.record(&name, backup, now).clone();
        drop(book);
        let (mut book, problem) = Book::open(&place).unwrap();
        assert!(problem.is_none());
        assert_eq!(*book.record(&name, backup, Timestamp::MAX), kept);
        assert_eq!(*Book::look(&place).record(&name, backup, Timestamp::MAX), kept);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_begun_anew() {
        let root = tempfile::tempdir().unwrap();
        let (name, backup) = ("db1".parse().unwrap(), TaskName::all().next().unwrap());
        for text in [
            "",
            "{",
            r#"{"schema": "pg_hardstorage.agent.v2", "deployments": {}}"#,
            r#"{"schema":
            "pg_hardstorage.agent.v1", "deployments": {"db1": {"bakup": {"settled": "2026-01-01T00:00:00Z"}}}}"#,
        ] {
            std::fs::write(root.path().join("state.json"), text).unwrap();
            let (mut book, problem) = Book::open(root.path()).unwrap();
            assert!(problem.unwrap().to_string().contains("state.json"), "{text}");
            book.record(&name, backup, Timestamp::UNIX_EPOCH);
            book.save().unwrap();
            drop(book);
            assert!(Book::open(root.path()).unwrap().1.is_none());
        }
    }
}

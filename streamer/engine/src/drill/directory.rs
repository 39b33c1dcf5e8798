//! What tells a directory that was prepared for a drill from every other: a file that only the hand-over makes.
//!
//! Without it nothing is started, so that nobody's own database becomes a standby because its path was mistyped. Whoever
//! checks holds a lock on it; a server that an earlier, killed check has left there is ended first.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use hardstorage_report::{Error, Result, code};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::postgres::failed;
use crate::recover::{Kept, end_orphan};
use crate::restore::Layout;

/// The file's name: PostgreSQL has none like it.
const NAME: &str = ".pg_hardstorage.drill";
/// What makes a server a standby; nothing says of whom.
const STANDBY: &str = "standby.signal";

/// What the recovery knew and the checks may need.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Text {
    /// The origin's libraries that are loaded at the start, and the settings that they read.
    #[serde(default)]
    preload: Kept,
}

/// Makes a recovered and stopped copy one that is checked.
pub(crate) fn mark(layout: &Layout, preload: &Kept) -> Result<()> {
    let data = &layout.data;
    let path = data.join(NAME);
    let text = Text {
        preload: preload.clone(),
    };
    let text = serde_json::to_vec(&text).map_err(|error| failed("write", &path)(error.into()))?;
    layout.write_small(&path, &text)?;
    layout.write_small(&data.join(STANDBY), b"")?;
    let synced = File::open(data).and_then(|directory| directory.sync_all());
    synced.map_err(failed("sync", data))
}

/// A prepared directory that no other check uses, as long as the value lives.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The origin's libraries and their settings.
    pub(super) preload: Kept,
    _lock: File,
}

/// Takes a directory for a check.
pub(super) fn take(data: &Path) -> Result<Prepared> {
    let foreign = |why: &str| Error::new(code::engine::NOT_A_DRILL, format!("{}: {why}", data.display()));
    let path = data.join(NAME);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Err(foreign(&format!("there is no {NAME} in it")));
        }
        Err(error) => return Err(failed("open", &path)(error)),
    };
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => Error::new(
            code::engine::TARGET_RUNNING,
            format!("another check of {} is running", data.display()),
        ),
        error => failed("lock", &path)(error.into()),
    })?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed("read", &path))?;
    let text: Text = serde_json::from_str(&text).map_err(|error| failed("read", &path)(error.into()))?;
    end_orphan(data)?;
    if fs::symlink_metadata(data.join(STANDBY)).is_err() {
        return Err(foreign("it is no standby any more: somebody has started it"));
    }
    Ok(Prepared {
        preload: text.preload,
        _lock: file,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_a_prepared_directory_is_taken_and_only_once() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let is = |code| take(&data).is_err_and(|error| error.is(code));
        assert!(is(code::engine::NOT_A_DRILL), "there is no directory");
        fs::create_dir(&data).unwrap();
        fs::write(data.join(STANDBY), "").unwrap();
        assert!(is(code::engine::NOT_A_DRILL), "a standby of somebody's own");
        let layout = Layout {
            data: data.clone(),
            tablespaces: BTreeMap::new(),
            wal: None,
            configuration: None,
            owner: None,
        };
        let preload = Kept::from([("a.b".to_owned(), "c".to_owned())]);
        mark(&layout, &preload).unwrap();
        let taken = take(&data).unwrap();
        assert_eq!(taken.preload, preload);
        assert!(is(code::engine::TARGET_RUNNING));
        drop(taken);
        take(&data).unwrap();
        fs::remove_file(data.join(STANDBY)).unwrap();
        assert!(is(code::engine::NOT_A_DRILL), "it was promoted");
    }
}

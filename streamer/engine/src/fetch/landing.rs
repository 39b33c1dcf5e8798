//! The file beside a destination in which bytes arrive, until it is whole and takes the destination's name.
//!
//! Its writer holds a lock on it, which ends with the writer: so whoever comes next can tell what a killed process left
//! from what another one is writing now. A process id could not: it is given again, and means nothing in another
//! container. Where the file system knows no locks, nothing is ever removed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hardstorage_report::Result;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::failed;

/// Between the name of a destination and the process that writes it.
const MARK: &str = ".pg_hardstorage.";

/// A file that is being written. Dropped before it is placed, it leaves nothing.
#[derive(Debug)]
pub(super) struct Landing {
    file: File,
    temporary: PathBuf,
    placed: bool,
}

/// A name beside a destination that PostgreSQL does not look for.
fn beside(destination: &Path) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    destination.with_file_name(format!("{name}{MARK}{}", std::process::id()))
}

fn is_beside(name: &str) -> bool {
    name.rsplit_once(MARK)
        .is_some_and(|(_, process)| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Landing {
    /// Begins an empty file beside its destination. Blocks while another process of the same number writes it.
    pub(super) fn begin(destination: &Path) -> Result<Landing> {
        let temporary = beside(destination);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&temporary)
                .map_err(failed("create", &temporary))?;
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(failed("lock", &temporary)(error.into())),
            }
            // Between creation and lock somebody may have taken it for a leftover, or have put it into its place.
            if is_at(&file, &temporary)? {
                file.set_len(0).map_err(failed("empty", &temporary))?;
                return Ok(Landing {
                    file,
                    temporary,
                    placed: false,
                });
            }
        }
    }

    /// Where to write; the lock lasts as long as any of its handles.
    pub(super) fn file(&self) -> Result<File> {
        self.file.try_clone().map_err(failed("open", &self.temporary))
    }

    /// Gives it the destination's name.
    pub(super) fn place(mut self, destination: &Path) -> Result<()> {
        fs::rename(&self.temporary, destination).map_err(failed("rename to", destination))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next fetch.
        if !self.placed && fs::remove_file(&self.temporary).is_err() {
            tracing::debug!("{} stays", self.temporary.display());
        }
    }
}

/// Whether a path still leads to this open file.
fn is_at(file: &File, path: &Path) -> Result<bool> {
    let open = file.metadata().map_err(failed("look at", path))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// Removes what killed processes left beside a destination. That it cannot is no reason to refuse a file to PostgreSQL.
pub fn remove_leftovers(destination: &Path) {
    // A bare name lies in the current directory.
    let folder = match destination.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(is_beside);
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        match remove_if_dead(&path) {
            Ok(true) => tracing::info!("removed {}, which a killed fetch had left", path.display()),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a leftover of a killed fetch stays"),
        }
    }
}

fn remove_if_dead(path: &Path) -> Result<bool> {
    let Ok(file) = OpenOptions::new().write(true).open(path) else {
        return Ok(false);
    };
    // Whoever writes it holds the lock.
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || !is_at(&file, path)? {
        return Ok(false);
    }
    fs::remove_file(path).map_err(failed("remove", path))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use std::io::Write as _;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_nobody_writes_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("RECOVERYXLOG");
        let foreign = [
            "RECOVERYXLOG",
            "a.pg_hardstorage.",
            "b.pg_hardstorage.1x",
            "000000010000000000000001",
        ];
        for name in foreign
            .iter()
            .chain(&["RECOVERYXLOG.pg_hardstorage.1", "RECOVERYHISTORY.pg_hardstorage.77"])
        {
            fs::write(folder.path().join(name), b"half").unwrap();
        }
        let mut live = Landing::begin(&destination).unwrap();
        live.file.write_all(b"whole").unwrap();
        remove_leftovers(&destination);
        let mut left: Vec<String> = foreign.iter().map(|name| (*name).to_owned()).collect();
        left.push(live.temporary.file_name().unwrap().to_str().unwrap().to_owned());
        left.sort();
        assert_eq!(names(folder.path()), left);

        live.place(&destination).unwrap();
        assert_eq!(fs::read(&destination).unwrap(), b"whole");
        remove_leftovers(&destination);
        assert_eq!(names(folder.path()).len(), foreign.len());
    }

    #[test]
    fn a_leftover_of_the_same_number_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("RECOVERYXLOG");
        fs::write(beside(&destination), b"longer than what comes").unwrap();
        let landing = Landing::begin(&destination).unwrap();
        landing.file().unwrap().write_all(b"short").unwrap();
        landing.place(&destination).unwrap();
        assert_eq!(fs::read(&destination).unwrap(), b"short");
        drop(Landing::begin(&destination).unwrap());
        assert_eq!(
            names(folder.path()),
            ["RECOVERYXLOG"],
            "what was not finished is not there"
        );
    }

    #[test]
    fn a_cleaner_and_a_writer_at_once_never_lose_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("RECOVERYXLOG");
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    remove_leftovers(&destination);
                }
            });
            for round in 0..500 {
                let landing = Landing::begin(&destination).unwrap();
                landing
                    .file()
                    .unwrap()
                    .write_all(format!("{round}").as_bytes())
                    .unwrap();
                landing.place(&destination).unwrap();
                assert_eq!(fs::read_to_string(&destination).unwrap(), round.to_string());
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}

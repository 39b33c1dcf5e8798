//! The marker of a running restore: one file in each place that only one restore can make, and that says whose it is.
//!
//! A restore that a scheduler runs has an id, and the marker holds it. When its process is killed, the next one with the
//! same id may empty the place and begin anew: what lies beside such a marker was written by that restore, because the
//! marker was made in an empty place and is removed last. Nothing else is ever emptied. When everything was restored the
//! marker in the data directory also holds the result, so that whoever was killed while the markers were removed is
//! followed by one that only ends it.
//!
//! Whoever works holds a lock on the marker: a second process with the same id, on a node that was taken for lost, stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hardstorage_report::{Error, RestoreReport, Result, code};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};

use super::directory::failed;

/// The marker's name: PostgreSQL has no file like it.
pub const MARKER: &str = ".pg_hardstorage.restore";

/// Whose a marker is.
#[derive(Debug, PartialEq)]
pub(super) enum Whose {
    /// There is none.
    Nobody,
    /// Another restore's, or one without an id.
    Another,
    /// Ours, and the restore was not done.
    Ours,
    /// Ours, and everything was restored.
    Done(Box<RestoreReport>),
}

/// Looks, and changes nothing.
pub(super) fn whose(directory: &Path, id: Option<&str>) -> io::Result<Whose> {
    let path = directory.join(MARKER);
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let mut file = match options.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Whose::Nobody),
        Err(error) => return Err(error),
    };
    read(&mut file, id)
}

fn read(file: &mut File, id: Option<&str>) -> io::Result<Whose> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let Some(rest) = id.and_then(|id| text.strip_prefix(format!("{id}\n").as_bytes())) else {
        return Ok(Whose::Another);
    };
    // Half a result is none: it is made durable before the first marker goes.
    Ok(serde_json::from_slice(rest).map_or(Whose::Ours, |report| Whose::Done(Box::new(report))))
}

/// "Somebody else restores there".
pub(super) fn taken(path: &Path) -> Error {
    Error::new(
        code::engine::TARGET_NOT_EMPTY,
        format!("a restore into {} is running, or was killed", path.display()),
    )
    .hint("wait for it; if none runs, remove what it left, or choose another directory")
}

/// A marker of ours, locked for as long as the value lives.
#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
    file: File,
}

impl Marker {
    /// Makes one. It appears whole, with its id; there is none yet, or that is an error.
    pub(super) fn create(directory: &Path, id: Option<&str>) -> Result<Marker> {
        let path = directory.join(MARKER);
        let content = id.map(|id| format!("{id}\n")).unwrap_or_default();
        let made = made(directory, &path, content.as_bytes());
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(directory),
            _ => failed("create", &path, error),
        })?;
        Ok(Marker { path, file })
    }

    /// Takes over the one that an earlier process of this restore has left, and tells whether that one was done.
    pub(super) fn take_over(directory: &Path, id: &str) -> Result<(Marker, Option<RestoreReport>)> {
        let path = directory.join(MARKER);
        let look = |error: io::Error| failed("look at", &path, error);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .append(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let mut file = options.open(&path).map_err(look)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken(directory)),
            Err(error) => return Err(failed("lock", &path, error.into())),
        }
        // Until the lock was ours its owner may have removed it, and another may have made one.
        let (ours, there) = (
            file.metadata().map_err(look)?,
            fs::symlink_metadata(&path).map_err(look)?,
        );
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return Err(taken(directory));
        }
        match read(&mut file, Some(id)).map_err(look)? {
            Whose::Ours => Ok((Marker { path, file }, None)),
            Whose::Done(report) => Ok((Marker { path, file }, Some(*report))),
            Whose::Nobody | Whose::Another => Err(taken(directory)),
        }
    }

    /// Adds the result, durably.
    pub(super) fn done(&self, report: &RestoreReport) -> Result<()> {
        let text = serde_json::to_vec(report)
            .map_err(|error| Error::new(code::cli::INTERNAL, "write the result of the restore").source(error))?;
        let mut file = &self.file;
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .map_err(|error| failed("write", &self.path, error))
    }

    /// Removes it. One that is gone is fine.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A file that gets its name only when its content is durable, where the file system can do that.
fn made(directory: &Path, path: &Path, content: &[u8]) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC;
    let unnamed = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR).map(File::from);
    // NFS, and what else has no files without a name.
    let named = unnamed.is_err();
    let file = unnamed.or_else(|_| {
        let mut options = OpenOptions::new();
        options.append(true).read(true).create_new(true).mode(0o600).open(path)
    })?;
    // Nobody can have it yet; where locks are unknown the name alone has to do.
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    if locked == Err(rustix::io::Errno::WOULDBLOCK) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    (&file).write_all(content)?;
    file.sync_all()?;
    if !named {
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    }
    File::open(directory)?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_marker_is_its_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path();
        assert_eq!(whose(directory, Some("run-1")).unwrap(), Whose::Nobody);
        let first = Marker::create(directory, Some("run-1")).unwrap();
        assert!(Marker::create(directory, Some("run-1")).is_err(), "it is there");
        assert!(Marker::take_over(directory, "run-1").is_err(), "its owner lives");
        drop(first);
        for other in ["run-2", "run", "run-11", ""] {
            assert_eq!(whose(directory, Some(other)).unwrap(), Whose::Another, "{other}");
            assert!(Marker::take_over(directory, other).is_err(), "{other}");
        }
        assert_eq!(whose(directory, None).unwrap(), Whose::Another);
        assert_eq!(whose(directory, Some("run-1")).unwrap(), Whose::Ours);
        let (second, done) = Marker::take_over(directory, "run-1").unwrap();
        assert_eq!(done, None);
        second.remove().unwrap();
        assert_eq!(whose(directory, Some("run-1")).unwrap(), Whose::Nobody);

        // One without an id is nobody's to take over.
        drop(Marker::create(directory, None).unwrap());
        assert_eq!(whose(directory, Some("run-1")).unwrap(), Whose::Another);
        assert!(Marker::take_over(directory, "").is_err());
    }

    #[test]
    fn a_link_is_no_marker() {
        let place = tempfile::tempdir().unwrap();
        let elsewhere = place.path().join("elsewhere");
        fs::write(&elsewhere, "run-1\n").unwrap();
        std::os::unix::fs::symlink(&elsewhere, place.path().join(MARKER)).unwrap();
        assert!(whose(place.path(), Some("run-1")).is_err());
        assert!(Marker::take_over(place.path(), "run-1").is_err());
    }
}

//! The marker of a running restore: one file in each place that only one restore can make, and that says whose it is.
//!
//! A restore that a scheduler runs has an id, and the marker holds it. When its process is killed, the next one with the
//! same id may empty the place and begin anew: what lies beside such a marker was written by that restore, because the
//! marker was made in an empty place and is removed last. Nothing else is ever emptied. When everything was restored the
//! marker in the data directory also holds the result, so that whoever was killed while the markers were removed is
//! followed by one that only ends it.
//!
//! The marker also names the backup, the cluster and the moment, so that a person can let a killed restore go on where it
//! was ([`super::onto`]); the last line that names them counts.
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
use super::onto::Unfinished;

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

/// What a marker says.
struct Content {
    /// Empty for a restore without one.
    id: String,
    unfinished: Option<Unfinished>,
    done: Option<RestoreReport>,
}

/// `None` when not even its first line is whole.
fn content(file: &mut File) -> io::Result<Option<Content>> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let mut lines = text.split(|byte| *byte == b'\n');
    let (Some(id), Some(rest)) = (lines.next(), lines.next()) else {
        return Ok(None);
    };
    let mut content = Content {
        id: String::from_utf8_lossy(id).into_owned(),
        unfinished: None,
        done: None,
    };
    // Half a line is none: what it tells is made durable before anything follows from it.
    for line in std::iter::once(rest).chain(lines) {
        match serde_json::from_slice(line) {
            Ok(unfinished) => content.unfinished = Some(unfinished),
            Err(_) => content.done = serde_json::from_slice(line).ok().or(content.done),
        }
    }
    Ok(Some(content))
}

fn read(file: &mut File, id: Option<&str>) -> io::Result<Whose> {
    let id = id.filter(|id| !id.is_empty());
    let Some(content) = content(file)?.filter(|content| Some(content.id.as_str()) == id) else {
        return Ok(Whose::Another);
    };
    Ok(content.done.map_or(Whose::Ours, |report| Whose::Done(Box::new(report))))
}

/// The id and the restore that a marker names; looks, and changes nothing. `None` for half a marker.
pub(super) fn left(directory: &Path) -> io::Result<Option<(String, Option<Unfinished>)>> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let found = content(&mut options.open(directory.join(MARKER))?)?;
    Ok(found.map(|content| (content.id, content.unfinished)))
}

/// "Somebody else restores there".
pub(super) fn taken(path: &Path) -> Error {
    Error::new(
        code::engine::TARGET_NOT_EMPTY,
        format!("a restore into {} is running, or was killed", path.display()),
    )
    .hint("wait for it; if none runs, the same line with --resume goes on; or remove what it left, or choose another directory")
}

/// A marker of ours, locked for as long as the value lives.
#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
    file: File,
}

impl Marker {
    /// Makes one. It appears whole, with its id; there is none yet, or that is an error.
    pub(super) fn create(directory: &Path, id: Option<&str>, restore: Option<&Unfinished>) -> Result<Marker> {
        let path = directory.join(MARKER);
        let mut content = format!("{}\n", id.unwrap_or_default());
        if let Some(restore) = restore {
            content.push_str(&line(restore)?);
        }
        let made = made(directory, &path, content.as_bytes());
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(directory),
            _ => failed("create", &path, error),
        })?;
        Ok(Marker { path, file })
    }

    /// Takes over the one that an earlier process of this restore has left, and tells whether that one was done.
    pub(super) fn take_over(directory: &Path, id: &str) -> Result<(Marker, Option<RestoreReport>)> {
        let mut marker = Marker::lock(directory)?;
        let found = read(&mut marker.file, Some(id)).map_err(|error| failed("look at", &marker.path, error))?;
        match found {
            Whose::Ours => Ok((marker, None)),
            Whose::Done(report) => Ok((marker, Some(*report))),
            Whose::Nobody | Whose::Another => Err(taken(directory)),
        }
    }

    /// Takes over one that a killed restore has left, whatever it says: the caller has looked, and looks again.
    pub(super) fn resume(directory: &Path) -> Result<Marker> {
        Marker::lock(directory)
    }

    /// Lets it name another restore from now on, durably.
    pub(super) fn tell(&self, restore: &Unfinished) -> Result<()> {
        self.append(line(restore)?.as_bytes())
    }

    fn lock(directory: &Path) -> Result<Marker> {
        let path = directory.join(MARKER);
        let look = |error: io::Error| failed("look at", &path, error);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .append(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = options.open(&path).map_err(look)?;
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
        Ok(Marker { path, file })
    }

    /// Adds the result, durably.
    pub(super) fn done(&self, report: &RestoreReport) -> Result<()> {
        let text = serde_json::to_vec(report)
            .map_err(|error| Error::new(code::cli::INTERNAL, "write the result of the restore").source(error))?;
        self.append(&text)
    }

    fn append(&self, text: &[u8]) -> Result<()> {
        let mut file = &self.file;
        file.write_all(text)
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

fn line(restore: &Unfinished) -> Result<String> {
    let text = serde_json::to_string(restore)
        .map_err(|error| Error::new(code::cli::INTERNAL, "write the marker of the restore").source(error))?;
    Ok(format!("{text}\n"))
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
        let first = Marker::create(directory, Some("run-1"), None).unwrap();
        assert!(Marker::create(directory, Some("run-1"), None).is_err(), "it is there");
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
        drop(Marker::create(directory, None, None).unwrap());
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

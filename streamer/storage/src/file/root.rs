//! The root directory, held open from the first moment to the last.
//!
//! Everything is done relative to the descriptor and never by path, so a volume that is unmounted under a running
//! process cannot turn into the empty directory below its mount point: a write would be acknowledged there and hidden
//! by the next mount, and a read would call every object absent. While the descriptor is held, a plain `umount` answers
//! that the volume is in use; a lazy one leaves the descriptor on the right file system.
//!
//! Others find the repository by its path, though: a restore, another machine. So a write, the barrier and every answer
//! "not there" count only while the path leads to the directory of the descriptor ([`Root::check`]). What is read is
//! read: objects never change, and a restore under way may go on.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hardstorage_report::{Error, Result, code};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::disk;
use super::durability::Durability;
use super::failure::{Doing, failed};
use crate::{Key, trial};

/// What the closures on the blocking pool share.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
    directory: OwnedFd,
}

impl Root {
    /// Opens the directory. With `create` it may be made (mode 0700), with its parents.
    pub(super) fn open(path: PathBuf, create: bool) -> Result<Root> {
        if create {
            make(&path)?;
        }
        // PATH: who may only write here need not be able to list.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| failed(errno, &Doing::root("open", &path)))?;
        trial::opened(directory.as_fd());
        Ok(Root {
            path,
            durability: Durability::default(),
            directory,
        })
    }

    /// What names are relative to.
    pub(super) fn at(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Fails unless the path still leads to the directory that is held.
    pub(super) fn check(&self) -> Result<()> {
        let failed = |errno| failed(errno, &Doing::root("look at", &self.path));
        let replaced = |what: &str| {
            let message = format!(
                "{} is no longer the directory that was opened: {what}",
                self.path.display()
            );
            Err(Error::new(code::storage::ROOT_REPLACED, message))
        };
        let found = match rustix::fs::stat(&self.path) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return replaced("it is gone"),
            Err(errno) => return Err(failed(errno)),
        };
        // Both are asked each time: no file system that numbers its files anew can then look like another one. A number
        // cannot be given to another directory as long as this one is held.
        let held = match rustix::fs::fstat(&self.directory) {
            Ok(held) => held,
            Err(Errno::STALE) => return replaced("its server does not know it any more"),
            Err(errno) => return Err(failed(errno)),
        };
        if (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino) {
            Ok(())
        } else {
            replaced("another one is there")
        }
    }

    /// Opens an object for reading, or `None` when it is proven not to be there.
    pub(super) fn read(&self, key: &Key) -> Result<Option<(File, Stat)>> {
        let failed = |errno| failed(errno, &Doing::object("read", key));
        // NONBLOCK: a pipe of that name must not hold the thread for ever.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(self.at(), key.as_str(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.check()?;
                return Ok(None);
            }
            Err(errno) => return Err(failed(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if is_file(&stat) {
            return Ok(Some((File::from(file), stat)));
        }
        self.check()?;
        Ok(None)
    }

    /// Looks at an object, or `None` when it is proven not to be there.
    pub(super) fn look(&self, key: &Key) -> Result<Option<Stat>> {
        match rustix::fs::statat(self.at(), key.as_str(), AtFlags::empty()) {
            Ok(stat) if is_file(&stat) => Ok(Some(stat)),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {
                self.check()?;
                Ok(None)
            }
            Err(errno) => Err(failed(errno, &Doing::object("look at", key))),
        }
    }
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Makes the root and its parents, and makes their names durable: `repo init` must not vanish in a power cut.
fn make(path: &Path) -> Result<()> {
    let mut missing = Vec::new();
    let mut at = path;
    while let Err(Errno::NOENT) = rustix::fs::stat(at) {
        missing.push(at);
        match at.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    for directory in missing.iter().rev() {
        // Only the root is ours alone: a private parent would lock others out of their own directories.
        let mode = if *directory == path { 0o700 } else { 0o755 };
        match disk::make_folder(CWD, directory, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno, &Doing::root("create", directory))),
        }
    }
    // Those that were there too: an attempt before this one may have made them and been cut off.
    for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let synced =
            rustix::fs::openat(CWD, parent, flags, Mode::empty()).and_then(|parent| disk::sync(parent.as_fd()));
        let made_in = missing.iter().any(|made| made.parent() == Some(parent));
        match synced {
            Ok(()) => {}
            // Where we may not read, nobody like us has made anything.
            Err(Errno::ACCESS | Errno::PERM) if !made_in => {}
            Err(errno) => return Err(failed(errno, &Doing::root("sync", parent))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_path_must_lead_to_what_is_held() {
        let parent = tempfile::tempdir().unwrap();
        let (path, away) = (parent.path().join("root"), parent.path().join("away"));
        let root = Root::open(path.clone(), true).unwrap();
        root.check().unwrap();
        let replaced = || root.check().unwrap_err().is(code::storage::ROOT_REPLACED);
        std::fs::rename(&path, &away).unwrap();
        assert!(replaced(), "moved away");
        std::fs::create_dir(&path).unwrap();
        assert!(replaced(), "another one in its place");
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(&away, &path).unwrap();
        root.check().unwrap();
        std::fs::remove_dir(&away).unwrap();
        assert!(replaced(), "removed");
        // A file system gives the number of a removed directory to the next one, but not while it is held.
        for _ in 0..100 {
            std::fs::create_dir(&away).unwrap();
            assert!(replaced(), "removed and made again");
            std::fs::remove_dir(&away).unwrap();
        }
    }
}

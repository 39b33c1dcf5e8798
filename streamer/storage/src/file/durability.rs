//! Which directories have names in them that a power cut could still take, and the barrier that ends this.
//!
//! The bytes of an object are synced before it gets its name; the name lives in a directory, and that directory's own
//! name in the one above, up to the root. Every change therefore marks the whole chain, and [`Durability::barrier`]
//! syncs each marked directory once, however many objects were created in it. [`Durability::confirm`] does the same
//! for objects that another may have made.
//!
//! Another process may create or remove directories at any time, so nothing is remembered as durable across barriers.
//! Syncing an unchanged directory is nearly free; a wrong memory would cost a backup.
//!
//! A failed fsync is remembered for as long as the store is open. The kernel reports a failed write-back once, and a
//! second fsync would then succeed over lost data; so from there on no barrier and no confirmation succeeds. A directory
//! that could not even be opened has lost nothing, and stays marked for the next barrier.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hardstorage_report::{Error, Result, Retry, code};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Root;
use super::failure::{Doing, failed};
use crate::Key;

/// How a file or directory is synced: a parameter, because no file system fails when a test wants it to.
type Fsync = dyn Fn(BorrowedFd<'_>) -> Result<(), Errno> + Send + Sync;

pub(super) struct Durability {
    /// Folders relative to the root, which is the empty one.
    changed: Mutex<BTreeSet<String>>,
    /// Held through a barrier: a second one that finds nothing marked must still wait for the first to succeed.
    /// Holds the first failure of an fsync.
    barrier: Mutex<Option<String>>,
    fsync: Box<Fsync>,
}

impl fmt::Debug for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durability")
            .field("changed", &self.changed)
            .field("barrier", &self.barrier)
            .finish_non_exhaustive()
    }
}

impl Default for Durability {
    fn default() -> Durability {
        Durability::with(sync_file)
    }
}

impl Durability {
    pub(super) fn with(fsync: impl Fn(BorrowedFd<'_>) -> Result<(), Errno> + Send + Sync + 'static) -> Durability {
        Durability {
            changed: Mutex::default(),
            barrier: Mutex::default(),
            fsync: Box::new(fsync),
        }
    }

    fn marks(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of this object was made, found or removed.
    pub(super) fn changed(&self, key: &Key) {
        let mut marks = self.marks();
        let mut name = key.as_str();
        while !name.is_empty() {
            name = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            // When a folder is marked, so are all above it.
            if !marks.insert(name.to_owned()) {
                break;
            }
        }
    }

    /// Returns when every name marked before the call is on disk.
    pub(super) fn barrier(&self, root: &Root) -> Result<()> {
        let mut broken = self.begin()?;
        self.flush(root, &mut broken)
    }

    /// Returns when these objects are on disk, names and bytes, whoever made them.
    pub(super) fn confirm(&self, root: &Root, keys: &[Key]) -> Result<()> {
        let mut broken = self.begin()?;
        for key in keys {
            let doing = Doing::object("confirm", key);
            let not_there = || Error::new(code::storage::OBJECT, format!("{doing}: not there"));
            let (file, _) = root.read(key)?.ok_or_else(not_there)?;
            self.fsync(file.as_fd(), &doing, &mut broken)?;
            self.changed(key);
        }
        self.flush(root, &mut broken)
    }

    /// Waits for the barrier before, and fails when one has ever failed.
    fn begin(&self) -> Result<MutexGuard<'_, Option<String>>> {
        // One that panicked has taken its marks with it.
        let broken = self
            .barrier
            .lock()
            .map_err(|_| Error::new(code::storage::IO, "an earlier sync ended before its time"))?;
        match broken.as_deref() {
            Some(message) => Err(Error::new(
                code::storage::IO,
                format!("an earlier sync failed: {message}"),
            )),
            None => Ok(broken),
        }
    }

    fn flush(&self, root: &Root, broken: &mut Option<String>) -> Result<()> {
        let mut marked = std::mem::take(&mut *self.marks());
        // Deepest first.
        while let Some(folder) = marked.pop_last() {
            let name = if folder.is_empty() { "." } else { &folder };
            let doing = Doing::folder("sync", name);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::openat(root.at(), name, flags, Mode::empty()) {
                Ok(directory) => self.fsync(directory.as_fd(), &doing, broken)?,
                // A removed directory has no names to keep.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => {
                    marked.insert(folder);
                    self.marks().append(&mut marked);
                    return Err(failed(errno, &doing));
                }
            }
        }
        Ok(())
    }

    fn fsync(&self, file: BorrowedFd<'_>, doing: &Doing, broken: &mut Option<String>) -> Result<()> {
        (self.fsync)(file).map_err(|errno| {
            let error = failed(errno, doing);
            *broken = Some(error.to_string());
            error.retry(Retry::Never)
        })
    }
}

/// Makes the bytes of a file or the names in a directory durable.
pub(super) fn sync_file(file: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fsync(file) {
        // Some network and FUSE file systems know no fsync of a directory; the whole file system then.
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => rustix::fs::syncfs(file),
        result => result,
    }
}

#[cfg(test)]
mod tests;

//! Which directories have names in them that a power cut could still take, and the barrier that ends this.
//!
//! The bytes of an object are synced before it gets its name; the name lives in a directory, and that directory's own
//! name in the one above, up to the root. Every change therefore marks the whole chain, and [`Durability::barrier`]
//! syncs each marked directory once, however many objects were created in it. [`Durability::confirm`] does the same
//! for objects that another may have made.
//!
//! Another process may create or remove directories at any time, so no *name* is remembered as durable across barriers;
//! a wrong memory would cost a backup. What is remembered is a few directories themselves ([`settled`]): one that was
//! synced with its whole chain is held open, and as long as its path leads to that very directory nobody has removed it,
//! so the chain above needs no sync for a new name in it. On a fast disk the chain would cost more than the object.
//!
//! A failed fsync is remembered for as long as the store is open. The kernel reports a failed write-back once, and a
//! second fsync would then succeed over lost data; so from there on no barrier and no confirmation succeeds. A directory
//! that could not even be opened has lost nothing, and stays marked for the next barrier.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hardstorage_report::{Error, Result, Retry, code};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::failure::{Doing, failed};
use super::settled::Settled;
use super::{Root, disk};
use crate::Key;

/// How a file or directory is synced: a parameter, because no file system fails when a test wants it to.
type Fsync = dyn Fn(BorrowedFd<'_>) -> Result<(), Errno> + Send + Sync;

pub(super) struct Durability {
    /// Folders relative to the root, which is the empty one, and for each whether a name in it is marked that is not
    /// only the one of a marked folder.
    changed: Mutex<BTreeMap<String, bool>>,
    /// Held through a barrier: a second one that finds nothing marked must still wait for the first to succeed.
    barrier: Mutex<Past>,
    fsync: Box<Fsync>,
}

/// What barriers leave behind.
#[derive(Debug, Default)]
struct Past {
    /// The first failure of an fsync.
    broken: Option<String>,
    settled: Settled,
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
        Durability::with(disk::sync)
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

    fn marks(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of this object was made, found or removed.
    pub(super) fn changed(&self, key: &Key) {
        let mut marks = self.marks();
        let mut name = parent(key.as_str());
        let known = marks.insert(name.to_owned(), true).is_some();
        // When a folder is marked, so are all above it.
        while !known && !name.is_empty() {
            name = parent(name);
            if marks.contains_key(name) {
                break;
            }
            marks.insert(name.to_owned(), false);
        }
    }

    /// Returns when every name marked before the call is on disk.
    pub(super) fn barrier(&self, root: &Root) -> Result<()> {
        let mut past = self.begin()?;
        self.flush(root, &mut past)
    }

    /// Returns when these objects are on disk, names and bytes, whoever made them.
    pub(super) fn confirm(&self, root: &Root, keys: &[Key]) -> Result<()> {
        let mut past = self.begin()?;
        for key in keys {
            let doing = Doing::object("confirm", key);
            let not_there = || Error::new(code::storage::OBJECT, format!("{doing}: not there"));
            let (file, _) = root.read(key)?.ok_or_else(not_there)?;
            self.fsync(file.as_fd(), &doing, &mut past.broken)?;
            self.changed(key);
        }
        self.flush(root, &mut past)
    }

    /// Waits for the barrier before, and fails when one has ever failed.
    fn begin(&self) -> Result<MutexGuard<'_, Past>> {
        // One that panicked has taken its marks with it.
        let past = self
            .barrier
            .lock()
            .map_err(|_| Error::new(code::storage::IO, "an earlier sync ended before its time"))?;
        match past.broken.as_deref() {
            Some(message) => Err(Error::new(
                code::storage::IO,
                format!("an earlier sync failed: {message}"),
            )),
            None => Ok(past),
        }
    }

    fn flush(&self, root: &Root, past: &mut Past) -> Result<()> {
        let mut marked = std::mem::take(&mut *self.marks());
        let needed = past.settled.needed(root, &marked);
        let mut synced = Vec::new();
        // Deepest first.
        while let Some((folder, changed)) = marked.pop_last() {
            if !needed.contains(&folder) {
                continue;
            }
            let name = if folder.is_empty() { "." } else { &folder };
            let doing = Doing::folder("sync", name);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::openat(root.at(), name, flags, Mode::empty()) {
                Ok(directory) => {
                    self.fsync(directory.as_fd(), &doing, &mut past.broken)?;
                    if changed {
                        synced.push((folder, directory));
                    }
                }
                // A removed directory has no names to keep.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => {
                    marked.insert(folder, changed);
                    // Those that were synced before this one are not remembered: their chain may not be.
                    self.mark_again(marked);
                    return Err(failed(errno, &doing));
                }
            }
        }
        past.settled.remember(synced);
        Ok(())
    }

    fn mark_again(&self, marked: BTreeMap<String, bool>) {
        let mut marks = self.marks();
        for (folder, changed) in marked {
            *marks.entry(folder).or_default() |= changed;
        }
    }

    fn fsync(&self, file: BorrowedFd<'_>, doing: &Doing, broken: &mut Option<String>) -> Result<()> {
        (self.fsync)(file).map_err(|errno| {
            let error = failed(errno, doing);
            *broken = Some(error.to_string());
            error.retry(Retry::Never)
        })
    }
}

/// The folder of an object or a folder; the root is the empty one.
pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests;

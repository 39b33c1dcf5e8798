//! Which directories have names in them that a power cut could still take, and the barrier that ends this.
//!
//! The bytes of an object are synced before it gets its name; the name lives in a directory, and that directory's own
//! name in the one above, up to the root. Every change therefore marks the whole chain, and [`Durability::barrier`]
//! syncs each marked directory once, however many objects were created in it.
//!
//! Another process may create or remove directories at any time, so nothing is remembered as durable across barriers.
//! Syncing an unchanged directory is nearly free; a wrong memory would cost a backup.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hardstorage_report::{Error, Result, code};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::failure::{Doing, failed};

#[derive(Debug, Default)]
pub(super) struct Durability {
    changed: Mutex<BTreeSet<PathBuf>>,
    /// Held through a barrier: a second one that finds nothing marked must still wait for the first to succeed.
    /// Holds the first failure of an fsync, after which no barrier can promise anything.
    barrier: Mutex<Option<String>>,
}

impl Durability {
    /// The name `path` was made, found or removed.
    pub(super) fn changed(&self, root: &Path, path: &Path) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        for directory in path.ancestors().skip(1) {
            // When a directory is marked, so are all above it.
            if !changed.insert(directory.to_path_buf()) || directory == root {
                break;
            }
        }
    }

    /// Syncs a file that another may have written. Its failure is one of the barrier too.
    pub(super) fn keep(&self, file: &std::fs::File, key: &crate::Key) -> Result<()> {
        let mut broken = self.barrier.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::fs::fsync(file).map_err(|errno| {
            let error = failed(errno, &Doing::object("sync", key));
            broken.get_or_insert_with(|| error.to_string());
            error.retry(hardstorage_report::Retry::Never)
        })
    }

    /// Returns when every name marked before the call is on disk.
    pub(super) fn barrier(&self) -> Result<()> {
        let mut broken = self.barrier.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(message) = broken.as_deref() {
            return Err(Error::new(
                code::storage::IO,
                format!("an earlier sync failed: {message}"),
            ));
        }
        let mut marked = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        // Deepest first.
        while let Some(directory) = marked.pop_last() {
            match sync_directory(&directory) {
                // A removed directory has no names to keep.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => {
                    let error = failed(errno, &Doing::root("sync", &directory));
                    if matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR) {
                        // Not opened, so nothing is lost yet: the next barrier does it.
                        marked.insert(directory);
                        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
                        changed.append(&mut marked);
                        return Err(error);
                    }
                    // The kernel reports a failed write-back once, and a second fsync would then succeed over lost data.
                    *broken = Some(error.to_string());
                    return Err(error.retry(hardstorage_report::Retry::Never));
                }
            }
        }
        Ok(())
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    match rustix::fs::fsync(&directory) {
        // Some network and FUSE file systems know no fsync of a directory; the whole file system then.
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => rustix::fs::syncfs(&directory),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn marks_the_chain_up_to_the_root_once() {
        let root = tempfile::tempdir().unwrap();
        let durability = Durability::default();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        durability.changed(root.path(), &root.path().join("a/b/one"));
        durability.changed(root.path(), &root.path().join("a/b/two"));
        let marked: Vec<_> = durability.changed.lock().unwrap().iter().cloned().collect();
        assert_eq!(
            marked,
            [
                root.path().to_path_buf(),
                root.path().join("a"),
                root.path().join("a/b")
            ]
        );
        durability.barrier().unwrap();
        assert!(durability.changed.lock().unwrap().is_empty());
    }

    #[test]
    fn a_removed_directory_is_no_failure() {
        let root = tempfile::tempdir().unwrap();
        let durability = Durability::default();
        durability.changed(root.path(), &root.path().join("gone/one"));
        durability.barrier().unwrap();
    }

    #[test]
    fn after_a_failure_no_barrier_succeeds() {
        let root = tempfile::tempdir().unwrap();
        let durability = Durability::default();
        // A link that leads to itself: opening it fails with an error that cannot be waited out.
        std::os::unix::fs::symlink("loop", root.path().join("loop")).unwrap();
        durability.changed(root.path(), &root.path().join("loop/one"));
        assert!(durability.barrier().is_err());
        std::fs::remove_file(root.path().join("loop")).unwrap();
        assert!(durability.barrier().unwrap_err().to_string().contains("earlier sync"));
    }
}

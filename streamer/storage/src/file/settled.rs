//! Directories whose whole chain of names up to the root is known to be on disk.
//!
//! A directory that is held open keeps its number, and one that was removed never comes back: whoever makes the folder
//! anew makes another directory. So when a path leads to the directory that is held, every name on the way is still the
//! one that was synced, and a new name in it needs a sync of this directory alone. Whoever moves a directory away and
//! back again by hand decides about it himself.
//!
//! Few are held: a stream writes into one folder for a long time, a backup into hundreds for a moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;

use super::Root;
use super::durability::parent;

/// How many are held.
const HELD: usize = 16;

/// Which ones.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The one that was used last at the end.
    folders: VecDeque<(String, OwnedFd)>,
}

impl Settled {
    /// Which of the marked folders have to be synced: those with a new name in them, and above each that is not settled
    /// the whole chain.
    pub(super) fn needed(&mut self, root: &Root, marked: &BTreeMap<String, bool>) -> BTreeSet<String> {
        let mut needed = BTreeSet::new();
        for folder in marked.iter().filter(|(_, changed)| **changed).map(|(folder, _)| folder) {
            needed.insert(folder.clone());
            if self.holds(root, folder) {
                continue;
            }
            let mut name = folder.as_str();
            while !name.is_empty() {
                name = parent(name);
                needed.insert(name.to_owned());
            }
        }
        needed
    }

    /// Whether the path leads to a directory that is settled.
    fn holds(&mut self, root: &Root, folder: &str) -> bool {
        let Some(at) = self.folders.iter().position(|(name, _)| name == folder) else {
            return false;
        };
        let Some((name, held)) = self.folders.remove(at) else {
            return false;
        };
        let same = match (
            rustix::fs::statat(root.at(), folder, AtFlags::empty()),
            rustix::fs::fstat(&held),
        ) {
            (Ok(there), Ok(held)) => (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino),
            // A path that cannot be followed is met again when it is synced.
            _ => false,
        };
        if same {
            self.folders.push_back((name, held));
        }
        same
    }

    /// These were synced, and then everything above them.
    pub(super) fn remember(&mut self, synced: Vec<(String, OwnedFd)>) {
        for (folder, directory) in synced.into_iter().filter(|(folder, _)| !folder.is_empty()) {
            if self.folders.iter().all(|(name, _)| *name != folder) {
                self.folders.push_back((folder, directory));
            }
        }
        while self.folders.len() > HELD {
            self.folders.pop_front();
        }
    }
}

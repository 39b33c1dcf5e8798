//! The places of a restore, claimed before the first byte is written.
//!
//! Two restores may find the same directory empty. Each makes a marker in it that only one can make, and then looks
//! again whether the marker is alone: who has made it and found nothing else owns what comes after, and may remove it
//! when the restore fails. Without the claim nothing is removed, and nothing where a server runs.
//!
//! A restore with an id may empty what an earlier process with that id has left, by its marker: see `marker.rs`.
//!
//! Each place is also opened here. `syncfs` tells of a write that failed only through a descriptor that is older than
//! the failure, and only since Linux 5.8 and where the file system keeps its own superblock's errors; elsewhere every
//! file is synced by itself.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hardstorage_report::{Error, RestoreReport, Result, code};

use super::directory::{Layout, failed};
use super::marker::{MARKER, Marker, Whose, whose};
use super::onto::Unfinished;
use crate::recover::end_orphan;

/// `EXT4_SUPER_MAGIC`, `XFS_SUPER_MAGIC`, `BTRFS_SUPER_MAGIC`, `TMPFS_MAGIC`.
const TELLING: [u64; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994];

/// The data directory and every place outside of it, as long as the restore runs.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) data: PathBuf,
    /// The data directory is the first.
    pub(super) roots: Vec<Root>,
    /// Made over places that may hold files.
    pub(super) covers: bool,
    /// What an earlier process of this restore had done already.
    done: Option<RestoreReport>,
}

#[derive(Debug)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    /// Whether the directory was made for this restore.
    pub(super) made: bool,
    /// Whether an earlier process has left it, with its marker.
    pub(super) taken_over: bool,
    /// Whether files are in it that stay until they are written over.
    pub(super) covered: bool,
    pub(super) directory: File,
    pub(super) marker: Marker,
}

impl Claim {
    /// Makes the places with what is missing above them, and claims them all, or none. What an earlier process with the
    /// same id has left in them is removed once all are claimed.
    pub(super) fn take(layout: &Layout, id: Option<&str>, restore: Option<&Unfinished>) -> Result<Claim> {
        let mut claim = Claim::of(layout);
        // A place inside the data directory is claimed with it.
        let inside = |path: &Path| path != layout.data && path.starts_with(&layout.data);
        let claimed = layout
            .places()
            .filter(|path| !inside(path))
            .try_for_each(|path| claim.add(layout, path, id, restore));
        let ready = claimed.and_then(|()| {
            if claim.done.is_some() {
                return Ok(());
            }
            claim.empty()?;
            layout
                .tablespaces
                .values()
                .filter(|path| inside(path))
                .try_for_each(|path| {
                    make(layout, path)?;
                    own(layout, path)
                })
        });
        match ready {
            Ok(()) => Ok(claim),
            Err(error) => {
                claim.give_back();
                Err(error)
            }
        }
    }

    pub(super) fn of(layout: &Layout) -> Claim {
        Claim {
            data: layout.data.clone(),
            roots: Vec::new(),
            covers: false,
            done: None,
        }
    }

    fn add(&mut self, layout: &Layout, path: &Path, id: Option<&str>, restore: Option<&Unfinished>) -> Result<()> {
        match id.map_or(Ok(None), |id| left(path, id))? {
            Some((root, done)) => {
                if path == layout.data {
                    self.done = done;
                }
                self.roots.push(root);
            }
            // Its marker is gone already.
            None if self.done.is_some() => return Ok(()),
            None => self.roots.push(Root::take(layout, path, id, restore)?),
        }
        own(layout, path)
    }

    /// What an earlier process of this restore had done, when only its end is missing.
    pub(super) fn done(&self) -> Option<&RestoreReport> {
        self.done.as_ref()
    }

    /// Removes what an earlier process has left.
    fn empty(&self) -> Result<()> {
        if self.roots.first().is_some_and(|data| data.taken_over) {
            end_orphan(&self.data)?;
        }
        for root in self.roots.iter().filter(|root| root.taken_over) {
            self.no_server()
                .and_then(|()| root.empty())
                .map_err(|error| failed("empty", &root.path, error))?;
        }
        Ok(())
    }

    /// Ends a claim that was not completed: what an earlier process has left stays as it is.
    pub(super) fn give_back(&self) {
        for root in self.roots.iter().filter(|root| !root.taken_over) {
            let undone = if root.covered {
                root.marker.remove()
            } else {
                root.undo()
            };
            if let Err(error) = undone {
                tracing::warn!(%error, "the claim on {} could not be given back", root.path.display());
            }
        }
    }

    /// Whether every file must be synced by itself, because a failed write might not be told otherwise.
    pub(super) fn needs_each_file_synced(&self) -> Result<bool> {
        if !kernel_tells(&rustix::system::uname().release().to_string_lossy()) {
            return Ok(true);
        }
        for root in &self.roots {
            let about = rustix::fs::fstatfs(&root.directory)
                .map_err(|error| failed("ask for the file system of", &root.path, error.into()))?;
            if !TELLING.contains(&(about.f_type as u64)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes everything written so far durable: one call for each place.
    pub(super) fn sync(&self) -> Result<()> {
        for root in &self.roots {
            rustix::fs::syncfs(&root.directory).map_err(|error| failed("sync", &root.path, error.into()))?;
        }
        Ok(())
    }

    /// Remembers the result, so that whoever follows when this process is killed has only to end the claim.
    pub(super) fn remember(&self, report: &RestoreReport) -> Result<()> {
        self.roots.first().map_or(Ok(()), |data| data.marker.done(report))
    }

    /// Ends the claim and leaves what was restored. The data directory's marker goes last.
    pub(super) fn release(&self) -> Result<()> {
        for root in self.roots.iter().rev() {
            root.marker
                .remove()
                .and_then(|()| root.directory.sync_all())
                .map_err(|error| failed("remove the marker in", &root.path, error))?;
        }
        Ok(())
    }

    /// Removes everything that the restore wrote, and the places themselves when they were made for it.
    pub(super) fn undo(&self) -> io::Result<()> {
        self.no_server()?;
        let mut first = Ok(());
        for root in &self.roots {
            first = first.and(root.undo());
        }
        first
    }

    pub(super) fn no_server(&self) -> io::Result<()> {
        let pid = self.data.join("postmaster.pid");
        if pid.symlink_metadata().is_ok() {
            return Err(io::Error::other(format!(
                "{} is there: nothing is removed under a server",
                pid.display()
            )));
        }
        Ok(())
    }
}

/// A place that bears the marker of an earlier process of this restore.
fn left(path: &Path, id: &str) -> Result<Option<(Root, Option<RestoreReport>)>> {
    match whose(path, Some(id)) {
        Ok(Whose::Ours | Whose::Done(_)) => {}
        // Whatever else is wrong with it, a claim says.
        Ok(Whose::Nobody | Whose::Another) | Err(_) => return Ok(None),
    }
    let (marker, done) = Marker::take_over(path, id)?;
    let root = Root {
        path: path.to_owned(),
        made: false,
        taken_over: true,
        covered: false,
        directory: File::open(path).map_err(|error| failed("open", path, error))?,
        marker,
    };
    Ok(Some((root, done)))
}

impl Root {
    pub(super) fn take(layout: &Layout, path: &Path, id: Option<&str>, restore: Option<&Unfinished>) -> Result<Root> {
        let made = make(layout, path)?;
        let directory = File::open(path).map_err(|error| failed("open", path, error))?;
        let root = Root {
            path: path.to_owned(),
            made,
            taken_over: false,
            covered: false,
            directory,
            marker: Marker::create(path, id, restore)?,
        };
        // Another restore may have come and gone since the place was seen empty.
        let refused = match root.is_empty() {
            Ok(true) => return Ok(root),
            Ok(false) => Error::new(
                code::engine::TARGET_NOT_EMPTY,
                format!("{} is not empty any more", path.display()),
            ),
            Err(error) => failed("look at", path, error),
        };
        match root.marker.remove() {
            Ok(()) => Err(refused),
            Err(error) => Err(failed("remove the marker in", path, error)),
        }
    }

    /// Whether the marker is alone.
    fn is_empty(&self) -> io::Result<bool> {
        for entry in fs::read_dir(&self.path)? {
            if entry?.file_name() != MARKER {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes everything but the marker.
    fn empty(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() == MARKER {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        self.directory.sync_all()
    }

    /// The marker goes last: until then nobody else takes the place for an empty one.
    fn undo(&self) -> io::Result<()> {
        self.empty()?;
        self.marker.remove()?;
        if self.made { fs::remove_dir(&self.path) } else { Ok(()) }
    }
}

/// Makes a directory and what is missing above it; whether it was missing itself.
pub(super) fn make(layout: &Layout, path: &Path) -> Result<bool> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    let mut made = false;
    while let Some(directory) = missing.pop() {
        match DirBuilder::new().mode(0o700).create(directory) {
            Ok(()) => {
                layout.give(directory)?;
                made = directory == path;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            Err(error) => return Err(failed("make", directory, error)),
        }
    }
    Ok(made)
}

/// Makes a claimed place what PostgreSQL wants: its owner's alone.
pub(super) fn own(layout: &Layout, path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(|error| failed("set the mode of", path, error))?;
    layout.give(path)
}

/// Whether `syncfs` of this kernel tells of failed writes: Linux 5.8 and later.
fn kernel_tells(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 8)
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;

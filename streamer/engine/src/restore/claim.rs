//! The places of a restore, claimed before the first byte is written.
//!
//! Two restores may find the same directory empty. Each makes a marker in it that only one can make, and then looks
//! again whether the marker is alone: who has made it and found nothing else owns what comes after, and may remove it
//! when the restore fails. Without the claim nothing is removed, and nothing where a server runs.
//!
//! Each place is also opened here. `syncfs` tells of a write that failed only through a descriptor that is older than
//! the failure, and only since Linux 5.8 and where the file system keeps its own superblock's errors; elsewhere every
//! file is synced by itself.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hardstorage_report::{Error, Result, code};

use super::directory::{Layout, failed};

/// The marker's name: PostgreSQL has no file like it.
pub(crate) const MARKER: &str = ".pg_hardstorage.restore";

/// `EXT4_SUPER_MAGIC`, `XFS_SUPER_MAGIC`, `BTRFS_SUPER_MAGIC`, `TMPFS_MAGIC`.
const TELLING: [u64; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994];

/// The data directory and every place outside of it, as long as the restore runs.
#[derive(Debug)]
pub(super) struct Claim {
    data: PathBuf,
    roots: Vec<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Whether the directory was made for this restore.
    made: bool,
    directory: File,
}

impl Claim {
    /// Makes the places with what is missing above them, and claims them all, or none.
    pub(super) fn take(layout: &Layout) -> Result<Claim> {
        let mut claim = Claim {
            data: layout.data.clone(),
            roots: Vec::new(),
        };
        for path in layout.places() {
            // A place inside the data directory is claimed with it.
            let inside = path != &layout.data && path.starts_with(&layout.data);
            let taken = if inside {
                make(layout, path).map(|_| None)
            } else {
                Root::take(layout, path).map(Some)
            };
            let ready = taken.and_then(|root| {
                claim.roots.extend(root);
                own(layout, path)
            });
            if let Err(error) = ready {
                if let Err(other) = claim.undo() {
                    tracing::warn!(error = %other, "a claim on the restore's places could not be given back");
                }
                return Err(error);
            }
        }
        Ok(claim)
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

    /// Ends the claim and leaves what was restored.
    pub(super) fn release(&self) -> Result<()> {
        for root in &self.roots {
            let marker = root.path.join(MARKER);
            fs::remove_file(&marker).map_err(|error| failed("remove", &marker, error))?;
            root.directory
                .sync_all()
                .map_err(|error| failed("sync", &root.path, error))?;
        }
        Ok(())
    }

    /// Removes everything that the restore wrote, and the places themselves when they were made for it.
    pub(super) fn undo(&self) -> io::Result<()> {
        let pid = self.data.join("postmaster.pid");
        if pid.symlink_metadata().is_ok() {
            return Err(io::Error::other(format!(
                "{} is there: nothing is removed under a server",
                pid.display()
            )));
        }
        let mut first = Ok(());
        for root in &self.roots {
            first = first.and(root.undo());
        }
        first
    }
}

impl Root {
    fn take(layout: &Layout, path: &Path) -> Result<Root> {
        let made = make(layout, path)?;
        let directory = File::open(path).map_err(|error| failed("open", path, error))?;
        let marker = path.join(MARKER);
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&marker);
        created.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(path),
            _ => failed("create", &marker, error),
        })?;
        let root = Root {
            path: path.to_owned(),
            made,
            directory,
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
        match fs::remove_file(&marker) {
            Ok(()) => Err(refused),
            Err(error) => Err(failed("remove", &marker, error)),
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

    /// The marker goes last: until then nobody else takes the place for an empty one.
    fn undo(&self) -> io::Result<()> {
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
        match fs::remove_file(self.path.join(MARKER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if self.made { fs::remove_dir(&self.path) } else { Ok(()) }
    }
}

/// "Somebody else restores there".
pub(super) fn taken(path: &Path) -> Error {
    Error::new(
        code::engine::TARGET_NOT_EMPTY,
        format!("a restore into {} is running, or was killed", path.display()),
    )
    .hint("wait for it; if none runs, remove what it left, or choose another directory")
}

/// Makes a directory and what is missing above it; whether it was missing itself.
fn make(layout: &Layout, path: &Path) -> Result<bool> {
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
fn own(layout: &Layout, path: &Path) -> Result<()> {
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeMap;

    use super::*;

    fn layout(data: &Path, space: &Path) -> Layout {
        Layout {
            data: data.to_owned(),
            tablespaces: BTreeMap::from([(7, space.to_owned()), (8, data.join("pg_tblspc/8"))]),
            wal: None,
            owner: None,
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn one_of_two_gets_a_place_and_the_other_leaves_it_alone() {
        let root = tempfile::tempdir().unwrap();
        let (data, space) = (root.path().join("data"), root.path().join("space"));
        let first = Claim::take(&layout(&data, &space)).unwrap();
        fs::write(data.join("PG_VERSION"), "18").unwrap();
        // Once by the data directory, once by the tablespace alone.
        let other = root.path().join("deep/other");
        for second in [&data, &other] {
            let error = Claim::take(&layout(second, &space)).unwrap_err();
            assert!(error.is(code::engine::TARGET_NOT_EMPTY), "{error}");
        }
        assert!(!other.exists() && root.path().join("deep").exists());
        assert_eq!(names(&data), [MARKER, "PG_VERSION", "pg_tblspc"]);
        first.sync().unwrap();
        first.release().unwrap();
        assert_eq!(names(&data), ["PG_VERSION", "pg_tblspc"]);
        assert_eq!(names(&space), [""; 0]);
        // The place was seen empty before, and is taken and given back since.
        assert!(Claim::take(&layout(&data, &root.path().join("new"))).is_err());
        assert_eq!(names(&data), ["PG_VERSION", "pg_tblspc"]);
    }

    #[test]
    fn a_failed_restore_leaves_a_place_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let (data, space) = (root.path().join("data"), root.path().join("space"));
        fs::create_dir(&space).unwrap();
        let claim = Claim::take(&layout(&data, &space)).unwrap();
        fs::create_dir(data.join("base")).unwrap();
        fs::write(data.join("base/1"), "x").unwrap();
        fs::write(space.join("2"), "x").unwrap();
        fs::write(data.join("postmaster.pid"), "1").unwrap();
        assert!(claim.undo().is_err(), "a server may run there");
        assert!(data.join("base/1").exists() && space.join("2").exists());
        fs::remove_file(data.join("postmaster.pid")).unwrap();
        claim.undo().unwrap();
        assert!(!data.exists());
        assert_eq!(names(&space), [""; 0]);
    }

    #[test]
    fn kernels_that_tell_of_failed_writes() {
        for (release, tells) in [
            ("5.8.0-63-generic", true),
            ("6.1.0", true),
            ("10.0", true),
            ("5.7.19", false),
            ("4.18.0-553.el8_10.x86_64", false),
            ("", false),
        ] {
            assert_eq!(kernel_tells(release), tells, "{release}");
        }
    }
}

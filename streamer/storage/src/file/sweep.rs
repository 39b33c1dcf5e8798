//! What killed writers left: temporary files under no object's name, removed once nobody has written to them for long.
//!
//! - Only names that [`temporary_name`](super::staged::temporary_name) makes, only regular files, and only in folders
//!   that a key can have.
//! - No link is ever followed: each folder is opened by its name within the one above. What lies behind a link is let be.
//! - Age is measured by the file system's own clock, as everything is that compares with its times.
//! - A file that became an object and kept its temporary name too (its writer died in between) loses that name only; its
//!   bytes are the object's and do not come back.
//! - A folder that held nothing else goes as well, as it does with its last object.

use std::os::fd::{AsFd, BorrowedFd};

use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::failure::{Doing, failed};
use super::{Root, disk, modified, now, staged};
use crate::{Key, SweepRequest, Swept};

pub(super) fn sweep(root: &Root, request: &SweepRequest) -> Result<Swept> {
    let mut sweep = Sweep {
        now: now(root)?,
        request,
        swept: Swept::default(),
    };
    sweep.folder(root.at(), ".", "")?;
    root.check()?;
    Ok(sweep.swept)
}

struct Sweep<'a> {
    now: Timestamp,
    request: &'a SweepRequest,
    swept: Swept,
}

/// Gone, or another thing than it was a moment ago.
fn changed(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

impl Sweep<'_> {
    /// Goes through a folder, `name` in the one above and `path` from the root (empty, or with a slash at its end).
    /// Whether something was removed in it.
    fn folder(&mut self, above: BorrowedFd<'_>, name: &str, path: &str) -> Result<bool> {
        let shown = if path.is_empty() { "." } else { path };
        let failed = |errno| failed(errno, &Doing::folder("sweep", shown));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::openat(above, name, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(errno) if changed(errno) => return Ok(false),
            Err(errno) => return Err(failed(errno)),
        };
        let at = directory.as_fd();
        let (mut temporary, mut folders) = (Vec::new(), Vec::new());
        for entry in Dir::read_from(at).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let kind = entry.file_type();
            if staged::is_temporary(name) {
                temporary.push(name.to_owned());
            } else if matches!(kind, FileType::Directory | FileType::Unknown)
                && Key::new(format!("{path}{name}")).is_ok()
            {
                folders.push(name.to_owned());
            }
        }
        let mut removed = false;
        for name in temporary {
            removed |= self.file(at, &name, path)?;
        }
        for name in folders {
            if self.folder(at, &name, &format!("{path}{name}/"))? {
                removed = true;
                // Any failure means that it is in use or may stay.
                let _ = disk::remove_folder(at, &name);
            }
        }
        Ok(removed)
    }

    /// Whether it was removed.
    fn file(&mut self, at: BorrowedFd<'_>, name: &str, path: &str) -> Result<bool> {
        let doing = || Doing::folder("sweep", &format!("{path}{name}"));
        let stat = match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) if changed(errno) => return Ok(false),
            Err(errno) => return Err(failed(errno, &doing())),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !self.is_old(&stat, path, &doing)? {
            return Ok(false);
        }
        if self.request.apply {
            match disk::remove(at, name) {
                Ok(()) => {}
                Err(errno) if changed(errno) => return Ok(false),
                Err(errno) => return Err(failed(errno, &doing())),
            }
        }
        self.swept.count += 1;
        if stat.st_nlink == 1 {
            self.swept.bytes += stat.st_size as u64;
        }
        Ok(self.request.apply)
    }

    fn is_old(&self, stat: &Stat, path: &str, doing: &impl Fn() -> Doing) -> Result<bool> {
        let modified = modified(stat).ok_or_else(|| {
            let message = format!("{}: its time is out of range", doing());
            Error::new(code::storage::IO, message)
        })?;
        Ok(self.request.takes(path, modified, self.now))
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;

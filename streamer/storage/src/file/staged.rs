//! An object that has bytes but no name yet.
//!
//! Written under a hidden temporary name in its final directory, synced, checked for its length, and then linked to its
//! name. Dropping it before removes the temporary file. An fsync error is never answered by a second fsync of the same
//! file: the caller writes a new one.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use hardstorage_report::{Error, Result, Retry, code};
use rustix::fs::{Advice, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Root;
use super::failure::{Doing, failed, failed_io};
use crate::{Created, Key};

/// Bytes after which write-back is started, so that the final sync finds little left to do.
const WRITEBACK: u64 = 8 << 20;
/// How often to remake a folder that another process removes as empty at the same moment.
const FOLDER_TRIES: u32 = 100;

pub(super) struct Staged {
    file: File,
    key: Key,
    temporary: PathBuf,
    target: PathBuf,
    length: u64,
    started: u64,
    named: bool,
}

/// A name that no key can have.
pub(super) fn temporary_name(directory: &Path) -> PathBuf {
    directory.join(format!(".tmp-{:032x}", rand::random::<u128>()))
}

pub(super) fn create_exclusive(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map(File::from)
}

fn make_folders(root: &Root, key: &Key) -> Result<()> {
    let mut at = root.path.clone();
    let Some((folders, _)) = key.as_str().rsplit_once('/') else {
        return root.check_root();
    };
    for folder in folders.split('/') {
        at.push(folder);
        match rustix::fs::mkdir(&at, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => root.check_root()?,
            Err(errno) => return Err(failed(errno, &Doing::object("write", key))),
        }
    }
    Ok(())
}

impl Staged {
    /// Starts an object, or `None` when its name is taken already.
    pub(super) fn create(root: &Root, key: &Key) -> Result<Option<Staged>> {
        let target = root.locate(key);
        let directory = target.parent().unwrap_or(&root.path);
        let doing = || Doing::object("write", key);
        match rustix::fs::lstat(&target) {
            Ok(_) => {
                // Another process may have created it and not synced its name yet: our barrier covers it.
                root.durability.changed(&root.path, &target);
                return Ok(None);
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno, &doing())),
        }
        for _ in 0..FOLDER_TRIES {
            let temporary = temporary_name(directory);
            match create_exclusive(&temporary) {
                Ok(file) => {
                    return Ok(Some(Staged {
                        file,
                        key: key.clone(),
                        temporary,
                        target,
                        length: 0,
                        started: 0,
                        named: false,
                    }));
                }
                Err(Errno::NOENT) => make_folders(root, key)?,
                Err(errno) => return Err(failed(errno, &doing())),
            }
        }
        Err(Error::new(
            code::storage::IO,
            format!("write {key}: its folder is removed again and again"),
        )
        .retry(Retry::Later))
    }

    /// Appends the parts and empties them.
    pub(super) fn write(&mut self, parts: &mut [Bytes]) -> Result<()> {
        let mut first = 0;
        while let Some(rest) = parts.get_mut(first..).filter(|rest| !rest.is_empty()) {
            let slices: Vec<IoSlice<'_>> = rest.iter().take(1000).map(|part| IoSlice::new(part)).collect();
            let mut written = match self.file.write_vectored(&slices) {
                Ok(0) if rest.iter().any(|part| !part.is_empty()) => {
                    let message = format!("write {}: the file takes no bytes", self.key);
                    return Err(Error::new(code::storage::IO, message));
                }
                Ok(written) => written,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed_io(&error, &Doing::object("write", &self.key))),
            };
            self.length += written as u64;
            for part in rest.iter_mut() {
                let taken = written.min(part.len());
                part.advance(taken);
                written -= taken;
                if !part.is_empty() {
                    break;
                }
                *part = Bytes::new();
                first += 1;
            }
            self.start_writeback();
        }
        Ok(())
    }

    /// DONTNEED starts the write-back of dirty pages and drops none of them (Linux's sync_file_range in effect). A file
    /// system that does not do so only makes the sync longer, so the answer does not matter.
    fn start_writeback(&mut self) {
        if self.length - self.started >= WRITEBACK {
            let length = std::num::NonZeroU64::new(self.length - self.started);
            let _ = rustix::fs::fadvise(&self.file, self.started, length, Advice::DontNeed);
            self.started = self.length;
        }
    }

    /// Syncs the bytes and gives them their name, unless it is taken.
    pub(super) fn publish(mut self, root: &Root) -> Result<Created> {
        let doing = Doing::object("write", &self.key);
        rustix::fs::fdatasync(&self.file).map_err(|errno| failed(errno, &doing))?;
        let meta = self.file.metadata().map_err(|error| failed_io(&error, &doing))?;
        if meta.len() != self.length {
            let message = format!("{doing}: {} bytes written, {} in the file", self.length, meta.len());
            return Err(Error::new(code::storage::CORRUPT, message).retry(Retry::Now));
        }
        let created = self.name(&meta, &doing)?;
        root.durability.changed(&root.path, &self.target);
        Ok(created)
    }

    fn name(&mut self, meta: &std::fs::Metadata, doing: &Doing) -> Result<Created> {
        match rustix::fs::link(&self.temporary, &self.target) {
            Ok(()) => Ok(Created::Created),
            Err(Errno::EXIST) => {
                let there = std::fs::symlink_metadata(&self.target).map_err(|error| failed_io(&error, doing))?;
                if there.is_dir() {
                    return Err(Error::new(
                        code::storage::IO,
                        format!("{doing}: a folder has this name"),
                    ));
                }
                // A network mount may do the link, lose the answer and ask again.
                let ours = there.dev() == meta.dev() && there.ino() == meta.ino();
                Ok(if ours { Created::Created } else { Created::Exists })
            }
            Err(Errno::PERM | Errno::NOTSUP | Errno::MLINK | Errno::NOSYS | Errno::INVAL) => self.rename(doing),
            Err(errno) => Err(failed(errno, doing)),
        }
    }

    /// For file systems without hard links.
    fn rename(&mut self, doing: &Doing) -> Result<Created> {
        match rustix::fs::renameat_with(CWD, &self.temporary, CWD, &self.target, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.named = true;
                Ok(Created::Created)
            }
            Err(Errno::EXIST) => Ok(Created::Exists),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Err(Error::new(
                code::storage::IO,
                format!("{doing}: this file system has neither hard links nor a rename that never replaces"),
            )
            .hint("use a file system with hard links for the repository")),
            Err(errno) => Err(failed(errno, doing)),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.named {
            // Left behind, it is invisible and harmless; the collector removes old ones.
            let _ = rustix::fs::unlink(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::file::durability::Durability;

    fn root(path: &Path) -> Root {
        Root {
            path: path.to_path_buf(),
            page: 10,
            durability: Durability::default(),
        }
    }

    fn staged(root: &Root, key: &str, body: &[&'static [u8]]) -> Staged {
        let mut staged = Staged::create(root, &Key::new(key).unwrap()).unwrap().unwrap();
        let mut parts: Vec<Bytes> = body.iter().map(|part| Bytes::from_static(part)).collect();
        staged.write(&mut parts).unwrap();
        staged
    }

    #[test]
    fn rename_is_create_only_too() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(directory.path());
        let doing = Doing::object("write", &Key::new("x/a").unwrap());
        let mut first = staged(&root, "x/a", &[b"first"]);
        let mut second = staged(&root, "x/a", &[b"second"]);
        assert_eq!(first.rename(&doing).unwrap(), Created::Created);
        assert_eq!(second.rename(&doing).unwrap(), Created::Exists);
        drop((first, second));
        assert_eq!(std::fs::read(directory.path().join("x/a")).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(directory.path().join("x")).unwrap().count(), 1);
    }

    #[test]
    fn a_link_that_was_done_before_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(directory.path());
        let staged = staged(&root, "a", &[b"bytes"]);
        rustix::fs::link(&staged.temporary, &staged.target).unwrap();
        assert_eq!(staged.publish(&root).unwrap(), Created::Created);
    }

    #[test]
    fn parts_are_joined_and_empty_ones_do_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(directory.path());
        staged(&root, "a", &[b"", b"one", b"", b"two", b""])
            .publish(&root)
            .unwrap();
        assert_eq!(std::fs::read(directory.path().join("a")).unwrap(), b"onetwo");
        staged(&root, "b", &[b""]).publish(&root).unwrap();
        assert_eq!(std::fs::read(directory.path().join("b")).unwrap(), b"");
    }

    #[test]
    fn a_file_that_lost_bytes_gets_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(directory.path());
        let staged = staged(&root, "a", &[b"bytes"]);
        staged.file.set_len(2).unwrap();
        assert!(staged.publish(&root).unwrap_err().is(code::storage::CORRUPT));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

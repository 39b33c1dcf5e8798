//! An object that has bytes but no name yet.
//!
//! Written under a hidden temporary name in its final directory, synced, checked for its length, and then linked to its
//! name. Dropping it before removes the temporary file. An fsync error is never answered by a second fsync of the same
//! file: the caller writes a new one.

use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use hardstorage_report::{Error, Result, Retry, code};
use rustix::fs::{Advice, AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::failure::{Doing, failed, failed_io};
use super::{Root, disk};
use crate::{Created, Key};

/// Bytes after which write-back is started, so that the final sync finds little left to do.
const WRITEBACK: u64 = 8 << 20;
/// How temporary names begin.
const TEMPORARY: &str = ".tmp-";
/// How often to remake a folder that another process removes as empty at the same moment.
const FOLDER_TRIES: u32 = 100;

pub(super) struct Staged {
    root: Arc<Root>,
    file: File,
    key: Key,
    /// Relative to the root, as the key is.
    temporary: String,
    length: u64,
    started: u64,
    named: bool,
}

fn folder_of(key: &Key) -> &str {
    key.as_str().rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A name in this folder of the root (the empty one: in the root itself) that no key can have.
pub(super) fn temporary_name(folder: &str) -> String {
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}{TEMPORARY}{:032x}", rand::random::<u128>())
}

/// Whether a name within its folder is one of those.
pub(super) fn is_temporary(name: &str) -> bool {
    let random = name.strip_prefix(TEMPORARY);
    random.is_some_and(|random| {
        random.len() == 32 && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Makes the folders of a key below the root, and never the root.
fn make_folders(root: &Root, key: &Key) -> Result<()> {
    let folders = key
        .as_str()
        .match_indices('/')
        .filter_map(|(end, _)| key.as_str().get(..end));
    for folder in folders {
        match disk::make_folder(root.at(), folder, 0o700) {
            Ok(()) | Err(Errno::EXIST) => {}
            // The one above was removed as empty just now, or the root is gone.
            Err(Errno::NOENT) => root.check()?,
            Err(errno) => return Err(failed(errno, &Doing::object("write", key))),
        }
    }
    Ok(())
}

impl Staged {
    /// Starts an object, or `None` when its name is taken already.
    pub(super) fn create(root: &Arc<Root>, key: &Key) -> Result<Option<Staged>> {
        let doing = || Doing::object("write", key);
        let there = match rustix::fs::statat(root.at(), key.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => true,
            Err(Errno::NOENT) => false,
            Err(errno) => return Err(failed(errno, &doing())),
        };
        root.check()?;
        if there {
            // Another process may have created it and not synced its name yet: our barrier covers it.
            root.durability.changed(key);
            return Ok(None);
        }
        for _ in 0..FOLDER_TRIES {
            let temporary = temporary_name(folder_of(key));
            match disk::create(root.at(), &temporary) {
                Ok(file) => {
                    return Ok(Some(Staged {
                        root: root.clone(),
                        file,
                        key: key.clone(),
                        temporary,
                        length: 0,
                        started: 0,
                        named: false,
                    }));
                }
                Err(Errno::NOENT) => {
                    root.check()?;
                    make_folders(root, key)?;
                }
                Err(errno) => return Err(failed(errno, &doing())),
            }
        }
        Err(Error::new(
            code::storage::IO,
            format!("write {key}: its folder is removed again and again"),
        )
        .retry(Retry::Later))
    }

    /// The file itself, for whoever goes on to write behind what is published.
    pub(super) fn another_handle(&self) -> Result<File> {
        self.file
            .try_clone()
            .map_err(|error| failed_io(&error, &Doing::object("write", &self.key)))
    }

    /// Appends the parts and empties them.
    pub(super) fn write(&mut self, parts: &mut [Bytes]) -> Result<()> {
        let mut first = 0;
        while let Some(rest) = parts.get_mut(first..).filter(|rest| !rest.is_empty()) {
            let slices: Vec<IoSlice<'_>> = rest.iter().take(1000).map(|part| IoSlice::new(part)).collect();
            let mut written = match disk::write(&self.file, self.length, &slices) {
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
    pub(super) fn publish(mut self) -> Result<Created> {
        let doing = Doing::object("write", &self.key);
        disk::sync_bytes(&self.file).map_err(|errno| failed(errno, &doing))?;
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| failed(errno, &doing))?;
        if stat.st_size as u64 != self.length {
            let message = format!("{doing}: {} bytes written, {} in the file", self.length, stat.st_size);
            return Err(Error::new(code::storage::CORRUPT, message).retry(Retry::Now));
        }
        let created = self.name(&stat, &doing);
        self.root.durability.changed(&self.key);
        // A name in a directory that nobody finds any more is no object; and when the directory was removed, that is
        // why the name could not be given.
        self.root.check()?;
        created
    }

    fn name(&mut self, ours: &Stat, doing: &Doing) -> Result<Created> {
        let (at, key) = (self.root.at(), self.key.as_str());
        match disk::link(at, &self.temporary, key) {
            Ok(()) => Ok(Created::Created),
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(at, key, AtFlags::SYMLINK_NOFOLLOW);
                let there = there.map_err(|errno| failed(errno, doing))?;
                if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
                    return Err(Error::new(
                        code::storage::IO,
                        format!("{doing}: a folder has this name"),
                    ));
                }
                // A network mount may do the link, lose the answer and ask again.
                let same = (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino);
                Ok(if same { Created::Created } else { Created::Exists })
            }
            Err(Errno::PERM | Errno::NOTSUP | Errno::MLINK | Errno::NOSYS | Errno::INVAL) => self.rename(doing),
            Err(Errno::NOENT) => Err(swept(doing)),
            Err(errno) => Err(failed(errno, doing)),
        }
    }

    /// For file systems without hard links.
    fn rename(&mut self, doing: &Doing) -> Result<Created> {
        let (at, key) = (self.root.at(), self.key.as_str());
        match disk::rename_new(at, &self.temporary, key) {
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
            Err(Errno::NOENT) => Err(swept(doing)),
            Err(errno) => Err(failed(errno, doing)),
        }
    }
}

/// This writer paused for so long that it was taken for dead. Who still has the bytes may write them anew.
fn swept(doing: &Doing) -> Error {
    let message = format!("{doing}: its temporary file was removed before it got its name");
    Error::new(code::storage::IO, message).retry(Retry::Now)
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.named {
            // Left behind, it is invisible and harmless; a sweep removes it once it is old.
            let _ = disk::remove(self.root.at(), &self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::path::Path;

    fn root(path: &Path) -> Arc<Root> {
        Arc::new(Root::open(path.to_path_buf(), false).unwrap())
    }

    fn staged(root: &Arc<Root>, key: &str, body: &[&'static [u8]]) -> Staged {
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
        std::fs::hard_link(directory.path().join(&staged.temporary), directory.path().join("a")).unwrap();
        assert_eq!(staged.publish().unwrap(), Created::Created);
    }

    #[test]
    fn parts_are_joined_and_empty_ones_do_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(directory.path());
        staged(&root, "a", &[b"", b"one", b"", b"two", b""]).publish().unwrap();
        assert_eq!(std::fs::read(directory.path().join("a")).unwrap(), b"onetwo");
        staged(&root, "b", &[b""]).publish().unwrap();
        assert_eq!(std::fs::read(directory.path().join("b")).unwrap(), b"");
    }

    #[test]
    fn a_file_that_lost_bytes_gets_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(directory.path());
        let staged = staged(&root, "a", &[b"bytes"]);
        staged.file.set_len(2).unwrap();
        assert!(staged.publish().unwrap_err().is(code::storage::CORRUPT));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

//! Listing: the directory tree in bytewise order of keys, from any place, page by page.
//!
//! A directory sorts as its name with a slash, because that is how the keys below it sort. One level's names are held
//! for each level on the path from the root, and sizes are asked only for what goes onto the page.

use hardstorage_report::Result;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::failure::{Doing, failed};
use super::{Root, modified};
use crate::{Key, ListRequest, Listing, ObjectMeta};

/// A page of at most `limit` entries.
pub(super) fn list(root: &Root, request: &ListRequest, limit: usize) -> Result<Listing> {
    request.folder()?;
    let mut page = Page {
        root,
        limit,
        after: request.after.as_deref(),
        shallow: request.shallow,
        last: None,
        listing: Listing::default(),
    };
    if matches!(page.level(&request.prefix)?, Level::Full) {
        page.listing.next = page.last;
    }
    // A page says of every name that is not on it that it is not there.
    root.check()?;
    Ok(page.listing)
}

struct Page<'a> {
    root: &'a Root,
    limit: usize,
    after: Option<&'a str>,
    shallow: bool,
    last: Option<String>,
    listing: Listing,
}

enum Level {
    Done,
    /// There is more than fits.
    Full,
}

/// A name of one level: a key, or a folder with its slash.
struct Entry {
    name: String,
    folder: bool,
}

/// The entries of a folder (the empty one: of the root) in order; none when it is not there.
fn entries(root: &Root, folder: &str) -> Result<Vec<Entry>> {
    let path = folder.strip_suffix('/').unwrap_or(".");
    let failed = |errno| failed(errno, &Doing::folder("list", path));
    let missing = |errno| matches!(errno, Errno::NOENT | Errno::NOTDIR);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(root.at(), path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(errno) if missing(errno) => return Ok(Vec::new()),
        Err(errno) => return Err(failed(errno)),
    };
    let mut entries = Vec::new();
    for entry in Dir::new(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        // Temporary files, lost+found and whatever else is no key.
        let mut name = format!("{folder}{name}");
        if Key::new(name.as_str()).is_err() {
            continue;
        }
        let mut kind = entry.file_type();
        if matches!(kind, FileType::Symlink | FileType::Unknown) {
            kind = match rustix::fs::statat(root.at(), &name, AtFlags::empty()) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(errno) if missing(errno) => continue,
                Err(errno) => return Err(failed(errno)),
            };
        }
        let folder = kind == FileType::Directory;
        if folder {
            name.push('/');
        } else if kind != FileType::RegularFile {
            continue;
        }
        entries.push(Entry { name, folder });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

impl Page<'_> {
    fn full(&self) -> bool {
        self.listing.objects.len() + self.listing.folders.len() >= self.limit
    }

    fn level(&mut self, folder: &str) -> Result<Level> {
        for entry in entries(self.root, folder)? {
            let name = entry.name;
            let passed = self.after.is_some_and(|after| name.as_str() <= after);
            if entry.folder && !self.shallow {
                // Keys below may still come after, when `after` is one of them.
                if passed && !self.after.is_some_and(|after| after.starts_with(&name)) {
                    continue;
                }
                if matches!(self.level(&name)?, Level::Full) {
                    return Ok(Level::Full);
                }
                continue;
            }
            if passed {
                continue;
            }
            if entry.folder {
                if !holds_object(self.root, &name)? {
                    continue;
                }
                if self.full() {
                    return Ok(Level::Full);
                }
                self.listing.folders.push(name.clone());
            } else {
                let Ok(key) = Key::new(name.as_str()) else {
                    continue;
                };
                // Removed since the directory was read, if it is not there.
                let Some(stat) = self.root.look(&key)? else {
                    continue;
                };
                if self.full() {
                    return Ok(Level::Full);
                }
                self.listing.objects.push(ObjectMeta {
                    key,
                    size: stat.st_size as u64,
                    modified: modified(&stat),
                });
            }
            self.last = Some(name);
        }
        Ok(Level::Done)
    }
}

/// A folder is there when an object is below it; an empty directory is what a crashed writer left.
fn holds_object(root: &Root, folder: &str) -> Result<bool> {
    let entries = entries(root, folder)?;
    if entries.iter().any(|entry| !entry.folder) {
        return Ok(true);
    }
    for entry in entries {
        if holds_object(root, &entry.name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

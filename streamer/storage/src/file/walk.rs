//! Listing: the directory tree in bytewise order of keys, from any place, page by page.
//!
//! A directory sorts as its name with a slash, because that is how the keys below it sort. One level's names are held
//! for each level on the path from the root, and sizes are asked only for what goes onto the page.

use std::path::Path;

use hardstorage_report::Result;
use rustix::io::Errno;

use super::failure::{Doing, failed_io};
use super::{Root, modified};
use crate::{Key, ListRequest, Listing, ObjectMeta};

pub(super) fn list(root: &Root, request: &ListRequest) -> Result<Listing> {
    let start = match request.folder()? {
        None => root.path.clone(),
        Some(folder) => root.locate(&folder),
    };
    let mut page = Page {
        limit: root.page,
        after: request.after.as_deref(),
        shallow: request.shallow,
        last: None,
        listing: Listing::default(),
    };
    match page.level(&start, &request.prefix)? {
        Level::Missing => root.check_root()?,
        Level::Done => {}
        Level::Full => page.listing.next = page.last,
    }
    Ok(page.listing)
}

struct Page<'a> {
    limit: usize,
    after: Option<&'a str>,
    shallow: bool,
    last: Option<String>,
    listing: Listing,
}

enum Level {
    Missing,
    Done,
    /// There is more than fits.
    Full,
}

/// A name of one level: a key, or a folder with its slash.
type Entry = (String, std::fs::FileType);

fn entries(directory: &Path, prefix: &str) -> Result<Option<Vec<Entry>>> {
    let doing = || Doing::root("list", directory);
    let missing = |error: &std::io::Error| matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR));
    let reader = match std::fs::read_dir(directory) {
        Ok(reader) => reader,
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(failed_io(&error, &doing())),
    };
    let mut entries = Vec::new();
    for entry in reader {
        let entry = entry.map_err(|error| failed_io(&error, &doing()))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // Temporary files, lost+found and whatever else is no key.
        let mut full = format!("{prefix}{name}");
        if Key::new(full.as_str()).is_err() {
            continue;
        }
        let mut kind = entry.file_type().map_err(|error| failed_io(&error, &doing()))?;
        if kind.is_symlink() {
            kind = match std::fs::metadata(entry.path()) {
                Ok(meta) => meta.file_type(),
                Err(error) if missing(&error) => continue,
                Err(error) => return Err(failed_io(&error, &doing())),
            };
        }
        if kind.is_dir() {
            full.push('/');
        } else if !kind.is_file() {
            continue;
        }
        entries.push((full, kind));
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(Some(entries))
}

impl Page<'_> {
    fn full(&self) -> bool {
        self.listing.objects.len() + self.listing.folders.len() >= self.limit
    }

    fn level(&mut self, directory: &Path, prefix: &str) -> Result<Level> {
        let Some(entries) = entries(directory, prefix)? else {
            return Ok(Level::Missing);
        };
        for (entry, kind) in entries {
            let path = directory.join(entry.get(prefix.len()..).unwrap_or_default());
            let passed = self.after.is_some_and(|after| entry.as_str() <= after);
            if kind.is_dir() && !self.shallow {
                // Keys below may still come after, when `after` is one of them.
                if passed && !self.after.is_some_and(|after| after.starts_with(&entry)) {
                    continue;
                }
                if matches!(self.level(&path, &entry)?, Level::Full) {
                    return Ok(Level::Full);
                }
                continue;
            }
            if passed {
                continue;
            }
            if kind.is_dir() {
                if !holds_object(&path, &entry)? {
                    continue;
                }
                if self.full() {
                    return Ok(Level::Full);
                }
                self.listing.folders.push(entry.clone());
            } else {
                let Ok(key) = Key::new(entry.as_str()) else {
                    continue;
                };
                let meta = match std::fs::metadata(&path) {
                    Ok(meta) => meta,
                    // Removed since the directory was read.
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => continue,
                    Err(error) => return Err(failed_io(&error, &Doing::object("list", &key))),
                };
                if self.full() {
                    return Ok(Level::Full);
                }
                self.listing.objects.push(ObjectMeta {
                    key,
                    size: meta.len(),
                    modified: modified(&meta),
                });
            }
            self.last = Some(entry);
        }
        Ok(Level::Done)
    }
}

/// A folder is there when an object is below it; an empty directory is what a crashed writer left.
fn holds_object(directory: &Path, prefix: &str) -> Result<bool> {
    let entries = entries(directory, prefix)?.unwrap_or_default();
    if entries.iter().any(|(_, kind)| kind.is_file()) {
        return Ok(true);
    }
    for (entry, _) in entries {
        let path = directory.join(entry.get(prefix.len()..).unwrap_or_default());
        if holds_object(&path, &entry)? {
            return Ok(true);
        }
    }
    Ok(false)
}

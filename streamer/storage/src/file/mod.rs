//! `file://`: objects as files below a root directory, on any file system that PostgreSQL itself would trust.
//!
//! - Create-only is `link(2)`: a whole, synced temporary file gets its name or finds it taken. Where hard links do not
//!   exist, `renameat2(RENAME_NOREPLACE)` does the same.
//! - Temporary names start with a dot. Keys cannot, so no listing and no reader ever meets one.
//! - The root is held open, and every name is relative to it (see [`root`]).
//! - Content is durable when `put_new` returns; names after [`Store::sync`] (see [`durability`]).
//! - What changes the disk or syncs it goes through [`disk`] alone.
//! - No file IO on the runtime's threads: every call is one closure on the blocking pool. The one exception is told of in
//!   [`growing`].

mod disk;
mod durability;
mod failure;
mod growing;
mod root;
mod settled;
mod staged;
mod sweep;
mod upload;
mod walk;

use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;
use rustix::fs::Stat;
use rustix::io::Errno;

use crate::{
    Caps, Created, Growing, Key, ListRequest, Listing, Location, ObjectMeta, Store, SweepRequest, Swept, Upload,
};
use failure::{Doing, failed, failed_io};
use growing::FileGrowing;
use root::Root;
use staged::Staged;
use upload::FileUpload;

/// Entries on one page of a listing. A page reads each directory on its way anew, so pages are large.
const PAGE: usize = 10_000;

/// A directory of objects.
#[derive(Debug)]
pub struct FileStore {
    root: Arc<Root>,
    page: usize,
}

/// Runs file IO on the blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(Error::new(code::storage::IO, "file IO ended before its time").source(stopped)),
    }
}

fn modified(stat: &Stat) -> Option<Timestamp> {
    Timestamp::new(stat.st_mtime, stat.st_mtime_nsec as i32).ok()
}

impl FileStore {
    /// Opens the directory. With `create` it may be made (mode 0700), with its parents.
    pub async fn open(path: impl Into<PathBuf>, create: bool) -> Result<FileStore> {
        let path = path.into();
        let root = blocking(move || Root::open(path, create)).await?;
        Ok(FileStore {
            root: Arc::new(root),
            page: PAGE,
        })
    }

    /// Lists so many entries at a time.
    #[must_use]
    pub fn with_page(self, page: usize) -> FileStore {
        FileStore {
            page: page.max(1),
            ..self
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Arc<Root>) -> Result<T> + Send + 'static) -> Result<T> {
        let root = Arc::clone(&self.root);
        blocking(move || work(&root)).await
    }
}

#[async_trait]
impl Store for FileStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        let key = key.clone();
        self.run(move |root| put(root, &key, body)).await
    }

    /// One way to the blocking pool and back: on a fast disk two would take as long as the disk.
    async fn put_durable(&self, key: &Key, body: Bytes) -> Result<Created> {
        let key = key.clone();
        self.run(move |root| {
            let created = put(root, &key, body)?;
            root.durability.barrier(root)?;
            root.check()?;
            Ok(created)
        })
        .await
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(FileUpload::new(self.root.clone(), key.clone())))
    }

    async fn grow_new(&self, key: &Key, first: Bytes) -> Result<Option<Box<dyn Growing>>> {
        let key = key.clone();
        self.run(move |root| {
            let growing: Box<dyn Growing> = Box::new(FileGrowing::create(root, &key, first)?);
            Ok(Some(growing))
        })
        .await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let key = key.clone();
        self.run(move |root| {
            let Some((file, stat)) = root.read(&key)? else {
                return Ok(None);
            };
            let size = stat.st_size as u64;
            let mut body = Vec::with_capacity(usize::try_from(size).unwrap_or(usize::MAX).min(1 << 30));
            let read = file.take(size).read_to_end(&mut body);
            let read = read.map_err(|error| failed_io(&error, &Doing::object("read", &key)))?;
            if read as u64 == size {
                Ok(Some(body.into()))
            } else {
                Err(short(&key, size, read as u64))
            }
        })
        .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let key = key.clone();
        self.run(move |root| {
            let (file, stat) = root
                .read(&key)?
                .ok_or_else(|| Error::new(code::storage::OBJECT, format!("read {key}: not there")))?;
            let size = stat.st_size as u64;
            if range.start > range.end || range.end > size {
                return Err(Error::new(
                    code::storage::CORRUPT,
                    format!("read {key}: bytes {}..{} of {size}", range.start, range.end),
                ));
            }
            let mut body = vec![0; (range.end - range.start) as usize];
            match file.read_exact_at(&mut body, range.start) {
                Ok(()) => Ok(body.into()),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(short(&key, size, range.start)),
                Err(error) => Err(failed_io(&error, &Doing::object("read", &key))),
            }
        })
        .await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        let key = key.clone();
        self.run(move |root| {
            Ok(root.look(&key)?.map(|stat| ObjectMeta {
                size: stat.st_size as u64,
                modified: modified(&stat),
                key,
            }))
        })
        .await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        let (request, page) = (request.clone(), self.page);
        self.run(move |root| walk::list(root, &request, page)).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let key = key.clone();
        self.run(move |root| {
            match disk::remove(root.at(), key.as_str()) {
                Ok(()) => {}
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => {
                    root.check()?;
                    return Ok(false);
                }
                Err(errno) => return Err(failed(errno, &Doing::object("remove", &key))),
            }
            root.durability.changed(&key);
            // Folders exist only as long as there is something in them, as on every other store. Any failure means that
            // the directory is in use or may stay.
            let mut name = key.as_str();
            while let Some((folder, _)) = name.rsplit_once('/') {
                if disk::remove_folder(root.at(), folder).is_err() {
                    break;
                }
                name = folder;
            }
            root.check()?;
            Ok(true)
        })
        .await
    }

    async fn sync(&self) -> Result<()> {
        self.run(|root| {
            root.durability.barrier(root)?;
            root.check()
        })
        .await
    }

    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        let keys = keys.to_vec();
        self.run(move |root| {
            root.durability.confirm(root, &keys)?;
            root.check()
        })
        .await
    }

    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        let request = request.clone();
        self.run(move |root| sweep::sweep(root, &request)).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        self.run(|root| now(root)).await
    }

    fn caps(&self) -> Caps {
        Caps {
            create_only: true,
            min_part: 0,
            remote: false,
        }
    }

    fn url(&self) -> String {
        Location::File(self.root.path.clone()).to_string()
    }
}

/// The file system's own time, from a fresh file: on a network mount it is the server's.
fn now(root: &Root) -> Result<Timestamp> {
    let doing = Doing::root("ask for the time of", &root.path);
    root.check()?;
    let name = staged::temporary_name("");
    let file = disk::create(root.at(), &name).map_err(|errno| failed(errno, &doing))?;
    let stat = rustix::fs::fstat(&file);
    let removed = disk::remove(root.at(), &name);
    let stat = stat.map_err(|errno| failed(errno, &doing))?;
    removed.map_err(|errno| failed(errno, &doing))?;
    root.check()?;
    modified(&stat).ok_or_else(|| Error::new(code::storage::IO, format!("{doing}: it is out of range")))
}

fn put(root: &Arc<Root>, key: &Key, body: Bytes) -> Result<Created> {
    let Some(mut staged) = Staged::create(root, key)? else {
        return Ok(Created::Exists);
    };
    staged.write(&mut [body])?;
    staged.publish()
}

fn short(key: &Key, expected: u64, got: u64) -> Error {
    Error::new(
        code::storage::CORRUPT,
        format!("read {key}: the file ended at byte {got} of {expected}"),
    )
}

#[cfg(test)]
mod tests;

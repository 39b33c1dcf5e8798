//! `file://`: objects as files below a root directory, on any file system that PostgreSQL itself would trust.
//!
//! - Create-only is `link(2)`: a whole, synced temporary file gets its name or finds it taken. Where hard links do not
//!   exist, `renameat2(RENAME_NOREPLACE)` does the same.
//! - Temporary names start with a dot. Keys cannot, so no listing and no reader ever meets one.
//! - Content is durable when `put_new` returns; names after [`Store::sync`] (see [`durability`]).
//! - No file IO on the runtime's threads: every call is one closure on the blocking pool.

mod durability;
mod failure;
mod staged;
mod upload;
mod walk;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Caps, Created, Key, ListRequest, Listing, Location, ObjectMeta, Store, Upload};
use durability::Durability;
use failure::{Doing, failed, failed_io};
use staged::Staged;
use upload::FileUpload;

/// Entries on one page of a listing. A page reads each directory on its way anew, so pages are large.
const PAGE: usize = 10_000;

/// A directory of objects.
#[derive(Debug)]
pub struct FileStore {
    root: Arc<Root>,
}

/// What the closures on the blocking pool share.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    page: usize,
    durability: Durability,
}

impl Root {
    fn locate(&self, key: &Key) -> PathBuf {
        self.path.join(key.as_str())
    }

    /// "Not there" is an answer only while the root is there: an unmounted volume is not an empty repository.
    fn check_root(&self) -> Result<()> {
        match rustix::fs::stat(&self.path) {
            Ok(_) => Ok(()),
            Err(errno) => Err(failed(errno, &Doing::root("look at", &self.path))),
        }
    }

    /// Opens an object for reading.
    fn open(&self, key: &Key) -> Result<Option<(File, std::fs::Metadata)>> {
        // NONBLOCK: a pipe of that name must not hold the thread for ever.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(self.locate(key), flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.check_root()?;
                return Ok(None);
            }
            Err(errno) => return Err(failed(errno, &Doing::object("read", key))),
        };
        let meta = file
            .metadata()
            .map_err(|error| failed_io(&error, &Doing::object("read", key)))?;
        Ok(meta.is_file().then_some((file, meta)))
    }
}

/// Runs file IO on the blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(Error::new(code::storage::IO, "file IO ended before its time").source(stopped)),
    }
}

fn modified(meta: &std::fs::Metadata) -> Option<Timestamp> {
    meta.modified().ok().and_then(|time| Timestamp::try_from(time).ok())
}

impl FileStore {
    /// Opens the directory. With `create` it may be made (mode 0700), with its parents.
    pub async fn open(path: impl Into<PathBuf>, create: bool) -> Result<FileStore> {
        let path = path.into();
        blocking(move || {
            if create {
                make_root(&path)?;
            }
            let meta = std::fs::metadata(&path).map_err(|error| failed_io(&error, &Doing::root("open", &path)))?;
            if !meta.is_dir() {
                let message = format!("open {}: it is not a directory", path.display());
                return Err(Error::new(code::storage::BUCKET, message));
            }
            Ok(FileStore {
                root: Arc::new(Root {
                    path,
                    page: PAGE,
                    durability: Durability::default(),
                }),
            })
        })
        .await
    }

    /// Lists so many entries at a time.
    #[must_use]
    pub fn with_page(self, page: usize) -> FileStore {
        FileStore {
            root: Arc::new(Root {
                path: self.root.path.clone(),
                page: page.max(1),
                durability: Durability::default(),
            }),
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Root) -> Result<T> + Send + 'static) -> Result<T> {
        let root = Arc::clone(&self.root);
        blocking(move || work(&root)).await
    }
}

/// Makes the root and its parents, and makes their names durable: `repo init` must not vanish in a power cut.
fn make_root(path: &Path) -> Result<()> {
    let mut missing = Vec::new();
    let mut at = path;
    while let Err(Errno::NOENT) = rustix::fs::stat(at) {
        missing.push(at);
        match at.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    for directory in missing.iter().rev() {
        let doing = Doing::root("create", directory);
        // Only the root is ours alone: a private parent would lock others out of their own directories.
        let mode = if *directory == path { 0o700 } else { 0o755 };
        match std::fs::DirBuilder::new().mode(mode).create(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed_io(&error, &doing)),
            _ => {}
        }
        if let Some(parent) = directory.parent() {
            durability::sync_directory(parent).map_err(|errno| failed(errno, &doing))?;
        }
    }
    Ok(())
}

#[async_trait]
impl Store for FileStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        let key = key.clone();
        self.run(move |root| {
            let Some(mut staged) = Staged::create(root, &key)? else {
                return Ok(Created::Exists);
            };
            staged.write(&mut [body])?;
            staged.publish(root)
        })
        .await
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(FileUpload::new(self.root.clone(), key.clone())))
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let key = key.clone();
        self.run(move |root| {
            let Some((file, meta)) = root.open(&key)? else {
                return Ok(None);
            };
            let mut body = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(usize::MAX).min(1 << 30));
            let read = file.take(meta.len()).read_to_end(&mut body);
            let read = read.map_err(|error| failed_io(&error, &Doing::object("read", &key)))?;
            if read as u64 == meta.len() {
                Ok(Some(body.into()))
            } else {
                Err(short(&key, meta.len(), read as u64))
            }
        })
        .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let key = key.clone();
        self.run(move |root| {
            let (file, meta) = root
                .open(&key)?
                .ok_or_else(|| Error::new(code::storage::OBJECT, format!("read {key}: not there")))?;
            if range.start > range.end || range.end > meta.len() {
                return Err(Error::new(
                    code::storage::CORRUPT,
                    format!("read {key}: bytes {}..{} of {}", range.start, range.end, meta.len()),
                ));
            }
            let mut body = vec![0; (range.end - range.start) as usize];
            match file.read_exact_at(&mut body, range.start) {
                Ok(()) => Ok(body.into()),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    Err(short(&key, meta.len(), range.start))
                }
                Err(error) => Err(failed_io(&error, &Doing::object("read", &key))),
            }
        })
        .await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        let key = key.clone();
        self.run(move |root| match std::fs::metadata(root.locate(&key)) {
            Ok(meta) => Ok(meta.is_file().then(|| ObjectMeta {
                size: meta.len(),
                modified: modified(&meta),
                key,
            })),
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR)) => {
                root.check_root()?;
                Ok(None)
            }
            Err(error) => Err(failed_io(&error, &Doing::object("look at", &key))),
        })
        .await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        let request = request.clone();
        self.run(move |root| walk::list(root, &request)).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let key = key.clone();
        self.run(move |root| {
            let path = root.locate(&key);
            match rustix::fs::unlink(&path) {
                Ok(()) => {}
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => {
                    root.check_root()?;
                    return Ok(false);
                }
                Err(errno) => return Err(failed(errno, &Doing::object("remove", &key))),
            }
            root.durability.changed(&root.path, &path);
            // Folders exist only as long as there is something in them, as on every other store. Any failure means that
            // the directory is in use or may stay.
            for folder in path.ancestors().skip(1).take_while(|folder| *folder != root.path) {
                if rustix::fs::rmdir(folder).is_err() {
                    break;
                }
            }
            Ok(true)
        })
        .await
    }

    async fn sync(&self) -> Result<()> {
        self.run(|root| root.durability.barrier()).await
    }

    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        let keys = keys.to_vec();
        self.run(move |root| {
            for key in &keys {
                let not_there = || Error::new(code::storage::OBJECT, format!("confirm {key}: not there"));
                let (file, _) = root.open(key)?.ok_or_else(not_there)?;
                root.durability.keep(&file, key)?;
                root.durability.changed(&root.path, &root.locate(key));
            }
            root.durability.barrier()
        })
        .await
    }

    /// The file system's own time, from a fresh file: on a network mount it is the server's.
    async fn clock(&self) -> Result<Timestamp> {
        self.run(|root| {
            let doing = Doing::root("ask for the time of", &root.path);
            let path = staged::temporary_name(&root.path);
            let file = staged::create_exclusive(&path).map_err(|errno| failed(errno, &doing))?;
            let stat = rustix::fs::fstat(&file);
            let removed = rustix::fs::unlink(&path);
            let stat = stat.map_err(|errno| failed(errno, &doing))?;
            removed.map_err(|errno| failed(errno, &doing))?;
            Timestamp::new(stat.st_mtime as i64, stat.st_mtime_nsec as i32)
                .map_err(|error| Error::new(code::storage::IO, "the file system's time is out of range").source(error))
        })
        .await
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

fn short(key: &Key, expected: u64, got: u64) -> Error {
    Error::new(
        code::storage::CORRUPT,
        format!("read {key}: the file ended at byte {got} of {expected}"),
    )
}

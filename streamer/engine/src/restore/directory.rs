//! Writes a backup's files straight to their final place.
//!
//! Called from the reader's worker threads, for many files at a time. Every file is compared with PostgreSQL's own
//! manifest when it is complete. Where `syncfs` tells of failed writes nothing is synced here, because one for each
//! volume at the end costs a fraction of an `fsync` for each of a hundred thousand files, and nothing can start before
//! `pg_control` is written.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hardstorage_report::{Error, Result, code};
use hardstorage_repository::{EntryKey, FileInfo, FileSink};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::place::Owner;
use crate::backup::PostgresChecksums;

/// Where the files of one restore go.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The data directory.
    pub data: PathBuf,
    /// Each tablespace's directory, by oid.
    pub tablespaces: BTreeMap<u32, PathBuf>,
    /// The directory that `pg_wal` leads to, when that lies elsewhere.
    pub wal: Option<PathBuf>,
    /// Where configuration from outside of the data directory goes, when there is any.
    pub configuration: Option<PathBuf>,
    /// Who shall own everything.
    pub owner: Option<Owner>,
}

impl Layout {
    /// Every directory that is written to, the data directory first.
    pub(super) fn places(&self) -> impl Iterator<Item = &PathBuf> {
        let others = self.tablespaces.values().chain(&self.wal).chain(&self.configuration);
        std::iter::once(&self.data).chain(others)
    }

    /// Where an entry goes. The path was checked when the backup was taken; it is checked again, because this is the
    /// one place where a name from a repository becomes a path of this machine.
    pub fn path(&self, key: &EntryKey) -> Result<PathBuf> {
        let root = match key.tablespace {
            0 => &self.data,
            oid => self
                .tablespaces
                .get(&oid)
                .ok_or_else(|| refused(key, "it lies in a tablespace that the backup does not have"))?,
        };
        let parts = key.path.split(|byte| *byte == b'/');
        let safe = parts
            .clone()
            .all(|part| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0));
        if !safe {
            return Err(refused(key, "its path is not a plain one"));
        }
        Ok(parts.fold(root.clone(), |path, part| path.join(OsStr::from_bytes(part))))
    }

    /// Makes a directory with its mode and owner. One that is there already is fine: a target may exist, and so may
    /// the parent of a file.
    pub fn make_directory(&self, path: &Path, mode: u32) -> Result<()> {
        match DirBuilder::new().mode(mode).create(path) {
            Ok(()) => self.give(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => Err(failed("make", path, error)),
        }
    }

    /// Makes a symbolic link.
    pub fn make_link(&self, path: &Path, target: &Path) -> Result<()> {
        std::os::unix::fs::symlink(target, path).map_err(|error| failed("make", path, error))?;
        self.give(path)
    }

    /// Gives a path to the owner.
    pub fn give(&self, path: &Path) -> Result<()> {
        match self.owner {
            Some(owner) => std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))
                .map_err(|error| failed("give away", path, error)),
            None => Ok(()),
        }
    }

    /// Writes a small file whole: recovery settings and signals.
    pub fn write_small(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path)?;
            io::Write::write_all(&mut file, bytes)?;
            file.sync_all()
        };
        write().map_err(|error| failed("write", path, error))?;
        self.give(path)
    }
}

fn refused(key: &EntryKey, why: &str) -> Error {
    Error::new(
        code::repository::OBJECT_CORRUPT,
        format!("the backup's file {key} cannot be restored: {why}"),
    )
}

pub(super) fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => code::engine::TARGET_SPACE,
        _ => code::cli::IO,
    };
    Error::new(code, format!("{doing} {}", path.display())).source(error)
}

/// ext2 to ext4. On ext4 writes of single pages into blocks that were allocated before take two thirds of the CPU. Other
/// file systems were not measured, and some do not compress what was allocated (btrfs) or know no such thing (ZFS).
const EXT4_MAGIC: u64 = 0xEF53;
/// Ranges below this are few writes.
const WORTH_ALLOCATING: u64 = 1 << 20;

/// The sink of a restore.
#[derive(Debug)]
pub struct DirectorySink {
    layout: Layout,
    checksums: PostgresChecksums,
    sync_each: bool,
    /// Files may be there, whose pages that are equal are not written.
    over: bool,
    checked: AtomicU64,
}

/// A file that is being written.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    path: PathBuf,
    key: EntryKey,
    /// It was there before: what is not written is what it was.
    reopened: bool,
    /// Its file system writes faster into blocks that were asked for before.
    allocates: bool,
}

impl DirectorySink {
    /// Writes into these places and compares with these checksums; syncs each file, or leaves that to the caller.
    pub fn new(layout: Layout, checksums: PostgresChecksums, sync_each: bool) -> DirectorySink {
        DirectorySink {
            layout,
            checksums,
            sync_each,
            over: false,
            checked: AtomicU64::new(0),
        }
    }

    /// Writes over the files that are there, where there are some.
    #[must_use]
    pub(super) fn over(self, over: bool) -> DirectorySink {
        DirectorySink { over, ..self }
    }

    /// Files that were compared with PostgreSQL's manifest and were equal.
    pub fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }
}

impl FileSink for DirectorySink {
    type Handle = OpenFile;

    fn create(&self, info: &FileInfo) -> Result<OpenFile> {
        let path = self.layout.path(&info.key)?;
        let there = if self.over { reopen(&path, info)? } else { None };
        let reopened = there.is_some();
        let file = match there {
            Some(file) => file,
            None => new_file(&path, info)?,
        };
        let allocates = info.size >= WORTH_ALLOCATING
            && rustix::fs::fstatfs(&file).is_ok_and(|about| about.f_type as u64 == EXT4_MAGIC);
        if let Some(owner) = self.layout.owner {
            std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))
                .map_err(|error| failed("give away", &path, error))?;
        }
        Ok(OpenFile {
            file,
            path,
            key: info.key.clone(),
            reopened,
            allocates,
        })
    }

    fn expect(&self, handle: &OpenFile, offset: u64, length: u64) {
        if length >= WORTH_ALLOCATING && !handle.reopened && handle.allocates {
            // Whatever is wrong, a write will say so.
            let _ = rustix::fs::fallocate(&handle.file, FallocateFlags::KEEP_SIZE, offset, length);
        }
    }

    fn write_at(&self, handle: &OpenFile, offset: u64, bytes: &[u8]) -> Result<()> {
        handle
            .file
            .write_all_at(bytes, offset)
            .map_err(|error| failed("write", &handle.path, error))
    }

    fn zero(&self, handle: &OpenFile, offset: u64, length: u64) -> Result<()> {
        // A new file has had its length from the beginning: what is not written is a hole, and reads as zeros.
        if handle.reopened {
            make_hole(&handle.file, offset, length).map_err(|error| failed("write", &handle.path, error))?;
        }
        Ok(())
    }

    fn finish(&self, handle: &OpenFile, crc32c: u32, size: u64) -> Result<()> {
        if self.sync_each {
            let synced = handle.file.sync_all();
            synced.map_err(|error| failed("sync", &handle.path, error))?;
        }
        match self.checksums.matches(&handle.key, size, crc32c) {
            Some(true) => {
                self.checked.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            // PostgreSQL does not list its own manifest, nor what it made only for this backup.
            None => Ok(()),
            Some(false) => Err(Error::new(
                code::engine::FILE_CORRUPT,
                format!(
                    "{} is not as PostgreSQL sent it: size or checksum differ from its manifest",
                    handle.path.display()
                ),
            )),
        }
    }
}

/// The file that is there, made as long as it shall be; `None` when there is none.
fn reopen(path: &Path, info: &FileInfo) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path, error)),
    };
    let mode = Permissions::from_mode(info.mode & 0o777 | 0o600);
    file.set_len(info.size)
        .and_then(|()| file.set_permissions(mode))
        .map_err(|error| failed("size", path, error))?;
    Ok(Some(file))
}

/// A file that is not there yet.
fn new_file(path: &Path, info: &FileInfo) -> Result<File> {
    // Exclusive: two entries of one name, or a file that appeared since the target was seen empty, are errors.
    let mode = info.mode & 0o777 | 0o600;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| failed("create", path, error))?;
    if info.size > 0 {
        file.set_len(info.size).map_err(|error| failed("size", path, error))?;
    }
    Ok(file)
}

/// Makes a range read as zeros.
fn make_hole(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, offset, length) {
        Ok(()) => return Ok(()),
        // Where there are no holes.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0u8; length.min(256 << 10) as usize];
    let mut done = 0;
    while done < length {
        let part = (length - done).min(zeros.len() as u64) as usize;
        file.write_all_at(zeros.get(..part).unwrap_or_default(), offset + done)?;
        done += part as u64;
    }
    Ok(())
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;

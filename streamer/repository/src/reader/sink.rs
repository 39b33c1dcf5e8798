//! Where restored bytes go.

use hardstorage_report::Result;

use crate::table::{Entry, EntryKey, EntryKind};

/// A regular file of a backup, without the maps that say where its bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name.
    pub key: EntryKey,
    /// Permission bits.
    pub mode: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Its length.
    pub size: u64,
    /// The CRC32C of all its bytes, as the backup recorded it.
    pub crc32c: u32,
}

impl FileInfo {
    /// From an entry of the file table; `None` for what is not a regular file.
    pub fn of(entry: &Entry) -> Option<FileInfo> {
        let EntryKind::File(file) = &entry.kind else {
            return None;
        };
        Some(FileInfo {
            key: entry.key.clone(),
            mode: entry.mode,
            mtime: entry.mtime,
            size: file.size,
            crc32c: file.crc,
        })
    }
}

/// Takes the files of a backup. Every method is called from worker threads, for many files at a time, and one file's
/// pieces come in any order and from several threads. An error ends the whole run.
pub trait FileSink: Send + Sync + 'static {
    /// An open file.
    type Handle: Send + Sync + 'static;

    /// A file begins. It is as long as `file` says from now on, and what is not written is zeros; or, where pages that
    /// are there already are left out, what it was.
    fn create(&self, file: &FileInfo) -> Result<Self::Handle>;

    /// Every byte of this range will be written, in pieces and in any order. It changes nothing, and may make that cheaper.
    fn expect(&self, _handle: &Self::Handle, _offset: u64, _length: u64) {}

    /// Bytes for a place in the file.
    fn write_at(&self, handle: &Self::Handle, offset: u64, bytes: &[u8]) -> Result<()>;

    /// A range of zeros. The sink decides whether a hole will do.
    fn zero(&self, handle: &Self::Handle, offset: u64, length: u64) -> Result<()>;

    /// The file is complete: what was written has this length and checksum, and they are those of the backup. Not called
    /// for a file that damage in the repository has hurt: its handle is dropped.
    fn finish(&self, handle: &Self::Handle, crc32c: u32, size: u64) -> Result<()>;
}

/// Takes everything and keeps nothing: for `verify`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiscardSink;

impl FileSink for DiscardSink {
    type Handle = ();

    fn create(&self, _: &FileInfo) -> Result<()> {
        Ok(())
    }

    fn write_at(&self, (): &(), _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn zero(&self, (): &(), _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn finish(&self, (): &(), _: u32, _: u64) -> Result<()> {
        Ok(())
    }
}

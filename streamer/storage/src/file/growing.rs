//! An object that grows: written behind its end and synced, again and again, by its one writer.
//!
//! A new object for every few bytes costs a new inode, and with it two commits of the file system's journal. Here the
//! file is made longer in steps, by *writing* zeros (space that is only allocated is turned into written space by the
//! first write, which costs a commit too), and within a step a write and a sync touch nothing but the bytes: about a
//! quarter of the time on a disk that is fast.
//!
//! - It is born like every object: whole under a temporary name, synced, named, the name synced.
//! - What is behind the bytes is zeros, so a reader sees the end. Bytes that were synced are never written again.
//! - After every sync the file must still have a name, and the root must still be the one that was opened: bytes in a
//!   file that somebody has removed are nobody's.
//! - An error ends the growth. After a failed sync nobody knows what is on the disk, and after a failed write nobody
//!   needs to: the next object begins.
//!
//! Somebody waits for every append, so it runs where it is called: two ways between threads would cost as much as the disk.
//! On a runtime of many threads another one takes over the tasks of this one meanwhile. A runtime of one thread waits with it:
//! whoever appends there keeps nothing on it that must go on.

use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, Retry, code};
use rustix::fs::{AtFlags, StatxFlags, fstat, statx};
use rustix::io::Errno;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::disk;
use super::failure::{Doing, failed, failed_io};
use super::root::Root;
use super::staged::Staged;
use crate::{Created, Growing, Key};

/// By so much it is made longer: a commit of the file system's journal for each is little beside the appends within.
const STEP: u64 = 1 << 20;
/// Zeros are written so many at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[derive(Debug)]
pub(super) struct FileGrowing {
    /// `None` while an append is under way, and for ever after one that failed.
    writing: Option<Writing>,
    key: Key,
}

#[derive(Debug)]
struct Writing {
    root: Arc<Root>,
    key: Key,
    file: File,
    /// The end of the bytes.
    end: u64,
    /// The end of the zeros behind them.
    length: u64,
}

/// Runs file IO here.
fn at_once<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl FileGrowing {
    /// Makes the object with its first bytes. Blocks.
    pub(super) fn create(root: &Arc<Root>, key: &Key, first: Bytes) -> Result<FileGrowing> {
        let taken = || Error::new(code::storage::IO, format!("write {key}: the name is taken")).retry(Retry::Never);
        let mut staged = Staged::create(root, key)?.ok_or_else(taken)?;
        let file = staged.another_handle()?;
        let end = first.len() as u64;
        let length = longer(end);
        let zeros = Bytes::from_static(&ZEROS);
        let mut parts = vec![first];
        let mut missing = length - end;
        while missing > 0 {
            let part = missing.min(ZEROS.len() as u64);
            parts.push(zeros.slice(..part as usize));
            missing -= part;
        }
        staged.write(&mut parts)?;
        if staged.publish()? == Created::Exists {
            return Err(taken());
        }
        root.durability.barrier(root)?;
        root.check()?;
        let (root, key) = (root.clone(), key.clone());
        Ok(FileGrowing {
            key: key.clone(),
            writing: Some(Writing {
                root,
                key,
                file,
                end,
                length,
            }),
        })
    }
}

/// The length of a file that holds so many bytes.
fn longer(end: u64) -> u64 {
    (end / STEP + 1) * STEP
}

/// How many names a file has. Nothing else is asked: who asks for a file's times makes Linux (from 6.13 on) give the next
/// write a time of its own, and the sync behind that writes the inode too, which takes half as long again.
fn names(file: &File) -> Result<u64, Errno> {
    match statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK) {
        Ok(told) if told.stx_mask & StatxFlags::NLINK.bits() != 0 => Ok(told.stx_nlink.into()),
        // A file system that does not tell it in this way, an old kernel, a sandbox that does not know the call.
        Ok(_) | Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => Ok(fstat(file)?.st_nlink as u64),
        Err(errno) => Err(errno),
    }
}

impl Writing {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let doing = Doing::object("write", &self.key);
        let io = |error: std::io::Error| failed_io(&error, &doing);
        disk::write_at(&self.file, bytes, self.end).map_err(io)?;
        self.end += bytes.len() as u64;
        if self.end > self.length {
            let length = longer(self.end);
            let mut at = self.end;
            while at < length {
                let part = (length - at).min(ZEROS.len() as u64);
                let zeros = ZEROS.get(..part as usize).unwrap_or(&ZEROS);
                disk::write_at(&self.file, zeros, at).map_err(io)?;
                at += part;
            }
            self.length = length;
        }
        // Of the length too, where it has changed: without it the bytes could not be read.
        disk::sync_bytes(&self.file).map_err(|errno| failed(errno, &doing))?;
        if names(&self.file).map_err(|errno| failed(errno, &doing))? == 0 {
            let message = format!("{doing}: somebody has removed it");
            return Err(Error::new(code::storage::OBJECT, message).retry(Retry::Now));
        }
        self.root.check()
    }
}

#[async_trait]
impl Growing for FileGrowing {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let failed_before = || {
            let message = format!("write {}: an earlier append failed", self.key);
            Error::new(code::storage::IO, message)
        };
        let mut writing = self.writing.take().ok_or_else(failed_before)?;
        at_once(|| writing.append(&bytes))?;
        self.writing = Some(writing);
        Ok(())
    }
}

#[cfg(test)]
#[path = "growing_tests.rs"]
mod tests;

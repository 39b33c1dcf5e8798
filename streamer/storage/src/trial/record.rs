//! The record of a disk: one line for each thing that was done, words apart by tabs, paths as the kernel names them.
//!
//! - `create PATH INODE`, `link FROM TO`, `rename FROM TO`, `remove PATH`, `mkdir PATH`, `rmdir PATH`
//! - `write PATH INODE OFFSET LENGTH AT`: the bytes are those from `AT` on in the file beside it.
//! - `begin NUMBER KIND PATH INODE` and `end NUMBER`: a sync (`fsync`, `fdatasync`). What was done before its beginning is durable
//!   after its end; one without an end has failed, or its process has ended.
//! - `promise TEXT`: from here on others count on something.
//!
//! A file that is written under a name that was taken from it is known by its inode.
//!
//! Several processes may write to one record. A change and its line are made under one lock, so the order of the lines is
//! the order of the changes.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FlockOperation, SeekFrom, flock, fstat, seek};

use super::on::{append_to, must};

fn inode(file: BorrowedFd<'_>) -> u64 {
    must(fstat(file).map_err(io::Error::from)).st_ino
}

pub(super) struct Record {
    lines: File,
    data: File,
    syncs: u64,
}

impl Record {
    pub(super) fn open(path: &Path) -> io::Result<Record> {
        let mut data = path.as_os_str().to_owned();
        data.push(".data");
        Ok(Record {
            lines: append_to(path)?,
            data: append_to(Path::new(&data))?,
            syncs: 0,
        })
    }

    /// Works while no other process changes or records anything.
    pub(super) fn alone<T>(&mut self, work: impl FnOnce(&mut Record) -> T) -> T {
        must(flock(&self.lines, FlockOperation::LockExclusive).map_err(io::Error::from));
        let result = work(self);
        must(flock(&self.lines, FlockOperation::Unlock).map_err(io::Error::from));
        result
    }

    pub(super) fn line(&mut self, words: &[&str]) {
        must(self.lines.write_all(format!("{}\n", words.join("\t")).as_bytes()));
    }

    /// The first `written` of these bytes are in the file now.
    pub(super) fn bytes(&mut self, path: &Path, file: &File, offset: u64, slices: &[IoSlice<'_>], written: usize) {
        let at = must(seek(&self.data, SeekFrom::End(0)).map_err(io::Error::from));
        let mut left = written;
        for slice in slices {
            let part = slice.get(..left.min(slice.len())).unwrap_or_default();
            must(self.data.write_all(part));
            left -= part.len();
        }
        let numbers = [inode(file.as_fd()), offset, written as u64, at].map(|number| number.to_string());
        let path = path.to_string_lossy();
        let words = ["write", &path].into_iter().chain(numbers.iter().map(String::as_str));
        self.line(&words.collect::<Vec<_>>());
    }

    /// A sync begins; its number.
    pub(super) fn begin(&mut self, kind: &str, path: &Path, file: BorrowedFd<'_>) -> String {
        self.syncs += 1;
        let number = format!("{}.{}", std::process::id(), self.syncs);
        let inode = inode(file).to_string();
        self.alone(|record| record.line(&["begin", &number, kind, &path.to_string_lossy(), &inode]));
        number
    }

    pub(super) fn end(&mut self, number: &str) {
        self.alone(|record| record.line(&["end", number]));
    }
}

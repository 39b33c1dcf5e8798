//! What a backup is written with and what comes of it.

use tokio_util::sync::CancellationToken;

use super::AncestorReader;
use crate::table::{EntryKey, PackRecord};
use crate::{Root, Totals, WriterId};

/// How to write a backup.
#[derive(Debug)]
pub struct WriterOptions {
    /// The random id of this attempt; never used twice.
    pub writer: WriterId,
    /// The server's block size.
    pub block_size: u32,
    /// The backup to compare with.
    pub ancestor: Option<AncestorReader>,
    /// What dead writers have left of theirs, to be compared with first.
    pub adopted: Vec<AncestorReader>,
    /// Worker threads.
    pub jobs: usize,
    /// Bytes for buffers. What else the writer holds does not depend on it: tens of megabytes.
    pub memory: usize,
    /// Ends everything.
    pub cancel: CancellationToken,
}

impl WriterOptions {
    /// Everything to compare with, in the order in which it is asked for a file.
    pub(super) fn earlier(&self) -> impl Iterator<Item = &AncestorReader> {
        self.adopted.iter().chain(&self.ancestor)
    }

    /// Two workers, 16 MiB of buffers, no ancestor.
    pub fn new(writer: WriterId, block_size: u32) -> WriterOptions {
        WriterOptions {
            writer,
            block_size,
            ancestor: None,
            adopted: Vec::new(),
            jobs: 2,
            memory: 16 << 20,
            cancel: CancellationToken::new(),
        }
    }
}

/// What is known of a file before its bytes come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Its name.
    pub key: EntryKey,
    /// How many bytes will come.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
}

/// What a manifest needs to know of a backup that has been written. Every pack is stored; the commit is still to come.
#[derive(Debug)]
pub struct Finished {
    /// The root of the file table.
    pub file_table: Root,
    /// The root of the pack list.
    pub pack_list: Root,
    /// Sums.
    pub totals: Totals,
    /// The pack list itself.
    pub packs: Vec<PackRecord>,
    /// The length of the pack that holds the pack list, which its record there cannot tell.
    pub list_length: u64,
}

//! What travels through the writer: batches of the stream, and gathered frames.
//!
//! A batch is a stretch of the stream with whole pages of one or many files. It brings its own buffers along and goes
//! round and round: from the caller to a worker, to the packer, and back. How many there are is what bounds memory.

use std::sync::{Arc, Mutex, PoisonError};

use hardstorage_codec::Digest128;
use tokio::sync::Semaphore;

use super::ancestor_section::AncestorSection;
use crate::layer::PageFacts;
use crate::pack::Codec;
use crate::table::{Entry, EntryKey};

/// What happens to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// All zeros: a flag is enough.
    Zeros,
    /// The ancestor has it; a reference is enough.
    Same,
    /// It is stored, at this offset of what its batch keeps.
    Stored(u32),
}

/// A page after examination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) facts: PageFacts,
    pub(super) fate: Fate,
    /// It is stored although the ancestor has it.
    pub(super) again: bool,
}

/// The head of a regular file.
#[derive(Debug)]
pub(super) struct FileHead {
    pub(super) key: EntryKey,
    pub(super) order: u64,
    pub(super) mode: u32,
    pub(super) mtime: i64,
    pub(super) size: u64,
}

/// Bytes of one section of the current file.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its first page, counted from the start of the section.
    pub(super) first_page: u32,
    /// Where it lies in the batch.
    pub(super) offset: u32,
    pub(super) length: u32,
    /// What to compare with.
    pub(super) ancestor: Option<Arc<AncestorSection>>,
}

/// What a batch consists of, in stream order.
#[derive(Debug)]
pub(super) enum Item {
    /// A regular file begins.
    Start(Box<FileHead>),
    /// Bytes of it.
    Piece(Piece),
    /// It ends.
    End,
    /// A directory or symbolic link.
    Other(Box<Entry>),
}

/// A frame's payload, ready to be sealed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload {
    pub(super) codec: Codec,
    pub(super) raw_len: u32,
    pub(super) hash: Digest128,
}

/// A stretch of the stream.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Its place in the stream.
    pub(super) number: u64,
    /// The bytes; after examination only those that are kept.
    pub(super) raw: Vec<u8>,
    /// The payload, if the batch became a frame of its own.
    pub(super) packed: Vec<u8>,
    pub(super) items: Vec<Item>,
    /// One for each page, after examination.
    pub(super) pages: Vec<Page>,
    /// Pages that are kept.
    pub(super) kept: u32,
    /// Set when what is kept is enough for a frame of its own.
    pub(super) payload: Option<Payload>,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.raw.clear();
        self.packed.clear();
        self.items.clear();
        self.pages.clear();
        self.kept = 0;
        self.payload = None;
    }
}

/// A frame gathered from what several batches keep.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// What pages refer to it by until it has a place.
    pub(super) key: u64,
    /// Its turn to be sealed.
    pub(super) turn: u64,
    pub(super) raw: Vec<u8>,
    pub(super) packed: Vec<u8>,
    pub(super) pages: u32,
    /// So little was gathered so far that a higher level costs nothing.
    pub(super) few: bool,
    pub(super) payload: Option<Payload>,
}

/// Batches that nobody uses. The one used last is given out first: its memory is warm.
#[derive(Debug)]
#[expect(clippy::vec_box, reason = "batches travel as boxes: nothing moves but a pointer")]
pub(super) struct FreeBatches {
    free: Mutex<Vec<Box<Batch>>>,
    count: Semaphore,
}

impl FreeBatches {
    pub(super) fn new(count: usize) -> FreeBatches {
        FreeBatches {
            free: Mutex::new((0..count).map(|_| Box::default()).collect()),
            count: Semaphore::new(count),
        }
    }

    /// Waits for a batch; `None` when the packer has ended.
    pub(super) async fn take(&self) -> Option<Box<Batch>> {
        self.count.acquire().await.ok()?.forget();
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(super) fn give_back(&self, mut batch: Box<Batch>) {
        batch.clear();
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
        self.count.add_permits(1);
    }

    /// Nobody waits any more.
    pub(super) fn close(&self) {
        self.count.close();
    }
}

//! A file on its way: which of its pieces have come, and what they add up to.
//!
//! Worker threads deal with pieces in any order. A file's pieces in one window are a part; whoever deals with the last
//! piece of a part adds up the part, whoever deals with the last part adds up the file. Nothing waits.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hardstorage_report::Result;

use super::checksum::Combiner;
use super::sink::FileInfo;

/// A run of bytes in file order.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) length: u64,
    pub(super) crc: AtomicU32,
}

/// A file on its way, in one window or in several.
#[derive(Debug)]
pub(super) struct OpenFile<H> {
    pub(super) info: Arc<FileInfo>,
    /// Parts that were not dealt with yet; the last part is counted from the start, the others when they are planned.
    left: AtomicU32,
    damaged: AtomicBool,
    handle: Mutex<Option<Arc<H>>>,
    /// Length and checksum of each part.
    parts: Mutex<Vec<(u64, u32)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H> OpenFile<H> {
    /// A file of which nothing is planned.
    pub(super) fn new(info: Arc<FileInfo>) -> Arc<OpenFile<H>> {
        Arc::new(OpenFile {
            info,
            left: AtomicU32::new(1),
            damaged: AtomicBool::new(false),
            handle: Mutex::new(None),
            parts: Mutex::new(Vec::new()),
        })
    }

    /// One part more is planned, besides the last one.
    pub(super) fn expect_another(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// Its handle; `create` makes it on the first call.
    pub(super) fn handle(&self, create: impl FnOnce() -> Result<H>) -> Result<Arc<H>> {
        let mut slot = lock(&self.handle);
        if let Some(handle) = slot.as_ref() {
            return Ok(Arc::clone(handle));
        }
        let handle = Arc::new(create()?);
        *slot = Some(Arc::clone(&handle));
        Ok(handle)
    }

    /// Lets go of the handle: the file is done.
    pub(super) fn close(&self) {
        let handle = lock(&self.handle).take();
        drop(handle);
    }

    /// Says that a piece will never come.
    pub(super) fn set_damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// Whether a piece will never come. Final once [`OpenFile::part_done`] said true.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// One part less to wait for; true to exactly one caller, when it was the last.
    pub(super) fn part_done(&self, part: usize, length: u64, crc: u32) -> bool {
        let mut parts = lock(&self.parts);
        if parts.len() <= part {
            parts.resize(part + 1, (0, 0));
        }
        if let Some(slot) = parts.get_mut(part) {
            *slot = (length, crc);
        }
        drop(parts);
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Length and checksum of the file, once every part is there.
    pub(super) fn sum(&self, combiner: &mut Combiner) -> (u64, u32) {
        let parts = lock(&self.parts);
        parts.iter().fold((0, 0), |(length, crc), (part, part_crc)| {
            (length + part, combiner.append(crc, *part_crc, *part))
        })
    }
}

/// What of a file lies in one window: filled by worker threads in any order.
#[derive(Debug)]
pub(super) struct FilePart<H> {
    pub(super) file: Arc<OpenFile<H>>,
    /// Which part of it.
    pub(super) number: usize,
    pub(super) zeros: Vec<Range<u64>>,
    /// What lies in frames, as ranges of the file.
    pub(super) stored: Vec<Range<u64>>,
    pub(super) begun: AtomicBool,
    pub(super) pieces: Vec<Piece>,
    /// Pieces in frames that were not dealt with yet.
    pub(super) left: AtomicU32,
    /// Bytes of it that were there already.
    pub(super) kept: u64,
}

impl<H> FilePart<H> {
    /// True to exactly one caller: who writes the first piece.
    pub(super) fn begins(&self) -> bool {
        !self.begun.load(Ordering::Relaxed) && !self.begun.swap(true, Ordering::Relaxed)
    }

    /// Records the checksum of a piece that was written.
    pub(super) fn set_piece(&self, piece: u32, crc: u32) {
        if let Some(piece) = self.pieces.get(piece as usize) {
            piece.crc.store(crc, Ordering::Relaxed);
        }
    }

    /// One piece less to wait for; true to exactly one caller, when it was the last.
    pub(super) fn piece_done(&self) -> bool {
        // Acquire and release: who sees zero sees every piece's checksum.
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Length and checksum of the part, once every piece is there.
    pub(super) fn sum(&self, combiner: &mut Combiner) -> (u64, u32) {
        self.pieces.iter().fold((0, 0), |(length, crc), piece| {
            let own = piece.crc.load(Ordering::Relaxed);
            (length + piece.length, combiner.append(crc, own, piece.length))
        })
    }
}

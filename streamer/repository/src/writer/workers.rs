//! The worker threads: they look at pages, compare them and compress. Each has its contexts for its whole life.
//!
//! The queue has no bound of its own: what lies in it is bounded by the number of batches.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hardstorage_codec::{Compressor, KeyedHash, crc32c, is_zero};
use hardstorage_report::{Error, Result, code};

use super::ancestor_section::{AncestorSection, Found};
use super::batch::{Batch, Fate, Gathered, Item, Page, Payload};
use crate::layer::PageFacts;
use crate::pack::Codec;
use crate::{DataKey, RepoConfig};

/// What a worker can be asked.
#[derive(Debug)]
pub(super) enum Job {
    /// Look at every page of a batch.
    Examine(Box<Batch>),
    /// Compress a gathered frame.
    Compress(Box<Gathered>),
}

/// What the packer is told.
#[derive(Debug)]
pub(super) enum Told {
    /// A batch was examined.
    Examined(Box<Batch>),
    /// A gathered frame was compressed.
    Compressed(Box<Gathered>),
    /// The stream ended after so many batches.
    End(u64),
    /// A worker died; nothing will become of this backup.
    Died,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// Jobs on their way to the workers.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    state: Mutex<State>,
    ready: Condvar,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the queue half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; after `close` it is dropped.
    pub(super) fn push(&self, job: Job) {
        let mut state = self.lock();
        if !state.closed {
            state.jobs.push_back(job);
            drop(state);
            self.ready.notify_one();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops what waits and lets the workers end.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.jobs);
        drop(state);
        drop(waiting);
        self.ready.notify_all();
    }
}

/// What workers need to know.
#[derive(Debug, Clone)]
pub(super) struct Shop {
    pub(super) key: DataKey,
    pub(super) config: RepoConfig,
    pub(super) block_size: u32,
    /// Bytes that make a batch worth a frame of its own.
    pub(super) enough: usize,
    /// Zstandard level of gathered frames while what is gathered is little.
    pub(super) gathered_level: i32,
}

/// Starts the workers. They end when `jobs` is closed.
pub(super) fn start(count: usize, shop: &Shop, jobs: &Arc<Jobs>, packer: &Sender<Told>) -> Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for number in 0..count.max(1) {
        let (shop, jobs, packer) = (shop.clone(), Arc::clone(jobs), packer.clone());
        let thread = std::thread::Builder::new()
            .name(format!("backup-work-{number}"))
            .spawn(move || run(&shop, &jobs, packer))
            .map_err(|error| Error::new(code::storage::IO, "start a worker thread").source(error))?;
        threads.push(thread);
    }
    Ok(threads)
}

/// Tells the packer when its thread unwinds: without the answer that it owes, the packer would wait for ever.
struct Owed(Sender<Told>);

impl Drop for Owed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A packer that has ended needs no telling.
            let _ = self.0.send(Told::Died);
        }
    }
}

fn run(shop: &Shop, jobs: &Jobs, packer: Sender<Told>) {
    let packer = Owed(packer);
    let mut worker = Worker::new(shop);
    while let Some(job) = jobs.next() {
        let told = match job {
            Job::Examine(mut batch) => {
                worker.examine(&mut batch);
                Told::Examined(batch)
            }
            Job::Compress(mut gathered) => {
                let Gathered { raw, packed, few, .. } = &mut *gathered;
                let kind = if *few { FrameKind::Few } else { FrameKind::Gathered };
                gathered.payload = Some(worker.compress(raw, packed, kind));
                Told::Compressed(gathered)
            }
        };
        if packer.0.send(told).is_err() {
            return;
        }
    }
}

/// What a frame was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// All of a batch.
    Batch,
    /// Changed pages of several batches.
    Gathered,
    /// The same, and there were few so far.
    Few,
}

pub(super) struct Worker {
    page_hash: KeyedHash,
    frame_hash: KeyedHash,
    compressor: Compressor,
    gathered: Option<Compressor>,
    block_size: usize,
    zero_crc: u32,
    enough: usize,
}

impl Worker {
    pub(super) fn new(shop: &Shop) -> Worker {
        let same_level = shop.gathered_level == shop.config.level;
        Worker {
            page_hash: shop.key.page_hash(),
            frame_hash: shop.key.frame_hash(),
            compressor: Compressor::new(shop.config.level),
            gathered: (!same_level).then(|| Compressor::new(shop.gathered_level)),
            block_size: shop.block_size as usize,
            zero_crc: crc32c(&vec![0; shop.block_size as usize]),
            enough: shop.enough,
        }
    }

    /// Decides the fate of every page, and moves the pages that are kept to the front.
    pub(super) fn examine(&mut self, batch: &mut Batch) {
        let mut kept = 0usize;
        for item in &batch.items {
            let Item::Piece(piece) = item else { continue };
            let end = piece.offset as usize + piece.length as usize;
            let mut at = piece.offset as usize;
            let mut number = piece.first_page;
            while at < end {
                let length = self.block_size.min(end - at);
                let mut page = self.look(&batch.raw[at..at + length], number, piece.ancestor.as_deref());
                if let Fate::Stored(offset) = &mut page.fate {
                    *offset = kept as u32;
                    if kept != at {
                        batch.raw.copy_within(at..at + length, kept);
                    }
                    kept += length;
                    batch.kept += 1;
                }
                batch.pages.push(page);
                at += length;
                number += 1;
            }
        }
        batch.raw.truncate(kept);
        if kept >= self.enough {
            let Batch { raw, packed, .. } = batch;
            batch.payload = Some(self.compress(raw, packed, FrameKind::Batch));
        }
    }

    fn look(&self, bytes: &[u8], number: u32, ancestor: Option<&AncestorSection>) -> Page {
        if is_zero(bytes) {
            let whole = bytes.len() == self.block_size;
            let crc = if whole { self.zero_crc } else { crc32c(bytes) };
            return Page {
                facts: PageFacts { hash: 0, crc },
                fate: Fate::Zeros,
                again: false,
            };
        }
        let facts = PageFacts {
            hash: self.page_hash.hash64(bytes),
            crc: crc32c(bytes),
        };
        let found = ancestor.map_or(Found::Other, |section| section.find(number, bytes.len(), facts));
        Page {
            facts,
            fate: if found == Found::Same {
                Fate::Same
            } else {
                Fate::Stored(0)
            },
            again: found == Found::SameButUnusable,
        }
    }

    /// Leaves the payload in `packed`: compressed, or the raw bytes themselves when they do not shrink.
    pub(super) fn compress(&mut self, raw: &mut Vec<u8>, packed: &mut Vec<u8>, kind: FrameKind) -> Payload {
        let raw_len = raw.len() as u32;
        packed.clear();
        // Room for the tag too, so that sealing in place does not move the bytes.
        packed.reserve(raw.len() + 64);
        let shrunk = match (kind, &mut self.gathered) {
            (FrameKind::Few, Some(own)) => own.compress(raw, packed),
            (FrameKind::Batch, _) => self.compressor.compress(raw, packed),
            (FrameKind::Few | FrameKind::Gathered, _) => self.compressor.compress_after_trial(raw, packed),
        };
        let codec = if shrunk {
            Codec::Zstd
        } else {
            std::mem::swap(raw, packed);
            Codec::Raw
        };
        Payload {
            codec,
            raw_len,
            hash: self.frame_hash.hash128(packed),
        }
    }
}

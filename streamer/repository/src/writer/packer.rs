//! The packer: one thread that takes what the workers have done, in stream order, and alone numbers and seals.
//!
//! Whatever the workers' speed, what it does depends on the stream only: the same bytes in the same order make the same
//! packs. A batch that keeps little is gathered with others into one frame; frames are sealed in the order in which they
//! became complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use hardstorage_codec::BlockCrc;
use hardstorage_report::{Error, Result, code};

use super::batch::{Batch, Fate, FileHead, FreeBatches, Gathered, Item, Page, Payload, Piece};
use super::checkpoint::Checkpoints;
use super::crew::interrupted;
use super::entries::{Entries, INLINE_LEN};
use super::options::Finished;
use super::page_count::PageCount;
use super::section::Section;
use super::stream::PackStream;
use super::workers::{Job, Jobs, Told};
use crate::Totals;
use crate::layer::SECTION_LEN;

/// What sections that wait for a gathered frame may hold before that frame is closed early.
const WAITING_WEIGHT: usize = 8 << 20;

/// Changed pages are few when there is one among so many. At the higher level a page takes five times as long, so all pages
/// together then cost a tenth more at most.
const FEW: u64 = 64;

/// A frame whose payload is ready, waiting for its turn.
enum Ready {
    Batch(Box<Batch>, u64),
    Gathered(Box<Gathered>),
}

/// The file that is passing by.
struct CurrentFile {
    head: Box<FileHead>,
    seen: u64,
    crc: u32,
    open: bool,
}

#[expect(
    clippy::vec_box,
    reason = "gathered frames travel as boxes: nothing moves but a pointer"
)]
pub(super) struct Packer {
    told: Receiver<Told>,
    jobs: Arc<Jobs>,
    free: Arc<FreeBatches>,
    data: PackStream,
    checkpoints: Checkpoints,
    entries: Entries,
    block_size: u32,
    block_crc: BlockCrc,
    gathered_len: usize,
    next_batch: u64,
    waiting: BTreeMap<u64, Box<Batch>>,
    next_key: u64,
    next_turn: u64,
    sealed: u64,
    ready: BTreeMap<u64, Ready>,
    gathering: Option<Box<Gathered>>,
    idle: Vec<Box<Gathered>>,
    /// Weight of the sections closed since the gathered frame was begun.
    weight: usize,
    file: Option<CurrentFile>,
    section: Section,
    totals: Totals,
    pages: Arc<PageCount>,
    changed_pages: u64,
}

fn disorder() -> Error {
    Error::new(code::repository::OBJECT_CORRUPT, "the backup's stream came in disorder")
}

impl Packer {
    pub(super) fn new(
        told: Receiver<Told>,
        jobs: Arc<Jobs>,
        free: Arc<FreeBatches>,
        (data, checkpoints): (PackStream, Checkpoints),
        entries: Entries,
        block_size: u32,
        gathered_len: usize,
    ) -> Packer {
        Packer {
            told,
            jobs,
            free,
            data,
            checkpoints,
            entries,
            block_size,
            block_crc: BlockCrc::new(u64::from(block_size)),
            gathered_len,
            next_batch: 0,
            waiting: BTreeMap::new(),
            next_key: 0,
            next_turn: 0,
            sealed: 0,
            ready: BTreeMap::new(),
            gathering: None,
            idle: Vec::new(),
            weight: 0,
            file: None,
            section: Section::default(),
            totals: Totals::default(),
            pages: Arc::default(),
            changed_pages: 0,
        }
    }

    /// The pages seen so far.
    pub(super) fn pages(&self) -> Arc<PageCount> {
        Arc::clone(&self.pages)
    }

    /// Runs until the stream has ended and everything is stored.
    pub(super) fn run(mut self) -> Result<Finished> {
        let mut end = None;
        loop {
            match self.told.recv() {
                Ok(Told::Examined(batch)) => {
                    self.waiting.insert(batch.number, batch);
                }
                Ok(Told::Compressed(gathered)) => {
                    self.ready.insert(gathered.turn, Ready::Gathered(gathered));
                }
                Ok(Told::End(batches)) => end = Some(batches),
                Ok(Told::Died) | Err(_) => return Err(interrupted()),
            }
            while let Some(batch) = self.waiting.remove(&self.next_batch) {
                self.next_batch += 1;
                self.take(batch)?;
            }
            if end == Some(self.next_batch) {
                self.close_gathered();
            }
            self.seal()?;
            self.entries.advance(self.oldest_key())?;
            if end == Some(self.next_batch) && self.sealed == self.next_turn {
                return self.finish();
            }
        }
    }

    /// The oldest frame that pages still to come can refer to.
    fn oldest_key(&self) -> u64 {
        let gathering = self.gathering.as_ref().map(|gathered| gathered.key);
        let section = self.section.oldest_key();
        [gathering, section].into_iter().flatten().fold(self.next_key, u64::min)
    }

    fn new_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key - 1
    }

    fn take(&mut self, mut batch: Box<Batch>) -> Result<()> {
        let own_frame = batch.payload.is_some();
        let (key, shift) = if own_frame {
            (self.new_key(), 0)
        } else if batch.kept > 0 {
            self.gather(&batch)
        } else {
            (0, 0)
        };
        let mut pages = batch.pages.iter();
        for item in std::mem::take(&mut batch.items) {
            match item {
                Item::Start(head) => {
                    self.totals.files += 1;
                    self.totals.logical_bytes += head.size;
                    self.file = Some(CurrentFile {
                        head,
                        seen: 0,
                        crc: 0,
                        open: false,
                    });
                }
                Item::Piece(piece) => {
                    let count = piece.length.div_ceil(self.block_size) as usize;
                    self.begin_section(&piece)?;
                    for page in pages.by_ref().take(count) {
                        self.page(*page, key, !own_frame, shift)?;
                    }
                    self.end_section(piece.length)?;
                }
                Item::End => {
                    let file = self.file.take().ok_or_else(disorder)?;
                    if file.open || file.seen != file.head.size {
                        return Err(disorder());
                    }
                    self.entries.file(file.head, file.crc);
                }
                Item::Other(entry) => {
                    self.totals.files += 1;
                    self.entries.other(entry);
                }
            }
        }
        self.pages.set(&self.totals);
        if own_frame {
            let turn = self.next_turn;
            self.next_turn += 1;
            self.ready.insert(turn, Ready::Batch(batch, key));
        } else {
            self.free.give_back(batch);
        }
        if self.gathering.is_some() && self.weight > WAITING_WEIGHT {
            self.close_gathered();
        }
        self.seal()
    }

    fn begin_section(&mut self, piece: &Piece) -> Result<()> {
        let file = self.file.as_mut().ok_or_else(disorder)?;
        if !file.open {
            file.open = true;
            let length = (file.head.size - file.seen).min(SECTION_LEN);
            let inline = file.head.size <= INLINE_LEN;
            self.section
                .begin(self.block_size, length, inline, piece.ancestor.clone());
        }
        Ok(())
    }

    fn page(&mut self, page: Page, key: u64, gathered: bool, shift: u32) -> Result<()> {
        match page.fate {
            Fate::Zeros => self.totals.zero_pages += 1,
            Fate::Same => self.totals.reused_pages += 1,
            Fate::Stored(_) => {
                self.totals.new_pages += 1;
                self.changed_pages += u64::from(!page.again);
            }
        }
        let file = self.file.as_mut().ok_or_else(disorder)?;
        let length = (file.head.size - file.seen).min(u64::from(self.block_size));
        file.seen += length;
        file.crc = if length == u64::from(self.block_size) {
            self.block_crc.combine(file.crc, page.facts.crc)
        } else {
            BlockCrc::new(length).combine(file.crc, page.facts.crc)
        };
        self.section.push(page, key, gathered, shift);
        Ok(())
    }

    fn end_section(&mut self, piece: u32) -> Result<()> {
        let file = self.file.as_mut().ok_or_else(disorder)?;
        debug_assert!(file.seen >= u64::from(piece));
        if self.section.is_complete() {
            file.open = false;
            let closed = self.section.close();
            self.weight += closed.weight();
            self.entries.section(closed);
        }
        Ok(())
    }

    /// Adds what a batch keeps to the gathered frame; its key, and where in it the bytes begin.
    fn gather(&mut self, batch: &Batch) -> (u64, u32) {
        let full = |gathered: &Gathered| gathered.raw.len() + batch.raw.len() > self.gathered_len;
        if self.gathering.as_deref().is_some_and(full) {
            self.close_gathered();
        }
        let mut gathered = self.gathering.take().unwrap_or_else(|| {
            self.weight = 0;
            let mut idle = self.idle.pop().unwrap_or_default();
            idle.key = self.next_key;
            self.next_key += 1;
            idle.raw.clear();
            idle.raw.reserve(self.gathered_len);
            idle.pages = 0;
            idle
        });
        let at = gathered.raw.len() as u32;
        gathered.raw.extend_from_slice(&batch.raw);
        gathered.pages += batch.kept;
        let key = gathered.key;
        self.gathering = Some(gathered);
        (key, at)
    }

    fn close_gathered(&mut self) {
        if let Some(mut gathered) = self.gathering.take() {
            gathered.turn = self.next_turn;
            self.next_turn += 1;
            // By counts of the stream, not by how fast it goes: the same stream makes the same packs.
            let Totals {
                new_pages,
                reused_pages,
                zero_pages,
                ..
            } = self.totals;
            gathered.few = new_pages * FEW <= new_pages + reused_pages + zero_pages;
            self.jobs.push(Job::Compress(gathered));
        }
    }

    /// Seals the frames whose turn it is.
    fn seal(&mut self) -> Result<()> {
        while let Some(ready) = self.ready.remove(&self.sealed) {
            self.sealed += 1;
            match ready {
                Ready::Batch(mut batch, key) => {
                    self.put(batch.payload, &mut batch.packed, key, batch.kept)?;
                    self.free.give_back(batch);
                }
                Ready::Gathered(mut gathered) => {
                    let (key, pages) = (gathered.key, gathered.pages);
                    self.put(gathered.payload, &mut gathered.packed, key, pages)?;
                    self.idle.push(gathered);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, payload: Option<Payload>, packed: &mut Vec<u8>, key: u64, pages: u32) -> Result<()> {
        let payload = payload.ok_or_else(disorder)?;
        let placed = self.data.put(payload, packed, u64::from(pages))?;
        self.entries.placed(key, placed);
        if self.data.is_between_packs() {
            self.checkpoints.pack_filled(&self.data, &mut self.entries.tables)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Finished> {
        if self.file.is_some() || !self.entries.is_done() {
            return Err(disorder());
        }
        let written = self.data.end()?;
        self.totals.new_packs = written.len() as u64;
        let mut tables = self.entries.tables;
        tables.packs.written(written);
        let (roots, meta) = tables.finish(self.changed_pages)?;
        self.data.settle()?;
        self.checkpoints.end()?;
        self.totals.stored_bytes = self.data.stored() + meta.stored;
        self.totals.new_packs += meta.packs;
        self.totals.needed_packs = roots.packs.len() as u64;
        Ok(Finished {
            file_table: roots.file_table,
            pack_list: roots.pack_list,
            totals: self.totals,
            packs: roots.packs,
            list_length: roots.list_length,
        })
    }
}

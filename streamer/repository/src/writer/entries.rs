//! Turns what has passed by into layers and entries, in stream order, as soon as every frame that they refer to has its
//! place.

use std::collections::{BTreeMap, HashMap, VecDeque};

use hardstorage_report::{Error, Result, code};

use super::batch::FileHead;
use super::section::{Closed, Draft, DraftPlace};
use super::stream::Placed;
use super::tables::{Tables, Uses};
use crate::layer::{LayerMap, MapFrame, MapRun, encode_column};
use crate::table::{Entry, EntryKind, FileEntry, LayerRefs};
use crate::{PackId, PackKind};

/// Files up to this size keep their maps in their entries.
pub(super) const INLINE_LEN: u64 = 1 << 20;

/// What waits for places.
enum Waiting {
    Section(Box<Closed>),
    File(Box<FileHead>, u32),
    Other(Box<Entry>),
}

/// Frames by the key that pages refer to them with, and what waits for them.
pub(super) struct Entries {
    pub(super) tables: Tables,
    block_size: u32,
    placed: BTreeMap<u64, Placed>,
    waiting: VecDeque<Waiting>,
    /// Keys of the first waiting section that have been found.
    found: usize,
    sections: Vec<Vec<LayerRefs>>,
    uses: Uses,
}

fn lost() -> Error {
    Error::new(
        code::repository::OBJECT_CORRUPT,
        "a page of the backup has lost its place",
    )
}

impl Entries {
    pub(super) fn new(tables: Tables, block_size: u32) -> Entries {
        Entries {
            tables,
            block_size,
            placed: BTreeMap::new(),
            waiting: VecDeque::new(),
            found: 0,
            sections: Vec::new(),
            uses: Uses::new(),
        }
    }

    /// A frame has its place.
    pub(super) fn placed(&mut self, key: u64, placed: Placed) {
        self.placed.insert(key, placed);
    }

    /// A section of the file that will end next.
    pub(super) fn section(&mut self, section: Closed) {
        self.waiting.push_back(Waiting::Section(Box::new(section)));
    }

    /// The file of the sections before; `crc` is of all its bytes.
    pub(super) fn file(&mut self, head: Box<FileHead>, crc: u32) {
        self.waiting.push_back(Waiting::File(head, crc));
    }

    /// A directory or symbolic link.
    pub(super) fn other(&mut self, entry: Box<Entry>) {
        self.waiting.push_back(Waiting::Other(entry));
    }

    /// Writes what need not wait any more. `oldest` is the oldest key that what is still to come can refer to.
    pub(super) fn advance(&mut self, oldest: u64) -> Result<()> {
        let mut written = false;
        while let Some(first) = self.waiting.front() {
            if let Waiting::Section(section) = first {
                while let Some((key, _)) = section.keys.get(self.found) {
                    if !self.placed.contains_key(key) {
                        break;
                    }
                    self.found += 1;
                }
                if self.found < section.keys.len() {
                    break;
                }
            }
            self.found = 0;
            match self.waiting.pop_front() {
                Some(Waiting::Section(section)) => {
                    let layers = self.layers(&section)?;
                    self.sections.push(layers);
                    written = true;
                }
                Some(Waiting::File(head, crc)) => self.end_file(*head, crc)?,
                Some(Waiting::Other(entry)) => self.tables.entry(*entry)?,
                None => {}
            }
        }
        if written {
            self.forget(oldest);
        }
        Ok(())
    }

    /// Whether everything has been written.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops places that nobody can ask for any more.
    fn forget(&mut self, oldest: u64) {
        let waiting = self.waiting.iter().filter_map(|waiting| match waiting {
            Waiting::Section(section) => section.oldest_key(),
            _ => None,
        });
        let floor = waiting.min().map_or(oldest, |key| key.min(oldest));
        self.placed = self.placed.split_off(&floor);
    }

    fn end_file(&mut self, head: FileHead, crc: u32) -> Result<()> {
        let uses = std::mem::take(&mut self.uses);
        let file = FileEntry {
            size: head.size,
            crc,
            block_size: self.block_size,
            uses: self.tables.account(&uses),
            sections: std::mem::take(&mut self.sections),
        };
        self.tables.entry(Entry {
            key: head.key,
            order: head.order,
            mode: head.mode,
            mtime: head.mtime,
            kind: EntryKind::File(file),
        })
    }

    fn layers(&mut self, section: &Closed) -> Result<Vec<LayerRefs>> {
        for (id, pages) in &section.old_packs {
            let number = self.tables.packs.number(*id, PackKind::Data);
            *self.uses.entry(number).or_default() += pages;
        }
        for (key, pages) in &section.keys {
            let placed = self.placed.get(key).ok_or_else(lost)?;
            let number = self.tables.packs.number(placed.pack, PackKind::Data);
            *self.uses.entry(number).or_default() += pages;
        }
        let mut layers = Vec::new();
        let stays = section.draft.as_ref().is_none_or(|draft| !draft.base);
        if let Some(ancestor) = section.ancestor.as_ref().filter(|_| stays) {
            for layer in &ancestor.layers {
                let pack_of = |number| ancestor.meta_pack(number).map(|pack| pack.id);
                layers.push(self.tables.take_over(layer, pack_of, &mut self.uses)?);
            }
        }
        if let Some(draft) = &section.draft {
            let map = self.map(section, draft)?;
            let column = encode_column(draft.facts.iter().copied());
            layers.push(LayerRefs {
                map: self.tables.value(map.encode(), section.inline, &mut self.uses)?,
                column: self.tables.value(column, section.inline, &mut self.uses)?,
            });
        }
        Ok(layers)
    }

    /// The map of a draft, now that every frame has its place.
    fn map(&self, section: &Closed, draft: &Draft) -> Result<LayerMap> {
        let mut map = LayerMap {
            block_size: self.block_size,
            base: draft.base,
            length: section.length,
            packs: Vec::new(),
            frames: Vec::new(),
            runs: Vec::with_capacity(draft.runs.len()),
        };
        let mut frames: HashMap<DraftPlace, u32> = HashMap::new();
        let mut packs: HashMap<PackId, u32> = HashMap::new();
        for run in &draft.runs {
            let (pack, at, pages) = match run.place {
                DraftPlace::Zeros => {
                    map.runs.push(MapRun {
                        first: run.first,
                        pages: run.pages,
                        place: None,
                    });
                    continue;
                }
                DraftPlace::New(index) => {
                    let (key, pages) = section.keys.get(index as usize).ok_or_else(lost)?;
                    let placed = self.placed.get(key).ok_or_else(lost)?;
                    (placed.pack, placed.at, *pages)
                }
                DraftPlace::Old(frame) => {
                    let old = section.ancestor.as_ref().map(|ancestor| &ancestor.map);
                    let found = old.and_then(|old| {
                        let frame = old.frames().get(frame as usize)?;
                        Some((*old.packs().get(frame.at.pack as usize)?, frame.at, frame.pages))
                    });
                    found.ok_or_else(lost)?
                }
            };
            let next = map.frames.len() as u32;
            let frame = *frames.entry(run.place).or_insert(next);
            if frame == next {
                let next = map.packs.len() as u32;
                let number = *packs.entry(pack).or_insert(next);
                if number == next {
                    map.packs.push(pack);
                }
                let at = crate::pack::FramePos { pack: number, ..at };
                map.frames.push(MapFrame { at, pages });
            }
            map.runs.push(MapRun {
                first: run.first,
                pages: run.pages,
                place: Some((frame, run.offset)),
            });
        }
        Ok(map)
    }
}

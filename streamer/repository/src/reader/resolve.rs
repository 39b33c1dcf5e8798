//! From the maps of files to windows: resolves stacks of layers and adds what they say to the window at hand.
//!
//! With columns at hand it also adds up the checksums of a file's pages, which must make up the checksum of the file.
//! Everything here computes, and waits for room in the channel that takes finished windows: it runs on a blocking thread.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use hardstorage_report::{Error, Result, code};
use tokio::sync::mpsc;

use super::backup::BackupReader;
use super::checksum::Combiner;
use super::file::OpenFile;
use super::present::Comparer;
use super::report::ContentDamage;
use super::window::{Window, WindowLimits};
use super::window_builder::WindowBuilder;
use crate::PackKind;
use crate::layer::{LayerMap, PageFacts, PageMap, PagePlace, SECTION_LEN, decode_column};
use crate::table::{LayerRefs, Value};

/// What the planner says.
pub(super) enum Planned<H> {
    /// Files to be moved.
    Window(Window<H>),
    /// Something that they need is damaged.
    Damaged(ContentDamage),
}

/// The stored forms of a layer's map and column.
pub(super) type RawLayer = (Vec<u8>, Option<Vec<u8>>);

/// The windows that are being gathered.
pub(super) struct Builders<H> {
    large: WindowBuilder<H>,
    small: WindowBuilder<H>,
    limits: (WindowLimits, WindowLimits),
    plan: mpsc::Sender<Planned<H>>,
    /// With columns: the pack list to hold the maps against.
    strict: Option<BackupReader>,
    /// With columns: what is there already.
    present: Option<Comparer>,
    /// The part of the current file that `large` is at, when one was begun.
    part: usize,
    begun: bool,
    /// With columns: the checksum of the current file's sections so far.
    sum: u32,
    combiner: Combiner,
}

impl<H> Builders<H> {
    pub(super) fn new(
        limits: (WindowLimits, WindowLimits),
        plan: mpsc::Sender<Planned<H>>,
        strict: Option<BackupReader>,
    ) -> Builders<H> {
        Builders {
            large: WindowBuilder::new(limits.0),
            small: WindowBuilder::new(limits.1),
            limits,
            plan,
            strict,
            present: None,
            part: 0,
            begun: false,
            sum: 0,
            combiner: Combiner::default(),
        }
    }

    pub(super) fn comparing(mut self, present: Option<Comparer>) -> Builders<H> {
        self.present = present;
        self
    }

    pub(super) async fn tell(&self, damage: ContentDamage) -> Result<()> {
        self.plan.send(Planned::Damaged(damage)).await.map_err(|_| abandoned())
    }

    fn send(&self, planned: Planned<H>) -> Result<()> {
        self.plan.blocking_send(planned).map_err(|_| abandoned())
    }

    pub(super) fn damaged(&self, file: &OpenFile<H>, damage: ContentDamage) -> Result<()> {
        file.set_damaged();
        self.send(Planned::Damaged(damage))
    }

    pub(super) fn small_file(&mut self, file: &Arc<OpenFile<H>>, sections: Vec<Vec<LayerRefs>>) -> Result<()> {
        self.small.part(Arc::clone(file), 0, 0);
        self.sum = 0;
        let count = sections.len();
        for (index, layers) in sections.into_iter().enumerate() {
            let layers: Vec<RawLayer> = layers
                .into_iter()
                .filter_map(|layer| match (layer.map, layer.column) {
                    (Value::Here(map), Value::Here(column)) => Some((map, Some(column))),
                    _ => None,
                })
                .collect();
            self.resolve(file, index, index + 1 == count, &layers, true)?;
        }
        if self.small.is_full() {
            let window = std::mem::replace(&mut self.small, WindowBuilder::new(self.limits.1)).finish();
            self.send(Planned::Window(window))?;
        }
        Ok(())
    }

    /// Adds a section of a large file. Without layers it is known to be lost.
    pub(super) fn section(
        &mut self,
        file: &Arc<OpenFile<H>>,
        index: usize,
        last: bool,
        layers: &[RawLayer],
    ) -> Result<()> {
        if index == 0 {
            (self.part, self.sum) = (0, 0);
        }
        if !self.begun {
            self.large.part(Arc::clone(file), self.part, index as u64 * SECTION_LEN);
            self.begun = true;
        }
        if !layers.is_empty() {
            self.resolve(file, index, last, layers, false)?;
        }
        if last {
            self.begun = false;
        }
        if self.large.is_full() {
            if !last {
                self.large.goes_on();
                self.part += 1;
                self.begun = false;
            }
            let window = std::mem::replace(&mut self.large, WindowBuilder::new(self.limits.0)).finish();
            self.send(Planned::Window(window))?;
        }
        Ok(())
    }

    fn resolve(
        &mut self,
        file: &OpenFile<H>,
        index: usize,
        last: bool,
        layers: &[RawLayer],
        small: bool,
    ) -> Result<()> {
        let Err(error) = self.pieces(file, index, last, layers, small) else {
            return Ok(());
        };
        let name = file.info.key.to_string();
        self.damaged(
            file,
            ContentDamage {
                pack: None,
                object: String::new(),
                frame: None,
                pack_missing: false,
                reason: format!("{name}: {error}"),
                files: BTreeSet::from([name]),
            },
        )
    }

    fn pieces(&mut self, file: &OpenFile<H>, index: usize, last: bool, layers: &[RawLayer], small: bool) -> Result<()> {
        let corrupt = |problem: &str| Err(Error::new(code::repository::OBJECT_CORRUPT, problem));
        let mut decoded: Vec<(LayerMap, Option<Vec<PageFacts>>)> = Vec::with_capacity(layers.len());
        for (map, column) in layers {
            let map = LayerMap::decode(map)?;
            let column = match column {
                Some(column) if self.strict.is_some() => Some(decode_column(column, map.stored_pages())?),
                _ => None,
            };
            decoded.push((map, column));
        }
        let map = PageMap::resolve(&decoded)?;
        drop(decoded);
        let start = index as u64 * SECTION_LEN;
        if map.length() != file.info.size.saturating_sub(start).min(SECTION_LEN) {
            return corrupt("a section of its map has another length than the file");
        }
        // Of the packs that pages lie in: a layer below may point into others, of which nothing is needed any more.
        let unlisted: Vec<bool> = match &self.strict {
            Some(backup) => {
                let listed = |pack| backup.kind_of(pack) == Some(PackKind::Data);
                map.packs().iter().map(|pack| !listed(pack)).collect()
            }
            None => Vec::new(),
        };
        let equal = match &self.present {
            Some(present) => present.equal_pages(&file.info, start, &map)?,
            None => Vec::new(),
        };
        let builder = if small { &mut self.small } else { &mut self.large };
        builder.seek(start);
        for run in map.runs() {
            match run.place {
                PagePlace::Zeros => builder.zeros(u64::from(run.bytes)),
                PagePlace::Stored { frame, offset } => {
                    let frame = map.frames().get(frame as usize);
                    let pack = frame.and_then(|frame| map.packs().get(frame.at.pack as usize));
                    let (Some(frame), Some(pack)) = (frame, pack) else {
                        return corrupt("its map points at a frame that it does not hold");
                    };
                    if unlisted.get(frame.at.pack as usize) == Some(&true) {
                        return corrupt(&format!(
                            "its map points into pack {}/{:08x}, which the backup does not list",
                            pack.writer, pack.sequence
                        ));
                    }
                    let mut offset = offset;
                    for part in parts(&map, run.first..run.first + run.pages, &equal) {
                        if part.equal {
                            builder.kept(part.bytes, part.crc(&map, &mut self.combiner));
                        } else {
                            builder.piece(*pack, &frame.at, offset, part.bytes)?;
                        }
                        offset += part.bytes;
                    }
                }
            }
        }
        if self.strict.is_some() {
            self.add_up(&map);
            if last && self.sum != file.info.crc32c {
                return corrupt("the checksums of its pages do not make up the checksum of the file");
            }
        }
        Ok(())
    }

    /// Goes on with the file's checksum by those of a section's pages.
    fn add_up(&mut self, map: &PageMap) {
        for run in map.runs() {
            if run.place == PagePlace::Zeros {
                let zeros = self.combiner.zeros(u64::from(run.bytes));
                self.sum = self.combiner.append(self.sum, zeros, u64::from(run.bytes));
                continue;
            }
            for page in run.first..run.first + run.pages {
                let crc = map.facts(page).map_or(0, |facts| facts.crc);
                self.sum = self.combiner.append(self.sum, crc, u64::from(map.page_len(page)));
            }
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        for builder in [self.large, self.small] {
            if !builder.is_empty() {
                let window = builder.finish();
                self.plan
                    .blocking_send(Planned::Window(window))
                    .map_err(|_| abandoned())?;
            }
        }
        Ok(())
    }
}

/// Pages of a run that follow each other and are all there already, or all not.
struct Part {
    pages: Range<u32>,
    bytes: u32,
    equal: bool,
}

impl Part {
    /// The checksum of its bytes.
    fn crc(&self, map: &PageMap, combiner: &mut Combiner) -> u32 {
        self.pages.clone().fold(0, |crc, page| {
            let own = map.facts(page).map_or(0, |facts| facts.crc);
            combiner.append(crc, own, u64::from(map.page_len(page)))
        })
    }
}

fn parts(map: &PageMap, run: Range<u32>, equal: &[bool]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for page in run {
        let is_equal = equal.get(page as usize) == Some(&true);
        match parts.last_mut() {
            Some(part) if part.equal == is_equal => {
                part.pages.end = page + 1;
                part.bytes += map.page_len(page);
            }
            _ => parts.push(Part {
                pages: page..page + 1,
                bytes: map.page_len(page),
                equal: is_equal,
            }),
        }
    }
    parts
}

/// The run that was planned for has ended: its own error says why.
fn abandoned() -> Error {
    Error::new(code::cli::INTERRUPTED, "stopped before the end")
}

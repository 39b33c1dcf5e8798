//! Turns the file table into windows: reads entries and maps, resolves them, and says for each file where its bytes lie.
//!
//! Small files carry their maps in their entries and are gathered in a window of their own, because files of one
//! directory share frames; large files' maps are read a batch at a time. The planner is held back by the channel that
//! it plans into.

use std::collections::BTreeSet;
use std::sync::Arc;

use hardstorage_report::{Error, Result, code};
use tokio::sync::mpsc;

use super::backup::{BackupReader, Entries};
use super::fetch;
use super::file::OpenFile;
use super::meta::{BadFrame, Wanted};
use super::present::Comparer;
use super::report::ContentDamage;
use super::resolve::{Builders, Planned, RawLayer};
use super::sink::FileInfo;
use super::window::WindowLimits;
use crate::table::{Entry, EntryKind, LayerRefs, Value};

/// Which entries a run is about.
pub type Selection = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// Up to this length files carry their maps in their entries.
const SMALL_FILE: u64 = 1 << 20;
/// Raw bytes of maps that are read together, beyond the first section.
const BATCH_BYTES: u64 = 8 << 20;
/// Sections that are read together.
const BATCH_SECTIONS: usize = 64;
/// Small files that are resolved together.
const BATCH_SMALL: usize = 256;

/// A section whose maps must be read.
struct Section<H> {
    file: Arc<OpenFile<H>>,
    index: usize,
    last: bool,
    layers: Vec<LayerRefs>,
}

/// A file and its sections' layers, whose values are in them.
type SmallFile<H> = (Arc<OpenFile<H>>, Vec<Vec<LayerRefs>>);

/// Plans.
pub(super) struct Planner<H> {
    backup: BackupReader,
    entries: Entries,
    select: Option<Selection>,
    /// Also read the columns, and compare what they add up to with the file's checksum.
    columns: bool,
    present: Option<Comparer>,
    batch: Vec<Section<H>>,
    batch_bytes: u64,
    small: Vec<SmallFile<H>>,
}

impl<H: Send + Sync + 'static> Planner<H> {
    pub(super) fn new(backup: &BackupReader, select: Option<Selection>, columns: bool) -> Planner<H> {
        Planner::of(backup, backup.stored_order(), select, columns)
    }

    /// Of these entries only.
    pub(super) fn of(backup: &BackupReader, entries: Entries, select: Option<Selection>, columns: bool) -> Planner<H> {
        Planner {
            backup: backup.clone(),
            entries,
            select,
            columns,
            present: None,
            batch: Vec::new(),
            batch_bytes: 0,
            small: Vec::new(),
        }
    }

    /// Leaves out what is there already, which the columns tell.
    pub(super) fn comparing(mut self, present: Option<Comparer>) -> Planner<H> {
        self.columns |= present.is_some();
        self.present = present;
        self
    }

    /// Plans until the end of the file table.
    pub(super) async fn run(
        mut self,
        limits: (WindowLimits, WindowLimits),
        plan: mpsc::Sender<Planned<H>>,
    ) -> Result<()> {
        let mut builders =
            Builders::new(limits, plan, self.columns.then(|| self.backup.clone())).comparing(self.present.take());
        while let Some(next) = self.entries.next_or_bad().await? {
            let entry = match next {
                Ok(entry) => entry,
                Err(bad) => {
                    let damage = of_frame(
                        &self.backup,
                        &bad,
                        BTreeSet::new(),
                        "a part of the file table is lost: ",
                    );
                    builders.tell(damage).await?;
                    continue;
                }
            };
            if self.select.as_ref().is_none_or(|select| select(&entry)) {
                builders = self.add(entry, builders).await?;
            }
        }
        builders = self.flush_small(builders).await?;
        builders = self.flush(builders).await?;
        blocking(move || builders.finish()).await
    }

    async fn flush_small(&mut self, mut builders: Builders<H>) -> Result<Builders<H>> {
        let files = std::mem::take(&mut self.small);
        blocking(move || {
            for (file, sections) in files {
                builders.small_file(&file, sections)?;
            }
            Ok(builders)
        })
        .await
    }

    async fn add(&mut self, entry: Entry, mut builders: Builders<H>) -> Result<Builders<H>> {
        let Some(info) = FileInfo::of(&entry) else {
            return Ok(builders);
        };
        let EntryKind::File(content) = entry.kind else {
            return Ok(builders);
        };
        let file = OpenFile::new(Arc::new(info));
        let here = |layer: &LayerRefs| matches!((&layer.map, &layer.column), (Value::Here(_), Value::Here(_)));
        if content.size <= SMALL_FILE && content.sections.iter().flatten().all(here) {
            self.small.push((file, content.sections));
            if self.small.len() >= BATCH_SMALL {
                builders = self.flush_small(builders).await?;
            }
            return Ok(builders);
        }
        let count = content.sections.len();
        for (index, layers) in content.sections.into_iter().enumerate() {
            let frames = layers.iter().flat_map(|layer| {
                let column = if self.columns { layer.column.frames() } else { &[] };
                layer.map.frames().iter().chain(column)
            });
            self.batch_bytes += frames.map(|frame| u64::from(frame.raw_len)).sum::<u64>();
            self.batch.push(Section {
                file: Arc::clone(&file),
                index,
                last: index + 1 == count,
                layers,
            });
            if self.batch.len() >= BATCH_SECTIONS || self.batch_bytes >= BATCH_BYTES {
                builders = self.flush(builders).await?;
            }
        }
        Ok(builders)
    }

    /// Reads the maps of the batch and gives its sections to the windows.
    async fn flush(&mut self, mut builders: Builders<H>) -> Result<Builders<H>> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let columns = self.columns;
        let mut wanted = Vec::new();
        for layer in batch.iter().flat_map(|section| &section.layers) {
            wanted.extend_from_slice(layer.map.frames());
            if columns {
                wanted.extend_from_slice(layer.column.frames());
            }
        }
        let wanted = wanted
            .iter()
            .map(|pos| self.backup.meta_frame(pos))
            .collect::<Result<Vec<Wanted>>>()?;
        let mut frames = self.backup.meta().frames(&wanted).await?.into_iter();
        let backup = self.backup.clone();
        blocking(move || {
            for section in batch {
                let Section {
                    file,
                    index,
                    last,
                    layers,
                } = section;
                // Take all of the section's frames off the list first, whatever is wrong with one of them.
                let values: Vec<_> = layers
                    .into_iter()
                    .map(|layer| {
                        let map = value(layer.map, &mut frames);
                        let column = columns.then(|| value(layer.column, &mut frames));
                        (map, column)
                    })
                    .collect();
                let layers: Result<Vec<RawLayer>, BadFrame> = values
                    .into_iter()
                    .map(|(map, column)| Ok((map?, column.transpose()?)))
                    .collect();
                match layers {
                    Ok(layers) => builders.section(&file, index, last, &layers)?,
                    Err(bad) => {
                        let files = BTreeSet::from([file.info.key.to_string()]);
                        builders.damaged(&file, of_frame(&backup, &bad, files, "the map of a file is lost: "))?;
                        builders.section(&file, index, last, &[])?;
                    }
                }
            }
            Ok(builders)
        })
        .await
    }
}

/// Puts a value together from the frames that were read for it.
fn value(value: Value, frames: &mut impl Iterator<Item = Result<Vec<u8>, BadFrame>>) -> Result<Vec<u8>, BadFrame> {
    match value {
        Value::Here(bytes) => Ok(bytes),
        Value::Frames(places) => {
            // Every frame is taken, so that the next value finds its own.
            let parts: Vec<_> = frames.take(places.len()).collect();
            let mut parts = parts.into_iter();
            let mut whole = parts.next().unwrap_or_else(|| Ok(Vec::new()))?;
            for part in parts {
                whole.extend_from_slice(&part?);
            }
            Ok(whole)
        }
    }
}

fn of_frame(backup: &BackupReader, bad: &BadFrame, files: BTreeSet<String>, what: &str) -> ContentDamage {
    ContentDamage {
        pack: Some((bad.pack, bad.kind)),
        object: fetch::object(backup.deployment(), bad.pack),
        frame: (!bad.pack_missing).then_some(bad.frame),
        pack_missing: bad.pack_missing,
        files,
        reason: format!("{what}{}", bad.reason),
    }
}

/// Runs what computes, or what waits for room in a channel, beside the asynchronous threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(code::cli::INTERNAL, "planning ended unexpectedly").source(error))?
}

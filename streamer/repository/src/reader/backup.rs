//! A backup opened for reading: its pack list, the index of its file table, and what can be done with them.
//!
//! The manifest's signature covers the two roots; the roots' hashes cover the pack list and the index; those cover the
//! hashes of the table's frames, which cover the maps, which cover every frame of content.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hardstorage_report::{Error, Result, code};

use super::meta::{BadFrame, MetaReader, Wanted};
use super::options::ReadOptions;
use super::plan::{Planner, Selection};
use super::present::Comparer;
use super::report::ContentReport;
use super::run;
use super::sink::FileSink;
use crate::pack::FramePos;
use crate::table::{Entry, EntryKey, PackList, TableFrame, TableIndex};
use crate::{Deployment, PackId, PackKind, Root};

/// Frames of the file table that are kept. A table that has no more is read once, by whoever comes first.
const KEPT_FRAMES: usize = 8;
/// Frames of the file table that a stream reads ahead.
const AHEAD: usize = 4;

/// A backup, ready to be read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BackupReader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    meta: MetaReader,
    pack_list: Root,
    /// The pack list without what only verification needs; places in the file table are indexes into it.
    packs: Vec<(PackId, PackKind)>,
    /// The same, sorted.
    known: Vec<(PackId, PackKind)>,
    index: TableIndex,
    recent: Mutex<VecDeque<(FramePos, Arc<Vec<u8>>)>>,
}

impl BackupReader {
    /// Reads and checks the roots that a verified manifest names.
    pub async fn open(deployment: &Deployment, file_table: &Root, pack_list: &Root) -> Result<BackupReader> {
        let meta = MetaReader::new(deployment);
        let (list, index) = tokio::try_join!(meta.root(pack_list, "pack list"), meta.root(file_table, "file table"))?;
        let list = PackList::decode(&list)?;
        let packs: Vec<(PackId, PackKind)> = list.packs.iter().map(|pack| (pack.id, pack.kind)).collect();
        drop(list);
        let mut known = packs.clone();
        known.sort_unstable_by_key(|(pack, _)| *pack);
        let index = TableIndex::decode(&index)?;
        Ok(BackupReader(Arc::new(Inner {
            meta,
            pack_list: pack_list.clone(),
            packs,
            known,
            index,
            recent: Mutex::default(),
        })))
    }

    /// The deployment that it belongs to.
    pub fn deployment(&self) -> &Deployment {
        self.0.meta.deployment()
    }

    /// The packs that it needs. Read again from the store: a large backup's list is too long to be kept.
    pub async fn pack_list(&self) -> Result<PackList> {
        PackList::decode(&self.0.meta.root(&self.0.pack_list, "pack list").await?)
    }

    /// How many files, directories and links it has.
    pub fn entry_count(&self) -> u64 {
        self.0.index.entries
    }

    /// The entry of this name.
    pub async fn lookup(&self, key: &EntryKey) -> Result<Option<Entry>> {
        for run in &self.0.index.runs {
            let after = run.frames.partition_point(|frame| frame.first <= *key);
            let Some(frame) = after.checked_sub(1).and_then(|frame| run.frames.get(frame)) else {
                continue;
            };
            let raw = self.table_frame(frame).await?;
            let mut rest = &raw[..];
            while let Some(entry) = Entry::next(&mut rest)? {
                if entry.key == *key {
                    return Ok(Some(entry));
                }
                if entry.key > *key {
                    break;
                }
            }
        }
        Ok(None)
    }

    async fn table_frame(&self, frame: &TableFrame) -> Result<Arc<Vec<u8>>> {
        let mut frames = self.table_frames(std::slice::from_ref(frame)).await?;
        let raw = frames.pop().unwrap_or_else(|| Ok(Arc::default()));
        raw.map_err(|bad| lost_table(&bad, self.deployment()))
    }

    fn kept(&self, at: &FramePos) -> Option<Arc<Vec<u8>>> {
        let recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().find(|(pos, _)| pos == at).map(|(_, raw)| Arc::clone(raw))
    }

    fn keep(&self, at: FramePos, raw: &Arc<Vec<u8>>) {
        let mut kept = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_FRAMES {
            kept.pop_front();
        }
        kept.push_back((at, Arc::clone(raw)));
    }

    /// Frames of the table, kept or read; all that are not kept with one call.
    async fn table_frames(&self, frames: &[TableFrame]) -> Result<Vec<Result<Arc<Vec<u8>>, BadFrame>>> {
        let kept: Vec<Option<Arc<Vec<u8>>>> = frames.iter().map(|frame| self.kept(&frame.at)).collect();
        let missing: Vec<&TableFrame> = frames
            .iter()
            .zip(&kept)
            .filter_map(|(frame, kept)| kept.is_none().then_some(frame))
            .collect();
        let wanted = missing.iter().map(|frame| self.meta_frame(&frame.at));
        let wanted = wanted.collect::<Result<Vec<_>>>()?;
        let mut read = missing.into_iter().zip(self.0.meta.frames(&wanted).await?);
        let found = kept.into_iter().map(|kept| match kept {
            Some(raw) => Some(Ok(raw)),
            None => read.next().map(|(frame, raw)| {
                let raw = Arc::new(raw?);
                self.keep(frame.at, &raw);
                Ok(raw)
            }),
        });
        let found: Option<Vec<_>> = found.collect();
        found.ok_or_else(|| Error::new(code::cli::INTERNAL, "a read of the file table answered too few frames"))
    }

    /// Every entry, sorted by tablespace and path.
    pub fn entries(&self) -> Entries {
        Entries::new(self, (0..self.0.index.runs.len()).map(|run| run..run + 1).collect())
    }

    /// Every entry, run after run: for a large backup this is nearer to the order in which packs were filled.
    pub(super) fn stored_order(&self) -> Entries {
        Entries::new(self, std::iter::once(0..self.0.index.runs.len()).collect())
    }

    /// Sends every selected regular file to `sink`. Damage is told in the report ([`ContentReport::failure`]) and recorded
    /// in the repository when it can be written; an error is a store or a sink that fails, or the end asked for. It ends
    /// by `options.cancel`, with all its threads; of a call that is dropped instead, threads may still write for a moment.
    pub async fn restore<S: FileSink>(
        &self,
        sink: Arc<S>,
        select: Option<Selection>,
        options: &ReadOptions,
    ) -> Result<ContentReport> {
        let present = options.present.clone().map(|files| {
            let hash = self.deployment().key().page_hash();
            Comparer::new(files, hash, options.jobs)
        });
        let planner = Planner::new(self, select, false).comparing(present);
        run::run(self.deployment(), planner, sink, options).await
    }

    /// The same with one file, which is looked up: nothing else of the file table is read, unless that part of it is
    /// damaged. Then all is gone through, which records what is.
    pub async fn restore_file<S: FileSink>(
        &self,
        sink: Arc<S>,
        key: &EntryKey,
        options: &ReadOptions,
    ) -> Result<ContentReport> {
        let entry = match self.lookup(key).await {
            Err(error) if error.is(code::repository::OBJECT_CORRUPT) => {
                let wanted = key.clone();
                let select: Selection = Arc::new(move |entry: &Entry| entry.key == wanted);
                return self.restore(sink, Some(select), options).await;
            }
            looked_up => looked_up?,
        };
        let planner = Planner::of(self, Entries::only(self, entry), None, false);
        run::run(self.deployment(), planner, sink, options).await
    }

    pub(super) fn meta(&self) -> &MetaReader {
        &self.0.meta
    }

    /// What a pack holds that stands in the pack list.
    pub(super) fn kind_of(&self, pack: &PackId) -> Option<PackKind> {
        let at = self.0.known.binary_search_by_key(pack, |(known, _)| *known).ok()?;
        self.0.known.get(at).map(|(_, kind)| *kind)
    }

    /// The pack with this number in the pack list.
    pub(super) fn pack(&self, number: u32) -> Option<PackId> {
        self.0.packs.get(number as usize).map(|(pack, _)| *pack)
    }

    /// A place in the file table, whose pack is a record of the pack list.
    pub(super) fn meta_frame(&self, pos: &FramePos) -> Result<Wanted> {
        match self.0.packs.get(pos.pack as usize) {
            Some((pack, PackKind::Meta)) => Ok(Wanted {
                at: pos.at(*pack, PackKind::Meta),
                hash: Some(pos.hash),
            }),
            _ => Err(Error::new(
                code::repository::OBJECT_CORRUPT,
                "damaged file table: it points into a pack that the backup does not list",
            )),
        }
    }
}

fn lost_table(bad: &BadFrame, deployment: &Deployment) -> Error {
    Error::new(
        code::repository::OBJECT_CORRUPT,
        format!("a part of the file table is lost: {}", bad.describe(deployment)),
    )
}

/// A run of the table's frames, read one after the other.
#[derive(Debug)]
struct Cursor {
    runs: std::ops::Range<usize>,
    frame: usize,
    ahead: VecDeque<Result<Arc<Vec<u8>>, BadFrame>>,
    raw: Arc<Vec<u8>>,
    at: usize,
    /// The next entry, once it was looked at.
    peeked: Option<Entry>,
}

/// A stream of entries, in bounded memory.
#[derive(Debug)]
pub struct Entries {
    backup: BackupReader,
    cursors: Vec<Cursor>,
}

impl Entries {
    fn new(backup: &BackupReader, runs: Vec<std::ops::Range<usize>>) -> Entries {
        let cursors = runs.into_iter().map(|runs| Cursor {
            runs,
            frame: 0,
            ahead: VecDeque::new(),
            raw: Arc::default(),
            at: 0,
            peeked: None,
        });
        Entries {
            backup: backup.clone(),
            cursors: cursors.collect(),
        }
    }

    /// This one, if there is one.
    fn only(backup: &BackupReader, entry: Option<Entry>) -> Entries {
        let cursors = entry.into_iter().map(|entry| Cursor {
            runs: 0..0,
            frame: 0,
            ahead: VecDeque::new(),
            raw: Arc::default(),
            at: 0,
            peeked: Some(entry),
        });
        Entries {
            backup: backup.clone(),
            cursors: cursors.collect(),
        }
    }

    /// The next entry; `None` at the end. After an error the stream goes on behind what could not be read.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        match self.next_or_bad().await? {
            None => Ok(None),
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(bad)) => Err(lost_table(&bad, self.backup.deployment())),
        }
    }

    pub(super) async fn next_or_bad(&mut self) -> Result<Option<Result<Entry, BadFrame>>> {
        let ahead = if self.cursors.len() > 1 { 1 } else { AHEAD };
        for cursor in &mut self.cursors {
            if let Some(bad) = cursor.fill(&self.backup, ahead).await? {
                return Ok(Some(Err(bad)));
            }
        }
        self.cursors.retain(|cursor| cursor.peeked.is_some());
        let first = self.cursors.iter_mut().min_by(|a, b| {
            a.peeked
                .as_ref()
                .map(|e| &e.key)
                .cmp(&b.peeked.as_ref().map(|e| &e.key))
        });
        Ok(first.and_then(|cursor| cursor.peeked.take()).map(Ok))
    }
}

impl Cursor {
    /// Makes sure that the next entry was looked at, if there is one.
    async fn fill(&mut self, backup: &BackupReader, ahead: usize) -> Result<Option<BadFrame>> {
        while self.peeked.is_none() {
            let mut rest = self.raw.get(self.at..).unwrap_or_default();
            if let Some(entry) = Entry::next(&mut rest)? {
                self.at = self.raw.len() - rest.len();
                self.peeked = Some(entry);
                break;
            }
            if self.ahead.is_empty() && !self.read(backup, ahead).await? {
                break;
            }
            match self.ahead.pop_front() {
                Some(Ok(raw)) => (self.raw, self.at) = (raw, 0),
                Some(Err(bad)) => {
                    (self.raw, self.at) = (Arc::default(), 0);
                    return Ok(Some(bad));
                }
                None => {}
            }
        }
        Ok(None)
    }

    /// Reads the next frames; false at the end.
    async fn read(&mut self, backup: &BackupReader, ahead: usize) -> Result<bool> {
        loop {
            if self.runs.is_empty() {
                return Ok(false);
            }
            let run = backup.0.index.runs.get(self.runs.start);
            let frames = run.and_then(|run| run.frames.get(self.frame..)).unwrap_or_default();
            let frames = frames.get(..ahead.min(frames.len())).unwrap_or_default();
            if frames.is_empty() {
                self.runs.start += 1;
                self.frame = 0;
                continue;
            }
            self.frame += frames.len();
            self.ahead = backup.table_frames(frames).await?.into();
            return Ok(true);
        }
    }
}

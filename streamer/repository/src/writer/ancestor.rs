//! The backup that pages are compared with: its file table, its pack list, and one section at a time.
//!
//! What is found here only proposes: a reference is made when hash, checksum and length of the page just read equal
//! what is recorded. An ancestor that cannot be read costs space, never a backup: what is damaged in it is left out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use hardstorage_report::{Error, Result, code};

use super::ancestor_section::AncestorSection;
use super::sparse::{missing_packs, sparse_packs};
use crate::layer::{LayerMap, PageMap, PagePlace, decode_column};
use crate::pack::{FramePos, fetch_frames, fetch_root};
use crate::reader::is_whole;
use crate::session::ProgressRecord;
use crate::table::{Entry, EntryKey, EntryKind, FileEntry, LayerRefs, PackList, PackRecord, TableIndex, Value};
use crate::{Deployment, FrameAt, PackId, PackKind, Root, WriterId};

/// Packs whose ends are looked at at the same time.
const CHECKS: usize = 16;
/// Decoded frames of the file table that are kept.
const TABLE_FRAMES: usize = 32;

/// An earlier backup, open for comparing.
#[derive(Debug)]
pub struct AncestorReader {
    deployment: Deployment,
    packs: Arc<AncestorPacks>,
    index: TableIndex,
    cache: VecDeque<(FramePos, Arc<Vec<Entry>>)>,
    damaged: HashSet<(PackId, u32)>,
    /// Packs of which so little is used that what is left of them is stored anew as it passes by.
    sparse: HashSet<PackId>,
    /// Pages that may still be stored anew because their frames are sparse.
    budget: u64,
    version_directory: Option<Vec<u8>>,
}

/// The packs of an earlier backup.
#[derive(Debug, Default)]
pub(super) struct AncestorPacks {
    list: PackList,
    numbers: HashMap<PackId, u32>,
    /// Not there any more, or shorter than they were.
    missing: HashSet<PackId>,
}

impl AncestorPacks {
    fn new(list: PackList, missing: HashSet<PackId>) -> AncestorPacks {
        let numbers = list.packs.iter().zip(0..).map(|(pack, number)| (pack.id, number));
        AncestorPacks {
            numbers: numbers.collect(),
            list,
            missing,
        }
    }

    pub(super) fn by_number(&self, number: u32) -> Result<&PackRecord> {
        self.list.packs.get(number as usize).ok_or_else(|| {
            Error::new(
                code::repository::OBJECT_CORRUPT,
                format!("the ancestor's pack list has no record {number}"),
            )
        })
    }

    /// The record of a pack that pages may be taken over from.
    pub(super) fn record(&self, pack: &PackId) -> Option<&PackRecord> {
        self.by_number(*self.numbers.get(pack)?).ok()
    }
}

/// Whether an error says that the ancestor is damaged, as opposed to a store that fails.
pub(crate) fn is_damage(error: &Error) -> bool {
    error.is(code::repository::OBJECT_CORRUPT)
        || error.is(code::repository::PACK_MISSING)
        || error.is(code::storage::OBJECT)
        || error.is(code::storage::CORRUPT)
}

impl AncestorReader {
    /// Opens the backup with these roots. Pages in `damaged` frames (pack and number) are not taken over.
    pub async fn open(
        deployment: &Deployment,
        file_table: &Root,
        pack_list: &Root,
        damaged: HashSet<(PackId, u32)>,
    ) -> Result<AncestorReader> {
        let packs = async {
            let list = PackList::decode(&fetch_root(deployment, pack_list, "pack list").await?)?;
            let missing = missing_packs(deployment, &list).await?;
            Ok::<_, Error>((list, missing))
        };
        let index = async { TableIndex::decode(&fetch_root(deployment, file_table, "file table").await?) };
        let ((list, missing), index) = tokio::try_join!(packs, index)?;
        let (sparse, budget) = sparse_packs(&list);
        Ok(AncestorReader {
            deployment: deployment.clone(),
            packs: Arc::new(AncestorPacks::new(list, missing)),
            index,
            cache: VecDeque::new(),
            damaged,
            sparse,
            budget,
            version_directory: None,
        })
    }

    /// Opens what a dead writer has left, which is adopted with everything of these writers. Pages are taken over from
    /// their packs, when those are whole, and from packs that `pinned` lists: what else the dead one had relied on may have
    /// been collected since. Nothing when it cannot be read because it is damaged.
    pub async fn open_progress(
        deployment: &Deployment,
        progress: &ProgressRecord,
        adopted: &[WriterId],
        pinned: Option<&AncestorReader>,
        damaged: HashSet<(PackId, u32)>,
    ) -> Result<Option<AncestorReader>> {
        let (table, list) = (&progress.file_table, &progress.pack_list);
        let Some(mut reader) = AncestorReader::open_unless_damaged(deployment, table, list, damaged).await? else {
            return Ok(None);
        };
        // What is in use of a pack is not known before the backup is whole.
        (reader.sparse, reader.budget) = (HashSet::new(), 0);
        let list = reader.packs.list.clone();
        let mut missing = reader.packs.missing.clone();
        let checks = list
            .packs
            .iter()
            .filter(|pack| !missing.contains(&pack.id))
            .map(|pack| async {
                let is_adopted = adopted.contains(&pack.id.writer);
                let sound = if is_adopted && !pack.holds_the_list() {
                    is_whole(deployment, pack).await?
                } else {
                    is_adopted || pinned.is_some_and(|pinned| pinned.packs.record(&pack.id).is_some())
                };
                Ok((pack.id, sound))
            });
        let checked: Vec<(PackId, bool)> = stream::iter(checks).buffer_unordered(CHECKS).try_collect().await?;
        missing.extend(checked.into_iter().filter(|(_, sound)| !sound).map(|(pack, _)| pack));
        reader.packs = Arc::new(AncestorPacks::new(list, missing));
        Ok(Some(reader))
    }

    /// The same, or nothing when its file table or pack list cannot be read because it is damaged: then all is stored
    /// anew, which heals. A store that fails is an error.
    pub async fn open_unless_damaged(
        deployment: &Deployment,
        file_table: &Root,
        pack_list: &Root,
        damaged: HashSet<(PackId, u32)>,
    ) -> Result<Option<AncestorReader>> {
        match AncestorReader::open(deployment, file_table, pack_list, damaged).await {
            Ok(reader) => Ok(Some(reader)),
            Err(error) if is_damage(&error) => {
                tracing::warn!(%error, "the earlier backup cannot be compared with: everything is stored anew");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Pages in these frames (pack and number) are not taken over either.
    #[must_use]
    pub fn leaving_out(mut self, damaged: HashSet<(PackId, u32)>) -> AncestorReader {
        self.damaged.extend(damaged);
        self
    }

    /// The name that the ancestor's tablespaces have for their version directory (`PG_17_202406281`), when the server
    /// was upgraded since.
    #[must_use]
    pub fn with_version_directory(mut self, name: impl Into<Vec<u8>>) -> AncestorReader {
        self.version_directory = Some(name.into());
        self
    }

    pub(super) fn packs(&self) -> &Arc<AncestorPacks> {
        &self.packs
    }

    fn translate(&self, key: &EntryKey) -> EntryKey {
        let rest = key.path.iter().position(|byte| *byte == b'/').map(|at| &key.path[at..]);
        match (&self.version_directory, rest) {
            (Some(name), Some(rest)) if key.tablespace != 0 && key.path.starts_with(b"PG_") => EntryKey {
                tablespace: key.tablespace,
                path: [name, rest].concat(),
            },
            _ => key.clone(),
        }
    }

    /// The regular file of this name with this block size, if the ancestor has it.
    pub(super) async fn file(&mut self, key: &EntryKey, block_size: u32) -> Result<Option<FileEntry>> {
        let key = self.translate(key);
        match self.entry(&key).await {
            Ok(Some(Entry {
                kind: EntryKind::File(file),
                ..
            })) => Ok(Some(file).filter(|file| file.block_size == block_size)),
            Ok(_) => Ok(None),
            Err(error) if is_damage(&error) => {
                tracing::warn!(file = %key, %error, "the earlier backup's table is damaged: the file is stored anew");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn entry(&mut self, key: &EntryKey) -> Result<Option<Entry>> {
        for run in 0..self.index.runs.len() {
            let Some(at) = self.index.runs[run].frame_of(key).map(|frame| frame.at) else {
                continue;
            };
            let entries = self.table_frame(at).await?;
            if let Ok(at) = entries.binary_search_by(|entry| entry.key.cmp(key)) {
                return Ok(entries.get(at).cloned());
            }
        }
        Ok(None)
    }

    async fn table_frame(&mut self, at: FramePos) -> Result<Arc<Vec<Entry>>> {
        if let Some(at) = self.cache.iter().position(|(name, _)| *name == at)
            && let Some(found) = self.cache.remove(at)
        {
            let entries = Arc::clone(&found.1);
            self.cache.push_front(found);
            return Ok(entries);
        }
        let pack = self.packs.by_number(at.pack)?;
        let raw = fetch_frames(&self.deployment, &[(at.at(pack.id, PackKind::Meta), Some(at.hash))]).await?;
        let mut entries = Vec::new();
        let mut rest = &raw[..];
        while let Some(entry) = Entry::next(&mut rest)? {
            entries.push(entry);
        }
        let entries = Arc::new(entries);
        self.cache.truncate(TABLE_FRAMES - 1);
        self.cache.push_front((at, Arc::clone(&entries)));
        Ok(entries)
    }

    /// A section of a file, with hashes; `None` when it is damaged.
    pub(super) async fn section(&mut self, file: &FileEntry, number: usize) -> Result<Option<Arc<AncestorSection>>> {
        let Some(layers) = file.sections.get(number) else {
            return Ok(None);
        };
        match self.load(layers, file.block_size).await {
            Ok(section) => Ok(Some(Arc::new(section))),
            Err(error) if is_damage(&error) => {
                tracing::warn!(%error, "a map of the earlier backup is damaged: its pages are stored anew");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn value(&self, value: &Value) -> Result<Vec<u8>> {
        match value {
            Value::Here(bytes) => Ok(bytes.clone()),
            Value::Frames(frames) => {
                let wanted = frames.iter().map(|at| {
                    let pack = self.packs.by_number(at.pack)?;
                    Ok((at.at(pack.id, PackKind::Meta), Some(at.hash)))
                });
                let wanted: Vec<(FrameAt, _)> = wanted.collect::<Result<_>>()?;
                fetch_frames(&self.deployment, &wanted).await
            }
        }
    }

    async fn load(&mut self, layers: &[LayerRefs], block_size: u32) -> Result<AncestorSection> {
        // A stack is a handful of layers: all of it is asked for at once, which is one round trip instead of sixteen.
        let values = layers
            .iter()
            .map(|layer| async { tokio::try_join!(self.value(&layer.map), self.value(&layer.column)) });
        let values: Vec<(Vec<u8>, Vec<u8>)> = futures::future::try_join_all(values).await?;
        let resolve = move || {
            let decoded = values.into_iter().map(|(map, column)| {
                let map = LayerMap::decode(&map)?;
                let column = decode_column(&column, map.stored_pages())?;
                Ok((map, Some(column)))
            });
            let decoded: Vec<_> = decoded.collect::<Result<_>>()?;
            let above = decoded.iter().skip(1).flat_map(|(map, _)| &map.runs);
            let delta_pages = above.map(|run| u64::from(run.pages)).sum();
            let map = PageMap::resolve(&decoded)?;
            if map.block_size() != block_size {
                return Err(Error::new(
                    code::repository::OBJECT_CORRUPT,
                    "a layer has another block size than its file",
                ));
            }
            Ok((map, delta_pages))
        };
        let in_frames = layers.iter().all(|layer| matches!(layer.map, Value::Frames(_)));
        let resolved: Result<(PageMap, u64)> = if in_frames {
            tokio::task::spawn_blocking(resolve).await.map_err(|error| {
                Error::new(code::repository::OBJECT_CORRUPT, "resolve a stack of layers").source(error)
            })?
        } else {
            resolve()
        };
        let (map, delta_pages) = resolved?;
        let usable = self.usable_frames(&map);
        let mut meta_frames = layers
            .iter()
            .flat_map(|layer| layer.map.frames().iter().chain(layer.column.frames()));
        // What can be read today but should not be referred to any more.
        let rewrite = meta_frames.any(|at| {
            self.packs.by_number(at.pack).is_ok_and(|pack| {
                self.sparse.contains(&pack.id)
                    || self.packs.missing.contains(&pack.id)
                    || self.damaged.contains(&(pack.id, at.number))
            })
        });
        Ok(AncestorSection {
            map,
            layers: layers.to_vec(),
            packs: Arc::clone(&self.packs),
            in_frames,
            delta_pages,
            rewrite,
            usable,
        })
    }

    /// Which frames pages may be taken over from: not those that are gone or damaged, and not those that are sparse, as
    /// far as the budget goes.
    fn usable_frames(&mut self, map: &PageMap) -> Vec<bool> {
        let mut live = vec![0u32; map.frames().len()];
        for page in 0..map.pages() {
            if let Some(PagePlace::Stored { frame, .. }) = map.place(page)
                && let Some(live) = live.get_mut(frame as usize)
            {
                *live += 1;
            }
        }
        let mut usable = Vec::with_capacity(live.len());
        for (frame, live) in map.frames().iter().zip(live) {
            let pack = map.packs().get(frame.at.pack as usize);
            let sound = pack.filter(|id| {
                self.packs
                    .record(id)
                    .is_some_and(|record| frame.at.end() <= record.length)
                    && !self.packs.missing.contains(id)
                    && !self.damaged.contains(&(**id, frame.at.number))
            });
            // A third: measured over a year of random changes, a quarter lets a restore decode twice the cluster.
            let sparse = u64::from(live) * 3 < u64::from(frame.pages) && u64::from(live) <= self.budget;
            usable.push(match sound {
                None => false,
                Some(id) if self.sparse.contains(id) => false,
                Some(_) if sparse && live > 0 => {
                    self.budget -= u64::from(live);
                    false
                }
                Some(_) => true,
            });
        }
        usable
    }
}

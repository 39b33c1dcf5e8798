//! Writes what is not pages: maps and columns, the file table, the pack list.
//!
//! Entries are kept encoded until they are a run's worth, then sorted and written: memory is bounded however many files
//! there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hardstorage_codec::{Compressor, KeyedHash};
use hardstorage_report::Result;

use super::ancestor::AncestorPacks;
use super::batch::Payload;
use super::stream::{Arrival, Harbour, PackStream};
use crate::pack::{Codec, FramePos};
use crate::table::{
    Entry, EntryKey, LayerRefs, PackList, PackRecord, PackUse, TableFrame, TableIndex, TableRun, Value,
};
use crate::{PackId, PackKind, Root};

/// Encoded entries of a run.
const RUN_LEN: usize = 8 << 20;
/// Raw bytes of a frame of entries: what one lookup costs.
const TABLE_FRAME_LEN: usize = 128 << 10;
/// Raw bytes of a frame of any other value.
const VALUE_FRAME_LEN: usize = 1 << 20;

/// How many pages or frames of each pack are in use; a pack by its number in the new list.
pub(super) type Uses = BTreeMap<u32, u32>;

/// Writes frames of metadata.
pub(super) struct MetaStream {
    stream: PackStream,
    compressor: Compressor,
    hash: KeyedHash,
    packed: Vec<u8>,
}

impl MetaStream {
    pub(super) fn new(harbour: &Harbour) -> MetaStream {
        let deployment = &harbour.deployment;
        MetaStream {
            stream: PackStream::new(harbour.clone(), PackKind::Meta),
            compressor: Compressor::new(deployment.config().level),
            hash: deployment.key().frame_hash(),
            packed: Vec::new(),
        }
    }

    /// With packs of these numbers.
    pub(super) fn beginning_at(harbour: &Harbour, sequence: u32) -> MetaStream {
        MetaStream {
            stream: PackStream::beginning_at(harbour.clone(), sequence),
            ..MetaStream::new(harbour)
        }
    }

    /// What to wait for until the store has every pack that was ended.
    pub(super) fn on_their_way(&self) -> Vec<Arrival> {
        self.stream.on_their_way()
    }

    /// Waits until the store has them.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.stream.settle()
    }

    fn put(&mut self, raw: &[u8]) -> Result<(PackId, FramePos)> {
        self.packed.clear();
        let codec = if self.compressor.compress(raw, &mut self.packed) {
            Codec::Zstd
        } else {
            self.packed.extend_from_slice(raw);
            Codec::Raw
        };
        let payload = Payload {
            codec,
            raw_len: raw.len() as u32,
            hash: self.hash.hash128(&self.packed),
        };
        let placed = self.stream.put(payload, &mut self.packed, 1)?;
        Ok((placed.pack, placed.at))
    }

    fn put_root(&mut self, value: &[u8], root_hash: &KeyedHash) -> Result<Root> {
        let frames = value.chunks(VALUE_FRAME_LEN).map(|chunk| {
            let (pack, at) = self.put(chunk)?;
            Ok(at.at(pack, PackKind::Meta))
        });
        Ok(Root {
            frames: frames.collect::<Result<_>>()?,
            length: value.len() as u64,
            hash: root_hash.hash256(value),
        })
    }
}

/// The new pack list as it grows. Packs are numbered as entries first refer to them.
#[derive(Default, Clone)]
pub(super) struct Packs {
    old: Vec<Arc<AncestorPacks>>,
    numbers: HashMap<PackId, u32>,
    records: Vec<PackRecord>,
}

impl Packs {
    pub(super) fn new(old: Vec<Arc<AncestorPacks>>) -> Packs {
        Packs {
            old,
            ..Packs::default()
        }
    }

    /// The number of a pack.
    pub(super) fn number(&mut self, id: PackId, kind: PackKind) -> u32 {
        let next = self.records.len() as u32;
        let number = *self.numbers.entry(id).or_insert(next);
        if number == next {
            let old = self.old.iter().find_map(|old| old.record(&id));
            self.records.push(PackRecord {
                live: 0,
                lock_until: 0,
                ..old.copied().unwrap_or(PackRecord {
                    id,
                    kind,
                    length: 0,
                    directory_hash: [0; 32],
                    digest: [0; 32],
                    live: 0,
                    total: 0,
                    lock_until: 0,
                })
            });
        }
        number
    }

    fn use_more(&mut self, number: u32, live: u64) {
        if let Some(record) = self.records.get_mut(number as usize) {
            record.live += live;
        }
    }

    /// Takes the facts of packs that have been written.
    pub(super) fn written(&mut self, records: Vec<PackRecord>) {
        for written in records {
            let number = self.number(written.id, written.kind);
            if let Some(record) = self.records.get_mut(number as usize) {
                *record = PackRecord {
                    live: record.live,
                    ..written
                };
            }
        }
    }
}

/// The file table and all that hangs on it.
pub(super) struct Tables {
    pub(super) meta: MetaStream,
    pub(super) packs: Packs,
    root_hash: KeyedHash,
    run: Vec<(EntryKey, Vec<u8>)>,
    run_len: usize,
    index: TableIndex,
}

/// What the manifest needs to know.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) file_table: Root,
    pub(super) pack_list: Root,
    pub(super) packs: Vec<PackRecord>,
    /// The length of the pack that holds the pack list, which its record there cannot tell.
    pub(super) list_length: u64,
}

/// Sums over the packs of metadata.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetaSums {
    pub(super) stored: u64,
    pub(super) packs: u64,
}

impl Tables {
    pub(super) fn new(harbour: &Harbour, old: Vec<Arc<AncestorPacks>>) -> Tables {
        Tables {
            meta: MetaStream::new(harbour),
            packs: Packs::new(old),
            root_hash: harbour.deployment.key().root_hash(),
            run: Vec::new(),
            run_len: 0,
            index: TableIndex::default(),
        }
    }

    /// Writes a map or a column; `here` keeps it in the entry.
    pub(super) fn value(&mut self, bytes: Vec<u8>, here: bool, uses: &mut Uses) -> Result<Value> {
        if here || bytes.is_empty() {
            return Ok(Value::Here(bytes));
        }
        let frames = bytes.chunks(VALUE_FRAME_LEN).map(|chunk| {
            let (pack, at) = self.meta.put(chunk)?;
            let number = self.packs.number(pack, PackKind::Meta);
            *uses.entry(number).or_default() += 1;
            Ok(FramePos { pack: number, ..at })
        });
        Ok(Value::Frames(frames.collect::<Result<_>>()?))
    }

    /// Takes a layer over from the ancestor: the same frames, under the numbers of the new list.
    pub(super) fn take_over(
        &mut self,
        layer: &LayerRefs,
        pack_of: impl Fn(u32) -> Result<PackId>,
        uses: &mut Uses,
    ) -> Result<LayerRefs> {
        let mut value = |value: &Value| {
            Ok(match value {
                Value::Here(bytes) => Value::Here(bytes.clone()),
                Value::Frames(frames) => {
                    let frames = frames.iter().map(|at| {
                        let number = self.packs.number(pack_of(at.pack)?, PackKind::Meta);
                        *uses.entry(number).or_default() += 1;
                        Ok(FramePos { pack: number, ..*at })
                    });
                    Value::Frames(frames.collect::<Result<_>>()?)
                }
            })
        };
        Ok(LayerRefs {
            map: value(&layer.map)?,
            column: value(&layer.column)?,
        })
    }

    /// Counts what a file uses, in the form of its entry.
    pub(super) fn account(&mut self, uses: &Uses) -> Vec<PackUse> {
        for (pack, live) in uses {
            self.packs.use_more(*pack, u64::from(*live));
        }
        uses.iter()
            .map(|(pack, live)| PackUse {
                pack: *pack,
                live: *live,
            })
            .collect()
    }

    /// Adds an entry.
    pub(super) fn entry(&mut self, entry: Entry) -> Result<()> {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        self.run_len += bytes.len() + entry.key.path.len() + 64;
        self.run.push((entry.key, bytes));
        self.index.entries += 1;
        if self.run_len >= RUN_LEN {
            self.end_run()?;
        }
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        let entries = std::mem::take(&mut self.run);
        self.run_len = 0;
        let run = write_run(entries, &mut self.meta, &mut self.packs)?;
        if !run.frames.is_empty() {
            self.index.runs.push(run);
        }
        Ok(())
    }

    /// Writes a file table of what there is so far, and a list of its packs, both into one pack of `own`; gives their roots.
    /// `data` are the data packs that were ended. The table itself goes on as if nothing had happened.
    pub(super) fn checkpoint(&mut self, own: &mut MetaStream, data: &[PackRecord]) -> Result<Option<(Root, Root)>> {
        if self.index.entries == 0 {
            return Ok(None);
        }
        // The maps of files lie in it.
        self.meta.stream.close()?;
        let mut packs = self.packs.clone();
        packs.written(data.to_vec());
        packs.written(self.meta.stream.finished().to_vec());
        packs.number(own.stream.next_id(), PackKind::Meta);
        let mut index = self.index.clone();
        index.runs.push(write_run(self.run.clone(), own, &mut packs)?);
        let file_table = own.put_root(&index.encode(), &self.root_hash)?;
        let list = PackList {
            changed_pages: 0,
            packs: packs.records,
        };
        let pack_list = own.put_root(&list.encode(), &self.root_hash)?;
        own.stream.close()?;
        Ok(Some((file_table, pack_list)))
    }

    fn root(&mut self, value: &[u8]) -> Result<Root> {
        let root = self.meta.put_root(value, &self.root_hash)?;
        for at in &root.frames {
            let number = self.packs.number(at.pack, at.kind);
            self.packs.use_more(number, 1);
        }
        Ok(root)
    }

    /// Writes the rest, and waits until the store has all of it. The pack list goes into a pack of its own, which it names
    /// without knowing its length.
    pub(super) fn finish(mut self, changed_pages: u64) -> Result<(Roots, MetaSums)> {
        self.end_run()?;
        let index = self.index.encode();
        let file_table = self.root(&index)?;
        // What is on its way is not waited for before the list of it is written: a far store gets both at once.
        let written = self.meta.stream.end()?;
        let mut packs = written.len() as u64;
        self.packs.written(written);

        let own = self.meta.stream.next_id();
        self.packs.number(own, PackKind::Meta);
        let list = PackList {
            changed_pages,
            packs: self.packs.records,
        };
        self.meta.stream.never_full();
        let pack_list = self.meta.put_root(&list.encode(), &self.root_hash)?;
        let last = self.meta.stream.end()?;
        packs += last.len() as u64;
        self.meta.stream.settle()?;
        let roots = Roots {
            file_table,
            pack_list,
            packs: list.packs,
            list_length: last.iter().map(|pack| pack.length).sum(),
        };
        let stored = self.meta.stream.stored();
        Ok((roots, MetaSums { stored, packs }))
    }
}

/// Sorts entries and writes them.
fn write_run(mut entries: Vec<(EntryKey, Vec<u8>)>, meta: &mut MetaStream, packs: &mut Packs) -> Result<TableRun> {
    entries.sort();
    let mut run = TableRun {
        entries: entries.len() as u64,
        frames: Vec::new(),
    };
    let mut raw: Vec<u8> = Vec::with_capacity(TABLE_FRAME_LEN);
    let mut first = None;
    for (key, bytes) in entries {
        if !raw.is_empty() && raw.len() + bytes.len() > TABLE_FRAME_LEN {
            table_frame(&mut run, first.take(), &mut raw, meta, packs)?;
        }
        raw.extend_from_slice(&bytes);
        first.get_or_insert(key);
    }
    table_frame(&mut run, first, &mut raw, meta, packs)?;
    Ok(run)
}

fn table_frame(
    run: &mut TableRun,
    first: Option<EntryKey>,
    raw: &mut Vec<u8>,
    meta: &mut MetaStream,
    packs: &mut Packs,
) -> Result<()> {
    if let Some(first) = first {
        let (pack, at) = meta.put(raw)?;
        raw.clear();
        let number = packs.number(pack, PackKind::Meta);
        packs.use_more(number, 1);
        let at = FramePos { pack: number, ..at };
        run.frames.push(TableFrame { at, first });
    }
    Ok(())
}

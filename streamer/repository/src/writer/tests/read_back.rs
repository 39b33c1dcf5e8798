//! The plainest possible reader: reads all of a backup, and checks everything in it that can be checked.

use std::collections::HashMap;

use hardstorage_codec::{crc32c, plain_hash};

use super::*;
use crate::layer::{LayerMap, PageMap, PagePlace, decode_column};
use crate::pack::{FOOTER_LEN, Footer, FrameHeader, PackCipher, PackHeader, fetch_frames, fetch_root};
use crate::table::{LayerRefs, PackList, PackRecord, TableIndex, Value};
use crate::{PackId, Root, layout};

async fn value(deployment: &Deployment, list: &PackList, value: &Value) -> Vec<u8> {
    match value {
        Value::Here(bytes) => bytes.clone(),
        Value::Frames(frames) => {
            let wanted: Vec<_> = frames
                .iter()
                .map(|at| (at.at(list.packs[at.pack as usize].id, PackKind::Meta), Some(at.hash)))
                .collect();
            fetch_frames(deployment, &wanted).await.unwrap()
        }
    }
}

async fn resolve(deployment: &Deployment, list: &PackList, layers: &[LayerRefs]) -> PageMap {
    let mut decoded = Vec::new();
    for layer in layers {
        let map = LayerMap::decode(&value(deployment, list, &layer.map).await).unwrap();
        let column = value(deployment, list, &layer.column).await;
        let column = decode_column(&column, map.stored_pages()).unwrap();
        decoded.push((map, Some(column)));
    }
    PageMap::resolve(&decoded).unwrap()
}

pub(super) struct Read {
    tree: Tree,
    pub(super) entries: BTreeMap<EntryKey, Entry>,
    list: PackList,
    /// Frames that hold pages of the backup.
    pub(super) frames: HashSet<(PackId, u32)>,
    /// Their raw lengths.
    pub(super) frame_lens: HashMap<(PackId, u32), usize>,
}

/// Reads all of a backup, and checks everything in it that can be checked.
async fn read(deployment: &Deployment, file_table: &Root, pack_list: &Root) -> Read {
    let list = PackList::decode(&fetch_root(deployment, pack_list, "pack list").await.unwrap()).unwrap();
    let index = TableIndex::decode(&fetch_root(deployment, file_table, "file table").await.unwrap()).unwrap();
    let mut cache: HashMap<(PackId, u32), Vec<u8>> = HashMap::new();
    let mut live: BTreeMap<u32, u64> = BTreeMap::new();
    let mut tree = Tree::new();
    let mut entries = BTreeMap::new();
    for run in &index.runs {
        let mut last = None;
        for frame in &run.frames {
            *live.entry(frame.at.pack).or_default() += 1;
            let raw = value(deployment, &list, &Value::Frames(vec![frame.at])).await;
            let mut rest = &raw[..];
            while let Some(entry) = Entry::next(&mut rest).unwrap() {
                assert!(last.as_ref() < Some(&entry.key), "sorted");
                last = Some(entry.key.clone());
                entries.insert(entry.key.clone(), entry);
            }
        }
    }
    assert_eq!(index.entries, entries.len() as u64);
    for entry in entries.values() {
        let name = String::from_utf8(entry.key.path.clone()).unwrap();
        let EntryKind::File(file) = &entry.kind else {
            tree.insert(name, None);
            continue;
        };
        let mut bytes = Vec::new();
        let mut uses: BTreeMap<u32, u32> = BTreeMap::new();
        for layers in &file.sections {
            for at in layers
                .iter()
                .flat_map(|layer| layer.map.frames().iter().chain(layer.column.frames()))
            {
                *uses.entry(at.pack).or_default() += 1;
            }
            let map = resolve(deployment, &list, layers).await;
            for page in 0..map.pages() {
                let length = map.page_len(page) as usize;
                let PagePlace::Stored { frame, offset } = map.place(page).unwrap() else {
                    bytes.resize(bytes.len() + length, 0);
                    continue;
                };
                let at = map.frames()[frame as usize].at;
                let pack = map.packs()[at.pack as usize];
                let number = list.packs.iter().position(|record| record.id == pack).unwrap();
                *uses.entry(number as u32).or_default() += 1;
                if let std::collections::hash_map::Entry::Vacant(free) = cache.entry((pack, at.number)) {
                    let wanted = [(at.at(pack, PackKind::Data), Some(at.hash))];
                    free.insert(fetch_frames(deployment, &wanted).await.unwrap());
                }
                let raw = &cache[&(pack, at.number)][offset as usize..offset as usize + length];
                let facts = map.facts(page).unwrap();
                assert_eq!(facts.crc, crc32c(raw));
                assert_eq!(facts.hash, deployment.key().page_hash().hash64(raw));
                bytes.extend_from_slice(raw);
            }
        }
        assert_eq!(file.crc, crc32c(&bytes), "{name}");
        assert_eq!(file.size, bytes.len() as u64);
        let found: BTreeMap<u32, u32> = file.uses.iter().map(|pack| (pack.pack, pack.live)).collect();
        assert_eq!(found, uses, "{name}");
        for (pack, pages) in uses {
            *live.entry(pack).or_default() += u64::from(pages);
        }
        tree.insert(name, Some(bytes));
    }
    for at in &file_table.frames {
        let number = list.packs.iter().position(|pack| pack.id == at.pack).unwrap();
        *live.entry(number as u32).or_default() += 1;
    }
    for (record, number) in list.packs.iter().zip(0..) {
        assert_eq!(
            record.live,
            live.get(&number).copied().unwrap_or(0),
            "live pages of pack {number}"
        );
        assert!(record.live <= record.total || record.holds_the_list());
        check_pack(deployment, record).await;
    }
    assert_eq!(list.packs.iter().filter(|pack| pack.holds_the_list()).count(), 1);
    let frame_lens: HashMap<_, _> = cache.into_iter().map(|(name, raw)| (name, raw.len())).collect();
    let frames = frame_lens.keys().copied().collect();
    Read {
        tree,
        entries,
        list,
        frames,
        frame_lens,
    }
}

/// A pack is what its record, its footer and its directory say.
async fn check_pack(deployment: &Deployment, record: &PackRecord) {
    let key = layout::pack(deployment.name(), &record.id.writer, record.id.sequence);
    let stored = deployment.store().get(&key).await.unwrap().unwrap();
    let header = PackHeader::decode(&stored[..64]).unwrap();
    assert_eq!((header.id, header.kind), (record.id, record.kind));
    assert_eq!(header.sealed, deployment.key().seals());
    let (body, footer) = stored.split_at(stored.len() - FOOTER_LEN);
    let footer = Footer::decode(footer, stored.len() as u64).unwrap();
    assert_eq!(footer.digest, plain_hash(body));
    let directory = &body[footer.directory_offset as usize..];
    if !record.holds_the_list() {
        assert_eq!(record.length, stored.len() as u64);
        assert_eq!(record.digest, footer.digest);
        assert_eq!(record.directory_hash, plain_hash(directory));
    }
    let cipher = PackCipher::new(deployment.key(), record.id, record.kind);
    for (number, entry) in cipher.open_directory(&footer, directory).unwrap().iter().enumerate() {
        let at = entry.offset as usize;
        let frame = FrameHeader::decode(&stored[at..at + 16]).unwrap();
        assert_eq!(frame.number as usize, number);
        let mut payload = stored[at + 16..at + 16 + entry.stored_len as usize].to_vec();
        cipher.open_payload(&frame, &mut payload).unwrap();
        assert_eq!(deployment.key().frame_hash().hash128(&payload), entry.hash);
    }
}

pub(super) async fn must_equal(deployment: &Deployment, finished: &Finished, tree: &Tree) -> Read {
    let found = read(deployment, &finished.file_table, &finished.pack_list).await;
    assert_eq!(found.list.packs, finished.packs);
    for (name, content) in tree {
        assert!(found.tree.get(name) == Some(content), "{name} differs");
    }
    assert_eq!(found.tree.len(), tree.len());
    found
}

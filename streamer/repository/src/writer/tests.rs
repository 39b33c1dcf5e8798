//! Whole backups through the writer, read back by the plainest possible reader and compared byte for byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use hardstorage_codec::{Secret, crc32c, plain_hash};
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, MemoryStore};
use proptest::prelude::*;

use super::*;
use crate::layer::{LayerMap, PageMap, PagePlace, decode_column};
use crate::pack::{FOOTER_LEN, Footer, FrameHeader, PackCipher, PackHeader, fetch_frames, fetch_root};
use crate::table::{LayerRefs, PackList, TableIndex, Value};
use crate::{DataKey, PackId, RepoConfig, Surroundings, layout};

const BLOCK: u32 = 8192;

/// Files by name; `None` is a directory.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

fn small(store: DynStore, sealing: bool) -> Deployment {
    let config = RepoConfig {
        frame_size: 64 << 10,
        changed_frame_size: 128 << 10,
        pack_size: 1 << 20,
        ..RepoConfig::default()
    };
    let key = DataKey::new(Secret::new([5; 32]), [6; 16], 1, sealing);
    Deployment::for_tests_with(store, "db1", Surroundings::default(), key, config)
}

fn key(name: &str) -> EntryKey {
    EntryKey {
        tablespace: u32::from(name.starts_with("ts/")) * 16_400,
        path: name.as_bytes().to_vec(),
    }
}

async fn send(writer: &mut BackupWriter, tree: &Tree, piece: usize) -> Result<()> {
    for (name, content) in tree {
        match content {
            None => writer.add_directory(key(name), 0o700, 7).await?,
            Some(bytes) => {
                let meta = FileMeta {
                    key: key(name),
                    size: bytes.len() as u64,
                    mode: 0o600,
                    mtime: -3,
                };
                writer.start_file(meta).await?;
                for part in bytes.chunks(piece) {
                    writer.write(part).await?;
                }
                writer.end_file().await?;
            }
        }
    }
    Ok(())
}

async fn open(deployment: &Deployment, of: &Finished) -> Result<AncestorReader> {
    AncestorReader::open(deployment, &of.file_table, &of.pack_list, HashSet::new()).await
}

async fn backup(
    deployment: &Deployment,
    number: u8,
    tree: &Tree,
    ancestor: Option<AncestorReader>,
    piece: usize,
) -> Result<Finished> {
    let mut options = WriterOptions::new(WriterId::new([number; 16]), BLOCK);
    options.ancestor = ancestor;
    let mut writer = BackupWriter::begin(deployment, options).await?;
    send(&mut writer, tree, piece).await?;
    writer.finish().await
}

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

struct Read {
    tree: Tree,
    entries: BTreeMap<EntryKey, Entry>,
    list: PackList,
    /// Frames that hold pages of the backup.
    frames: HashSet<(PackId, u32)>,
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
    let frames = cache.into_keys().collect();
    Read {
        tree,
        entries,
        list,
        frames,
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

async fn must_equal(deployment: &Deployment, finished: &Finished, tree: &Tree) -> Read {
    let found = read(deployment, &finished.file_table, &finished.pack_list).await;
    assert_eq!(found.list.packs, finished.packs);
    for (name, content) in tree {
        assert!(found.tree.get(name) == Some(content), "{name} differs");
    }
    assert_eq!(found.tree.len(), tree.len());
    found
}

/// Bytes that do not compress to nothing and differ from page to page.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&(state & 0x0f0f_0f0f_0f0f_ffff).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[derive(Debug, Clone)]
enum Edit {
    Page { file: usize, page: usize, zero: bool },
    Length { file: usize, length: usize },
    Drop { file: usize },
    Swap { one: usize, other: usize },
    Touch { file: usize },
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        6 => (0usize..6, 0usize..260, any::<bool>()).prop_map(|(file, page, zero)| Edit::Page { file, page, zero }),
        2 => (0usize..6, 0usize..2_200_000).prop_map(|(file, length)| Edit::Length { file, length }),
        1 => (0usize..6).prop_map(|file| Edit::Drop { file }),
        1 => (0usize..6, 0usize..6).prop_map(|(one, other)| Edit::Swap { one, other }),
        1 => (0usize..6).prop_map(|file| Edit::Touch { file }),
    ];
    proptest::collection::vec(edit, 0..12)
}

fn apply(tree: &mut Tree, edit: &Edit, seed: u64) {
    let name = |file: usize| {
        if file == 5 {
            "ts/5".to_owned()
        } else {
            format!("base/{file}")
        }
    };
    match edit {
        Edit::Page { file, page, zero } => {
            if let Some(Some(bytes)) = tree.get_mut(&name(*file)) {
                let pages = bytes.len().div_ceil(BLOCK as usize).max(1);
                let start = page % pages * BLOCK as usize;
                let end = (start + BLOCK as usize).min(bytes.len());
                let new = if *zero {
                    vec![0; end - start]
                } else {
                    noise(seed, end - start)
                };
                bytes[start..end].copy_from_slice(&new);
            }
        }
        Edit::Length { file, length } => {
            let bytes = tree
                .entry(name(*file))
                .or_insert_with(|| Some(Vec::new()))
                .as_mut()
                .unwrap();
            let before = bytes.len();
            if before < *length {
                bytes.extend_from_slice(&noise(seed, length - before));
            } else {
                bytes.truncate(*length);
            }
        }
        Edit::Drop { file } => drop(tree.remove(&name(*file))),
        Edit::Swap { one, other } => {
            let (a, b) = (tree.remove(&name(*one)), tree.remove(&name(*other)));
            if let Some(b) = b {
                tree.insert(name(*one), b);
            }
            if let Some(a) = a {
                tree.insert(name(*other), a);
            }
        }
        Edit::Touch { file } => drop(tree.entry(name(*file)).or_insert_with(|| Some(noise(seed, 100)))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any edits over any number of backups, each compared with any earlier one, restore exactly.
    #[test]
    fn every_backup_restores_exactly(
        steps in proptest::collection::vec((edits(), any::<prop::sample::Index>(), 0u8..5), 1..7),
        sealing in any::<bool>(), piece in 1_000usize..70_000,
    ) {
        runtime().block_on(async {
            let deployment = small(Arc::new(MemoryStore::new()), sealing);
            let mut tree = Tree::from([
                ("base".to_owned(), None),
                ("base/0".to_owned(), Some(noise(1, 1_700_000))),
                ("base/1".to_owned(), Some([noise(2, 1 << 20), vec![0; 600_000]].concat())),
                ("base/2".to_owned(), Some(noise(3, 50_000))),
                ("base/3".to_owned(), Some(Vec::new())),
            ]);
            let mut done: Vec<(Finished, Tree)> = Vec::new();
            for (number, (edits, pick, none)) in steps.iter().enumerate() {
                for (index, edit) in edits.iter().enumerate() {
                    apply(&mut tree, edit, (number * 100 + index + 10) as u64);
                }
                let ancestor = if done.is_empty() || *none == 0 {
                    None
                } else {
                    // Most often the last one, as it is in life.
                    let of = if *none == 1 { pick.index(done.len()) } else { done.len() - 1 };
                    Some(open(&deployment, &done[of].0).await.unwrap())
                };
                let finished = backup(&deployment, number as u8 + 1, &tree, ancestor, piece).await.unwrap();
                done.push((finished, tree.clone()));
            }
            for (finished, tree) in &done {
                must_equal(&deployment, finished, tree).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_cluster_costs_its_table_only() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let tree = Tree::from([
        ("base".to_owned(), None),
        ("base/1".to_owned(), Some(noise(1, 3 << 20))),
        ("base/2".to_owned(), Some(noise(2, 40_000))),
    ]);
    let first = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    let ancestor = open(&deployment, &first).await.unwrap();
    let second = backup(&deployment, 2, &tree, Some(ancestor), 32 << 10).await.unwrap();
    let read = must_equal(&deployment, &second, &tree).await;
    assert_eq!(second.totals.new_pages, 0);
    assert_eq!(second.totals.reused_pages, first.totals.new_pages);
    assert!(second.totals.stored_bytes < 8_000, "{:?}", second.totals);
    assert!(
        read.frames
            .iter()
            .all(|(pack, _)| pack.writer == WriterId::new([1; 16]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_stacked_and_merged() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let mut tree = Tree::from([("base/1".to_owned(), Some(noise(1, 4 << 20)))]);
    let mut last = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    let mut most = 0;
    let mut depths = Vec::new();
    for number in 2..16u8 {
        apply(
            &mut tree,
            &Edit::Page {
                file: 1,
                page: usize::from(number) * 7,
                zero: number % 5 == 0,
            },
            u64::from(number),
        );
        let ancestor = open(&deployment, &last).await.unwrap();
        last = backup(&deployment, number, &tree, Some(ancestor), 32 << 10)
            .await
            .unwrap();
        let read = must_equal(&deployment, &last, &tree).await;
        let EntryKind::File(file) = &read.entries[&key("base/1")].kind else {
            panic!("a file")
        };
        depths.push(file.sections[0].len());
        most = most.max(file.sections[0].len());
        assert!(last.totals.new_pages <= 1);
    }
    assert_eq!(most, super::section::MAX_LAYERS, "{depths:?}");
    assert!(depths.contains(&1), "merged once: {depths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_pages_are_free_and_tiny_files_share_frames() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let mut tree = Tree::from([("zeros".to_owned(), Some(vec![0; 40 << 20]))]);
    for number in 0..300 {
        tree.insert(format!("tiny/{number}"), Some(noise(number, 100 + number as usize)));
    }
    let finished = backup(&deployment, 1, &tree, None, 64 << 10).await.unwrap();
    let read = must_equal(&deployment, &finished, &tree).await;
    assert_eq!(finished.totals.zero_pages, 40 * 128);
    assert_eq!(finished.totals.new_pages, 300);
    let bytes: usize = (0..300).map(|number| 100 + number).sum();
    assert!(
        read.frames.len() <= bytes.div_ceil(64 << 10) + 1,
        "{} frames",
        read.frames.len()
    );
    assert!(finished.totals.stored_bytes < 200_000, "{:?}", finished.totals);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_beyond_a_section_are_cut() {
    let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
    let size = SECTION_LEN as usize + 100_000;
    let mut bytes = vec![0; size];
    for at in [0, 5_000_000, SECTION_LEN as usize - 10, size - 5_000] {
        let new = noise(at as u64, 5_000);
        bytes[at..at + 5_000].copy_from_slice(&new);
    }
    let mut tree = Tree::from([("big".to_owned(), Some(bytes))]);
    let first = backup(&deployment, 1, &tree, None, 256 << 10).await.unwrap();
    must_equal(&deployment, &first, &tree).await;
    tree.get_mut("big").unwrap().as_mut().unwrap()[size - 1] ^= 1;
    let ancestor = open(&deployment, &first).await.unwrap();
    let second = backup(&deployment, 2, &tree, Some(ancestor), 256 << 10).await.unwrap();
    assert_eq!(second.totals.new_pages, 1);
    must_equal(&deployment, &second, &tree).await;
}

/// The same stream makes the same objects, whatever the threads do.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_depends_on_the_stream_only() {
    let mut tree = Tree::new();
    for number in 0..40u64 {
        let mut bytes = noise(number, 90_000 * (number as usize % 7));
        let half = bytes.len() / 2;
        bytes[half..].fill(0);
        tree.insert(format!("base/{number}"), Some(bytes));
    }
    let mut finished = Vec::new();
    for (jobs, piece) in [(1, 8192), (4, 50_000)] {
        let deployment = small(Arc::new(MemoryStore::new()), true);
        let mut options = WriterOptions::new(WriterId::new([1; 16]), BLOCK);
        options.jobs = jobs;
        let mut writer = BackupWriter::begin(&deployment, options).await.unwrap();
        send(&mut writer, &tree, piece).await.unwrap();
        finished.push(writer.finish().await.unwrap());
    }
    assert_eq!(finished[0].packs, finished[1].packs);
    assert_eq!(finished[0].pack_list, finished[1].pack_list);
    assert_eq!(finished[0].file_table, finished[1].file_table);
}

/// Damaged frames and missing packs are not referred to again; a damaged ancestor costs space only.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_stored_anew() {
    let store = Arc::new(MemoryStore::new());
    let deployment = small(store.clone(), true);
    let tree = Tree::from([("base/1".to_owned(), Some(noise(1, 6 << 20)))]);
    let first = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    let read = must_equal(&deployment, &first, &tree).await;

    let bad = *read.frames.iter().min().unwrap();
    let ancestor = AncestorReader::open(&deployment, &first.file_table, &first.pack_list, HashSet::from([bad]));
    let second = backup(&deployment, 2, &tree, Some(ancestor.await.unwrap()), 32 << 10)
        .await
        .unwrap();
    assert!((1..=8).contains(&second.totals.new_pages), "{:?}", second.totals);
    assert!(!must_equal(&deployment, &second, &tree).await.frames.contains(&bad));

    let data = first.packs.iter().find(|pack| pack.kind == PackKind::Data).unwrap();
    let name = layout::pack(deployment.name(), &data.id.writer, data.id.sequence);
    deployment.store().delete(&name).await.unwrap();
    let ancestor = open(&deployment, &first).await.unwrap();
    let third = backup(&deployment, 3, &tree, Some(ancestor), 32 << 10).await.unwrap();
    assert_eq!(third.totals.new_pages, data.total);
    must_equal(&deployment, &third, &tree).await;

    let EntryKind::File(file) = &read.entries[&key("base/1")].kind else {
        panic!("a file")
    };
    let at = file.sections[0][0].column.frames()[0];
    let pack = first.packs[at.pack as usize].id;
    let name = layout::pack(deployment.name(), &pack.writer, pack.sequence);
    assert!(store.corrupt(&name, |bytes| bytes[at.offset as usize + 20] ^= 1));
    let ancestor = open(&deployment, &first).await.unwrap();
    let fourth = backup(&deployment, 4, &tree, Some(ancestor), 32 << 10).await.unwrap();
    assert_eq!(fourth.totals.reused_pages, 0);
    must_equal(&deployment, &fourth, &tree).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_renames_the_version_directory() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let content = Some(noise(1, 100_000));
    let name = |version: &str| EntryKey {
        tablespace: 16_400,
        path: format!("{version}/5/1234").into_bytes(),
    };
    let mut last: Option<Finished> = None;
    for (number, version) in [(1, "PG_17_202406281"), (2, "PG_18_202506291")] {
        let mut options = WriterOptions::new(WriterId::new([number; 16]), BLOCK);
        if let Some(last) = &last {
            let ancestor = open(&deployment, last).await.unwrap();
            options.ancestor = Some(ancestor.with_version_directory("PG_17_202406281"));
        }
        let mut writer = BackupWriter::begin(&deployment, options).await.unwrap();
        let bytes = content.as_ref().unwrap();
        let meta = FileMeta {
            key: name(version),
            size: bytes.len() as u64,
            mode: 0o600,
            mtime: 0,
        };
        writer.start_file(meta).await.unwrap();
        writer.write(bytes).await.unwrap();
        writer.end_file().await.unwrap();
        last = Some(writer.finish().await.unwrap());
    }
    assert_eq!(last.unwrap().totals.new_pages, 0);
}

/// A fault at every single storage call of a backup: it fails, without a panic, or it is a whole backup.
#[tokio::test(flavor = "multi_thread")]
async fn every_failing_call_fails_the_backup() {
    let mut tree = Tree::from([("base/1".to_owned(), Some(noise(1, 3 << 20)))]);
    let inner: DynStore = Arc::new(MemoryStore::new());
    let first = backup(&small(inner.clone(), true), 1, &tree, None, 32 << 10)
        .await
        .unwrap();
    apply(
        &mut tree,
        &Edit::Length {
            file: 1,
            length: 5 << 20,
        },
        3,
    );
    let mut writer = 1;
    let mut failed = 0;
    loop {
        writer += 1;
        let store = Arc::new(FaultStore::new(inner.clone()));
        let deployment = small(store.clone(), true);
        let broken = Fault::FailBefore(Error::new(code::storage::IO, "as the test wants"));
        store.at(u64::from(writer) - 1, broken);
        let result = async {
            let ancestor = open(&deployment, &first).await?;
            backup(&deployment, writer, &tree, Some(ancestor), 32 << 10).await
        };
        match result.await {
            Err(error) => {
                assert!(error.is(code::storage::IO), "{error:?}");
                failed += 1;
            }
            Ok(finished) => {
                must_equal(&small(inner.clone(), true), &finished, &tree).await;
                // Beyond the last call nothing fails.
                assert!(
                    store.calls() < u64::from(writer) - 1,
                    "a fault at call {} was not seen",
                    writer - 1
                );
                break;
            }
        }
    }
    assert!(failed >= 15, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_an_upload_is_no_failure_and_a_foreign_pack_is() {
    let tree = Tree::from([("base/1".to_owned(), Some(noise(1, 100_000)))]);
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let deployment = small(store.clone(), true);
    backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    // The same writer id again: its packs are there, with the same bytes, as after an answer that was lost.
    let again = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    must_equal(&deployment, &again, &tree).await;
    let other = Tree::from([("base/1".to_owned(), Some(noise(2, 100_000)))]);
    let error = backup(&deployment, 1, &other, None, 32 << 10).await.unwrap_err();
    assert!(error.is(code::repository::COMMIT_CONFLICT), "{error:?}");
    assert!(store.count(Call::UploadFinish) >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_its_word_is_refused() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let meta = |size| FileMeta {
        key: key("base/1"),
        size,
        mode: 0o600,
        mtime: 0,
    };
    let begin = || BackupWriter::begin(&deployment, WriterOptions::new(WriterId::new([1; 16]), BLOCK));
    let mut writer = begin().await.unwrap();
    assert!(writer.write(b"x").await.unwrap_err().is(code::repository::FILE_SIZE));
    writer.start_file(meta(10)).await.unwrap();
    assert!(
        writer
            .start_file(meta(10))
            .await
            .unwrap_err()
            .is(code::repository::FILE_SIZE)
    );
    writer.write(b"123").await.unwrap();
    assert!(writer.end_file().await.unwrap_err().is(code::repository::FILE_SIZE));
    writer.abort().await;

    let mut writer = begin().await.unwrap();
    writer.start_file(meta(2)).await.unwrap();
    assert!(writer.write(b"123").await.unwrap_err().is(code::repository::FILE_SIZE));
    assert!(writer.finish().await.is_err());
    let options = WriterOptions::new(WriterId::new([1; 16]), 1000);
    assert!(
        BackupWriter::begin(&deployment, options)
            .await
            .unwrap_err()
            .is(code::repository::BLOCK_SIZE)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_a_backup_that_waits_for_the_store() {
    let gate = hardstorage_storage::Gate::new();
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    store.on(Call::UploadWrite, 1, Fault::HoldBefore(gate.clone()));
    let deployment = small(store, true);
    let cancel = CancellationToken::new();
    let mut options = WriterOptions::new(WriterId::new([1; 16]), BLOCK);
    options.cancel = cancel.clone();
    let mut writer = BackupWriter::begin(&deployment, options).await.unwrap();
    let tree = Tree::from([("base/1".to_owned(), Some(noise(1, 60 << 20)))]);
    let stuck = tokio::spawn(async move {
        let result = send(&mut writer, &tree, 32 << 10).await;
        writer.abort().await;
        result
    });
    gate.reached().await;
    cancel.cancel();
    let error = stuck.await.unwrap().unwrap_err();
    assert!(error.is(code::cli::INTERRUPTED), "{error:?}");
}

//! What the tests of the reader start from: files, a backup of them, and a sink that remembers.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use hardstorage_codec::Secret;
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::{DynStore, MemoryStore};

use crate::reader::{BackupReader, FileInfo, FileSink, ReadOptions, WindowLimits};
use crate::table::EntryKey;
use crate::writer::{AncestorReader, BackupWriter, FileMeta, Finished, WriterOptions};
use crate::{DataKey, Deployment, PackId, RepoConfig, Surroundings, WriterId};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Bytes that repeat nowhere and do not compress.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// Files of the lengths at which something changes, compressible ones, sparse ones, and one of several frames.
pub(crate) fn samples() -> Files {
    let mut files = Files::new();
    for length in [0usize, 1, 511, 8191, 8192, 8193, 16384, 40_000] {
        files.insert(format!("base/5/{length}"), noise(length as u64 + 7, length));
    }
    files.insert("base/5/text".into(), b"all work and no play ".repeat(9000));
    files.insert("base/5/zeros".into(), vec![0; 100_000]);
    let mut sparse = vec![0; 90 * 8192 + 77];
    sparse[8192 * 3..8192 * 5].copy_from_slice(&noise(3, 8192 * 2));
    sparse[90 * 8192 + 5] = 9;
    files.insert("base/5/sparse".into(), sparse);
    files.insert("base/6/large".into(), noise(99, 2_500_000));
    files.insert("global/pg_control".into(), noise(5, 8192));
    files
}

pub(crate) struct Scenario {
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) deployment: Deployment,
    seed: u8,
}

impl Scenario {
    pub(crate) fn new() -> Scenario {
        Scenario::with_keys(7)
    }

    pub(crate) fn with_keys(seed: u8) -> Scenario {
        Scenario::make(seed, true)
    }

    /// Of a repository without encryption.
    pub(crate) fn unsealed() -> Scenario {
        Scenario::make(7, false)
    }

    fn make(seed: u8, seals: bool) -> Scenario {
        let memory = Arc::new(MemoryStore::new().with_page(3));
        let store: DynStore = memory.clone();
        Scenario {
            deployment: deployment(store, seed, seals),
            memory,
            seed,
        }
    }

    /// Another way to the same objects, with the same key.
    pub(crate) fn through(&self, store: DynStore) -> Deployment {
        deployment(store, self.seed, self.deployment.key().seals())
    }

    pub(crate) async fn back_up(&self, number: u8, files: &Files, ancestor: Option<&Finished>) -> Finished {
        match ancestor {
            Some(before) => self.back_up_without(number, files, before, HashSet::new()).await,
            None => self.write(number, files, None).await,
        }
    }

    /// Takes over no page that lies in a damaged frame.
    pub(crate) async fn back_up_without(
        &self,
        number: u8,
        files: &Files,
        before: &Finished,
        damaged: HashSet<(PackId, u32)>,
    ) -> Finished {
        let opened = AncestorReader::open(&self.deployment, &before.file_table, &before.pack_list, damaged);
        self.write(number, files, Some(opened.await.unwrap())).await
    }

    /// A writer for a backup.
    pub(crate) async fn writer(&self, number: u8, ancestor: Option<AncestorReader>) -> BackupWriter {
        let mut options = WriterOptions::new(WriterId::new([number; 16]), 8192);
        options.memory = 1 << 20;
        options.ancestor = ancestor;
        BackupWriter::begin(&self.deployment, options).await.unwrap()
    }

    async fn write(&self, number: u8, files: &Files, ancestor: Option<AncestorReader>) -> Finished {
        let mut writer = self.writer(number, ancestor).await;
        writer.add_directory(key("base"), 0o700, 1).await.unwrap();
        for (name, bytes) in files {
            writer.start_file(meta(name, bytes.len() as u64)).await.unwrap();
            writer.write(bytes).await.unwrap();
            writer.end_file().await.unwrap();
        }
        writer.finish().await.unwrap()
    }

    pub(crate) async fn open(&self, backup: &Finished) -> BackupReader {
        open(&self.deployment, backup).await.unwrap()
    }
}

pub(crate) async fn open(deployment: &Deployment, backup: &Finished) -> Result<BackupReader> {
    BackupReader::open(deployment, &backup.file_table, &backup.pack_list).await
}

/// Small frames and packs, so that little data makes many of them.
fn deployment(store: DynStore, seed: u8, seals: bool) -> Deployment {
    let config = RepoConfig {
        frame_size: 32 << 10,
        changed_frame_size: 64 << 10,
        pack_size: 1 << 20,
        ..RepoConfig::default()
    };
    assert_eq!(config.problem(), None);
    let surroundings = Surroundings::default();
    let data_key = DataKey::new(Secret::new([seed; 32]), [seed; 16], 1, seals);
    Deployment::for_tests_with(store, "db1", surroundings, data_key, config)
}

pub(crate) fn meta(name: &str, size: u64) -> FileMeta {
    FileMeta {
        key: key(name),
        size,
        mode: 0o600,
        mtime: 12,
    }
}

pub(crate) fn key(name: &str) -> EntryKey {
    EntryKey {
        tablespace: 0,
        path: name.as_bytes().to_vec(),
    }
}

/// Windows so small that every boundary is crossed.
pub(crate) fn tiny() -> ReadOptions {
    let limits = |files| WindowLimits {
        wide_files: 1,
        files,
        pieces: 3,
    };
    ReadOptions {
        jobs: 2,
        in_flight: 40_000,
        read_size: 35_000,
        windows: (limits(1), limits(2)),
        ..ReadOptions::default()
    }
}

/// Remembers what it was given, and refuses what no sink should be given.
#[derive(Debug, Default)]
pub(crate) struct Collect {
    pub(crate) files: Mutex<BTreeMap<String, Collected>>,
    /// The call of this number fails.
    pub(crate) fail_at: Option<usize>,
    pub(crate) calls: std::sync::atomic::AtomicUsize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Collected {
    pub(crate) bytes: Vec<u8>,
    written: Vec<bool>,
    pub(crate) finished: Option<(u32, u64)>,
}

impl Collect {
    fn call(&self) -> Result<()> {
        let call = self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if Some(call) == self.fail_at {
            return Err(Error::new(code::cli::IO, "the disk is full"));
        }
        Ok(())
    }

    /// The files that were finished.
    pub(crate) fn whole(&self) -> Files {
        let files = self.files.lock().unwrap();
        let whole = files.iter().filter(|(_, file)| file.finished.is_some());
        whole.map(|(name, file)| (name.clone(), file.bytes.clone())).collect()
    }
}

impl FileSink for Collect {
    type Handle = String;

    fn create(&self, file: &FileInfo) -> Result<String> {
        self.call()?;
        let name = file.key.to_string();
        let before = self.files.lock().unwrap().insert(
            name.clone(),
            Collected {
                bytes: vec![0; file.size as usize],
                written: vec![false; file.size as usize],
                finished: None,
            },
        );
        assert!(before.is_none(), "{name} was created twice");
        assert_eq!((file.mode, file.mtime), (0o600, 12));
        Ok(name)
    }

    fn write_at(&self, name: &String, offset: u64, bytes: &[u8]) -> Result<()> {
        self.call()?;
        let mut files = self.files.lock().unwrap();
        let file = files.get_mut(name).unwrap();
        let range = offset as usize..offset as usize + bytes.len();
        assert!(
            file.written[range.clone()].iter().all(|before| !before),
            "{name} {range:?} came twice"
        );
        file.written[range.clone()].fill(true);
        file.bytes[range].copy_from_slice(bytes);
        Ok(())
    }

    fn zero(&self, name: &String, offset: u64, length: u64) -> Result<()> {
        self.call()?;
        let mut files = self.files.lock().unwrap();
        let file = files.get_mut(name).unwrap();
        let range = offset as usize..(offset + length) as usize;
        assert!(
            file.written[range.clone()].iter().all(|before| !before),
            "{name} {range:?} came twice"
        );
        file.written[range].fill(true);
        Ok(())
    }

    fn finish(&self, name: &String, crc32c: u32, size: u64) -> Result<()> {
        self.call()?;
        let mut files = self.files.lock().unwrap();
        let file = files.get_mut(name).unwrap();
        assert!(file.written.iter().all(|written| *written), "{name} has holes");
        assert_eq!(hardstorage_codec::crc32c(&file.bytes), crc32c);
        assert_eq!(file.bytes.len() as u64, size);
        assert_eq!(file.finished, None);
        file.finished = Some((crc32c, size));
        Ok(())
    }
}

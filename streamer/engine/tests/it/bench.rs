//! A repository in memory with backups and WAL that no server wrote: what the tests of verification and of the audit
//! damage, and look at.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use hardstorage_codec::{Secret, SigningKey, crc32c, fingerprint};
use hardstorage_report::{Event, EventSink, Lsn, SegmentName, SegmentSize, SystemId, Timeline};
use hardstorage_repository::wal::{RecordFacts, WalArchive};
use hardstorage_repository::{
    AncestorReader, BackupKind, BackupWriter, DataChecksums, Deployment, EntryKey, ExpectedPack, FileMeta, Lineage,
    MANIFEST_FORMAT, Manifest, Opening, PackKind, Purpose, ServerFacts, Session, Times, WalFacts, WalRange,
    WriterFacts, WriterOptions, layout,
};
use hardstorage_storage::{DynStore, Key, MemoryStore, Store as _};
use jiff::Timestamp;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const LINEAGE: Lineage = Lineage {
    system_id: SystemId(7_519_000_000_000_000_001),
    incarnation: 1,
};

/// What a backup of the tests needs, when nothing else is said.
const USUAL: WalRange = WalRange {
    timeline: Timeline(1),
    from: Lsn(0x20_0028),
    to: Lsn(0x30_0100),
};

/// Remembers the names of events.
#[derive(Default)]
pub(crate) struct Names(pub(crate) Mutex<Vec<String>>);

impl EventSink for Names {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event.name);
    }
}

pub(crate) struct Bench {
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) deployment: Deployment,
    pub(crate) archive: WalArchive,
    pub(crate) signer: SigningKey,
}

pub(crate) fn size() -> SegmentSize {
    SegmentSize::new(MIB).unwrap()
}

pub(crate) fn segment(number: u64) -> SegmentName {
    SegmentName::containing(Timeline(1), Lsn(number * MIB), size())
}

/// Pages that compress badly, so that every file has frames of its own.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub(crate) fn files() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("base/5/1259", noise(1, 300_000)),
        ("base/5/16384", noise(2, 2_000_000)),
        ("global/pg_control", noise(3, 8192)),
    ])
}

/// What PostgreSQL would say of these files.
pub(crate) fn manifest_of<'a>(files: impl IntoIterator<Item = (&'a str, u64, u32)>) -> Vec<u8> {
    let lines: Vec<String> = files
        .into_iter()
        .map(|(path, size, crc)| {
            let crc = format!("{:08x}", crc.swap_bytes());
            format!(
                "{{ \"Path\": \"{path}\", \"Size\": {size}, \"Last-Modified\": \"2026-06-25 08:30:40 GMT\", \
                 \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{crc}\" }}"
            )
        })
        .collect();
    format!(
        "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n\
         {{ \"Timeline\": 1, \"Start-LSN\": \"0/200028\", \"End-LSN\": \"0/300100\" }}\n],\n\
         \"Manifest-Checksum\": \"aa\"}}\n",
        lines.join(",\n")
    )
    .into_bytes()
}

pub(crate) fn honest() -> Vec<u8> {
    let files = files();
    manifest_of(
        files
            .iter()
            .map(|(path, bytes)| (*path, bytes.len() as u64, crc32c(bytes))),
    )
}

impl Bench {
    pub(crate) async fn new() -> Bench {
        let memory = Arc::new(MemoryStore::new());
        let deployment = Deployment::for_tests(memory.clone() as DynStore, "db1");
        let signer = SigningKey::new(&Secret::new([6; 32]));
        deployment.register_signer(&signer.public()).await.unwrap();
        Bench {
            archive: WalArchive::new(deployment.clone(), LINEAGE, size()),
            memory,
            deployment,
            signer,
        }
    }

    pub(crate) async fn store_wal(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let raw = noise(number + 100, MIB as usize);
            let put = self.archive.put_segment(segment(number), &raw, RecordFacts::default());
            put.await.unwrap();
        }
    }

    /// Commits a backup from 0/200028 to 0/300100 with these words of PostgreSQL about it.
    pub(crate) async fn back_up(&self, id: &str, postgres: Option<Vec<u8>>) {
        self.write(id, postgres, None, USUAL).await;
    }

    /// Commits a backup that needs this WAL.
    pub(crate) async fn back_up_over(&self, id: &str, needed: WalRange) {
        self.write(id, Some(honest()), None, needed).await;
    }

    /// One whose pages lie in the packs of another.
    pub(crate) async fn back_up_after(&self, id: &str, before: &str) {
        let before = self.manifest(before).await;
        let ancestor = AncestorReader::open(&self.deployment, &before.file_table, &before.pack_list, HashSet::new());
        let ancestor = ancestor.await.unwrap();
        self.write(id, Some(honest()), Some(ancestor), USUAL).await;
    }

    pub(crate) async fn manifest(&self, id: &str) -> Manifest {
        let id = id.parse().unwrap();
        let stored = Manifest::load(&self.deployment, &id).await.unwrap();
        stored.committed(&id).unwrap().manifest
    }

    async fn write(&self, id: &str, postgres: Option<Vec<u8>>, ancestor: Option<AncestorReader>, needed: WalRange) {
        let mut files = files();
        if let Some(postgres) = postgres {
            files.insert("backup_manifest", postgres);
        }
        self.write_files(id, files, ancestor, needed).await;
    }

    /// Commits a backup of these files.
    pub(crate) async fn back_up_files(&self, id: &str, files: BTreeMap<&'static str, Vec<u8>>) {
        self.write_files(id, files, None, USUAL).await;
    }

    async fn write_files(
        &self,
        id: &str,
        files: BTreeMap<&'static str, Vec<u8>>,
        ancestor: Option<AncestorReader>,
        needed: WalRange,
    ) {
        let session = Session::open(
            &self.deployment,
            Opening::new(Purpose::Backup {
                backup_id: id.parse().unwrap(),
            }),
        );
        let session = session.await.unwrap();
        let mut options = WriterOptions::new(session.writer(), 8192);
        options.ancestor = ancestor;
        let mut writer = BackupWriter::begin(&self.deployment, options).await.unwrap();
        let key = |path: &str| EntryKey {
            tablespace: 0,
            path: path.as_bytes().to_vec(),
        };
        for path in ["base", "base/5", "global"] {
            writer.add_directory(key(path), 0o700, 1_780_000_000).await.unwrap();
        }
        for (path, bytes) in files {
            let meta = FileMeta {
                key: key(path),
                size: bytes.len() as u64,
                mode: 0o600,
                mtime: 1_780_000_000,
            };
            writer.start_file(meta).await.unwrap();
            writer.write(&bytes).await.unwrap();
            writer.end_file().await.unwrap();
        }
        let finished = writer.finish().await.unwrap();
        let at = |second: i64| Timestamp::from_second(1_780_000_000 + second).unwrap();
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            features: Vec::new(),
            deployment: self.deployment.name().clone(),
            backup_id: id.parse().unwrap(),
            kind: BackupKind::Full,
            lineage: LINEAGE,
            server: ServerFacts {
                version_num: 180_000,
                version: "18.0".to_owned(),
                block_size: 8192,
                relation_segment_size: 1 << 30,
                wal_segment_size: size(),
                data_checksums: DataChecksums::On,
            },
            wal: WalFacts {
                start_timeline: needed.timeline,
                timeline: needed.timeline,
                start_lsn: needed.from,
                stop_lsn: needed.to,
                needed: vec![needed],
                histories: Vec::new(),
            },
            tablespaces: Vec::new(),
            times: Times {
                started_at: at(0),
                stopped_at: at(60),
                store_at: at(61),
            },
            writer: WriterFacts {
                id: session.writer(),
                run_id: None,
                host: "host".to_owned(),
                tool: "test".to_owned(),
            },
            data_key_id: *self.deployment.key().id(),
            signer: fingerprint(&self.signer.public()),
            ancestor: None,
            file_table: finished.file_table,
            pack_list: finished.pack_list,
            totals: finished.totals,
            content_checked_at: None,
            damaged_pages: Vec::new(),
            label: None,
            annotations: BTreeMap::new(),
            external_files: Vec::new(),
            source_snapshot: None,
        };
        let mut packs = Vec::new();
        for record in &finished.packs {
            let key = layout::pack(self.deployment.name(), &record.id.writer, record.id.sequence);
            let length = self.memory.head(&key).await.unwrap().unwrap().size;
            packs.push(ExpectedPack {
                pack: record.id,
                length,
            });
        }
        manifest.commit(&self.deployment, &self.signer, packs).await.unwrap();
        session.close().await.unwrap();
    }

    /// A pack of pages.
    pub(crate) async fn data_pack(&self, id: &str) -> Key {
        let manifest = self.manifest(id).await;
        let reader =
            hardstorage_repository::BackupReader::open(&self.deployment, &manifest.file_table, &manifest.pack_list);
        let packs = reader.await.unwrap().pack_list().await.unwrap().packs;
        let pack = packs.iter().find(|pack| pack.kind != PackKind::Meta).unwrap();
        layout::pack(self.deployment.name(), &pack.id.writer, pack.id.sequence)
    }
}

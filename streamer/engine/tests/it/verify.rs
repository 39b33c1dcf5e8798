//! Verification of backups that were damaged in every part, on a store in memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use hardstorage_codec::{Secret, SigningKey, crc32c, fingerprint};
use hardstorage_engine::verify::{VerifyPlan, VerifyResult, run_verify};
use hardstorage_report::{Event, EventSink, Lsn, SegmentName, SegmentSize, SystemId, Timeline, code};
use hardstorage_repository::wal::{RecordFacts, WalArchive};
use hardstorage_repository::{
    AncestorReader, BackupKind, BackupWriter, DataChecksums, Deployment, EntryKey, ExpectedPack, FileMeta, Lineage,
    MANIFEST_FORMAT, Manifest, Opening, PackKind, Purpose, ServerFacts, Session, Times, WalFacts, WalRange,
    WriterFacts, WriterOptions, layout,
};
use hardstorage_storage::{DynStore, Key, MemoryStore, Store as _};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1 << 20;
const LINEAGE: Lineage = Lineage {
    system_id: SystemId(7_519_000_000_000_000_001),
    incarnation: 1,
};

/// Remembers the names of events.
#[derive(Default)]
struct Names(Mutex<Vec<String>>);

impl EventSink for Names {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event.name);
    }
}

struct Bench {
    memory: Arc<MemoryStore>,
    deployment: Deployment,
    archive: WalArchive,
    signer: SigningKey,
}

fn size() -> SegmentSize {
    SegmentSize::new(MIB).unwrap()
}

fn segment(number: u64) -> SegmentName {
    SegmentName::containing(Timeline(1), Lsn(number * MIB), size())
}

/// Pages that compress badly, so that every file has frames of its own.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn files() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("base/5/1259", noise(1, 300_000)),
        ("base/5/16384", noise(2, 2_000_000)),
        ("global/pg_control", noise(3, 8192)),
    ])
}

/// What PostgreSQL would say of these files.
fn manifest_of<'a>(files: impl IntoIterator<Item = (&'a str, u64, u32)>) -> Vec<u8> {
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

fn honest() -> Vec<u8> {
    let files = files();
    manifest_of(
        files
            .iter()
            .map(|(path, bytes)| (*path, bytes.len() as u64, crc32c(bytes))),
    )
}

impl Bench {
    async fn new() -> Bench {
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

    async fn store_wal(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let raw = noise(number + 100, MIB as usize);
            let put = self.archive.put_segment(segment(number), &raw, RecordFacts::default());
            put.await.unwrap();
        }
    }

    /// Commits a backup from 0/200028 to 0/300100 with these words of PostgreSQL about it.
    async fn back_up(&self, id: &str, postgres: Option<Vec<u8>>) {
        self.write(id, postgres, None).await;
    }

    /// One whose pages lie in the packs of another.
    async fn back_up_after(&self, id: &str, before: &str) {
        let before = self.manifest(before).await;
        let ancestor = AncestorReader::open(&self.deployment, &before.file_table, &before.pack_list, HashSet::new());
        let ancestor = ancestor.await.unwrap();
        self.write(id, Some(honest()), Some(ancestor)).await;
    }

    async fn manifest(&self, id: &str) -> Manifest {
        let id = id.parse().unwrap();
        let stored = Manifest::load(&self.deployment, &id).await.unwrap();
        stored.committed(&id).unwrap().manifest
    }

    async fn write(&self, id: &str, postgres: Option<Vec<u8>>, ancestor: Option<AncestorReader>) {
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
        let mut files = files();
        if let Some(postgres) = postgres {
            files.insert("backup_manifest", postgres);
        }
        for (path, bytes) in files {
            let meta = FileMeta {
                key: EntryKey {
                    tablespace: 0,
                    path: path.as_bytes().to_vec(),
                },
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
        let needed = WalRange {
            timeline: Timeline(1),
            from: Lsn(0x20_0028),
            to: Lsn(0x30_0100),
        };
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
                start_timeline: Timeline(1),
                timeline: Timeline(1),
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
    async fn data_pack(&self) -> Key {
        let manifest = self.manifest(ID).await;
        let reader =
            hardstorage_repository::BackupReader::open(&self.deployment, &manifest.file_table, &manifest.pack_list);
        let packs = reader.await.unwrap().pack_list().await.unwrap().packs;
        let pack = packs.iter().find(|pack| pack.kind != PackKind::Meta).unwrap();
        layout::pack(self.deployment.name(), &pack.id.writer, pack.id.sequence)
    }

    async fn verify(&self, structure_only: bool) -> (VerifyResult, Vec<String>) {
        let plan = VerifyPlan {
            backup: Some(ID.parse().unwrap()),
            structure_only,
            jobs: 2,
            run_id: None,
        };
        let names = Arc::new(Names::default());
        let result = run_verify(&self.deployment, &plan, names.clone(), CancellationToken::new()).await;
        let names = std::mem::take(&mut *names.0.lock().unwrap());
        (result.unwrap(), names)
    }
}

const ID: &str = "db1.full.20260625T083040Z.0001";
const OTHER: &str = "db1.full.20260626T083040Z.0002";

#[tokio::test]
async fn a_whole_backup_is_proven() {
    let bench = Bench::new().await;
    bench.store_wal(2..6).await;
    bench.back_up(ID, Some(honest())).await;
    let (result, events) = bench.verify(false).await;
    assert!(result.ok && result.failure().is_none(), "{result:?}");
    assert_eq!((result.files, result.postgres_files), (4, 3));
    assert_eq!(result.wal_until, Some(Lsn(6 * MIB)));
    assert!(result.frames > 0 && result.packs > 0);
    assert_eq!(events.first().map(String::as_str), Some("verify.started"));
    assert!(events.iter().any(|name| name == "verify.progress"), "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("verify.completed"));

    let (result, _) = bench.verify(true).await;
    assert!(result.ok && result.frames == 0 && result.level == "structure");
}

#[tokio::test]
async fn a_bad_page_is_named_with_the_file_and_every_backup_that_it_hurts() {
    let bench = Bench::new().await;
    bench.store_wal(2..6).await;
    bench.back_up(ID, Some(honest())).await;
    bench.back_up_after(OTHER, ID).await;
    let pack = bench.data_pack().await;
    assert!(bench.memory.corrupt(&pack, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }));
    let (result, events) = bench.verify(false).await;
    let failure = result.failure().unwrap();
    assert_eq!((failure.exit_code(), result.ok), (9, false), "{failure}");
    let hurt = result.damage.iter().find(|damage| !damage.files.is_empty()).unwrap();
    assert_eq!(hurt.object, pack.as_str());
    assert!(hurt.frame.is_some());
    assert!(hurt.files.iter().all(|file| file.starts_with("base/5/")), "{hurt:?}");
    assert_eq!(events.last().map(String::as_str), Some("verify.failed"));
    assert_eq!(result.also_hurt, [OTHER.parse().unwrap()]);
}

#[tokio::test]
async fn a_pack_that_is_gone_or_short_fails_the_structure() {
    for short in [true, false] {
        let bench = Bench::new().await;
        bench.store_wal(2..6).await;
        bench.back_up(ID, Some(honest())).await;
        bench.back_up(OTHER, Some(honest())).await;
        let pack = bench.data_pack().await;
        if short {
            assert!(bench.memory.corrupt(&pack, |bytes| bytes.truncate(bytes.len() - 1)));
        } else {
            bench.memory.delete(&pack).await.unwrap();
        }
        for structure in [true, false] {
            let (result, _) = bench.verify(structure).await;
            assert_eq!(result.failure().unwrap().exit_code(), 9);
            assert!(result.damage.iter().any(|damage| damage.object == pack.as_str()));
            let files: Vec<&String> = result.damage.iter().flat_map(|damage| &damage.files).collect();
            // Every frame of the short one can still be read: who reads them knows that no file is hurt.
            assert_eq!(files.is_empty(), short && !structure);
        }
    }
}

#[tokio::test]
async fn the_backup_is_compared_with_what_postgresql_said_of_it() {
    let files = files();
    let all = || {
        files
            .iter()
            .map(|(path, bytes)| (*path, bytes.len() as u64, crc32c(bytes)))
    };
    let another_crc = all().map(|(path, size, crc)| (path, size, if path == "base/5/1259" { crc ^ 1 } else { crc }));
    let another_size = all().map(|(path, size, crc)| (path, size + u64::from(path == "base/5/1259"), crc));
    let one_more = all().chain([("base/5/2600", 8192, 7)]);
    let cases = [
        (Some(manifest_of(another_crc)), "differ", Some("base/5/1259")),
        (Some(manifest_of(another_size)), "differ", Some("base/5/1259")),
        (Some(manifest_of(one_more)), "1 files of PostgreSQL's", None),
        (None, "is not in the backup", None),
    ];
    for (postgres, reason, file) in cases {
        let bench = Bench::new().await;
        bench.store_wal(2..6).await;
        bench.back_up(ID, postgres).await;
        let (result, _) = bench.verify(false).await;
        assert_eq!(result.failure().unwrap().exit_code(), 9);
        let [damage] = &result.damage[..] else {
            panic!("{result:?}")
        };
        assert!(damage.reason.contains(reason), "{damage:?}");
        assert_eq!(damage.files.first().map(String::as_str), file);
    }
}

#[tokio::test]
async fn missing_wal_is_told_from_a_hole_behind_the_backup() {
    let bench = Bench::new().await;
    bench.store_wal([2]).await;
    bench.back_up(ID, Some(honest())).await;
    let (result, _) = bench.verify(true).await;
    assert!(!result.wal_complete && !result.ok);
    assert!(result.failure().unwrap().is(code::repository::WAL_GAP));

    bench.store_wal([3, 4, 6]).await;
    let (result, _) = bench.verify(true).await;
    assert!(result.wal_complete);
    assert_eq!(result.wal_until, Some(Lsn(5 * MIB)));
    let hole = result.wal_hole.unwrap();
    assert_eq!((hole.from, hole.to, hole.recorded), (Lsn(5 * MIB), Lsn(6 * MIB), None));

    let lost = (Lsn(5 * MIB), Lsn(6 * MIB));
    let evidence = serde_json::json!({"slot": "lost"});
    let put = bench
        .archive
        .put_gap(Timeline(1), lost, "the slot was invalidated", evidence);
    put.await.unwrap();
    let (result, _) = bench.verify(true).await;
    assert_eq!(
        result.wal_hole.unwrap().recorded.as_deref(),
        Some("the slot was invalidated")
    );

    bench.store_wal([5]).await;
    let (result, _) = bench.verify(true).await;
    assert!(
        result.ok && result.wal_hole.is_none(),
        "a gap that was filled is none: {result:?}"
    );
}

#[tokio::test]
async fn a_backup_that_is_not_there_is_no_damage() {
    let bench = Bench::new().await;
    for backup in [
        None,
        Some(ID.parse().unwrap()),
        Some("db2.full.20260625T083040Z.0001".parse().unwrap()),
    ] {
        let plan = VerifyPlan {
            backup,
            structure_only: false,
            jobs: 1,
            run_id: None,
        };
        let sink = Arc::new(Names::default());
        let error = run_verify(&bench.deployment, &plan, sink, CancellationToken::new())
            .await
            .unwrap_err();
        assert!(error.is(code::repository::BACKUP_MISSING), "{error}");
    }
}

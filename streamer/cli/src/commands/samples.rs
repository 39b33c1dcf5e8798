//! Backups that no server wrote, with fixed ids and times: what the snapshots of this crate show.

use std::collections::BTreeMap;
use std::sync::Arc;

use hardstorage_codec::{Secret, SigningKey, fingerprint};
use hardstorage_engine::catalogue::record;
use hardstorage_report::{BackupRecord, Lsn, SegmentName, SegmentSize, SystemId, Timeline};
use hardstorage_repository::wal::{RecordFacts, WalArchive};
use hardstorage_repository::{
    Action, Ancestor, BackupKind, BackupState, DataChecksums, Deployment, FrameAt, Lineage, MANIFEST_FORMAT, Manifest,
    PackId, PackKind, Root, ServerFacts, Times, Totals, WalFacts, WalRange, WriterFacts, WriterId,
};
use hardstorage_storage::MemoryStore;
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

pub(super) const OLD: &str = "db1.full.20261120T210000Z.0a01";
pub(super) const HELD: &str = "db1.full.20261121T210000Z.0a02";
pub(super) const NEW: &str = "db1.full.20261122T080000Z.0a03";

const MIB: u64 = 1 << 20;

/// A zone that is not UTC, so that both are seen.
pub(super) fn zone() -> TimeZone {
    TimeZone::fixed(Offset::constant(2))
}

pub(super) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn signer() -> SigningKey {
    SigningKey::new(&Secret::new([6; 32]))
}

fn root(sequence: u32) -> Root {
    Root {
        frames: vec![FrameAt {
            pack: PackId {
                writer: WriterId::new([7; 16]),
                sequence,
            },
            kind: PackKind::Meta,
            number: 3,
            offset: 4096,
            stored_len: 1000,
            raw_len: 4000,
            codec: 1,
        }],
        length: 4000,
        hash: [9; 32],
    }
}

/// A manifest of this backup, which ended then and needs WAL from 0/200028 to 0/300100.
pub(super) fn manifest(id: &str, stopped_at: &str) -> Manifest {
    let stopped_at = time(stopped_at);
    let wal = WalRange {
        timeline: Timeline(1),
        from: Lsn(0x20_0028),
        to: Lsn(0x30_0100),
    };
    Manifest {
        format: MANIFEST_FORMAT,
        features: Vec::new(),
        deployment: "db1".parse().unwrap(),
        backup_id: id.parse().unwrap(),
        kind: BackupKind::Full,
        lineage: Lineage {
            system_id: SystemId(7_519_000_000_000_000_001),
            incarnation: 1,
        },
        server: ServerFacts {
            version_num: 180_006,
            version: "18.6".to_owned(),
            block_size: 8192,
            relation_segment_size: 1 << 30,
            wal_segment_size: SegmentSize::new(MIB).unwrap(),
            data_checksums: DataChecksums::On,
        },
        wal: WalFacts {
            start_timeline: wal.timeline,
            timeline: wal.timeline,
            start_lsn: wal.from,
            stop_lsn: wal.to,
            needed: vec![wal],
            histories: Vec::new(),
        },
        tablespaces: Vec::new(),
        times: Times {
            started_at: stopped_at - jiff::SignedDuration::from_millis(83_250),
            stopped_at,
            store_at: stopped_at,
        },
        writer: WriterFacts {
            id: WriterId::new([7; 16]),
            run_id: None,
            host: "db-host".to_owned(),
            tool: "pg_hardstorage 0.1.0".to_owned(),
        },
        data_key_id: [2; 16],
        signer: fingerprint(&signer().public()),
        ancestor: None,
        file_table: root(1),
        pack_list: root(2),
        totals: Totals {
            logical_bytes: 40 * MIB,
            files: 1266,
            new_pages: 70,
            reused_pages: 4930,
            zero_pages: 120,
            stored_bytes: 420_000,
            new_packs: 2,
            needed_packs: 5,
        },
        content_checked_at: None,
        damaged_pages: Vec::new(),
        label: None,
        annotations: BTreeMap::new(),
        external_files: Vec::new(),
        source_snapshot: None,
    }
}

/// The ancestor of a manifest.
pub(super) fn ancestor() -> Ancestor {
    Ancestor {
        backup_id: HELD.parse().unwrap(),
        manifest_hash: [5; 32],
    }
}

/// A deployment with three backups: one marked deleted, one held, and the newest. The WAL reaches to 0/500000.
pub(super) async fn deployment() -> Deployment {
    let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
    deployment.register_signer(&signer().public()).await.unwrap();
    let backups = [
        (OLD, "2026-11-20T21:01:00Z"),
        (HELD, "2026-11-21T21:01:00Z"),
        (NEW, "2026-11-22T08:01:00Z"),
    ];
    for (id, stopped_at) in backups {
        let mut manifest = manifest(id, stopped_at);
        manifest.data_key_id = *deployment.key().id();
        manifest.commit(&deployment, &signer(), []).await.unwrap();
    }
    let change = |id: &str, action| {
        let (deployment, id) = (deployment.clone(), id.parse().unwrap());
        async move { BackupState::change(&deployment, &id, action).await.unwrap() }
    };
    change(
        OLD,
        Action::Delete {
            reason: "retention gfs".to_owned(),
        },
    )
    .await;
    change(
        HELD,
        Action::Hold {
            reason: "before the move".to_owned(),
        },
    )
    .await;
    let any = manifest(NEW, "2026-11-22T08:01:00Z");
    let archive = WalArchive::new(deployment.clone(), any.lineage, any.server.wal_segment_size);
    for number in 2..5 {
        let name = SegmentName::containing(Timeline(1), Lsn(number * MIB), any.server.wal_segment_size);
        let raw = vec![0; MIB as usize];
        archive.put_segment(name, &raw, RecordFacts::default()).await.unwrap();
    }
    deployment
}

/// Its backups as lines, oldest first.
pub(super) async fn lines() -> Vec<BackupRecord> {
    let catalog = deployment().await.backups().await.unwrap();
    catalog.entries.iter().filter_map(record).collect()
}

//! A manifest with every field set, for the tests of this crate.

use std::collections::BTreeMap;

use hardstorage_codec::{Secret, SigningKey, fingerprint};
use hardstorage_report::{Lsn, SegmentSize, SystemId, Timeline};
use jiff::Timestamp;

use super::{
    Ancestor, BackupKind, DamagedPage, DataChecksums, ExternalFile, FrameAt, HistoryHash, MANIFEST_FORMAT, Manifest,
    PackId, Root, ServerFacts, Tablespace, Times, Totals, WalFacts, WalRange, WriterFacts,
};
use crate::{Deployment, Lineage, PackKind, WriterId};

pub(crate) fn root(sequence: u32) -> Root {
    let pack = PackId {
        writer: WriterId::new([7; 16]),
        sequence,
    };
    Root {
        frames: vec![FrameAt {
            pack,
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

pub(crate) fn signed() -> (Manifest, SigningKey) {
    let key = SigningKey::new(&Secret::new([6; 32]));
    let mut manifest = plain("db1", "db1.full.20260625T083040Z.68ac", 0);
    manifest.signer = fingerprint(&key.public());
    (manifest, key)
}

/// One that fits this deployment and signer; `second` orders several by time.
pub(crate) fn of(deployment: &Deployment, key: &SigningKey, id: &str, second: i64) -> Manifest {
    let mut manifest = plain(deployment.name().as_str(), id, second);
    manifest.data_key_id = *deployment.key().id();
    manifest.signer = fingerprint(&key.public());
    manifest
}

fn plain(deployment: &str, id: &str, second: i64) -> Manifest {
    let at = |seconds| Timestamp::from_second(1_780_000_000 + second + seconds).unwrap();
    let range = WalRange {
        timeline: Timeline(2),
        from: Lsn(0x300_0028),
        to: Lsn(0x300_0158),
    };
    Manifest {
        format: MANIFEST_FORMAT,
        features: Vec::new(),
        deployment: deployment.parse().unwrap(),
        backup_id: id.parse().unwrap(),
        kind: BackupKind::Full,
        lineage: Lineage {
            system_id: SystemId(7_519_000_000_000_000_001),
            incarnation: 1,
        },
        server: ServerFacts {
            version_num: 180_006,
            version: "18.6".into(),
            block_size: 8192,
            relation_segment_size: 1 << 30,
            wal_segment_size: SegmentSize::DEFAULT,
            data_checksums: DataChecksums::On,
        },
        wal: WalFacts {
            start_timeline: Timeline(2),
            timeline: Timeline(2),
            start_lsn: range.from,
            stop_lsn: range.to,
            needed: vec![range],
            histories: vec![HistoryHash {
                timeline: Timeline(2),
                hash: [4; 32],
            }],
        },
        tablespaces: vec![Tablespace {
            oid: 16_400,
            location: "/srv/fast".into(),
            size: 1 << 40,
        }],
        times: Times {
            started_at: at(0),
            stopped_at: at(60),
            store_at: at(61),
        },
        writer: WriterFacts {
            id: WriterId::new([7; 16]),
            run_id: Some("run-1".into()),
            host: "db-host".into(),
            tool: "pg_hardstorage 0.1.0".into(),
        },
        data_key_id: [2; 16],
        signer: String::new(),
        ancestor: Some(Ancestor {
            backup_id: "db1.full.20260624T083040Z.0001".parse().unwrap(),
            manifest_hash: [5; 32],
        }),
        file_table: root(1),
        pack_list: root(2),
        totals: Totals {
            logical_bytes: 1 << 50,
            files: 1000,
            new_pages: 10,
            reused_pages: 20,
            zero_pages: 30,
            stored_bytes: 1 << 20,
            new_packs: 2,
            needed_packs: 3,
        },
        content_checked_at: Some(at(60)),
        damaged_pages: vec![DamagedPage {
            path: "base/5/1259".into(),
            block: Some(7),
            reason: "checksum".into(),
        }],
        label: Some("before the migration".into()),
        annotations: BTreeMap::from([("owner".into(), "dba".into())]),
        external_files: vec![ExternalFile {
            path: "/etc/postgresql/postgresql.conf".into(),
            attachment: Some("external/config_file".to_owned()),
            note: None,
        }],
        source_snapshot: Some("source-snapshot".to_owned()),
    }
}

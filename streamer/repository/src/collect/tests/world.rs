//! A deployment with a clock of its own, and backups as small as they can be: packs that are real where the collector
//! reads them (the pack list), and a few bytes elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hardstorage_codec::{Secret, SigningKey};
use hardstorage_report::{BackupId, Result};
use hardstorage_storage::{DynStore, Key, ListRequest, MemoryStore, Store as _};
use jiff::Timestamp;

use crate::collect::{CollectOptions, Collection, collect};
use crate::manifest::{Manifest, StoredManifest, samples};
use crate::pack::PackCipher;
use crate::table::{PackList, PackRecord};
use crate::{
    Action, BackupState, Clock, Codec, Deployment, ExpectedPack, FrameAt, Opening, PackId, PackKind, ProcessFacts,
    Purpose, Root, Session, Surroundings, SystemEntropy, WriterId, layout,
};

pub(super) const HOUR: i64 = 3600;
pub(super) const DAY: i64 = 24 * HOUR;
pub(super) const DATA: &[u8] = b"data";

/// Seconds since 1970, turned by hand.
#[derive(Debug)]
struct Seconds(Arc<AtomicI64>);

impl Clock for Seconds {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

pub(super) struct World {
    seconds: Arc<AtomicI64>,
    pub(super) memory: Arc<MemoryStore>,
    pub(super) deployment: Deployment,
    signer: SigningKey,
}

/// At once where nobody has to be waited for but readers.
pub(super) fn options() -> CollectOptions {
    CollectOptions {
        apply: true,
        grace: Duration::ZERO,
        ..CollectOptions::default()
    }
}

pub(super) fn id(number: u16) -> BackupId {
    format!("db1.full.20260625T083040Z.{number:04x}").parse().unwrap()
}

pub(super) fn pack(writer: WriterId, sequence: u32) -> PackId {
    PackId { writer, sequence }
}

impl World {
    pub(super) async fn new() -> World {
        let seconds = Arc::new(AtomicI64::new(1_780_100_000));
        let clock = seconds.clone();
        let now = move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap();
        let memory = Arc::new(MemoryStore::new().with_clock(now));
        World::over(seconds, memory.clone(), memory).await
    }

    /// Over a store that has this memory at its bottom.
    pub(super) async fn over(seconds: Arc<AtomicI64>, memory: Arc<MemoryStore>, store: DynStore) -> World {
        let clock = Arc::new(Seconds(seconds.clone()));
        let surroundings = Surroundings::new(clock, Arc::new(SystemEntropy));
        let deployment = Deployment::for_tests_in(store, "db1", surroundings);
        let signer = SigningKey::new(&Secret::new([6; 32]));
        deployment.register_signer(&signer.public()).await.unwrap();
        World {
            seconds,
            memory,
            deployment,
            signer,
        }
    }

    pub(super) fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// A session whose process cannot be looked at from here.
    pub(super) async fn open(&self, purpose: Purpose, pins: &[BackupId]) -> Session {
        open(&self.deployment, purpose, pins).await.unwrap()
    }

    /// A whole backup that shares these packs with others; the packs of its own are 1 (data) and 2 (meta).
    pub(super) async fn backup(&self, number: u16, shared: &[PackId]) -> WriterId {
        let session = self.open(Purpose::Backup { backup_id: id(number) }, &[]).await;
        let writer = session.writer();
        self.commit(number, writer, shared).await.unwrap();
        session.close().await.unwrap();
        writer
    }

    pub(super) async fn commit(&self, number: u16, writer: WriterId, shared: &[PackId]) -> Result<()> {
        let second = i64::from(number) * HOUR;
        let written = write_packs(&self.deployment, writer, shared).await?;
        commit(&self.deployment, &self.signer, (&id(number), second), writer, written).await
    }

    pub(super) async fn mark_deleted(&self, number: u16) {
        self.act(number, Action::Delete { reason: "old".into() }).await;
    }

    pub(super) async fn act(&self, number: u16, action: Action) {
        let state = BackupState::change(&self.deployment, &id(number), action).await;
        state.unwrap();
    }

    pub(super) async fn collect(&self) -> Collection {
        collect(&self.deployment, &options()).await.unwrap()
    }

    pub(super) async fn keys(&self, folder: &str) -> Vec<String> {
        keys(&self.memory, folder).await
    }

    /// The packs there are, by writer.
    pub(super) async fn packs(&self) -> BTreeSet<PackId> {
        let folder = layout::packs_folder(self.deployment.name());
        let keys = self.keys(&folder).await;
        keys.iter()
            .map(|key| layout::pack_id(&folder, &Key::new(key.clone()).unwrap()).unwrap())
            .collect()
    }

    pub(super) async fn is_committed(&self, number: u16) -> bool {
        let found = Manifest::load(&self.deployment, &id(number)).await.unwrap();
        matches!(found, StoredManifest::Committed(_))
    }
}

pub(super) async fn keys(memory: &MemoryStore, folder: &str) -> Vec<String> {
    let listing = memory.list(&ListRequest::under(folder)).await.unwrap();
    assert!(listing.next.is_none());
    let objects = listing.objects.into_iter();
    objects.map(|object| object.key.to_string()).collect()
}

pub(super) async fn open(deployment: &Deployment, purpose: Purpose, pins: &[BackupId]) -> Result<Session> {
    let process = ProcessFacts {
        host: "elsewhere".into(),
        ..ProcessFacts::default()
    };
    let opening = Opening {
        pins: pins.to_vec(),
        process,
        ..Opening::new(purpose)
    };
    Session::open(deployment, opening).await
}

/// Writes a data pack and the meta pack with the pack list.
pub(super) async fn write_packs(
    deployment: &Deployment,
    writer: WriterId,
    shared: &[PackId],
) -> Result<(Root, Vec<ExpectedPack>)> {
    let name = deployment.name();
    let put = |id: PackId, body: Bytes| async move {
        let key = layout::pack(name, &id.writer, id.sequence);
        deployment.store().put_new(&key, body).await
    };
    let record = |id, kind, length| PackRecord {
        id,
        kind,
        length,
        directory_hash: [0; 32],
        digest: [0; 32],
        live: 1,
        total: 1,
        lock_until: 0,
    };
    let (data, meta) = (pack(writer, 1), pack(writer, 2));
    put(data, Bytes::from_static(DATA)).await?;
    let mut packs: Vec<PackRecord> = shared
        .iter()
        .chain([&data])
        .map(|id| record(*id, PackKind::Data, DATA.len() as u64))
        .collect();
    packs.push(record(meta, PackKind::Meta, 0));
    let raw = PackList {
        changed_pages: 1,
        packs,
    }
    .encode();
    let cipher = PackCipher::new(deployment.key(), meta, PackKind::Meta);
    let mut payload = raw.clone();
    let header = cipher.seal_frame(0, Codec::Raw, raw.len() as u32, &mut payload);
    let body = [cipher.header().encode().to_vec(), header.encode().to_vec(), payload].concat();
    let length = body.len() as u64;
    put(meta, body.into()).await?;
    let root = Root {
        frames: vec![FrameAt {
            pack: meta,
            kind: PackKind::Meta,
            number: 0,
            offset: cipher.header().encode().len() as u64,
            stored_len: header.stored_len,
            raw_len: header.raw_len,
            codec: header.codec.byte(),
        }],
        length: raw.len() as u64,
        hash: deployment.key().root_hash().hash256(&raw),
    };
    let data = shared.iter().chain([&data]).map(|id| (*id, DATA.len() as u64));
    let expected = data.chain([(meta, length)]);
    let expected = expected.map(|(pack, length)| ExpectedPack { pack, length });
    Ok((root, expected.collect()))
}

pub(super) async fn commit(
    deployment: &Deployment,
    signer: &SigningKey,
    (id, second): (&BackupId, i64),
    writer: WriterId,
    (root, packs): (Root, Vec<ExpectedPack>),
) -> Result<()> {
    let mut manifest = samples::of(deployment, signer, id.as_str(), second);
    manifest.writer.id = writer;
    manifest.pack_list = root.clone();
    manifest.file_table = root;
    // Nothing is needed to make it consistent, unless a test stores WAL.
    manifest.wal.stop_lsn = manifest.wal.start_lsn;
    manifest.commit(deployment, signer, packs).await.map(|_| ())
}

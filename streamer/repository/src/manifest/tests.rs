#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]
//! Commits, voids and what is read back, on a store that races and fails.

use std::sync::Arc;

use bytes::Bytes;
use hardstorage_codec::{Secret, SigningKey};
use hardstorage_report::{BackupId, Error, code};
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, Gate, MemoryStore};

use super::{ExpectedPack, Manifest, PackId, StoredManifest, Voided, samples, void_backup};
use crate::{Deployment, WriterId, layout};

const ID: &str = "db1.full.20260625T083040Z.68ac";

fn signer() -> SigningKey {
    SigningKey::new(&Secret::new([6; 32]))
}

fn id() -> BackupId {
    ID.parse().unwrap()
}

fn pack(writer: u8, sequence: u32) -> PackId {
    PackId {
        writer: WriterId::new([writer; 16]),
        sequence,
    }
}

async fn deployment(store: DynStore) -> Deployment {
    let deployment = Deployment::for_tests(store, "db1");
    deployment.register_signer(&signer().public()).await.unwrap();
    deployment
}

async fn put_pack(deployment: &Deployment, id: PackId, length: usize) -> ExpectedPack {
    let key = layout::pack(deployment.name(), &id.writer, id.sequence);
    deployment
        .store()
        .put_new(&key, Bytes::from(vec![0; length]))
        .await
        .unwrap();
    ExpectedPack {
        pack: id,
        length: length as u64,
    }
}

async fn load(deployment: &Deployment) -> StoredManifest {
    Manifest::load(deployment, &id()).await.unwrap()
}

#[tokio::test]
async fn committed_and_read_back() {
    let deployment = deployment(Arc::new(MemoryStore::new())).await;
    let manifest = samples::of(&deployment, &signer(), ID, 0);
    assert_eq!(load(&deployment).await, StoredManifest::Absent);
    let committed = manifest.commit(&deployment, &signer(), []).await.unwrap();
    let verified = load(&deployment).await.committed(&id()).unwrap();
    assert_eq!(verified.manifest, manifest);
    assert_eq!(
        (verified.hash, verified.stored_bytes),
        (committed.hash, committed.stored_bytes)
    );
    let again = manifest.commit(&deployment, &signer(), []).await.unwrap();
    assert_eq!(again, committed, "the same bytes again are a retry");
    let other = samples::of(&deployment, &signer(), ID, 1);
    assert!(
        other
            .commit(&deployment, &signer(), [])
            .await
            .unwrap_err()
            .is(code::repository::COMMIT_CONFLICT)
    );
    assert_eq!(load(&deployment).await.committed(&id()).unwrap().manifest, manifest);
}

#[tokio::test]
async fn every_pack_must_be_there_and_whole() {
    let deployment = deployment(Arc::new(MemoryStore::new().with_page(3))).await;
    let manifest = samples::of(&deployment, &signer(), ID, 0);
    let mut packs = Vec::new();
    for (writer, sequence) in [(1, 0), (1, 1), (1, 0x10), (2, 0), (9, 3), (9, 4), (0xab, u32::MAX)] {
        packs.push(put_pack(&deployment, pack(writer, sequence), 10 + sequence as usize % 7).await);
    }
    for at in 0..packs.len() {
        let key = layout::pack(deployment.name(), &packs[at].pack.writer, packs[at].pack.sequence);
        for length in [packs[at].length - 1, packs[at].length + 1] {
            let mut other = packs.clone();
            other[at].length = length;
            let refused = manifest.commit(&deployment, &signer(), other).await.unwrap_err();
            assert!(refused.is(code::repository::PACK_MISSING) && refused.to_string().contains(key.as_str()));
        }
        let bytes = deployment.store().get(&key).await.unwrap().unwrap();
        deployment.store().delete(&key).await.unwrap();
        let refused = manifest
            .commit(&deployment, &signer(), packs.clone())
            .await
            .unwrap_err();
        assert!(refused.is(code::repository::PACK_MISSING) && refused.to_string().contains(key.as_str()));
        deployment.store().put_new(&key, bytes).await.unwrap();
    }
    assert_eq!(load(&deployment).await, StoredManifest::Absent);
    // Packs of others lie between; order and repetition do not matter.
    packs.remove(2);
    packs.push(packs[0]);
    packs.reverse();
    manifest.commit(&deployment, &signer(), packs).await.unwrap();
}

#[tokio::test]
async fn nothing_is_committed_that_nobody_could_read() {
    let deployment = deployment(Arc::new(MemoryStore::new())).await;
    let good = samples::of(&deployment, &signer(), ID, 0);
    let stranger = SigningKey::new(&Secret::new([7; 32]));
    let by_stranger = samples::of(&deployment, &stranger, ID, 0);
    let refused = by_stranger.commit(&deployment, &stranger, []).await.unwrap_err();
    assert!(refused.is(code::repository::SIGNER_UNKNOWN));
    for change in [
        |manifest: &mut Manifest| manifest.deployment = "db2".parse().unwrap(),
        |manifest: &mut Manifest| manifest.backup_id = "db2.full.20260625T083040Z.68ac".parse().unwrap(),
        |manifest: &mut Manifest| manifest.data_key_id = [0; 16],
        |manifest: &mut Manifest| manifest.signer = "0123456789abcdef".into(),
    ] {
        let mut wrong = good.clone();
        change(&mut wrong);
        assert!(
            wrong
                .commit(&deployment, &signer(), [])
                .await
                .unwrap_err()
                .is(code::repository::MANIFEST_CORRUPT)
        );
    }
    assert_eq!(load(&deployment).await, StoredManifest::Absent);
}

#[tokio::test]
async fn a_void_forbids_for_ever() {
    let deployment = deployment(Arc::new(MemoryStore::new())).await;
    let manifest = samples::of(&deployment, &signer(), ID, 0);
    assert_eq!(void_backup(&deployment, &id(), "silent").await.unwrap(), Voided::Now);
    assert_eq!(void_backup(&deployment, &id(), "again").await.unwrap(), Voided::Already);
    let refused = manifest.commit(&deployment, &signer(), []).await.unwrap_err();
    assert!(refused.is(code::repository::BACKUP_VOID) && refused.to_string().contains("silent"));
    assert!(
        load(&deployment)
            .await
            .committed(&id())
            .unwrap_err()
            .is(code::repository::BACKUP_VOID)
    );
    let other: BackupId = "db1.full.20260625T083040Z.0001".parse().unwrap();
    let second = samples::of(&deployment, &signer(), other.as_str(), 0);
    second.commit(&deployment, &signer(), []).await.unwrap();
    assert_eq!(
        void_backup(&deployment, &other, "late").await.unwrap(),
        Voided::Committed
    );
    assert!(
        Manifest::load(&deployment, &other)
            .await
            .unwrap()
            .committed(&other)
            .is_ok()
    );
    // A void copied to another backup's name voids nothing.
    let third: BackupId = "db1.full.20260625T083040Z.0002".parse().unwrap();
    let bytes = deployment
        .store()
        .get(&layout::manifest(deployment.name(), &id()))
        .await
        .unwrap()
        .unwrap();
    deployment
        .store()
        .put_new(&layout::manifest(deployment.name(), &third), bytes)
        .await
        .unwrap();
    assert!(
        Manifest::load(&deployment, &third)
            .await
            .unwrap_err()
            .is(code::repository::OBJECT_CORRUPT)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_commit_and_void_one_wins() {
    let (mut commits, mut voids) = (0, 0);
    for round in 0..100 {
        let deployment = deployment(Arc::new(MemoryStore::new())).await;
        let manifest = samples::of(&deployment, &signer(), ID, 0);
        let voiding = {
            let deployment = deployment.clone();
            tokio::spawn(async move {
                for _ in 0..round % 10 {
                    tokio::task::yield_now().await;
                }
                void_backup(&deployment, &id(), "race").await.unwrap()
            })
        };
        let committed = manifest.commit(&deployment, &signer(), []).await;
        match (committed, voiding.await.unwrap(), load(&deployment).await) {
            (Ok(_), Voided::Committed, StoredManifest::Committed(_)) => commits += 1,
            (Err(error), Voided::Now, StoredManifest::Void(_)) => {
                assert!(error.is(code::repository::BACKUP_VOID));
                voids += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(commits + voids, 100);
}

#[tokio::test]
async fn a_writer_that_slept_before_its_commit_finds_the_void() {
    let memory: DynStore = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory));
    let deployment = deployment(faults.clone()).await;
    let manifest = samples::of(&deployment, &signer(), ID, 0);
    let gate = Gate::new();
    faults.on(
        Call::PutNew,
        faults.count(Call::PutNew) + 1,
        Fault::HoldBefore(gate.clone()),
    );
    let writer = {
        let deployment = deployment.clone();
        tokio::spawn(async move { manifest.commit(&deployment, &signer(), []).await })
    };
    gate.reached().await;
    assert_eq!(void_backup(&deployment, &id(), "silent").await.unwrap(), Voided::Now);
    gate.open();
    assert!(writer.await.unwrap().unwrap_err().is(code::repository::BACKUP_VOID));
}

#[tokio::test]
async fn a_lost_answer_is_a_commit_and_a_fault_is_none() {
    let lost = || Error::new(code::storage::UNREACHABLE, "answer lost");
    let memory: DynStore = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory.clone()));
    let deployment = deployment(faults.clone()).await;
    let manifest = samples::of(&deployment, &signer(), ID, 0);
    let before = faults.calls();
    manifest.commit(&deployment, &signer(), []).await.unwrap();
    let calls = faults.calls() - before;
    let object = layout::manifest(deployment.name(), &id());
    for number in 1..=calls {
        for after in [false, true] {
            memory.delete(&object).await.unwrap();
            let fault = if after {
                Fault::FailAfter(lost())
            } else {
                Fault::FailBefore(lost())
            };
            faults.at(faults.calls() + number, fault);
            let result = manifest.commit(&deployment, &signer(), []).await;
            if result.is_ok() {
                assert!(memory.head(&object).await.unwrap().is_some());
            }
            // Again with the same manifest: converges, whatever became of the first try.
            faults.clear();
            manifest.commit(&deployment, &signer(), []).await.unwrap();
            assert!(load(&deployment).await.committed(&id()).is_ok());
        }
    }
}

#[tokio::test]
async fn nothing_is_visible_before_all_is_durable() {
    let memory: DynStore = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory));
    let deployment = deployment(faults.clone()).await;
    let expected = put_pack(&deployment, pack(1, 0), 10).await;
    let manifest = samples::of(&deployment, &signer(), ID, 0);
    let before = faults.log().len();
    manifest.commit(&deployment, &signer(), [expected]).await.unwrap();
    let calls: Vec<Call> = faults.log()[before..].iter().map(|(call, _)| *call).collect();
    let put = calls.iter().position(|call| *call == Call::PutNew).unwrap();
    let sync = calls.iter().position(|call| *call == Call::Sync).unwrap();
    let list = faults.log()[before..]
        .iter()
        .position(|(call, about)| *call == Call::List && about.starts_with("packs/"));
    assert!(sync < list.unwrap() && list.unwrap() < put, "{calls:?}");
    assert!(calls[put..].contains(&Call::Sync), "{calls:?}");
}

#[tokio::test]
async fn a_manifest_at_another_name_is_not_believed() {
    let deployment = deployment(Arc::new(MemoryStore::new())).await;
    samples::of(&deployment, &signer(), ID, 0)
        .commit(&deployment, &signer(), [])
        .await
        .unwrap();
    let bytes = deployment
        .store()
        .get(&layout::manifest(deployment.name(), &id()))
        .await
        .unwrap()
        .unwrap();
    let other: BackupId = "db1.full.20260625T083040Z.0001".parse().unwrap();
    deployment
        .store()
        .put_new(&layout::manifest(deployment.name(), &other), bytes)
        .await
        .unwrap();
    assert!(
        Manifest::load(&deployment, &other)
            .await
            .unwrap_err()
            .is(code::repository::MANIFEST_CORRUPT)
    );
}

#[tokio::test]
async fn a_signer_that_came_since_is_found() {
    let store: DynStore = Arc::new(MemoryStore::new());
    let deployment = deployment(store).await;
    assert_eq!(deployment.signers().await.unwrap().fingerprints().count(), 1);
    // Another process registers its signer; this one has the list cached.
    let late = SigningKey::new(&Secret::new([7; 32]));
    let other = deployment.twin();
    other.register_signer(&late.public()).await.unwrap();
    samples::of(&other, &late, ID, 0)
        .commit(&other, &late, [])
        .await
        .unwrap();
    assert!(load(&deployment).await.committed(&id()).is_ok());
}

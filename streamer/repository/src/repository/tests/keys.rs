//! Data keys and signers.

use std::sync::Arc;

use bytes::Bytes;
use hardstorage_codec::{SigningKey, fingerprint};
use hardstorage_report::{Error, code};
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, Gate, Key};
use tokio::sync::Barrier;

use super::*;
use crate::layout;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_writers_all_hold_one_data_key() {
    for _ in 0..20 {
        let (_, store) = memory();
        let repository = made(&store).await;
        let start = Arc::new(Barrier::new(8));
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let (repository, start) = (repository.clone(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    repository.deployment_or_create(&name()).await
                })
            })
            .collect();
        let mut ids = Vec::new();
        for writer in writers {
            ids.push(*writer.await.unwrap().unwrap().key().id());
        }
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }
}

/// Another process makes the deployment, and writes into it, before any one call of ours.
#[tokio::test]
async fn a_deployment_that_appears_meanwhile_is_no_orphan() {
    for number in 1.. {
        let (_, store) = memory();
        let other = made(&store).await;
        let faults = Arc::new(FaultStore::new(store.clone()));
        let watched: DynStore = faults.clone();
        let repository = open(&watched, Some(kek(1)), Mode::Write).await.unwrap();
        let gate = Gate::new();
        faults.at(faults.calls() + number, Fault::HoldBefore(gate.clone()));
        let mut ours = tokio::spawn(async move { repository.deployment_or_create(&name()).await });
        let held = tokio::select! {
            () = gate.reached() => true,
            _ = &mut ours => false,
        };
        if !held {
            assert!(number > 3, "it asked less than it does");
            break;
        }
        let theirs = other.deployment_or_create(&name()).await.unwrap();
        let event = crate::AuditEvent::new(crate::AuditAction::DeploymentCreated, None);
        crate::AuditLog::of(&theirs).append(&event).await.unwrap();
        gate.open();
        let ours = ours
            .await
            .unwrap()
            .unwrap_or_else(|error| panic!("before call {number}: {error}"));
        assert_eq!(ours.key().id(), theirs.key().id(), "before call {number}");
    }
}

#[tokio::test]
async fn reading_mints_nothing() {
    let (_, store) = memory();
    made(&store).await;
    let before = names(&store).await;
    let faults = Arc::new(FaultStore::new(store.clone()));
    let watched: DynStore = faults.clone();
    let reader = open(&watched, Some(kek(1)), Mode::Read).await.unwrap();
    assert!(
        reader
            .deployment(&name())
            .await
            .unwrap_err()
            .is(code::repository::DEPLOYMENT_MISSING)
    );
    let refused = reader.deployment_or_create(&name()).await.unwrap_err();
    assert!(refused.is(code::repository::OPENED_READ_ONLY));
    assert!(reader.deployments().await.unwrap().is_empty());
    assert!(reader.update_config(RepoConfig::default()).await.is_err());
    for call in [Call::PutNew, Call::UploadNew, Call::Delete] {
        assert_eq!(faults.count(call), 0, "{call:?}");
    }
    assert_eq!(names(&store).await, before);
}

#[tokio::test]
async fn a_key_that_is_gone_or_foreign_is_never_replaced() {
    let (_, store) = memory();
    let repository = made(&store).await;
    repository.deployment_or_create(&name()).await.unwrap();
    let key = layout::wrapped_key(&name(), 1, 1);
    let bytes = store.get(&key).await.unwrap().unwrap();
    let writer = crate::WriterId::new([1; 16]);
    store
        .put_new(&layout::pack(&name(), &writer, 0), Bytes::from_static(b"pack"))
        .await
        .unwrap();
    store.delete(&key).await.unwrap();
    for result in [
        repository.deployment(&name()).await,
        repository.deployment_or_create(&name()).await,
    ] {
        assert!(result.unwrap_err().is(code::repository::DATA_KEY_MISSING));
    }
    // Nor where its history is all that is left of a deployment.
    let lost: DeploymentName = "lost".parse().unwrap();
    let deployment = repository.deployment_or_create(&lost).await.unwrap();
    let event = crate::AuditEvent::new(crate::AuditAction::DeploymentCreated, None);
    crate::AuditLog::of(&deployment).append(&event).await.unwrap();
    store.delete(&layout::wrapped_key(&lost, 1, 1)).await.unwrap();
    assert!(repository.deployments().await.unwrap().contains(&lost));
    let result = repository.deployment_or_create(&lost).await;
    assert!(result.unwrap_err().is(code::repository::DATA_KEY_MISSING));
    assert!(store.get(&key).await.unwrap().is_none());
    // The key of another deployment, or of another repository under the same KEK, opens nothing.
    let other: DeploymentName = "db2".parse().unwrap();
    store
        .put_new(&layout::wrapped_key(&other, 1, 1), bytes.clone())
        .await
        .unwrap();
    assert!(
        repository
            .deployment_or_create(&other)
            .await
            .unwrap_err()
            .is(code::repository::OBJECT_CORRUPT)
    );
    let (_, elsewhere) = memory();
    let second = made(&elsewhere).await;
    elsewhere.put_new(&key, bytes).await.unwrap();
    assert!(
        second
            .deployment_or_create(&name())
            .await
            .unwrap_err()
            .is(code::repository::OBJECT_CORRUPT)
    );
    // Anything in the folder of keys is a key for this purpose.
    let third: DeploymentName = "db3".parse().unwrap();
    store
        .put_new(&Key::new("keys/db3/strange").unwrap(), Bytes::new())
        .await
        .unwrap();
    assert!(
        repository
            .deployment_or_create(&third)
            .await
            .unwrap_err()
            .is(code::repository::OBJECT_CORRUPT)
    );
}

#[tokio::test]
async fn a_store_that_fails_is_no_missing_key() {
    let (_, store) = memory();
    let repository = made(&store).await;
    repository.deployment_or_create(&name()).await.unwrap();
    let faults = Arc::new(FaultStore::new(store.clone()));
    let watched: DynStore = faults.clone();
    let down = || Error::new(code::storage::UNREACHABLE, "down");
    let total = {
        let repository = open(&watched, Some(kek(1)), Mode::Write).await.unwrap();
        repository.deployment_or_create(&name()).await.unwrap();
        faults.calls()
    };
    let mut told = 0;
    for number in 1..=total {
        let base = faults.calls();
        faults.at(base + number, Fault::FailBefore(down()));
        let result = match open(&watched, Some(kek(1)), Mode::Write).await {
            Ok(repository) => repository.deployment_or_create(&name()).await.map(|_| ()),
            Err(error) => Err(error),
        };
        // What was only read ahead is read again.
        if let Err(error) = result {
            assert!(error.is(code::storage::UNREACHABLE), "call {number}: {error}");
            told += 1;
        }
        faults.clear();
    }
    assert!(told >= 3, "{told} of {total}");
    assert_eq!(names(&store).await.len(), 3);
}

#[tokio::test]
async fn a_lost_answer_to_the_data_key_is_no_second_key() {
    let (_, store) = memory();
    made(&store).await;
    let faults = Arc::new(FaultStore::new(store.clone()));
    faults.on(
        Call::PutNew,
        1,
        Fault::FailAfter(Error::new(code::storage::UNREACHABLE, "answer lost")),
    );
    let watched: DynStore = faults;
    let first = open(&watched, Some(kek(1)), Mode::Write).await.unwrap();
    let first = first.deployment_or_create(&name()).await.unwrap();
    let second = open(&store, Some(kek(1)), Mode::Read)
        .await
        .unwrap()
        .deployment(&name())
        .await
        .unwrap();
    assert_eq!(first.key().id(), second.key().id());
}

#[tokio::test]
async fn signers_are_sealed_and_bound_to_their_deployment() {
    let (memory, store) = memory();
    let repository = made(&store).await;
    let deployment = repository.deployment_or_create(&name()).await.unwrap();
    let (good, lost) = (SigningKey::new(&kek(8)).public(), SigningKey::new(&kek(9)).public());
    deployment.register_signer(&good).await.unwrap();
    deployment.register_signer(&good).await.unwrap();
    deployment.register_signer(&lost).await.unwrap();
    assert_eq!(deployment.signers().await.unwrap().fingerprints().count(), 2);
    let broken = layout::signer(&name(), &fingerprint(&lost));
    let stored = store.get(&broken).await.unwrap().unwrap();
    for at in 0..stored.len() {
        memory.corrupt(&broken, |bytes| bytes[at] ^= 1);
        let fresh = repository.deployment(&name()).await.unwrap();
        assert_eq!(
            fresh.signer(&fingerprint(&good)).await.unwrap(),
            good,
            "one broken signer hurts only itself"
        );
        assert!(
            fresh
                .signer(&fingerprint(&lost))
                .await
                .unwrap_err()
                .is(code::repository::SIGNER_UNKNOWN),
            "byte {at}"
        );
        assert_eq!(fresh.signers().await.unwrap().problems().count(), 1);
        memory.corrupt(&broken, |bytes| bytes[at] ^= 1);
    }
    let other: DeploymentName = "db2".parse().unwrap();
    let other = repository.deployment_or_create(&other).await.unwrap();
    store
        .put_new(&layout::signer(other.name(), &fingerprint(&lost)), stored)
        .await
        .unwrap();
    assert!(
        other.signer(&fingerprint(&lost)).await.is_err(),
        "copied from another deployment"
    );
    let mut access = Access::new(Some(kek(1)), Mode::Read);
    access.only_signers = Some(vec![lost]);
    let narrow = Repository::open(store, access)
        .await
        .unwrap()
        .deployment(&name())
        .await
        .unwrap();
    assert!(narrow.signer(&fingerprint(&good)).await.is_err() && narrow.signer(&fingerprint(&lost)).await.is_ok());
}

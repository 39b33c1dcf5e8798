//! Changing the KEK.

use std::sync::Arc;

use hardstorage_codec::{SigningKey, fingerprint};
use hardstorage_report::code;
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, Gate};

use super::*;
use crate::AuditLog;

#[tokio::test]
async fn rotation_hands_everything_to_the_new_key() {
    let (_, store) = memory();
    let repository = made(&store).await;
    let signer = SigningKey::new(&kek(9));
    let mut ids = Vec::new();
    for name in ["db1", "db2"] {
        let deployment = repository.deployment_or_create(&name.parse().unwrap()).await.unwrap();
        deployment.register_signer(&signer.public()).await.unwrap();
        ids.push(*deployment.key().id());
    }
    let done = repository.rotate_kek(&kek(1), &kek(2)).await.unwrap();
    assert_eq!((done.data_keys, done.signers), (2, 2));
    assert_eq!(
        refusal(&store, Some(kek(1)), Mode::Read).await,
        code::repository::KEY_WRONG
    );
    let rotated = open(&store, Some(kek(2)), Mode::Write).await.unwrap();
    for (name, id) in ["db1", "db2"].iter().zip(&ids) {
        let deployment = rotated.deployment(&name.parse().unwrap()).await.unwrap();
        assert_eq!(deployment.key().id(), id);
        assert_eq!(
            deployment.signer(&fingerprint(&signer.public())).await.unwrap(),
            signer.public()
        );
    }
    let again = rotated.rotate_kek(&kek(1), &kek(2)).await.unwrap();
    assert_eq!((again.data_keys, again.signers), (0, 0));
    // Every chain says so, and is as good under the new KEK.
    let rotated = rotated.update_config(RepoConfig::default()).await.unwrap();
    for name in ["db1", "db2"] {
        let log = AuditLog::of(&rotated.deployment(&name.parse().unwrap()).await.unwrap());
        assert_eq!(log.verify(&[]).await.unwrap().good, 2);
        let records = log.last(None).await.unwrap();
        let actions: Vec<String> = records
            .into_iter()
            .map(|listed| listed.record.unwrap().action)
            .collect();
        assert_eq!(actions, ["kek.rotated", "policy.changed"]);
    }
    // A writer that opened before the rotation mints no key under the old KEK.
    let late: DeploymentName = "late".parse().unwrap();
    assert!(
        repository
            .deployment_or_create(&late)
            .await
            .unwrap_err()
            .is(code::repository::KEY_WRONG)
    );
    // And on to a third.
    rotated.rotate_kek(&kek(2), &kek(3)).await.unwrap();
    let third = open(&store, Some(kek(3)), Mode::Read).await.unwrap();
    assert_eq!(third.deployment(&name()).await.unwrap().key().id(), &ids[0]);
}

#[tokio::test]
async fn a_rotation_that_dies_anywhere_is_finished_by_the_next() {
    let prepare = || async {
        let (_, store) = memory();
        let repository = made(&store).await;
        for name in ["db1", "db2"] {
            let deployment = repository.deployment_or_create(&name.parse().unwrap()).await.unwrap();
            deployment
                .register_signer(&SigningKey::new(&kek(9)).public())
                .await
                .unwrap();
        }
        store
    };
    let total = {
        let faults = Arc::new(FaultStore::new(prepare().await));
        let repository = open(&(faults.clone() as DynStore), Some(kek(1)), Mode::Write)
            .await
            .unwrap();
        repository.rotate_kek(&kek(1), &kek(2)).await.unwrap();
        faults.calls()
    };
    for number in 1..=total {
        let store = prepare().await;
        let faults = Arc::new(FaultStore::new(store.clone()));
        faults.dead_from(number);
        if let Ok(repository) = open(&(faults.clone() as DynStore), Some(kek(1)), Mode::Write).await {
            let _ = repository.rotate_kek(&kek(1), &kek(2)).await;
        }
        // At every moment one of the two keys opens all.
        let repository = match open(&store, Some(kek(1)), Mode::Write).await {
            Ok(repository) => repository,
            Err(error) => {
                assert!(error.is(code::repository::KEY_WRONG), "{error:?}");
                open(&store, Some(kek(2)), Mode::Write).await.unwrap()
            }
        };
        repository.rotate_kek(&kek(1), &kek(2)).await.unwrap();
        let rotated = open(&store, Some(kek(2)), Mode::Read).await.unwrap();
        for name in ["db1", "db2"] {
            let deployment = rotated.deployment(&name.parse().unwrap()).await.unwrap();
            assert_eq!(
                deployment.signers().await.unwrap().fingerprints().count(),
                1,
                "dead from call {number}"
            );
        }
    }
}

#[tokio::test]
async fn a_deployment_made_during_a_rotation_is_taken_along() {
    let (_, store) = memory();
    let repository = made(&store).await;
    repository.deployment_or_create(&name()).await.unwrap();
    let faults = Arc::new(FaultStore::new(store.clone()));
    let gate = Gate::new();
    let rotating = open(&(faults.clone() as DynStore), Some(kek(1)), Mode::Write)
        .await
        .unwrap();
    // Held before the first new generation: the list of deployments was already read.
    faults.on(Call::PutNew, 1, Fault::HoldBefore(gate.clone()));
    let task = tokio::spawn(async move { rotating.rotate_kek(&kek(1), &kek(2)).await });
    gate.reached().await;
    let late: DeploymentName = "late".parse().unwrap();
    let made = repository.deployment_or_create(&late).await.unwrap();
    gate.open();
    assert_eq!(task.await.unwrap().unwrap().data_keys, 2);
    let rotated = open(&store, Some(kek(2)), Mode::Read).await.unwrap();
    assert_eq!(rotated.deployment(&late).await.unwrap().key().id(), made.key().id());
}

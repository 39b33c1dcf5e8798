#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]
//! The state log under races and damage.

use super::*;
use hardstorage_storage::{DynStore, MemoryStore, Store as _};
use proptest::prelude::*;
use std::sync::Arc;

fn backup() -> BackupId {
    "db1.full.20260625T083040Z.68ac".parse().unwrap()
}

fn action(number: u8) -> Action {
    let reason = "test".to_owned();
    match number % 5 {
        0 => Action::Hold { reason },
        1 => Action::Release,
        2 => Action::Delete { reason },
        3 => Action::Undelete,
        _ => Action::Purge,
    }
}

proptest! {
    #[test]
    fn no_way_leads_past_a_hold_or_back_from_a_purge(steps in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut state = BackupState::default();
        for step in steps {
            let action = action(step);
            let before = state.clone();
            if let Ok(Some(after)) = before.after(&action, Timestamp::UNIX_EPOCH) {
                if before.held.is_some() {
                    prop_assert_eq!(&after.purged, &None);
                    prop_assert!(after.deleted.is_none() || before.deleted.is_some());
                }
                prop_assert!(before.purged.is_none());
                if after.purged.is_some() {
                    prop_assert!(before.deleted.is_some());
                }
                prop_assert!(after != before);
                state = after;
            }
        }
    }
}

#[tokio::test]
async fn the_log_is_read_back() {
    let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
    let id = backup();
    assert_eq!(
        BackupState::load(&deployment, &id).await.unwrap(),
        BackupState::default()
    );
    let change = |action| BackupState::change(&deployment, &id, action);
    change(Action::Hold { reason: "audit".into() }).await.unwrap();
    let refused = change(Action::Delete { reason: "old".into() }).await.unwrap_err();
    assert!(refused.is(code::repository::HELD) && refused.to_string().contains("audit"));
    assert!(change(Action::Purge).await.unwrap_err().is(code::repository::HELD));
    change(Action::Release).await.unwrap();
    assert!(
        change(Action::Purge)
            .await
            .unwrap_err()
            .is(code::repository::STATE_RACE)
    );
    let deleted = change(Action::Delete { reason: "old".into() }).await.unwrap();
    assert_eq!(
        deleted,
        change(Action::Delete { reason: "again".into() }).await.unwrap()
    );
    assert_eq!(BackupState::load(&deployment, &id).await.unwrap(), deleted);
    assert_eq!(deleted.sequence, 3);
    change(Action::Undelete).await.unwrap();
    change(Action::Delete { reason: "old".into() }).await.unwrap();
    assert!(change(Action::Purge).await.unwrap().purged.is_some());
    assert!(
        change(Action::Undelete)
            .await
            .unwrap_err()
            .is(code::repository::BACKUP_MISSING)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_hold_and_delete_one_wins() {
    for _ in 0..50 {
        let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
        let id = backup();
        let seen = BackupState::default();
        let (a, b) = (
            {
                let (seen, deployment, id) = (seen.clone(), deployment.clone(), id.clone());
                tokio::spawn(async move { seen.append(&deployment, &id, Action::Hold { reason: "x".into() }).await })
            },
            {
                let (deployment, id) = (deployment.clone(), id.clone());
                tokio::spawn(async move {
                    seen.append(&deployment, &id, Action::Delete { reason: "x".into() })
                        .await
                })
            },
        );
        let results = [a.await.unwrap(), b.await.unwrap()];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert!(
            results
                .iter()
                .filter_map(|r| r.as_ref().err())
                .all(|error| error.is(code::repository::STATE_RACE))
        );
        let state = BackupState::load(&deployment, &id).await.unwrap();
        assert!(state.held.is_some() != state.deleted.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_change_of_many_arrives() {
    let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
    let id = backup();
    let turns = (0..4).map(|_| {
        let (deployment, id) = (deployment.clone(), id.clone());
        tokio::spawn(async move { BackupState::change(&deployment, &id, Action::Hold { reason: "x".into() }).await })
    });
    for turn in turns.collect::<Vec<_>>() {
        assert!(turn.await.unwrap().unwrap().held.is_some());
    }
    assert_eq!(BackupState::load(&deployment, &id).await.unwrap().sequence, 1);
}

#[tokio::test]
async fn every_flipped_byte_is_seen() {
    let memory = Arc::new(MemoryStore::new());
    let deployment = Deployment::for_tests(memory.clone() as DynStore, "db1");
    let id = backup();
    BackupState::change(&deployment, &id, Action::Hold { reason: "x".into() })
        .await
        .unwrap();
    let key = layout::state(deployment.name(), &id, 1);
    for at in 0..memory.get(&key).await.unwrap().unwrap().len() {
        memory.corrupt(&key, |bytes| bytes[at] ^= 1);
        let error = BackupState::load(&deployment, &id).await.unwrap_err();
        assert!(
            error.is(code::repository::OBJECT_CORRUPT) && error.to_string().contains(key.as_str()),
            "byte {at}"
        );
        memory.corrupt(&key, |bytes| bytes[at] ^= 1);
    }
    // Copied to another backup's name, it is not that one's state.
    let other: BackupId = "db1.full.20260625T083040Z.0000".parse().unwrap();
    let stored = memory.get(&key).await.unwrap().unwrap();
    memory
        .put_new(&layout::state(deployment.name(), &other, 1), stored)
        .await
        .unwrap();
    assert!(BackupState::load(&deployment, &other).await.is_err());
}

//! The state of a backup: hold, release, delete, undelete, purge. A log of which each record carries the whole state
//! after it, so that the highest number alone tells all; of several that compete for the next number one wins.

use hardstorage_report::{BackupId, DeploymentName, Error, Result, Retry, code};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{self, Made, corrupt};
use crate::listing::Objects;
use crate::text_number::hex_bytes;
use crate::{Deployment, EnvelopeKind, layout};

const SCHEMA: &str = "hardstorage.state.v1";
const TRIES: usize = 8;

/// What is done to a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Action {
    /// Protect it from deletion.
    Hold {
        /// Why.
        reason: String,
    },
    /// End the protection.
    Release,
    /// Mark it deleted; it can be undeleted until it is purged.
    Delete {
        /// Why.
        reason: String,
    },
    /// Take the deletion back.
    Undelete,
    /// Give its packs up for ever. Only for the collector, only after a deletion.
    Purge,
}

/// Since when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// The state of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupState {
    /// The number of the record; 0 when nothing was ever done.
    #[serde(skip)]
    pub sequence: u32,
    /// A hold protects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Mark>,
    /// It is marked deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Mark>,
    /// Its packs are given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: String,
    deployment: DeploymentName,
    backup_id: BackupId,
    sequence: u32,
    action: Action,
    at: Timestamp,
    /// Tells the records of two that do the same at the same moment apart.
    #[serde(with = "hex_bytes")]
    nonce: [u8; 16],
    state: BackupState,
}

impl BackupState {
    /// The state after an action; `None` when it is so already.
    pub fn after(&self, action: &Action, at: Timestamp) -> Result<Option<BackupState>> {
        if self.purged.is_some() {
            return match action {
                Action::Purge => Ok(None),
                _ => Err(Error::new(
                    code::repository::BACKUP_MISSING,
                    "the backup is purged: its packs are given up",
                )),
            };
        }
        let refuse_held = || match &self.held {
            Some(hold) => Err(Error::new(
                code::repository::HELD,
                format!("a hold protects the backup since {}: {}", hold.at, hold.reason),
            )),
            None => Ok(()),
        };
        let mut next = self.clone();
        match action {
            Action::Hold { .. } if self.held.is_some() => return Ok(None),
            Action::Release if self.held.is_none() => return Ok(None),
            Action::Delete { .. } if self.deleted.is_some() => return Ok(None),
            Action::Undelete if self.deleted.is_none() => return Ok(None),
            Action::Hold { reason } => {
                let reason = reason.clone();
                next.held = Some(Mark { at, reason });
            }
            Action::Release => next.held = None,
            Action::Delete { reason } => {
                refuse_held()?;
                let reason = reason.clone();
                next.deleted = Some(Mark { at, reason });
            }
            Action::Undelete => next.deleted = None,
            Action::Purge => {
                refuse_held()?;
                if self.deleted.is_none() {
                    let message = "the backup is not marked deleted, so it cannot be purged";
                    return Err(Error::new(code::repository::STATE_RACE, message));
                }
                next.purged = Some(at);
            }
        }
        Ok(Some(next))
    }

    /// Reads the state; the default when nothing was ever done.
    pub async fn load(deployment: &Deployment, id: &BackupId) -> Result<BackupState> {
        let folder = layout::state_folder(deployment.name(), id);
        let objects = Objects::under(deployment.store(), folder.clone()).all().await?;
        let highest = objects
            .iter()
            .filter_map(|object| layout::numbered(&folder, &object.key))
            .max();
        match highest {
            Some(sequence) => BackupState::load_at(deployment, id, sequence).await,
            None => Ok(BackupState::default()),
        }
    }

    /// Reads one record.
    pub(crate) async fn load_at(deployment: &Deployment, id: &BackupId, sequence: u32) -> Result<BackupState> {
        let key = layout::state(deployment.name(), id, sequence);
        let mac = deployment.key().mac(EnvelopeKind::State);
        let record: Record = document::read(deployment.store(), EnvelopeKind::State, &mac, &key)
            .await?
            .ok_or_else(|| corrupt(&key, "listed, but not there"))?;
        let is_itself = record.schema == SCHEMA
            && record.deployment == *deployment.name()
            && record.backup_id == *id
            && record.sequence == sequence;
        if !is_itself {
            return Err(corrupt(&key, "it says that it is another object"));
        }
        Ok(BackupState {
            sequence,
            ..record.state
        })
    }

    /// Does something to a backup whose state is this one: `conflict.state_changed` when it no longer is. Durable on
    /// return.
    pub async fn append(&self, deployment: &Deployment, id: &BackupId, action: Action) -> Result<BackupState> {
        deployment.writable()?;
        let at = deployment.surroundings().now();
        let Some(state) = self.after(&action, at)? else {
            return Ok(self.clone());
        };
        let race = || {
            let message = format!("another process changed the state of backup {id} at the same time");
            Error::new(code::repository::STATE_RACE, message).retry(Retry::Now)
        };
        let sequence = self.sequence.checked_add(1).ok_or_else(race)?;
        let record = Record {
            schema: SCHEMA.to_owned(),
            deployment: deployment.name().clone(),
            backup_id: id.clone(),
            sequence,
            action,
            at,
            nonce: deployment.surroundings().random()?,
            state,
        };
        let key = layout::state(deployment.name(), id, sequence);
        let mac = deployment.key().mac(EnvelopeKind::State);
        let bytes = document::encode(EnvelopeKind::State, &mac, &key, &record)?;
        match document::create(deployment.store(), &key, &bytes).await? {
            Made::Ours => deployment.store().sync().await?,
            Made::Theirs(_) => return Err(race()),
        }
        Ok(BackupState {
            sequence,
            ..record.state
        })
    }

    /// Does something to a backup whatever its state is by then, as far as that state allows it.
    pub async fn change(deployment: &Deployment, id: &BackupId, action: Action) -> Result<BackupState> {
        let mut tries = 1;
        loop {
            let state = BackupState::load(deployment, id).await?;
            match state.append(deployment, id, action.clone()).await {
                Err(error)
                    if error.retry_advice() == Retry::Now
                        && error.is(code::repository::STATE_RACE)
                        && tries < TRIES =>
                {
                    tries += 1;
                }
                done => return done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
                    tokio::spawn(
                        async move { seen.append(&deployment, &id, Action::Hold { reason: "x".into() }).await },
                    )
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
                    .flat_map(|r| r.as_ref().err())
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
            tokio::spawn(
                async move { BackupState::change(&deployment, &id, Action::Hold { reason: "x".into() }).await },
            )
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
}

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
        document::must_be_itself(&key, is_itself)?;
        Ok(BackupState {
            sequence,
            ..record.state
        })
    }

    /// Does something to a backup whose state is this one: `conflict.state_changed` when it no longer is. Durable on
    /// return.
    pub async fn append(&self, deployment: &Deployment, id: &BackupId, action: Action) -> Result<BackupState> {
        deployment.writable()?;
        let at = match action {
            // Readers without write access rely on the time since a purge: one clock for all, the store's.
            Action::Purge => deployment.store().clock().await?,
            _ => deployment.surroundings().now(),
        };
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
mod tests;

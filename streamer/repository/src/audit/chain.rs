//! The chain of one deployment: its head, the next record, and a look at the last ones.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hardstorage_codec::plain_hash;
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::Key;

use super::record::{AuditEvent, AuditRecord, Listed, Month, SCHEMA};
use crate::document::{self, Made, corrupt};
use crate::listing::{Objects, folders};
use crate::{Deployment, EnvelopeKind, layout};

/// So many others may be faster.
const TRIES: usize = 64;
/// Records read at the same time.
pub(super) const AHEAD: usize = 16;

/// The chain of a deployment.
#[derive(Debug, Clone)]
pub struct AuditLog {
    pub(super) deployment: Deployment,
}

/// What this process knows of the end of a chain. Others may have gone on since: then the next name is taken, which is
/// how that is noticed.
#[derive(Debug, Default)]
pub(crate) struct KnownHead(Mutex<Option<ChainHead>>);

impl KnownHead {
    fn take(&self) -> Option<ChainHead> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, head: ChainHead) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
    }
}

/// The last record.
#[derive(Debug)]
pub struct ChainHead {
    /// Its folder.
    pub month: Month,
    /// Its number: how many records there are.
    pub sequence: u64,
    /// The hash of its stored bytes.
    pub hash: [u8; 32],
    /// What it says. A damaged head is followed all the same: what is done later must not go unrecorded.
    pub record: Result<AuditRecord>,
}

impl ChainHead {
    /// The folder of the record behind this one. Everybody who sees this head finds the same.
    fn next_month(&self) -> Month {
        next_month(self.month, self.record.as_ref().ok())
    }
}

/// Behind a record that cannot be read its folder goes on.
pub(super) fn next_month(folder: Month, record: Option<&AuditRecord>) -> Month {
    record.map_or(folder, |record| folder.max(Month::of(record.at)))
}

impl AuditLog {
    /// The chain of this deployment.
    pub fn of(deployment: &Deployment) -> AuditLog {
        AuditLog {
            deployment: deployment.clone(),
        }
    }

    /// Appends a record, durable on return. Also where the repository was opened for reading, as sessions are: a store
    /// that takes no writes answers with its own error.
    ///
    /// Costs three small requests (a listing, the head, the new object), more only where nothing was recorded for two
    /// months, or a thousand times in them; and one where the head is known from before.
    pub async fn append(&self, event: &AuditEvent) -> Result<AuditRecord> {
        self.deployment.descriptor().check_write()?;
        let known = self.deployment.known_head();
        if let Some(head) = known.take() {
            match self.create(Some(&head), event).await {
                Ok(Ok(record)) => return Ok(record),
                // Others have gone on since, or it is gone: the chain is looked at anew.
                Ok(Err(_)) => {}
                Err(error) if error.is(code::storage::OBJECT) => {}
                Err(error) => return Err(error),
            }
        }
        let mut head = self.head().await?;
        for _ in 0..TRIES {
            match self.create(head.as_ref(), event).await? {
                Ok(record) => return Ok(record),
                Err(winner) => head = Some(winner),
            }
        }
        let message = format!(
            "others were faster {TRIES} times to append to the audit chain of {}",
            self.deployment.name()
        );
        Err(Error::new(code::repository::AUDIT_BUSY, message))
    }

    /// Looks where the chain ends, for who is going to append to it and can wait now, but not then.
    pub async fn look_ahead(&self) -> Result<()> {
        if let Some(head) = self.head().await? {
            self.deployment.known_head().keep(head);
        }
        Ok(())
    }

    /// Begins the chain with this record; false when there is one already.
    pub async fn begin(&self, event: &AuditEvent) -> Result<bool> {
        self.deployment.descriptor().check_write()?;
        let folder = layout::audit_folder(self.deployment.name());
        let months = folders(self.deployment.store(), &folder).await?;
        if months.iter().any(|name| Month::parse(name).is_some()) {
            return Ok(false);
        }
        Ok(self.create(None, event).await?.is_ok())
    }

    /// The record behind a head, or the one that another put there. The head is made durable first, whoever wrote it: a
    /// power cut must not take it and leave what is bound to it.
    async fn create(
        &self,
        head: Option<&ChainHead>,
        event: &AuditEvent,
    ) -> Result<std::result::Result<AuditRecord, ChainHead>> {
        let name = self.deployment.name();
        let (sequence, month, prev_hash) = match head {
            None => (1, Month::of(self.deployment.descriptor().created_at), [0; 32]),
            Some(head) => {
                let next = head.sequence.checked_add(1).ok_or_else(|| {
                    let key = layout::audit(name, head.month, head.sequence);
                    corrupt(&key, "no number is left behind it")
                })?;
                (next, head.next_month(), head.hash)
            }
        };
        let record = AuditRecord {
            schema: SCHEMA.to_owned(),
            deployment: name.clone(),
            sequence,
            month,
            at: self.deployment.surroundings().now(),
            actor: event.actor.clone(),
            action: event.action.name().to_owned(),
            backup_id: event.backup_id.clone(),
            reason: event.reason.clone(),
            body: event.body.clone(),
            prev_hash,
            nonce: self.deployment.surroundings().random()?,
        };
        let key = layout::audit(name, month, sequence);
        let mac = self.deployment.key().mac(EnvelopeKind::Audit);
        let bytes = document::encode(EnvelopeKind::Audit, &mac, &key, &record)?;
        let store = self.deployment.store();
        if let Some(head) = head {
            self.confirm(head).await?;
        }
        match document::create(store, &key, &bytes).await? {
            Made::Ours => {
                store.sync().await?;
                let head = self.opened((month, sequence), &key, &bytes);
                self.deployment.known_head().keep(head);
                Ok(Ok(record))
            }
            Made::Theirs(found) => Ok(Err(self.opened((month, sequence), &key, &found))),
        }
    }

    /// The last record; `None` when nothing was ever recorded.
    pub async fn head(&self) -> Result<Option<ChainHead>> {
        let Some((month, sequence)) = self.newest().await? else {
            return Ok(None);
        };
        let key = layout::audit(self.deployment.name(), month, sequence);
        let stored = self.deployment.store().get(&key).await?;
        let stored = stored.ok_or_else(|| corrupt(&key, "listed, but not there"))?;
        Ok(Some(self.opened((month, sequence), &key, &stored)))
    }

    /// Makes a head durable that another may have written.
    pub(super) async fn confirm(&self, head: &ChainHead) -> Result<()> {
        let key = layout::audit(self.deployment.name(), head.month, head.sequence);
        self.deployment.store().confirm(&[key]).await
    }

    fn opened(&self, (month, sequence): (Month, u64), key: &Key, stored: &Bytes) -> ChainHead {
        ChainHead {
            month,
            sequence,
            hash: plain_hash(stored),
            record: self.decode((month, sequence), key, stored),
        }
    }

    /// Reads stored bytes as the record that their name says.
    pub(super) fn decode(&self, (month, sequence): (Month, u64), key: &Key, stored: &Bytes) -> Result<AuditRecord> {
        let mac = self.deployment.key().mac(EnvelopeKind::Audit);
        let record: AuditRecord = document::decode(EnvelopeKind::Audit, &mac, key, stored)?;
        let is_itself = record.schema == SCHEMA
            && record.deployment == *self.deployment.name()
            && record.month == month
            && record.sequence == sequence;
        document::must_be_itself(key, is_itself).map(|()| record)
    }

    /// Folder and number of the last record. One listing where anything was recorded lately; the clock only says where
    /// to look first.
    pub(super) async fn newest(&self) -> Result<Option<(Month, u64)>> {
        let folder = layout::audit_folder(self.deployment.name());
        let lately = Month::of(self.deployment.surroundings().now()).before();
        let found = self
            .last_behind(folder.clone(), Some(format!("{folder}{lately}/")))
            .await?;
        if found.is_some() {
            return Ok(found);
        }
        let names = folders(self.deployment.store(), &folder).await?;
        match names.iter().filter_map(|name| Month::parse(name)).max() {
            Some(month) => self.last_behind(format!("{folder}{month}/"), None).await,
            None => Ok(None),
        }
    }

    async fn last_behind(&self, prefix: String, after: Option<String>) -> Result<Option<(Month, u64)>> {
        let folder = layout::audit_folder(self.deployment.name());
        let mut objects = Objects::under(self.deployment.store(), prefix).after(after);
        let mut last = None;
        while let Some(object) = objects.next().await? {
            last = layout::audit_object(&folder, &object.key).or(last);
        }
        Ok(last)
    }

    /// The last records, oldest first; all of them without a number.
    pub async fn last(&self, count: Option<usize>) -> Result<Vec<Listed>> {
        let folder = layout::audit_folder(self.deployment.name());
        let mut objects = Objects::under(self.deployment.store(), folder.clone());
        let mut names = Vec::new();
        while let Some(object) = objects.next().await? {
            if let Some(name) = layout::audit_object(&folder, &object.key) {
                names.push((name, object.key));
            }
        }
        let skipped = names.len().saturating_sub(count.unwrap_or(usize::MAX));
        let read = stream::iter(names.into_iter().skip(skipped)).map(|(name, key)| async move {
            let stored = self.deployment.store().get(&key).await?;
            let record = match stored {
                Some(stored) => self.decode(name, &key, &stored),
                None => Err(corrupt(&key, "listed, but not there")),
            };
            Ok::<_, Error>(Listed {
                sequence: name.1,
                record,
            })
        });
        read.buffered(AHEAD).try_collect().await
    }
}

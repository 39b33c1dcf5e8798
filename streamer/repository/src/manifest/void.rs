//! Voids: an object at a manifest's name that forbids the commit of that backup for ever. Whoever creates the name
//! first has won; a writer that wakes after hours finds the void and aborts.

use bytes::Bytes;
use hardstorage_report::{BackupId, DeploymentName, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{self, Made, corrupt};
use crate::{Deployment, EnvelopeKind, layout, split_envelope};

const SCHEMA: &str = "hardstorage.void.v1";

/// Why a backup will never be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidRecord {
    schema: String,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The backup.
    pub backup_id: BackupId,
    /// Why.
    pub reason: String,
    /// When.
    pub voided_at: Timestamp,
}

/// What became of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voided {
    /// It is void, by this call.
    Now,
    /// It was void before.
    Already,
    /// A manifest lies there: the backup is committed.
    Committed,
}

/// Whether stored bytes claim to be a void.
pub(crate) fn is_void(stored: &Bytes) -> bool {
    split_envelope(EnvelopeKind::Void, stored).is_some()
}

/// Opens a void.
pub(crate) fn open(deployment: &Deployment, id: &BackupId, stored: &Bytes) -> Result<VoidRecord> {
    let key = layout::manifest(deployment.name(), id);
    let mac = deployment.key().mac(EnvelopeKind::Void);
    let record: VoidRecord = document::decode(EnvelopeKind::Void, &mac, &key, stored)?;
    if record.schema == SCHEMA && record.deployment == *deployment.name() && record.backup_id == *id {
        Ok(record)
    } else {
        Err(corrupt(&key, "it is the void of another backup"))
    }
}

/// Forbids a backup, unless it is committed. Durable on return.
pub async fn void_backup(deployment: &Deployment, id: &BackupId, reason: &str) -> Result<Voided> {
    deployment.writable()?;
    let record = VoidRecord {
        schema: SCHEMA.to_owned(),
        deployment: deployment.name().clone(),
        backup_id: id.clone(),
        reason: reason.to_owned(),
        voided_at: deployment.surroundings().now(),
    };
    let key = layout::manifest(deployment.name(), id);
    let mac = deployment.key().mac(EnvelopeKind::Void);
    let bytes = document::encode(EnvelopeKind::Void, &mac, &key, &record)?;
    match document::create(deployment.store(), &key, &bytes).await? {
        Made::Ours => {
            deployment.store().sync().await?;
            Ok(Voided::Now)
        }
        Made::Theirs(found) if is_void(&found) => open(deployment, id, &found).map(|_| Voided::Already),
        Made::Theirs(_) => Ok(Voided::Committed),
    }
}

//! What a session's objects say.

use std::time::Duration;

use hardstorage_report::{BackupId, DeploymentName, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::process::ProcessFacts;
use crate::document;
use crate::{Deployment, EnvelopeKind, WriterId, layout};

const SCHEMA: &str = "hardstorage.session.v1";

/// How old an answer may be that tells the store's time, where seconds do not matter. It makes a session look older to others,
/// and silence shorter, by no more than this.
pub const LATELY: Duration = Duration::from_secs(10);

/// What a live process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Purpose {
    /// Takes this backup.
    Backup {
        /// Its id: the name at which it commits or is voided.
        backup_id: BackupId,
    },
    /// Restores.
    Restore,
    /// Verifies.
    Verify,
    /// Copies to another repository.
    Replicate,
}

/// When sessions are renewed, given up and taken for dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTiming {
    /// A new object so often.
    pub renew: Duration,
    /// Without a renewal for so long, the session counts as lost to its own process.
    pub lost_after: Duration,
    /// Without a renewal for so long, others may end it.
    pub silent_after: Duration,
}

impl Default for SessionTiming {
    fn default() -> Self {
        SessionTiming {
            renew: Duration::from_mins(10),
            lost_after: Duration::from_mins(50),
            silent_after: Duration::from_hours(1),
        }
    }
}

/// One object of a session; the highest number tells all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    pub(super) schema: String,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The session's writer id.
    pub writer: WriterId,
    /// The object's number.
    pub sequence: u32,
    /// What it does.
    #[serde(flatten)]
    pub purpose: Purpose,
    /// Backups that must not be collected meanwhile.
    pub pins: Vec<BackupId>,
    /// Dead writers whose packs it takes over.
    pub adopts: Vec<WriterId>,
    /// Whose it is.
    pub process: ProcessFacts,
    /// The scheduler's id of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The process's own clock at the opening.
    pub opened_at: Timestamp,
    /// The store's clock at this renewal.
    pub renewed_at: Timestamp,
    /// The last object: the process has ended.
    pub ended: bool,
}

impl SessionRecord {
    /// Before its first write, which dates it.
    pub(super) fn first(deployment: &Deployment, writer: WriterId, purpose: Purpose) -> SessionRecord {
        let now = deployment.surroundings().now();
        SessionRecord {
            schema: SCHEMA.to_owned(),
            deployment: deployment.name().clone(),
            writer,
            sequence: 0,
            purpose,
            pins: Vec::new(),
            adopts: Vec::new(),
            process: ProcessFacts::default(),
            run_id: None,
            opened_at: now,
            renewed_at: now,
            ended: false,
        }
    }

    /// The backup that it takes.
    pub fn backup_id(&self) -> Option<&BackupId> {
        match &self.purpose {
            Purpose::Backup { backup_id } => Some(backup_id),
            _ => None,
        }
    }

    pub(super) async fn write(&self, deployment: &Deployment) -> Result<document::Made> {
        let key = layout::session(deployment.name(), &self.writer, self.sequence);
        let mac = deployment.key().mac(EnvelopeKind::Session);
        let bytes = document::encode(EnvelopeKind::Session, &mac, &key, self)?;
        let made = document::create(deployment.store(), &key, &bytes).await?;
        deployment.store().sync().await?;
        Ok(made)
    }

    /// `None` when the object is gone.
    pub(super) async fn read(
        deployment: &Deployment,
        writer: WriterId,
        sequence: u32,
    ) -> Result<Option<SessionRecord>> {
        let key = layout::session(deployment.name(), &writer, sequence);
        let mac = deployment.key().mac(EnvelopeKind::Session);
        let Some(record) =
            document::read::<SessionRecord>(deployment.store(), EnvelopeKind::Session, &mac, &key).await?
        else {
            return Ok(None);
        };
        let is_itself = record.schema == SCHEMA
            && record.deployment == *deployment.name()
            && record.writer == writer
            && record.sequence == sequence;
        document::must_be_itself(&key, is_itself).map(|()| Some(record))
    }
}

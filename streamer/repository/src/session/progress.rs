//! How far a backup has come: a file table of the files that are whole in the store, written now and then while the backup
//! runs. When its process dies, the next backup compares with it as with one more earlier backup.
//!
//! It says nothing about what may be taken over: that is for the session's `adopts` and the collector's marker to decide
//! ([`super::adopt`]). It is not signed, as a page is only ever taken over when the bytes just read equal it.

use hardstorage_report::{DeploymentName, Result};
use serde::{Deserialize, Serialize};

use crate::document::{self, corrupt};
use crate::{Deployment, EnvelopeKind, Root, WriterId, layout};

const SCHEMA: &str = "hardstorage.progress.v1";

/// One object of the progress; the highest number tells all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRecord {
    schema: String,
    deployment: DeploymentName,
    /// The backup's writer.
    pub writer: WriterId,
    /// The object's number.
    pub sequence: u32,
    /// A file table of what is whole.
    pub file_table: Root,
    /// The packs that it needs.
    pub pack_list: Root,
}

impl ProgressRecord {
    pub(crate) fn new(
        deployment: &Deployment,
        writer: WriterId,
        sequence: u32,
        file_table: Root,
        pack_list: Root,
    ) -> ProgressRecord {
        ProgressRecord {
            schema: SCHEMA.to_owned(),
            deployment: deployment.name().clone(),
            writer,
            sequence,
            file_table,
            pack_list,
        }
    }

    /// Durable on return. Everything that it refers to was stored and made durable before.
    pub(crate) async fn write(&self, deployment: &Deployment) -> Result<()> {
        let key = layout::progress(deployment.name(), &self.writer, self.sequence);
        let mac = deployment.key().mac(EnvelopeKind::Progress);
        let bytes = document::encode(EnvelopeKind::Progress, &mac, &key, self)?;
        match document::create(deployment.store(), &key, &bytes).await? {
            document::Made::Ours => deployment.store().sync().await,
            document::Made::Theirs(_) => Err(corrupt(&key, "another process made it")),
        }
    }

    /// `None` when the object is gone.
    pub(super) async fn read(
        deployment: &Deployment,
        writer: WriterId,
        sequence: u32,
    ) -> Result<Option<ProgressRecord>> {
        let key = layout::progress(deployment.name(), &writer, sequence);
        let mac = deployment.key().mac(EnvelopeKind::Progress);
        let Some(record) =
            document::read::<ProgressRecord>(deployment.store(), EnvelopeKind::Progress, &mac, &key).await?
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

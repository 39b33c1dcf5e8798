//! What remains of a backup that was collected: one small object that forbids its name for ever.
//!
//! A manifest's name is free again once its manifest or its void was removed, and a writer that was paused for days may
//! wake with its commit in hand. Its own look after the commit, and every catalogue, find the marker: a manifest beside
//! it counts for nothing. So no clock decides how long a paused writer is waited for. The writer's id stands in the name,
//! so that one listing tells which packs nobody will ever commit.

use hardstorage_report::{BackupId, DeploymentName, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{self, Made};
use crate::{Deployment, EnvelopeKind, WriterId, layout};

const SCHEMA: &str = "hardstorage.gone.v1";

#[derive(Debug, Serialize, Deserialize)]
struct GoneRecord {
    schema: String,
    deployment: DeploymentName,
    backup_id: BackupId,
    writer: WriterId,
    gone_at: Timestamp,
}

/// Marks a backup as gone, durable on return. To be called before its manifest or its void is removed.
pub(crate) async fn mark_gone(deployment: &Deployment, id: &BackupId, writer: WriterId) -> Result<()> {
    deployment.writable()?;
    let record = GoneRecord {
        schema: SCHEMA.to_owned(),
        deployment: deployment.name().clone(),
        backup_id: id.clone(),
        writer,
        gone_at: deployment.surroundings().now(),
    };
    let key = layout::gone(deployment.name(), id, &writer);
    let mac = deployment.key().mac(EnvelopeKind::Gone);
    let bytes = document::encode(EnvelopeKind::Gone, &mac, &key, &record)?;
    match document::create(deployment.store(), &key, &bytes).await? {
        Made::Ours => deployment.store().sync().await,
        // An earlier collection, or one at the same time, wrote it with its own date.
        Made::Theirs(found) => {
            let found = document::decode(EnvelopeKind::Gone, &mac, &key, &found)?;
            is_itself(deployment, id, writer, &found)?;
            deployment.store().confirm(&[key]).await
        }
    }
}

/// Whether a backup is marked as gone. A marker that cannot be believed is an error.
pub(crate) async fn is_gone(deployment: &Deployment, id: &BackupId, writer: WriterId) -> Result<bool> {
    let key = layout::gone(deployment.name(), id, &writer);
    let mac = deployment.key().mac(EnvelopeKind::Gone);
    match document::read(deployment.store(), EnvelopeKind::Gone, &mac, &key).await? {
        Some(found) => is_itself(deployment, id, writer, &found).map(|()| true),
        None => Ok(false),
    }
}

fn is_itself(deployment: &Deployment, id: &BackupId, writer: WriterId, found: &GoneRecord) -> Result<()> {
    let itself = found.schema == SCHEMA
        && found.deployment == *deployment.name()
        && found.backup_id == *id
        && found.writer == writer;
    document::must_be_itself(&layout::gone(deployment.name(), id, &writer), itself)
}

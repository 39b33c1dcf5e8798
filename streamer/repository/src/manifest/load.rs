//! What lies at a manifest's name.

use bytes::Bytes;
use hardstorage_report::{BackupId, Error, Result, code};

use super::Manifest;
use super::signed::{self, VerifiedManifest};
use super::void::{self, VoidRecord};
use crate::{Deployment, layout};

/// What lies at a manifest's name.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredManifest {
    /// A committed backup.
    Committed(Box<VerifiedManifest>),
    /// A backup that was forbidden.
    Void(Box<VoidRecord>),
    /// Nothing: never committed, or purged.
    Absent,
}

impl StoredManifest {
    /// The manifest, or the error that says why there is none.
    pub fn committed(self, id: &BackupId) -> Result<VerifiedManifest> {
        match self {
            StoredManifest::Committed(manifest) => Ok(*manifest),
            StoredManifest::Void(record) => {
                let message = format!("backup {id} was declared void: {}", record.reason);
                Err(Error::new(code::repository::BACKUP_VOID, message))
            }
            StoredManifest::Absent => Err(Error::new(
                code::repository::BACKUP_MISSING,
                format!("there is no backup {id}"),
            )),
        }
    }
}

impl Manifest {
    /// Reads what lies at a manifest's name; a manifest is verified before it is parsed.
    pub async fn load(deployment: &Deployment, id: &BackupId) -> Result<StoredManifest> {
        match deployment.store().get(&layout::manifest(deployment.name(), id)).await? {
            None => Ok(StoredManifest::Absent),
            Some(stored) => open(deployment, id, &stored).await,
        }
    }
}

/// Opens stored bytes.
pub(crate) async fn open(deployment: &Deployment, id: &BackupId, stored: &Bytes) -> Result<StoredManifest> {
    if void::is_void(stored) {
        return Ok(StoredManifest::Void(Box::new(void::open(deployment, id, stored)?)));
    }
    let name = id.as_str();
    let signed = signed::split(stored, name)?;
    let signer = deployment
        .signer(&signed.signer)
        .await
        .map_err(|error| error.context(format!("manifest {name}")))?;
    let verified = signed.verify(&signer, stored, name)?;
    let manifest = &verified.manifest;
    let wrong = if manifest.deployment != *deployment.name() || manifest.backup_id != *id {
        "it is the manifest of another backup"
    } else if manifest.data_key_id != *deployment.key().id() {
        "it belongs to another data key than the deployment's"
    } else {
        return Ok(StoredManifest::Committed(Box::new(verified)));
    };
    Err(Error::new(
        code::repository::MANIFEST_CORRUPT,
        format!("manifest {name}: {wrong}"),
    ))
}

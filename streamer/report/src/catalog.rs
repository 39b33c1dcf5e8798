//! The backups of a repository as others read them: the lines of `list`, the result of `repo sync`, and the pages of
//! `GET /v1/catalog`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{BackupId, DeploymentName, Lsn, SystemId, Timeline};

/// The schema of [`CatalogPage`].
pub const CATALOG_SCHEMA: &str = "pg_hardstorage.catalog.v1";

/// One backup. What comes from its manifest is missing when the manifest cannot be read; `problem` then says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Its id.
    pub backup_id: BackupId,
    /// `full` or `incr`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// The server's version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pg_version: Option<String>,
    /// The cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub system_identifier: Option<SystemId>,
    /// When it began, by the server's clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<Timestamp>,
    /// When it ended, by the server's clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stopped_at: Option<Timestamp>,
    /// Milliseconds between the two.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_ms: Option<u64>,
    /// Where recovery begins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start_lsn: Option<Lsn>,
    /// Where it is consistent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stop_lsn: Option<Lsn>,
    /// The timeline of `stop_lsn`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeline: Option<Timeline>,
    /// Files, directories and links.
    pub file_count: u64,
    /// Bytes that a restore writes.
    pub logical_bytes: u64,
    /// Bytes that it added to the repository.
    pub stored_bytes: u64,
    /// Share of its non-zero pages that earlier backups held already.
    pub reuse: f64,
    /// The scheduler's id of the run that made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<String>,
    /// Whether a definition of its source is stored with it.
    #[serde(default)]
    pub source_snapshot: bool,
    /// Whether it is protected from deletion.
    pub held: bool,
    /// Whether it is marked deleted, or purged.
    pub deleted: bool,
    /// Whether pages of it are known to be bad.
    pub damaged: bool,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// Every backup of a repository, or of one deployment, as one run has read them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// The repository's id in hex.
    pub repository_id: String,
    /// The backups by deployment, newest first.
    pub deployments: BTreeMap<DeploymentName, Vec<BackupRecord>>,
}

impl Catalog {
    /// How many backups it holds.
    pub fn len(&self) -> usize {
        self.deployments.values().map(Vec::len).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A page: at most `limit` backups from `offset` on, in the order of names and then newest first.
    pub fn page(&self, etag: &str, offset: usize, limit: usize) -> CatalogPage {
        let all = self.deployments.values().flatten();
        let backups: Vec<BackupRecord> = all.skip(offset).take(limit).cloned().collect();
        let end = offset.saturating_add(backups.len());
        CatalogPage {
            schema: CATALOG_SCHEMA.to_owned(),
            etag: etag.to_owned(),
            repository_id: self.repository_id.clone(),
            total: self.len(),
            next: Some(end).filter(|end| *end < self.len()),
            backups,
        }
    }
}

/// Some backups of a catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogPage {
    /// Always [`CATALOG_SCHEMA`].
    pub schema: String,
    /// The catalogue that this is a page of; pages with other tags do not belong together.
    pub etag: String,
    /// The repository's id in hex.
    pub repository_id: String,
    /// Backups in the whole catalogue.
    pub total: usize,
    /// The offset of the next page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<usize>,
    /// The backups; the deployment is in each id.
    pub backups: Vec<BackupRecord>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    fn record(id: &str) -> BackupRecord {
        serde_json::from_value(serde_json::json!({
            "backup_id": id, "file_count": 0, "logical_bytes": 0, "stored_bytes": 0, "reuse": 0.0,
            "held": false, "deleted": false, "damaged": false,
        }))
        .unwrap()
    }

    #[test]
    fn pages_hold_everything_once() {
        let mut catalog = Catalog::default();
        for name in ["a", "b"] {
            let records = (0..3).map(|n| record(&format!("{name}.full.20260101T00000{n}Z.0000")));
            catalog.deployments.insert(name.parse().unwrap(), records.collect());
        }
        let (mut seen, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let page = catalog.page("tag", offset, 4);
            assert_eq!((page.total, page.etag.as_str()), (6, "tag"));
            seen.extend(page.backups.into_iter().map(|backup| backup.backup_id));
            next = page.next;
        }
        let all: Vec<_> = catalog
            .deployments
            .values()
            .flatten()
            .map(|b| b.backup_id.clone())
            .collect();
        assert_eq!(seen, all);
        assert_eq!(catalog.page("tag", 6, 4).next, None);
        assert!(catalog.page("tag", 99, 4).backups.is_empty());
    }
}

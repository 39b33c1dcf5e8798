//! The catalogue of a repository as others read it, and whether it has changed since the last look.
//!
//! Manifests are immutable, and so is each number of a state: the names of the objects say whether anything has changed.
//! A look that finds the same names reads nothing else, so that a stream can look every minute.

use hardstorage_codec::plain_hash;
use hardstorage_report::{BackupRecord, Catalog, Result};
use hardstorage_repository::{BackupKind, CatalogEntry, Content, Deployment, layout};
use hardstorage_storage::ListRequest;

/// What others read of a backup; nothing for a name that holds none.
pub fn record(entry: &CatalogEntry) -> Option<BackupRecord> {
    let (manifest, problem) = match &entry.content {
        Content::Committed(stored) => (Some(&stored.manifest), None),
        Content::Broken(error) => (None, Some(error.to_string())),
        Content::Void(_) | Content::Absent => return None,
    };
    let state = entry.state.as_ref().ok();
    let totals = manifest.map(|manifest| manifest.totals).unwrap_or_default();
    let pages = totals.new_pages + totals.reused_pages;
    let duration = manifest.map(|manifest| manifest.times.stopped_at.duration_since(manifest.times.started_at));
    Some(BackupRecord {
        backup_id: entry.backup_id.clone(),
        kind: manifest.map(|manifest| kind_word(manifest.kind).to_owned()),
        pg_version: manifest.map(|manifest| manifest.server.version.clone()),
        system_identifier: manifest.map(|manifest| manifest.lineage.system_id),
        started_at: manifest.map(|manifest| manifest.times.started_at),
        stopped_at: manifest.map(|manifest| manifest.times.stopped_at),
        duration_ms: duration.map(|duration| duration.as_millis().max(0) as u64),
        start_lsn: manifest.map(|manifest| manifest.wal.start_lsn),
        stop_lsn: manifest.map(|manifest| manifest.wal.stop_lsn),
        timeline: manifest.map(|manifest| manifest.wal.timeline),
        file_count: totals.files,
        logical_bytes: totals.logical_bytes,
        stored_bytes: totals.stored_bytes,
        reuse: if pages == 0 {
            0.0
        } else {
            totals.reused_pages as f64 / pages as f64
        },
        run_id: manifest.and_then(|manifest| manifest.writer.run_id.clone()),
        source_snapshot: manifest.is_some_and(|manifest| manifest.source_snapshot.is_some()),
        held: state.is_some_and(|state| state.held.is_some()),
        deleted: state.is_some_and(|state| state.deleted.is_some() || state.purged.is_some()),
        damaged: !entry.damage.is_empty() || manifest.is_some_and(|manifest| !manifest.damaged_pages.is_empty()),
        problem: problem.or_else(|| entry.state.as_ref().err().map(ToString::to_string)),
    })
}

/// The word for a kind of backup, as it stands in ids and documents.
pub fn kind_word(kind: BackupKind) -> &'static str {
    match kind {
        BackupKind::Full => "full",
        BackupKind::Incremental => "incr",
    }
}

/// The backups of a deployment, newest first.
pub async fn records(deployment: &Deployment) -> Result<Vec<BackupRecord>> {
    let catalog = deployment.backups().await?;
    Ok(catalog.entries.iter().rev().filter_map(record).collect())
}

/// The tag of a catalogue: it differs when anything in it does.
pub fn tag(catalog: &Catalog) -> String {
    // What the report's types hold can always be written.
    let text = serde_json::to_vec(catalog).unwrap_or_default();
    hex::encode(&plain_hash(&text)[..16])
}

/// Looks at the catalogue of one deployment again and again.
#[derive(Debug)]
pub struct CatalogWatch {
    deployment: Deployment,
    repository_id: String,
    seen: Option<Vec<String>>,
}

impl CatalogWatch {
    /// Begins; `repository_id` in hex.
    pub fn new(deployment: Deployment, repository_id: String) -> CatalogWatch {
        CatalogWatch {
            deployment,
            repository_id,
            seen: None,
        }
    }

    /// The catalogue, when anything has changed since the last look that came to its end.
    pub async fn changed(&mut self) -> Result<Option<Catalog>> {
        let name = self.deployment.name();
        let mut found = names(&self.deployment, layout::manifests_folder(name)).await?;
        found.extend(names(&self.deployment, layout::damage_folder(name)).await?);
        if self.seen.as_ref() == Some(&found) {
            return Ok(None);
        }
        let backups = records(&self.deployment).await?;
        self.seen = Some(found);
        Ok(Some(Catalog {
            repository_id: self.repository_id.clone(),
            deployments: [(name.clone(), backups)].into(),
        }))
    }
}

/// The keys of every object in a folder.
pub(crate) async fn names(deployment: &Deployment, folder: String) -> Result<Vec<String>> {
    let mut request = ListRequest::under(folder);
    let mut names = Vec::new();
    loop {
        let page = deployment.store().list(&request).await?;
        names.extend(page.objects.into_iter().map(|object| object.key.to_string()));
        match page.next {
            Some(next) => request = request.after(next),
            None => return Ok(names),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use std::sync::Arc;

    use hardstorage_repository::{Action, BackupState, void_backup};
    use hardstorage_storage::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn only_what_has_changed_is_read_again() {
        let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
        let mut watch = CatalogWatch::new(deployment.clone(), "ab".to_owned());
        let first = watch.changed().await.unwrap().unwrap();
        assert!(first.is_empty() && first.repository_id == "ab");
        assert_eq!(watch.changed().await.unwrap(), None);
        let id = "db1.full.20260625T083040Z.0001".parse().unwrap();
        void_backup(&deployment, &id, "test").await.unwrap();
        let second = watch.changed().await.unwrap().unwrap();
        assert!(second.is_empty(), "a void is no backup");
        assert_eq!(tag(&first), tag(&second));
        assert_eq!(watch.changed().await.unwrap(), None);
        let hold = Action::Hold { reason: "x".into() };
        BackupState::change(&deployment, &id, hold).await.unwrap();
        assert!(watch.changed().await.unwrap().is_some(), "a state is a change too");
    }
}

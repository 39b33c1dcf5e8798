//! The earlier backup whose pages a new one takes over: pinned before its state is read, and only when it is sound. And
//! what backups that died have left.

use std::collections::HashSet;

use hardstorage_report::{BackupId, Result, Severity};
use hardstorage_repository::{
    Abandoned, AncestorReader, Catalog, Damage, Deployment, Lineage, Manifest, PackId, ProcessFacts, SessionTiming,
    Sessions, VerifiedManifest, WriterId, abandoned,
};
use serde_json::json;

use super::run::Run;

impl Run<'_> {
    /// Backups whose writers died, with what they have left, taken over before it is relied on. They can never be committed
    /// from now on.
    pub(super) async fn adopt(&self, sessions: &Sessions) -> Result<Vec<Abandoned>> {
        let (timing, here) = (SessionTiming::default(), ProcessFacts::current());
        let dead = abandoned(self.deployment, sessions, &timing, &here).await?;
        let adopted = self.session.adopt(dead).await?;
        if !adopted.is_empty() {
            let ids: Vec<&BackupId> = adopted.iter().map(|one| &one.backup_id).collect();
            self.emit(Severity::Notice, "backup.resumed", json!({"interrupted_backups": ids}));
        }
        Ok(adopted)
    }

    /// What those have left, to be compared with. `ancestor` is the one that is pinned.
    pub(super) async fn open_adopted(
        &self,
        adopted: &[Abandoned],
        ancestor: Option<&AncestorReader>,
    ) -> Result<Vec<AncestorReader>> {
        let mut opened = Vec::new();
        if adopted.is_empty() {
            return Ok(opened);
        }
        let writers = writers(adopted);
        let damaged = self.damaged_frames().await?;
        for one in adopted {
            let (progress, damaged) = (&one.progress, damaged.clone());
            let reader = AncestorReader::open_progress(self.deployment, progress, &writers, ancestor, damaged).await;
            opened.extend(reader.map_err(|error| error.context(format!("take over backup {}", one.backup_id)))?);
        }
        Ok(opened)
    }

    /// The newest of these whose pages may be taken over, pinned before its state is read, and open to be compared with.
    /// The last one is pinned already. Nothing when that is itself damaged: then everything is stored anew, which heals.
    pub(super) async fn open_ancestor(
        &self,
        mut candidates: Vec<VerifiedManifest>,
    ) -> Result<Option<(VerifiedManifest, AncestorReader)>> {
        while let Some(candidate) = candidates.pop() {
            let id = &candidate.manifest.backup_id;
            if !self.session.record().await.pins.contains(id) {
                self.session.pin(vec![id.clone()]).await?;
            }
            // What is read of one that may not be used is thrown away.
            let (usable, opened) = tokio::join!(self.session.usable_pins(), self.open(&candidate.manifest));
            if usable?.contains(id) {
                return Ok(opened?.map(|reader| (candidate, reader)));
            }
        }
        Ok(None)
    }

    async fn open(&self, manifest: &Manifest) -> Result<Option<AncestorReader>> {
        let (table, list) = (&manifest.file_table, &manifest.pack_list);
        let reader = AncestorReader::open_unless_damaged(self.deployment, table, list, HashSet::new());
        let (damaged, reader) = tokio::join!(self.damaged_frames(), reader);
        let reader = reader.map_err(|error| error.context(format!("compare with backup {}", manifest.backup_id)))?;
        let damaged = damaged?;
        Ok(reader.map(|reader| reader.leaving_out(damaged)))
    }

    async fn damaged_frames(&self) -> Result<HashSet<(PackId, u32)>> {
        let damage = Damage::load(self.deployment).await?;
        Ok(damage.iter().map(|(pack, frame, _)| (pack, frame)).collect())
    }
}

/// The backups whose pages a new one of this server could take over, the best one last.
pub(super) fn candidates(
    catalog: &Catalog,
    deployment: &Deployment,
    lineage: Lineage,
    block_size: u32,
) -> Vec<VerifiedManifest> {
    let usable = catalog.entries.iter().filter(|entry| entry.is_usable());
    let mut candidates: Vec<VerifiedManifest> = usable
        .filter_map(|entry| entry.manifest())
        .filter(|stored| {
            let manifest = &stored.manifest;
            manifest.server.block_size == block_size && manifest.data_key_id == *deployment.key().id()
        })
        .cloned()
        .collect();
    candidates.sort_by_key(|stored| {
        let manifest = &stored.manifest;
        (
            manifest.lineage == lineage,
            manifest.lineage.incarnation,
            manifest.wal.timeline,
            manifest.wal.stop_lsn,
        )
    });
    candidates
}

/// The ids of those who wrote them.
pub(super) fn writers(adopted: &[Abandoned]) -> Vec<WriterId> {
    adopted.iter().map(|one| one.writer).collect()
}

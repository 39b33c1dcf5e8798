//! The earlier backup whose pages a new one takes over: pinned before its state is read, and only when it is sound.

use std::collections::HashSet;

use hardstorage_report::Result;
use hardstorage_repository::{AncestorReader, Damage, Manifest, VerifiedManifest};

use super::run::Run;

impl Run<'_> {
    /// The newest backup whose pages may be taken over, pinned before its state is read.
    pub(super) async fn choose_ancestor(&self) -> Result<Option<VerifiedManifest>> {
        let catalog = self.deployment.backups().await?;
        let mut candidates: Vec<&VerifiedManifest> = catalog
            .entries
            .iter()
            .filter(|entry| entry.is_usable())
            .filter_map(|entry| entry.manifest())
            .filter(|stored| {
                let manifest = &stored.manifest;
                manifest.server.block_size == self.server.block_size
                    && manifest.data_key_id == *self.deployment.key().id()
            })
            .collect();
        candidates.sort_by_key(|stored| {
            let manifest = &stored.manifest;
            (
                manifest.lineage == self.lineage,
                manifest.lineage.incarnation,
                manifest.wal.timeline,
                manifest.wal.stop_lsn,
            )
        });
        while let Some(candidate) = candidates.pop() {
            let id = &candidate.manifest.backup_id;
            self.session.repin(vec![id.clone()], Vec::new()).await?;
            if self.session.usable_pins().await?.contains(id) {
                return Ok(Some(candidate.clone()));
            }
        }
        Ok(None)
    }

    /// Nothing when the earlier backup is itself damaged: then everything is stored anew, which heals.
    pub(super) async fn open_ancestor(&self, manifest: &Manifest) -> Result<Option<AncestorReader>> {
        let damage = Damage::load(self.deployment).await?;
        let damaged: HashSet<_> = damage.iter().map(|(pack, frame, _)| (pack, frame)).collect();
        let roots = (&manifest.file_table, &manifest.pack_list);
        let reader = AncestorReader::open_unless_damaged(self.deployment, roots.0, roots.1, damaged).await;
        reader.map_err(|error| error.context(format!("compare with backup {}", manifest.backup_id)))
    }
}

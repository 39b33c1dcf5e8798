//! What became of a backup whose run ended with an error: a signal, a lost session or a lost answer may come after the
//! one write that commits. The name in the store decides, as it does between two processes: whoever finds it void has no
//! backup, and whoever finds the manifest there has one, whatever the run was told.

use hardstorage_report::{Error, Result, Severity, code};
use hardstorage_repository::{Manifest, StoredManifest, Voided, layout, void_backup};
use serde_json::json;

use super::result::BackupResult;
use super::run::Run;

impl Run<'_> {
    /// Declares the backup void, so that its packs may go and nothing can ever commit under its name; or finds that it
    /// is committed, and makes sure that it stays so.
    pub(super) async fn settle(&self, error: Error) -> Result<BackupResult> {
        let voided = void_backup(self.deployment, self.backup_id, &error.to_string()).await;
        let Some(result) = self.committing.get() else {
            if let Err(other) = voided {
                tracing::warn!(error = %other, "the failed backup could not be declared void");
            }
            return Err(error);
        };
        match voided {
            Ok(Voided::Now | Voided::Already) => return Err(error),
            Ok(Voided::Committed) => {}
            Err(other) => return Err(self.uncertain("may be committed", error, &other)),
        }
        match self.is_ours().await {
            Ok(true) => {}
            Ok(false) => return Err(error),
            Err(other) => return Err(self.uncertain("may be committed", error, &other)),
        }
        let key = layout::manifest(self.deployment.name(), self.backup_id);
        if let Err(other) = self.deployment.store().confirm(&[key]).await {
            return Err(self.uncertain("is committed, but perhaps not durable", error, &other));
        }
        self.emit(
            Severity::Warning,
            "backup.committed_all_the_same",
            json!({"message": format!("the backup is committed and durable; what came after: {error}")}),
        );
        self.tell_committed(result);
        Ok(result.clone())
    }

    /// Whether the manifest at the backup's name is the one that this run wrote.
    async fn is_ours(&self) -> Result<bool> {
        let stored = Manifest::load(self.deployment, self.backup_id).await?;
        Ok(matches!(stored, StoredManifest::Committed(stored) if stored.manifest.writer.id == self.session.writer()))
    }

    fn uncertain(&self, what: &str, first: Error, second: &Error) -> Error {
        Error::new(
            code::engine::COMMIT_UNCERTAIN,
            format!("backup {} {what}: {second}", self.backup_id),
        )
        .source(first)
    }
}

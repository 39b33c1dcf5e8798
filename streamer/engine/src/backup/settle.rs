//! What became of a backup whose run ended with an error: a signal, a lost session or a lost answer may come after the
//! one write that commits. The name in the store decides, as it does between two processes: whoever finds it void has no
//! backup, and whoever finds the manifest there has one, whatever the run was told.

use hardstorage_report::{BackupId, Error, Result, Severity, code};
use hardstorage_repository::{Deployment, Manifest, StoredManifest, Voided, WriterId, layout, void_backup};
use serde_json::json;

use super::result::BackupResult;
use super::run::Run;

impl Run<'_> {
    /// The result of a run that ended with an error: of the backup, when that is committed all the same.
    pub(super) async fn settle(&self, error: Error) -> Result<BackupResult> {
        let end = End {
            deployment: self.deployment,
            backup_id: self.backup_id,
            writer: self.session.writer(),
        };
        let Some(result) = self.committing.get() else {
            return Err(end.give_up(error).await);
        };
        let late = end.decide(error).await?;
        self.emit(
            Severity::Warning,
            "backup.committed_all_the_same",
            json!({"message": format!("the backup is committed and durable; what came after: {late}")}),
        );
        self.tell_committed(result);
        Ok(result.clone())
    }
}

/// A backup at its end.
struct End<'a> {
    deployment: &'a Deployment,
    backup_id: &'a BackupId,
    writer: WriterId,
}

impl End<'_> {
    /// Before its commit: its packs may go, and nothing can ever commit under its name.
    async fn give_up(&self, error: Error) -> Error {
        if let Err(other) = void_backup(self.deployment, self.backup_id, &error.to_string()).await {
            tracing::warn!(error = %other, "the failed backup could not be declared void");
        }
        error
    }

    /// From its commit on: gives the error back as something that came too late, once the backup is known to be
    /// committed and durable.
    async fn decide(&self, error: Error) -> Result<Error> {
        let voided = void_backup(self.deployment, self.backup_id, &error.to_string()).await;
        let ours = match voided {
            Ok(Voided::Now | Voided::Already) => return Err(error),
            Ok(Voided::Committed) => self.is_ours().await,
            Err(other) => Err(other),
        };
        match ours {
            Ok(true) => {}
            Ok(false) => return Err(error),
            Err(other) => return Err(self.uncertain("may be committed", error, &other)),
        }
        let key = layout::manifest(self.deployment.name(), self.backup_id);
        match self.deployment.store().confirm(&[key]).await {
            Ok(()) => Ok(error),
            Err(other) => Err(self.uncertain("is committed, but perhaps not durable", error, &other)),
        }
    }

    /// Whether the manifest at the backup's name is the one that this run wrote.
    async fn is_ours(&self) -> Result<bool> {
        let stored = Manifest::load(self.deployment, self.backup_id).await?;
        Ok(matches!(stored, StoredManifest::Committed(stored) if stored.manifest.writer.id == self.writer))
    }

    fn uncertain(&self, what: &str, first: Error, second: &Error) -> Error {
        Error::new(
            code::engine::COMMIT_UNCERTAIN,
            format!("backup {} {what}: {second}", self.backup_id),
        )
        .source(first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use hardstorage_codec::{Secret, SigningKey, fingerprint};
    use hardstorage_report::{Lsn, SegmentSize, SystemId, Timeline};
    use hardstorage_repository::{
        BackupKind, DataChecksums, Lineage, MANIFEST_FORMAT, Root, ServerFacts, Times, Totals, WalFacts, WriterFacts,
    };
    use hardstorage_storage::{Call, DynStore, Fault, FaultStore, MemoryStore};
    use jiff::Timestamp;

    use super::*;

    const WRITER: [u8; 16] = [5; 16];

    fn signer() -> SigningKey {
        SigningKey::new(&Secret::new([6; 32]))
    }

    struct Bench {
        faults: Arc<FaultStore>,
        deployment: Deployment,
        id: BackupId,
    }

    impl Bench {
        async fn new() -> Bench {
            let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
            let deployment = Deployment::for_tests(faults.clone() as DynStore, "db1");
            deployment.register_signer(&signer().public()).await.unwrap();
            Bench {
                deployment,
                faults,
                id: "db1.full.20260625T083040Z.0001".parse().unwrap(),
            }
        }

        fn end(&self) -> End<'_> {
            End {
                deployment: &self.deployment,
                backup_id: &self.id,
                writer: WriterId::new(WRITER),
            }
        }

        async fn commit(&self, writer: WriterId) -> Result<()> {
            let signer = signer();
            let empty = Root {
                frames: Vec::new(),
                length: 0,
                hash: [0; 32],
            };
            let manifest = Manifest {
                format: MANIFEST_FORMAT,
                features: Vec::new(),
                deployment: self.deployment.name().clone(),
                backup_id: self.id.clone(),
                kind: BackupKind::Full,
                lineage: Lineage {
                    system_id: SystemId(1),
                    incarnation: 1,
                },
                server: ServerFacts {
                    version_num: 180_000,
                    version: "18.0".to_owned(),
                    block_size: 8192,
                    relation_segment_size: 1 << 30,
                    wal_segment_size: SegmentSize::new(1 << 20).unwrap(),
                    data_checksums: DataChecksums::On,
                },
                wal: WalFacts {
                    start_timeline: Timeline(1),
                    timeline: Timeline(1),
                    start_lsn: Lsn(0x20_0028),
                    stop_lsn: Lsn(0x30_0100),
                    needed: Vec::new(),
                    histories: Vec::new(),
                },
                tablespaces: Vec::new(),
                times: Times {
                    started_at: Timestamp::UNIX_EPOCH,
                    stopped_at: Timestamp::UNIX_EPOCH,
                    store_at: Timestamp::UNIX_EPOCH,
                },
                writer: WriterFacts {
                    id: writer,
                    run_id: None,
                    host: "host".to_owned(),
                    tool: "test".to_owned(),
                },
                data_key_id: *self.deployment.key().id(),
                signer: fingerprint(&signer.public()),
                ancestor: None,
                file_table: empty.clone(),
                pack_list: empty,
                totals: Totals::default(),
                content_checked_at: None,
                damaged_pages: Vec::new(),
                label: None,
                annotations: BTreeMap::new(),
                external_files: Vec::new(),
                source_snapshot: None,
            };
            manifest.commit(&self.deployment, &signer, []).await.map(|_| ())
        }
    }

    fn signal() -> Error {
        Error::new(code::cli::INTERRUPTED, "the backup was interrupted")
    }

    fn broken() -> Fault {
        Fault::FailBefore(Error::new(code::storage::IO, "the disk is gone"))
    }

    #[tokio::test]
    async fn a_signal_before_the_commit_forbids_it() {
        let bench = Bench::new().await;
        let error = bench.end().decide(signal()).await.unwrap_err();
        assert!(error.is(code::cli::INTERRUPTED), "{error}");
        let error = bench.commit(WriterId::new(WRITER)).await.unwrap_err();
        assert!(error.is(code::repository::BACKUP_VOID), "{error}");
    }

    #[tokio::test]
    async fn a_signal_after_the_commit_comes_too_late() {
        let bench = Bench::new().await;
        bench.commit(WriterId::new(WRITER)).await.unwrap();
        let late = bench.end().decide(signal()).await.unwrap();
        assert!(late.is(code::cli::INTERRUPTED), "{late}");
        assert_eq!(bench.faults.count(Call::Confirm), 1);
    }

    #[tokio::test]
    async fn a_sync_that_failed_behind_the_commit_is_made_up_for_or_told() {
        let bench = Bench::new().await;
        // The packs are synced before the manifest is made, and the manifest behind it.
        let behind = bench.faults.count(Call::Sync) + 2;
        bench.faults.on(Call::Sync, behind, broken());
        let error = bench.commit(WriterId::new(WRITER)).await.unwrap_err();
        assert!(error.is(code::storage::IO), "{error}");
        bench.end().decide(error).await.unwrap();

        bench.faults.every(Call::Confirm, broken);
        let error = bench.end().decide(signal()).await.unwrap_err();
        assert!(error.is(code::engine::COMMIT_UNCERTAIN), "{error}");
        bench.faults.every(Call::PutNew, broken);
        bench.faults.every(Call::Get, broken);
        let error = bench.end().decide(signal()).await.unwrap_err();
        assert!(error.is(code::engine::COMMIT_UNCERTAIN), "{error}");
    }

    #[tokio::test]
    async fn the_commit_of_another_is_no_success() {
        let bench = Bench::new().await;
        bench.commit(WriterId::new([9; 16])).await.unwrap();
        let error = bench.end().decide(signal()).await.unwrap_err();
        assert!(error.is(code::cli::INTERRUPTED), "{error}");
    }
}

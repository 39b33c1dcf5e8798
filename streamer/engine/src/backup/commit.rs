//! The end of a backup: its WAL in the repository, its manifest, and the one create-only write that makes it count.

use std::collections::HashSet;

use hardstorage_codec::fingerprint;
use hardstorage_replication::BackupEnd;
use hardstorage_report::{Error, Lsn, Result, Severity, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{
    Ancestor, BackupKind, DamagedPage, DataChecksums, EnvelopeKind, ExpectedPack, Finished, HistoryHash,
    MANIFEST_FORMAT, Manifest, PackRecord, ServerFacts, Tablespace, Times, VerifiedManifest, WalFacts, WriterFacts,
    layout,
};
use jiff::SignedDuration;
use serde_json::json;

use super::damage::damaged_pages;
use super::external::External;
use super::receive::Received;
use super::result::BackupResult;
use super::run::{Run, SNAPSHOT};
use super::wal_cover::{Need, WalCover};

/// What the copy brought, before it counts.
pub(super) struct Copied {
    pub(super) ancestor: Option<VerifiedManifest>,
    pub(super) external: External,
    pub(super) received: Received,
    pub(super) tablespaces: Vec<Tablespace>,
    pub(super) finished: Finished,
}

impl Run<'_> {
    pub(super) async fn commit(&self, archive: &WalArchive, cover: WalCover, copied: Copied) -> Result<BackupResult> {
        let Copied {
            ancestor,
            external,
            received,
            tablespaces,
            finished,
        } = copied;
        let label = &received.label;
        let end = &received.end;
        if received
            .manifest_system_id
            .is_some_and(|id| id != self.server.system_id)
            || label.timeline != end.timeline
        {
            return Err(Error::new(
                code::repository::SYSTEM_MISMATCH,
                "the backup came from another cluster than the one that was asked",
            ));
        }
        let need = Need {
            timeline: end.timeline,
            start: label.start_lsn,
            stop: end.stop_lsn,
            standby: self.server.standby,
        };
        let covered = cover.finish(archive, need).await?;
        if let Some(gap) = covered.gap {
            self.emit(Severity::Warning, "backup.wal_gap", json!({
                "gap_start_lsn": gap.from,
                "gap_end_lsn": gap.to,
                "message": "no stream was running: nothing between the WAL of earlier backups and of this one can be recovered",
                "hint": "pg_hardstorage wal stream brings every moment between backups",
            }));
        }
        let pitr_covered = self.archive_was_continuous(archive, &need).await?;
        let stopped_at = covered.server_time;
        // The server's clock at the start: as far before its clock at the end as ours says.
        let elapsed = self.deployment.surroundings().now().duration_since(self.now);
        let started_at = stopped_at
            .checked_sub(elapsed.max(SignedDuration::ZERO))
            .unwrap_or(stopped_at);
        let server_warnings = self.tell_warnings(end);
        let warnings = end.warnings.iter().map(|warning| warning.message.as_str());
        let damaged_pages = match &end.damaged {
            Some(error) => {
                let mut pages = damaged_pages(warnings);
                if pages.is_empty() {
                    pages.push(DamagedPage {
                        path: "-".to_owned(),
                        block: None,
                        reason: error.message.clone(),
                    });
                }
                pages
            }
            None => Vec::new(),
        };
        for page in &damaged_pages {
            self.emit(
                Severity::Error,
                "backup.page_damaged",
                json!({"path": page.path, "block": page.block, "message": page.reason}),
            );
        }
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            features: Vec::new(),
            deployment: self.deployment.name().clone(),
            backup_id: self.backup_id.clone(),
            kind: BackupKind::Full,
            lineage: self.lineage,
            server: ServerFacts {
                version_num: self.server.version_num,
                version: self.server.version.clone(),
                block_size: self.server.block_size,
                relation_segment_size: self.server.relation_segment_size,
                wal_segment_size: self.server.wal_segment_size,
                data_checksums: match self.server.data_checksums {
                    Some(true) => DataChecksums::On,
                    Some(false) => DataChecksums::Off,
                    None => DataChecksums::Unknown,
                },
            },
            wal: WalFacts {
                start_timeline: label.timeline,
                timeline: end.timeline,
                start_lsn: label.start_lsn,
                stop_lsn: end.stop_lsn,
                needed: received.wal,
                histories: self.history_hashes(archive).await?,
            },
            tablespaces,
            times: Times {
                started_at,
                stopped_at,
                store_at: self.deployment.store().clock().await?,
            },
            writer: WriterFacts {
                id: self.session.writer(),
                run_id: self.plan.run_id.clone(),
                host: self.plan.host.clone(),
                tool: concat!("pg_hardstorage ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            data_key_id: *self.deployment.key().id(),
            signer: fingerprint(&self.signer.public()),
            ancestor: ancestor.map(|stored| Ancestor {
                backup_id: stored.manifest.backup_id,
                manifest_hash: stored.hash,
            }),
            file_table: finished.file_table,
            pack_list: finished.pack_list,
            totals: finished.totals,
            content_checked_at: Some(stopped_at),
            damaged_pages,
            label: self.plan.label.clone(),
            annotations: self.plan.annotations.clone(),
            external_files: external.files.into_iter().map(|(file, _)| file).collect(),
            source_snapshot: self.plan.source_snapshot.as_ref().map(|_| SNAPSHOT.to_owned()),
        };
        self.session.check()?;
        let packs = self.expected_packs(&finished.packs).await?;
        let sealed = self.deployment.key().seals();
        let result = BackupResult {
            server_warnings,
            ..BackupResult::of(&manifest, covered.fetched, pitr_covered, sealed)
        };
        // From here on the backup may count whatever happens to this run.
        self.committing
            .set(result.clone())
            .map_err(|_| Error::new(code::cli::INTERNAL, "a backup was committed twice by one run"))?;
        manifest.commit(self.deployment, self.signer, packs).await?;
        self.tell_committed(&result);
        Ok(result)
    }

    /// Tells every warning that the server gave while it sent the backup, in its words; how many there were. They are
    /// the only word of what PostgreSQL leaves out: a symbolic link in place of a file, for one. It looks at every file
    /// twice, to add up their size and to send them, and warns twice.
    fn tell_warnings(&self, end: &BackupEnd) -> u64 {
        let mut told = HashSet::new();
        for warning in &end.warnings {
            if !told.insert((&warning.sqlstate, &warning.message)) {
                continue;
            }
            self.emit(
                Severity::Warning,
                "backup.server_warning",
                json!({"sqlstate": warning.sqlstate, "message": warning.message}),
            );
        }
        if end.warnings_dropped > 0 {
            self.emit(
                Severity::Warning,
                "backup.server_warnings_dropped",
                json!({"count": end.warnings_dropped, "message": "the server's log has the warnings that were too many to keep"}),
            );
        }
        told.len() as u64 + end.warnings_dropped
    }

    pub(super) fn tell_committed(&self, result: &BackupResult) {
        self.emit(
            Severity::Info,
            "backup.committed",
            json!({
                "timeline": result.timeline,
                "stop_lsn": result.stop_lsn,
                "file_count": result.file_count,
                "logical_bytes": result.logical_bytes,
                "stored_bytes": result.stored_bytes,
                "reuse": result.reuse,
                "primary_key": result.primary_key,
            }),
        );
    }

    /// Whether the WAL right before the backup's is archived: only a stream brings that.
    async fn archive_was_continuous(&self, archive: &WalArchive, need: &Need) -> Result<bool> {
        let first = need.start.segment_start(archive.segment_size());
        let Some(before) = first.0.checked_sub(1).map(Lsn) else {
            return Ok(false);
        };
        archive.is_covered(need.timeline, before, first).await
    }

    /// The packs that the commit looks for. The one that holds the pack list cannot tell its own length in it.
    async fn expected_packs(&self, records: &[PackRecord]) -> Result<Vec<ExpectedPack>> {
        let mut expected = Vec::with_capacity(records.len());
        for record in records {
            let mut length = record.length;
            if record.holds_the_list() {
                let key = layout::pack(self.deployment.name(), &record.id.writer, record.id.sequence);
                let found = self.deployment.store().head(&key).await?;
                length = found.map(|meta| meta.size).ok_or_else(|| {
                    Error::new(
                        code::repository::PACK_MISSING,
                        format!("pack {key} is not in the repository"),
                    )
                })?;
            }
            expected.push(ExpectedPack {
                pack: record.id,
                length,
            });
        }
        Ok(expected)
    }

    async fn history_hashes(&self, archive: &WalArchive) -> Result<Vec<HistoryHash>> {
        let mac = self.deployment.key().mac(EnvelopeKind::History);
        let ours = self.server.timeline;
        let histories = archive.histories().await?;
        Ok(histories
            .into_iter()
            .filter(|(timeline, _)| *timeline <= ours)
            .map(|(timeline, bytes)| HistoryHash {
                timeline,
                hash: mac.hash256(&bytes),
            })
            .collect())
    }
}

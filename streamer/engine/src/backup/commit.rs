//! The end of a backup: its WAL in the repository, its manifest, and the one create-only write that makes it count.

use std::collections::HashSet;

use hardstorage_codec::fingerprint;
use hardstorage_replication::BackupEnd;
use hardstorage_report::{BackupId, Error, Result, Severity, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{
    Abandoned, Ancestor, AuditAction, AuditEvent, BackupKind, DamagedPage, DataChecksums, EnvelopeKind, ExpectedPack,
    Finished, HistoryHash, LATELY, MANIFEST_FORMAT, Manifest, PackKind, PackRecord, ServerFacts, Tablespace, Times,
    VerifiedManifest, WalFacts, WriterFacts,
};
use jiff::SignedDuration;
use serde_json::json;

use super::ancestor::writers;
use super::damage::damaged_pages;
use super::external::External;
use super::receive::Received;
use super::result::BackupResult;
use super::run::{Run, SNAPSHOT};
use super::wal_cover::{Covered, FoundGap, Need, WhyMissing};
use crate::audit;

/// What the copy brought, before it counts.
pub(super) struct Copied {
    pub(super) ancestor: Option<VerifiedManifest>,
    pub(super) adopted: Vec<Abandoned>,
    pub(super) external: External,
    pub(super) received: Received,
    pub(super) tablespaces: Vec<Tablespace>,
    pub(super) finished: Finished,
    pub(super) covered: Covered,
    pub(super) histories: Result<Vec<HistoryHash>>,
}

impl Run<'_> {
    /// The WAL that the backup needs; refuses one that came from elsewhere.
    pub(super) fn need(&self, received: &Received) -> Result<Need> {
        let (label, end) = (&received.label, &received.end);
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
        Ok(Need {
            timeline: end.timeline,
            start: label.start_lsn,
            stop: end.stop_lsn,
            standby: self.server.standby,
        })
    }

    pub(super) async fn commit(&self, copied: Copied) -> Result<BackupResult> {
        let Copied {
            ancestor,
            adopted,
            external,
            received,
            tablespaces,
            finished,
            covered,
            histories,
        } = copied;
        let histories = histories?;
        let label = &received.label;
        let end = &received.end;
        if let Some(error) = &covered.end_left_open {
            self.emit(
                Severity::Warning,
                "backup.wal_left_open",
                json!({
                    "code": error.code().as_str(),
                    "error": error.to_string(),
                    "message": "the segment in which the archive ended could not be fetched: until the stream has caught up, nothing in it can be recovered",
                    "hint": "start pg_hardstorage wal stream; once it has caught up, `pg_hardstorage wal audit` tells whether it came",
                }),
            );
        }
        let store_at = self.deployment.store().clock_lately(LATELY).await?.time;
        let packs = expected_packs(&finished);
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
                histories,
            },
            tablespaces,
            times: Times {
                started_at,
                stopped_at,
                store_at,
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
        let (resumed, adopted_pages) = taken_over(&adopted, &finished.packs);
        let sealed = self.deployment.key().seals();
        let result = BackupResult {
            resumed,
            adopted_pages,
            server_warnings,
            ..BackupResult::of(&manifest, covered.fetched, covered.continuous, sealed)
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

    /// Tells of a gap that was recorded, here and in the audit chain: it is there whether or not the backup will be.
    pub(super) async fn gap_recorded(&self, gap: Option<FoundGap>) {
        let Some(gap) = gap else { return };
        self.tell_gap(&gap);
        let event = AuditEvent::new(AuditAction::GapRecorded, self.plan.run_id.clone())
            .backup(self.backup_id)
            .body(json!({"from": gap.range.from, "to": gap.range.to}));
        audit::record(self.deployment, &event, self.sink.as_ref()).await;
    }

    /// Tells what is missing before the backup's own WAL as what it is: it may still come.
    fn tell_gap(&self, gap: &FoundGap) {
        let (severity, message, hint) = match gap.why {
            WhyMissing::Promoted => (
                Severity::Notice,
                "the server was promoted, and no stream has found it yet: the WAL between the archive's end and this backup is not archived, and the stream asks for it first",
                "once the stream is back, `pg_hardstorage wal audit` tells whether it came",
            ),
            WhyMissing::SlotAhead => (
                Severity::Warning,
                "the slot of the stream keeps less than the archive lacks: the stream asks the server for the rest",
                "once the stream has caught up, `pg_hardstorage wal audit` tells whether it came",
            ),
            WhyMissing::SlotLost => (
                Severity::Warning,
                "the slot of the stream keeps nothing, as one that the server has given up: what it has removed since cannot be recovered",
                "start pg_hardstorage wal stream, which makes a new slot, and raise max_slot_wal_keep_size",
            ),
            WhyMissing::NoStream => (
                Severity::Warning,
                "no stream was running: nothing between the WAL of earlier backups and of this one can be recovered",
                "pg_hardstorage wal stream brings every moment between backups",
            ),
        };
        self.emit(
            severity,
            "backup.wal_gap",
            json!({
                "gap_start_lsn": gap.range.from,
                "gap_end_lsn": gap.range.to,
                "message": message,
                "hint": hint,
            }),
        );
    }

    pub(super) async fn history_hashes(&self, archive: &WalArchive) -> Result<Vec<HistoryHash>> {
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

/// The packs that the commit looks for. The one that holds the pack list cannot tell its own length in it.
fn expected_packs(finished: &Finished) -> Vec<ExpectedPack> {
    let length = |record: &PackRecord| {
        if finished.pack_list.frames.iter().any(|frame| frame.pack == record.id) {
            finished.list_length
        } else {
            record.length
        }
    };
    let expected = finished.packs.iter().map(|record| ExpectedPack {
        pack: record.id,
        length: length(record),
    });
    expected.collect()
}

/// The dead backups that were taken over, and how many pages of the new one lie in their packs.
fn taken_over(adopted: &[Abandoned], packs: &[PackRecord]) -> (Vec<BackupId>, u64) {
    let writers = writers(adopted);
    let theirs = packs
        .iter()
        .filter(|pack| pack.kind == PackKind::Data && writers.contains(&pack.id.writer));
    let pages = theirs.map(|pack| pack.live).sum();
    (adopted.iter().map(|one| one.backup_id.clone()).collect(), pages)
}

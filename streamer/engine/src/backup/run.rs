//! Takes a base backup, beside a stream or without one, so that every committed backup can be restored by itself.
//!
//! The order is the safety: session before anything is read of what it pins; WAL held before the copy begins; every
//! pack durable and all WAL in the repository before the one create-only write that commits.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

use hardstorage_codec::{SigningKey, fingerprint};
use hardstorage_replication::{BaseBackupOptions, Checkpoint};
use hardstorage_report::{
    BackupId, DeploymentName, Error, Event, EventSink, Lsn, Result, Severity, SystemId, Timeline, code,
};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{
    ATTACHMENTS, Ancestor, AncestorReader, BackupKind, BackupWriter, Damage, DamagedPage, DataChecksums, Deployment,
    EntryKey, EnvelopeKind, ExpectedPack, ExternalFile, FileMeta, Finished, HistoryHash, Lineage, MANIFEST_FORMAT,
    Manifest, Opening, PackRecord, ProcessFacts, Purpose, ServerFacts, Session, SessionTiming, Tablespace, Times,
    Totals, VerifiedManifest, WalFacts, WriterFacts, WriterOptions, end_session, layout, open_sessions, void_backup,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::damage::damaged_pages;
use super::external::{self, External};
use super::receive::{Received, Receiver};
use super::wal_cover::{Need, WalCover};
use crate::progress::ProgressMeter;
use crate::source::{ServerIdentity, Source, identify};
use crate::wal::{capture_histories, choose_lineage, lineages};

/// How a backup is taken.
#[derive(Debug, Clone)]
pub struct BackupPlan {
    /// The server.
    pub source: Source,
    /// A person's name for it.
    pub label: Option<String>,
    /// Facts to keep with it.
    pub annotations: BTreeMap<String, String>,
    /// How the server makes its checkpoint.
    pub checkpoint: Checkpoint,
    /// KiB a second at most.
    pub max_rate_kib: Option<u32>,
    /// Threads.
    pub jobs: usize,
    /// Whether another running backup is no reason to refuse.
    pub allow_concurrent: bool,
    /// Whether a new cluster is taken.
    pub accept_new_system: bool,
    /// The definition of the source.
    pub source_snapshot: Option<Vec<u8>>,
    /// The scheduler's id.
    pub run_id: Option<String>,
    /// The host, for the record.
    pub host: String,
}

/// What was committed.
#[derive(Debug, Clone, Serialize)]
pub struct BackupResult {
    /// Its id.
    pub backup_id: BackupId,
    /// The deployment.
    pub deployment: DeploymentName,
    /// Always `full` here.
    #[serde(rename = "type")]
    pub kind: BackupKind,
    /// The server's version as text.
    pub pg_version: String,
    /// The cluster.
    pub system_identifier: SystemId,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// Where it is consistent.
    pub stop_lsn: Lsn,
    /// The timeline.
    pub timeline: Timeline,
    /// Milliseconds from the command's begin to the commit.
    pub duration_ms: u64,
    /// Files, directories and links.
    pub file_count: u64,
    /// Tablespaces, the data directory included.
    pub tablespace_count: u64,
    /// Bytes that a restore writes.
    pub logical_bytes: u64,
    /// Bytes that were added to the repository.
    pub stored_bytes: u64,
    /// Pages stored, taken over, and all zero.
    pub new_pages: u64,
    /// Pages taken over from earlier backups.
    pub reused_pages: u64,
    /// Pages of zeros.
    pub zero_pages: u64,
    /// Share of the non-zero pages that was taken over.
    pub reuse: f64,
    /// The backup that pages were compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ancestor: Option<BackupId>,
    /// WAL segments that this backup brought itself.
    pub wal_segments_fetched: u64,
    /// Whether the frames are encrypted.
    pub encrypted: bool,
    /// The signer.
    pub signer: String,
    /// The manifest's object key.
    pub primary_key: String,
    /// When it began, by the server's clock.
    pub started_at: Timestamp,
    /// When it ended, by the server's clock.
    pub stopped_at: Timestamp,
    /// Pages that were bad on the server.
    pub damaged_pages: Vec<DamagedPage>,
    /// Configuration outside of the data directory.
    pub external_files: Vec<ExternalFile>,
    /// Whether a stream's WAL follows on this backup, as far as the archive shows.
    pub pitr_covered: bool,
}

/// Takes a backup. `cancel` gives up: nothing is committed then, and nothing of it is trusted.
pub async fn run_backup(
    deployment: &Deployment,
    plan: &BackupPlan,
    signer: &SigningKey,
    sink: Arc<dyn EventSink>,
    cancel: CancellationToken,
) -> Result<BackupResult> {
    let began = std::time::Instant::now();
    let mut connection = plan.source.connect().await?;
    let server = identify(&mut connection).await?;
    let lineage = choose_lineage(&lineages(deployment).await?, server.system_id, plan.accept_new_system)?;
    let now = deployment.surroundings().now();
    let stamp = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let suffix = u16::from_be_bytes(deployment.surroundings().random()?);
    let backup_id = BackupId::compose(deployment.name(), "full", &stamp, suffix)
        .map_err(|error| Error::new(code::usage::NAME, error.to_string()))?;
    deployment.register_signer(&signer.public()).await?;

    let mut opening = Opening::new(Purpose::Backup {
        backup_id: backup_id.clone(),
    });
    opening.run_id.clone_from(&plan.run_id);
    let session = Session::open(deployment, opening).await?;
    let run = Run {
        deployment,
        plan,
        signer,
        sink: sink.clone(),
        session: &session,
        backup_id: &backup_id,
        server: &server,
        lineage,
        now,
    };
    let outcome = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::new(code::cli::INTERRUPTED, "the backup was interrupted")),
        () = session.lost().cancelled() => Err(Error::new(code::repository::SESSION_LOST, "the backup's session was lost")),
        outcome = run.go(connection) => outcome,
    };
    match outcome {
        Ok(mut result) => {
            // The commit decides; a session that could not be closed is only found ended a little later.
            if let Err(error) = session.close().await {
                tracing::warn!(%error, "the session of a committed backup stays open");
            }
            result.duration_ms = began.elapsed().as_millis() as u64;
            Ok(result)
        }
        Err(error) => {
            // Its packs may go, and nothing can ever commit under this name.
            if let Err(other) = void_backup(deployment, &backup_id, &error.to_string()).await {
                tracing::warn!(error = %other, "the failed backup could not be declared void");
            }
            if let Err(other) = session.close().await {
                tracing::warn!(error = %other, "the session of the failed backup stays open");
            }
            Err(error)
        }
    }
}

struct Run<'a> {
    deployment: &'a Deployment,
    plan: &'a BackupPlan,
    signer: &'a SigningKey,
    sink: Arc<dyn EventSink>,
    session: &'a Session,
    backup_id: &'a BackupId,
    server: &'a ServerIdentity,
    lineage: Lineage,
    now: Timestamp,
}

impl Run<'_> {
    fn emit(&self, severity: Severity, name: &str, body: serde_json::Value) {
        self.sink.emit(
            Event::new(severity, name)
                .deployment(self.deployment.name())
                .backup(self.backup_id)
                .body(body),
        );
    }

    async fn go(&self, mut connection: hardstorage_replication::Connection) -> Result<BackupResult> {
        self.refuse_beside_another().await?;
        let archive = WalArchive::new(self.deployment.clone(), self.lineage, self.server.wal_segment_size);
        self.emit(
            Severity::Info,
            "backup.identified",
            json!({
                "system_id": self.server.system_id,
                "timeline": self.server.timeline,
                "xlogpos": self.server.flush_lsn,
                "pg_version": self.server.version,
                "standby": self.server.standby,
            }),
        );
        let ancestor = self.choose_ancestor().await?;
        let external = external::find(&mut connection, self.plan.source.is_local(), self.server.system_id).await?;
        self.tell_external(&external);
        capture_histories(&mut connection, &archive, self.server.timeline, self.sink.as_ref()).await?;
        let cover = WalCover::begin(&self.plan.source, &self.session.writer()).await?;
        if !cover.holds() {
            self.emit(
                Severity::Warning,
                "backup.no_free_slot",
                json!({
                    "message": "the server has no free replication slot: its WAL is not held while the backup runs",
                    "hint": "raise max_replication_slots",
                }),
            );
        }
        let compared = match &ancestor {
            Some(stored) => self.open_ancestor(&stored.manifest).await?,
            None => None,
        };
        let ancestor = ancestor.filter(|_| compared.is_some());
        let options = WriterOptions {
            ancestor: compared,
            jobs: self.plan.jobs,
            ..WriterOptions::new(self.session.writer(), self.server.block_size)
        };
        let mut writer = BackupWriter::begin(self.deployment, options).await?;
        match self.copy(&mut connection, &mut writer, &external).await {
            Ok((received, tablespaces)) => {
                let finished = writer.finish().await?;
                connection.close().await;
                self.commit(&archive, cover, ancestor, external, received, tablespaces, finished)
                    .await
            }
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    /// Looks at the other backups of this deployment, after our own session is there for them to see: of two that
    /// begin at once the later one refuses. This is courtesy; the commit is safe without it.
    async fn refuse_beside_another(&self) -> Result<()> {
        let (timing, here) = (SessionTiming::default(), ProcessFacts::current());
        let ours = self.session.record().await;
        for view in open_sessions(self.deployment, &timing, &here).await? {
            if view.writer == self.session.writer() {
                continue;
            }
            let Ok(record) = &view.record else { continue };
            let Some(other) = record.backup_id() else { continue };
            if end_session(self.deployment, &view, &timing, &here).await?.is_over() {
                self.emit(
                    Severity::Notice,
                    "backup.dead_session_ended",
                    json!({"ended_backup": other}),
                );
                continue;
            }
            let first = (record.opened_at, record.writer) < (ours.opened_at, ours.writer);
            if first && !self.plan.allow_concurrent {
                return Err(Error::new(
                    code::engine::BACKUP_RUNNING,
                    format!(
                        "backup {other} is running on {} (process {})",
                        record.process.host, record.process.pid
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The newest backup whose pages may be taken over, pinned before its state is read.
    async fn choose_ancestor(&self) -> Result<Option<VerifiedManifest>> {
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
    async fn open_ancestor(&self, manifest: &Manifest) -> Result<Option<AncestorReader>> {
        let damage = Damage::load(self.deployment).await?;
        let damaged: HashSet<_> = damage.iter().map(|(pack, frame, _)| (pack, frame)).collect();
        let roots = (&manifest.file_table, &manifest.pack_list);
        let reader = AncestorReader::open_unless_damaged(self.deployment, roots.0, roots.1, damaged).await;
        reader.map_err(|error| error.context(format!("compare with backup {}", manifest.backup_id)))
    }

    fn tell_external(&self, external: &External) {
        if let Some(reason) = &external.unknown {
            self.emit(
                Severity::Info,
                "backup.external_files_unknown",
                json!({
                    "message": reason,
                    "hint": "GRANT pg_read_all_settings TO the role shows where the configuration lies",
                }),
            );
        }
        for (file, content) in &external.files {
            let (severity, name) = match content {
                Some(_) => (Severity::Info, "backup.external_file_included"),
                None => (Severity::Warning, "backup.external_file_missing"),
            };
            self.emit(severity, name, json!({"path": file.path, "message": file.note}));
        }
    }

    async fn copy(
        &self,
        connection: &mut hardstorage_replication::Connection,
        writer: &mut BackupWriter,
        external: &External,
    ) -> Result<(Received, Vec<Tablespace>)> {
        let options = BaseBackupOptions {
            checkpoint: self.plan.checkpoint,
            max_rate_kib: self.plan.max_rate_kib,
            // The links that the server would send instead are made anew from the manifest.
            tablespace_map: false,
            ..BaseBackupOptions::new(self.plan.label.as_deref().unwrap_or("pg_hardstorage"))
        };
        let mut backup = connection.base_backup(&options).await?;
        let start = backup.start().clone();
        let total: u64 = start.tablespaces.iter().filter_map(|space| space.size_kib).sum::<u64>() << 10;
        self.emit(
            Severity::Info,
            "backup.started",
            json!({
                "start_lsn": start.start_lsn,
                "timeline": start.timeline,
                "estimated_bytes": total,
                "tablespaces": start.tablespaces.len(),
            }),
        );
        let tablespaces = start
            .tablespaces
            .iter()
            .filter_map(|space| {
                Some(Tablespace {
                    oid: space.oid?,
                    location: space.location.as_ref()?.to_string_lossy().into_owned(),
                    size: space.size_kib.unwrap_or(0) << 10,
                })
            })
            .collect();
        let meter = ProgressMeter::new("backup.progress", self.sink.clone(), (total > 0).then_some(total));
        let received = Receiver::new(writer)
            .run(&mut backup, &|bytes| meter.add(bytes))
            .await?;
        for link in &received.foreign_links {
            self.emit(Severity::Warning, "backup.link_not_followed", json!({
                "path": link,
                "message": "a symbolic link in the data directory is kept as a link; what it points to is not in the backup",
            }));
        }
        self.emit(
            Severity::Info,
            "backup.stream_complete",
            json!({
                "bytes_received": received.bytes,
                "tablespaces": start.tablespaces.len(),
                "stop_lsn": received.end.stop_lsn,
            }),
        );
        for (file, content) in &external.files {
            if let (Some(name), Some(bytes)) = (&file.attachment, content) {
                attach(writer, name, bytes).await?;
            }
        }
        if let Some(snapshot) = &self.plan.source_snapshot {
            attach(writer, SNAPSHOT, snapshot).await?;
        }
        Ok((received, tablespaces))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the manifest is made from everything that the backup found"
    )]
    async fn commit(
        &self,
        archive: &WalArchive,
        cover: WalCover,
        ancestor: Option<VerifiedManifest>,
        external: External,
        received: Received,
        tablespaces: Vec<Tablespace>,
        finished: Finished,
    ) -> Result<BackupResult> {
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
        let pitr_covered = self.archive_was_continuous(archive, &need).await?;
        let stopped_at = covered.server_time;
        // The server's clock at the start: as far before its clock at the end as ours says.
        let elapsed = self.deployment.surroundings().now().duration_since(self.now);
        let started_at = stopped_at
            .checked_sub(elapsed.max(SignedDuration::ZERO))
            .unwrap_or(stopped_at);
        let warnings: Vec<&str> = end.warnings.iter().map(|warning| warning.message.as_str()).collect();
        let damaged_pages = match &end.damaged {
            Some(error) => {
                let mut pages = damaged_pages(warnings.iter().copied());
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
        manifest.commit(self.deployment, self.signer, packs).await?;
        let result = self.result(&manifest, covered.fetched, pitr_covered);
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
        Ok(result)
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

    fn result(&self, manifest: &Manifest, fetched: u64, pitr_covered: bool) -> BackupResult {
        let Totals {
            logical_bytes,
            files,
            new_pages,
            reused_pages,
            zero_pages,
            stored_bytes,
            ..
        } = manifest.totals;
        let pages = new_pages + reused_pages;
        BackupResult {
            backup_id: manifest.backup_id.clone(),
            deployment: manifest.deployment.clone(),
            kind: manifest.kind,
            pg_version: manifest.server.version.clone(),
            system_identifier: manifest.lineage.system_id,
            start_lsn: manifest.wal.start_lsn,
            stop_lsn: manifest.wal.stop_lsn,
            timeline: manifest.wal.timeline,
            duration_ms: 0,
            file_count: files,
            tablespace_count: manifest.tablespaces.len() as u64 + 1,
            logical_bytes,
            stored_bytes,
            new_pages,
            reused_pages,
            zero_pages,
            reuse: if pages == 0 {
                0.0
            } else {
                reused_pages as f64 / pages as f64
            },
            ancestor: manifest.ancestor.as_ref().map(|ancestor| ancestor.backup_id.clone()),
            wal_segments_fetched: fetched,
            encrypted: self.deployment.key().seals(),
            signer: manifest.signer.clone(),
            primary_key: layout::manifest(&manifest.deployment, &manifest.backup_id).to_string(),
            started_at: manifest.times.started_at,
            stopped_at: manifest.times.stopped_at,
            damaged_pages: manifest.damaged_pages.clone(),
            external_files: manifest.external_files.clone(),
            pitr_covered,
        }
    }
}

/// The name of the source's definition among the attachments.
pub const SNAPSHOT: &str = "source-snapshot";

async fn attach(writer: &mut BackupWriter, name: &str, bytes: &[u8]) -> Result<()> {
    let key = EntryKey {
        tablespace: ATTACHMENTS,
        path: name.as_bytes().to_vec(),
    };
    writer
        .start_file(FileMeta {
            key,
            size: bytes.len() as u64,
            mode: 0o600,
            mtime: 0,
        })
        .await?;
    writer.write(bytes).await?;
    writer.end_file().await
}

//! Takes a base backup, beside a stream or without one, so that every committed backup can be restored by itself.
//!
//! The order is the safety: session before anything is read of what it pins; WAL held before the copy begins; every
//! pack durable and all WAL in the repository before the one create-only write that commits.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use hardstorage_codec::SigningKey;
use hardstorage_replication::{BaseBackupOptions, Checkpoint, Connection};
use hardstorage_report::{BackupId, Error, Event, EventSink, Result, Severity, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{
    ATTACHMENTS, AuditAction, AuditEvent, AuditLog, BackupWriter, Deployment, EntryKey, FileMeta, Lineage, Opening,
    Purpose, Session, Sessions, Tablespace, VerifiedManifest, WriterOptions,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::ancestor::candidates;
use super::commit::Copied;
use super::external::{self, External};
use super::receive::{Received, Receiver};
use super::result::BackupResult;
use super::wal_cover::WalCover;
use crate::audit;
use crate::progress::ProgressMeter;
use crate::source::{ServerIdentity, Source, identify};
use crate::wal::{
    capture_histories, choose_lineage, is_another_cluster, lineages_and_backups, refuse_stale, system_accepted,
};

/// How a backup is taken.
#[derive(Debug, Clone)]
pub struct BackupPlan {
    /// The server.
    pub source: Source,
    /// The slot of the deployment's stream, to know whether one will bring the WAL before the backup's.
    pub stream_slot: Option<String>,
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

/// Takes a backup. `cancel` gives up: nothing is committed then, and nothing of it is trusted.
pub async fn run_backup(
    deployment: &Deployment,
    plan: &BackupPlan,
    signer: &SigningKey,
    sink: Arc<dyn EventSink>,
    cancel: CancellationToken,
) -> Result<BackupResult> {
    let began = std::time::Instant::now();
    // A far repository takes its time for every answer: what does not wait for another question is asked with it.
    let served = async {
        let mut connection = plan.source.connect().await?;
        let server = identify(&mut connection).await?;
        Ok((connection, server))
    };
    let ((mut connection, server), (known, catalog)) = tokio::try_join!(served, lineages_and_backups(deployment))?;
    let lineage = choose_lineage(&known, server.system_id, plan.accept_new_system)?;
    let archive = WalArchive::new(deployment.clone(), lineage, server.wal_segment_size);
    let public = signer.public();
    let ((), signer_look) = tokio::try_join!(
        refuse_stale(&mut connection, &archive, &server),
        deployment.look_for_signer(&public)
    )?;
    let now = deployment.surroundings().now();
    let stamp = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let suffix = u16::from_be_bytes(deployment.surroundings().random()?);
    let backup_id = BackupId::compose(deployment.name(), "full", &stamp, suffix)
        .map_err(|error| Error::new(code::usage::NAME, error.to_string()))?;
    deployment.add_signer(signer_look).await?;
    let candidates = candidates(&catalog, deployment, lineage, server.block_size);
    drop(catalog);

    let mut opening = Opening::new(Purpose::Backup {
        backup_id: backup_id.clone(),
    });
    opening.run_id.clone_from(&plan.run_id);
    // Pinned from the first: that it may be used is read behind it, which spares a second object.
    opening.pins = candidates
        .last()
        .map(|best| best.manifest.backup_id.clone())
        .into_iter()
        .collect();
    let session = Session::open(deployment, opening).await?;
    if is_another_cluster(&known, lineage) {
        let event = system_accepted(lineage, plan.run_id.clone());
        audit::record(deployment, &event, sink.as_ref()).await;
    }
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
        committing: OnceLock::new(),
    };
    let outcome = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::new(code::cli::INTERRUPTED, "the backup was interrupted")),
        () = session.lost().cancelled() => Err(Error::new(code::repository::SESSION_LOST, "the backup's session was lost")),
        outcome = run.go(connection, candidates) => outcome,
    };
    let outcome = match outcome {
        Ok(result) => Ok(result),
        Err(error) => run.settle(error).await,
    };
    let committed = outcome.as_ref().ok().map(|result| {
        AuditEvent::new(AuditAction::BackupCommitted, plan.run_id.clone())
            .backup(&backup_id)
            .body(json!({
                "system_id": result.system_identifier,
                "timeline": result.timeline,
                "stop_lsn": result.stop_lsn,
                "signer": result.signer,
            }))
    });
    let recorded = async {
        if let Some(event) = &committed {
            audit::record(deployment, event, sink.as_ref()).await;
        }
    };
    // The commit decides; a session that could not be closed is only found ended a little later.
    let (closed, ()) = tokio::join!(session.close(), recorded);
    if let Err(error) = closed {
        tracing::warn!(%error, "the session of the backup stays open");
    }
    let mut result = outcome?;
    result.duration_ms = began.elapsed().as_millis() as u64;
    Ok(result)
}

pub(super) struct Run<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) plan: &'a BackupPlan,
    pub(super) signer: &'a SigningKey,
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) session: &'a Session,
    pub(super) backup_id: &'a BackupId,
    pub(super) server: &'a ServerIdentity,
    pub(super) lineage: Lineage,
    pub(super) now: Timestamp,
    /// What will be told, from the moment on at which the backup may be committed.
    pub(super) committing: OnceLock<BackupResult>,
}

impl Run<'_> {
    pub(super) fn emit(&self, severity: Severity, name: &str, body: serde_json::Value) {
        self.sink.emit(
            Event::new(severity, name)
                .deployment(self.deployment.name())
                .backup(self.backup_id)
                .body(body),
        );
    }

    async fn go(&self, mut connection: Connection, candidates: Vec<VerifiedManifest>) -> Result<BackupResult> {
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
        // Behind our own session, which others see from now on.
        let others = async {
            let sessions = Sessions::look(self.deployment).await?;
            self.refuse_beside_another(&sessions).await?;
            self.adopt(&sessions).await
        };
        let served = async {
            let external = external::find(&mut connection, &self.plan.source, self.server.system_id).await?;
            capture_histories(&mut connection, &archive, self.server.timeline, self.sink.as_ref()).await?;
            let writer = self.session.writer();
            let cover = WalCover::begin(&self.plan.source, &writer, self.plan.stream_slot.as_deref()).await?;
            Ok((external, cover))
        };
        let (adopted, ancestor, (external, cover)) = tokio::try_join!(others, self.open_ancestor(candidates), served)?;
        self.tell_external(&external);
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
        let (ancestor, compared) = ancestor.unzip();
        let options = WriterOptions {
            adopted: self.open_adopted(&adopted, compared.as_ref()).await?,
            ancestor: compared,
            jobs: self.plan.jobs,
            ..WriterOptions::new(self.session.writer(), self.server.block_size)
        };
        let mut writer = BackupWriter::begin(self.deployment, options).await?;
        let copied = self.copy(&mut connection, &mut writer, &external).await;
        let copied = copied.and_then(|(received, tablespaces)| Ok((self.need(&received)?, received, tablespaces)));
        match copied {
            Ok((need, received, tablespaces)) => {
                // The last packs and the WAL are on their way together. A failure of the WAL is told when the packs have
                // come to their end too, so that nothing is still being written by a backup that is given up.
                let covered = async { Ok(cover.finish(&archive, need).await) };
                let log = AuditLog::of(self.deployment);
                // What could not be had is asked for again by whoever needs it, who tells why.
                let ahead = async { Ok((audit::in_time(log.look_ahead()).await, self.deployment.signers().await)) };
                let (finished, covered, histories, _ahead) = tokio::try_join!(
                    writer.finish(),
                    covered,
                    async { Ok(self.history_hashes(&archive).await) },
                    ahead
                )?;
                connection.close().await;
                let covered = covered?;
                let gap = self.gap_recorded(covered.gap);
                let copied = Copied {
                    ancestor,
                    adopted,
                    external,
                    received,
                    tablespaces,
                    finished,
                    covered,
                    histories,
                };
                let (result, ()) = tokio::join!(self.commit(copied), gap);
                result
            }
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    fn tell_external(&self, external: &External) {
        for unseen in &external.unseen {
            self.emit(
                Severity::Info,
                "backup.external_files_unknown",
                json!({"message": unseen.message, "hint": unseen.hint}),
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
        let pages = writer.pages();
        let meter = ProgressMeter::new("backup.progress", self.sink.clone(), (total > 0).then_some(total))
            .with_reuse(move || pages.reuse());
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

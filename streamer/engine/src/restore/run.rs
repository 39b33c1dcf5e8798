//! Runs a restore plan: directories, files straight to their final place, settings, and `pg_control` last, so that a
//! half restore cannot be started.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hardstorage_report::{Error, Event, EventSink, RestoreReport, Result, Severity, code};
use hardstorage_repository::{
    ATTACHMENTS, AuditAction, AuditEvent, AuditLog, BackupReader, Deployment, Entry, EntryKey, EntryKind, Manifest,
    Opening, Purpose, Session,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::claim::Claim;
use super::configuration;
use super::content::{CONTROL_FILE, SETTINGS_FILE, expected};
use super::directory::{DirectorySink, Layout};
use super::onto::Onto;
use super::plan::RestorePlan;
use super::settings::neutralised;
use crate::audit;
use crate::progress::ProgressMeter;
use crate::recover::{HandOver, Recovery};

/// How a plan is run.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Threads that decode and write.
    pub jobs: usize,
    /// The words of the restore_command, quoted for the shell.
    pub restore_command: String,
    /// The scheduler's id.
    pub run_id: Option<String>,
    /// Recovers the copy and hands it over, instead of leaving that to the first start.
    pub recovery: Option<Recovery>,
}

/// Runs the plan. On an error everything that was written is removed again, so that a second try finds an empty target.
///
/// `proof` looks at what was restored, and adds its words to the result; what it finds wrong stays, to be looked at.
pub async fn run_restore(
    deployment: &Deployment,
    plan: &RestorePlan,
    options: &RestoreOptions,
    sink: Arc<dyn EventSink>,
    cancel: CancellationToken,
    proof: impl AsyncFnOnce(&Path) -> Result<Option<String>>,
) -> Result<RestoreReport> {
    if let Some(error) = plan.blocker() {
        return Err(error);
    }
    let began = Instant::now();
    let mut opening = Opening::new(Purpose::Restore);
    opening.pins = vec![plan.backup_id.clone()];
    opening.run_id.clone_from(&options.run_id);
    let session = Session::open_reader(deployment, opening).await?;
    // A far repository takes its time for every answer: what does not wait for another question is asked with it. What is
    // read of a backup that may not be used is thrown away.
    let pinned = async {
        match &session {
            Some(session) => session.usable_pins().await.map(|pins| pins.contains(&plan.backup_id)),
            None => Ok(true),
        }
    };
    // What could not be had is asked for again when a record is written, which tells why.
    let ahead = async {
        if session.is_some() {
            let log = AuditLog::of(deployment);
            audit::in_time(log.look_ahead()).await.ok();
        }
    };
    let roots = (&plan.manifest.file_table, &plan.manifest.pack_list);
    let reader = BackupReader::open(deployment, roots.0, roots.1);
    let (pinned, (), reader) = tokio::join!(pinned, ahead, reader);
    if !pinned? {
        return Err(Error::new(
            code::repository::BACKUP_MISSING,
            format!("{} is being purged", plan.backup_id),
        ));
    }
    let layout = Layout {
        data: plan.target_dir.clone(),
        tablespaces: plan.tablespaces.clone(),
        wal: plan.wal_dir.clone(),
        configuration: configuration::place(&plan.manifest, &plan.target_dir),
        owner: plan.owner,
    };
    let run = Run {
        deployment,
        plan,
        options,
        sink: sink.clone(),
        layout: &layout,
        cancel,
    };
    let audited = session.is_some();
    if audited {
        run.record(AuditAction::RestoreBegun, None).await;
    }
    let outcome = run.claimed(began, reader, proof).await;
    let recorded = async {
        if audited {
            let end = match &outcome {
                Ok(_) => AuditAction::RestoreFinished,
                Err(_) => AuditAction::RestoreFailed,
            };
            run.record(end, outcome.as_ref().err()).await;
        }
    };
    let closed = async {
        match session {
            Some(session) => session.close().await,
            None => Ok(()),
        }
    };
    if let ((), Err(error)) = tokio::join!(recorded, closed) {
        tracing::warn!(%error, "the session of the restore stays open");
    }
    let result = outcome?;
    sink.emit(
        Event::new(Severity::Notice, "restore.completed")
            .deployment(deployment.name())
            .backup(&plan.backup_id)
            .body(json!({"bytes_written": result.bytes_written, "duration_ms": result.duration_ms})),
    );
    Ok(result)
}

fn missing(what: &str) -> Error {
    Error::new(code::engine::FILE_CORRUPT, what)
}

pub(super) struct Run<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) plan: &'a RestorePlan,
    pub(super) options: &'a RestoreOptions,
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) layout: &'a Layout,
    pub(super) cancel: CancellationToken,
}

impl Run<'_> {
    pub(super) fn emit(&self, severity: Severity, name: &str, body: serde_json::Value) {
        let event = Event::new(severity, name)
            .deployment(self.deployment.name())
            .backup(&self.plan.backup_id);
        self.sink.emit(event.body(body));
    }

    /// A reader whose store takes no writes leaves no record, as it leaves no session.
    async fn record(&self, action: AuditAction, error: Option<&Error>) {
        let mut event = AuditEvent::new(action, self.options.run_id.clone())
            .backup(&self.plan.backup_id)
            .body(json!({"target": self.plan.target_dir, "stop_at": self.plan.stop_at}));
        if let Some(error) = error {
            event = event.reason(&format!("{}: {error}", error.code()));
        }
        audit::record_if_allowed(self.deployment, &event, self.sink.as_ref()).await;
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.plan.manifest
    }

    /// The whole run, between the claim on its places and their release.
    async fn claimed(
        &self,
        began: Instant,
        reader: Result<BackupReader>,
        proof: impl AsyncFnOnce(&Path) -> Result<Option<String>>,
    ) -> Result<RestoreReport> {
        let restore = self.plan.unfinished();
        let claim = match self.plan.onto {
            Onto::Empty => Claim::take(self.layout, self.plan.retry_id.as_deref(), Some(&restore))?,
            onto => Claim::cover(self.layout, onto, &restore)?,
        };
        if let Some(done) = claim.done() {
            claim.release()?;
            return Ok(done.clone());
        }
        let (mut report, source_settings) = match self.go(&claim, reader).await {
            Ok(done) => done,
            Err(error) => return Err(self.undone(&claim, error)),
        };
        match proof(&self.layout.data).await {
            Ok(words) => report.verifybackup = words,
            // The next process of this restore begins anew; without one a person looks at what is there.
            Err(error) if self.plan.retry_id.is_some() => return Err(error),
            Err(error) => {
                claim.release()?;
                return Err(error);
            }
        }
        // What PostgreSQL sent was looked at: from here on its own server changes it.
        if let Some(recovery) = &self.options.recovery {
            let done = self.recover(recovery, &source_settings).await;
            match done.and_then(|done| claim.sync().map(|()| done)) {
                Ok(done) => report.recovery = Some(done),
                Err(error) => return Err(self.undone(&claim, error)),
            }
        }
        report.duration_ms = began.elapsed().as_millis() as u64;
        if self.plan.retry_id.is_some() {
            claim.remember(&report)?;
        }
        claim.release()?;
        Ok(report)
    }

    /// Removes what was written, unless files were there before; the error is the one that counts.
    fn undone(&self, claim: &Claim, error: Error) -> Error {
        if claim.covers() {
            self.emit(
                Severity::Warning,
                "restore.left_unfinished",
                json!({
                    "target": self.plan.target_dir,
                    "message": "what was restored so far stays, and cannot be started; --resume goes on with it",
                }),
            );
            return error;
        }
        if let Err(error) = claim.undo() {
            tracing::warn!(%error, "the half restore in {} could not be removed", self.layout.data.display());
        }
        error
    }

    /// Writes everything; gives also what the source had in its `postgresql.auto.conf`.
    async fn go(&self, claim: &Claim, reader: Result<BackupReader>) -> Result<(RestoreReport, String)> {
        self.emit(
            Severity::Info,
            "restore.started",
            json!({
                "target": self.plan.target_dir,
                "pg_version": self.plan.pg_version,
                "file_count": self.plan.file_count,
                "total_bytes": self.plan.total_bytes,
            }),
        );
        let reader = reader?;
        let sync_each = claim.needs_each_file_synced()?;
        let over = claim.covers();
        if over {
            self.sweep(&reader).await?;
        }
        let settings = self.make_directories(&reader).await?;
        let settings = async {
            match settings {
                Some(key) => self.read_small(&reader, &key).await.map(Some),
                None => Ok(None),
            }
        };
        let manifest = self.read_postgres_manifest(&reader, sync_each);
        // Both to their ends: a reader that is dropped in the middle has threads that may still make a file, behind the back
        // of who removes everything.
        let (settings, checksums) = tokio::join!(settings, manifest);
        let (settings, checksums) = (settings?, checksums?);
        let source_settings = settings.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if source_settings.is_none() && checksums.knows(SETTINGS_FILE) {
            return Err(missing("postgresql.auto.conf is not in the backup"));
        }
        let (total, expected) = (checksums.len(), expected(&checksums));
        let sink = Arc::new(DirectorySink::new(self.layout.clone(), checksums, sync_each).over(over));
        let wal = self.plan.staged.as_ref().map_or(0, |_| self.plan.wal_bytes);
        let meter = ProgressMeter::new("restore.progress", self.sink.clone(), Some(self.plan.total_bytes + wal));
        let meter = Arc::new(meter.in_stage("copying"));
        let report = self.content(&reader, &sink, &meter, over).await?;
        let checked = sink.checked() as usize;
        if checked < expected {
            return Err(missing(&format!(
                "PostgreSQL's manifest has {total} files; of {expected} to be compared only {checked} are in the backup"
            )));
        }
        self.stage_wal(&meter).await?;
        let source_settings = source_settings.unwrap_or_default();
        self.write_settings(&source_settings)?;
        claim.sync()?;
        // From here on the directory can be started.
        let last = self.restore_only(&reader, &sink, CONTROL_FILE).await?;
        if last.files == 0 {
            return Err(missing("global/pg_control is not in the backup"));
        }
        claim.sync()?;
        self.restore_configuration(&reader).await?;
        self.emit(
            Severity::Info,
            "restore.recovery_armed",
            json!({
                "action": self.plan.action,
                "stop_at": self.plan.stop_at,
                "inclusive": self.plan.inclusive,
                "timeline": self.plan.target_timeline,
                "signal": "recovery.signal",
                "restore_command": "wired",
            }),
        );
        let hand_over = self.options.recovery.as_ref().map(Recovery::hand_over);
        // CloudNativePG and Patroni write these settings themselves.
        let neutralised = neutralised().filter(|_| matches!(hand_over, None | Some(HandOver::Plain | HandOver::Drill)));
        let report = RestoreReport {
            course: self.plan.course(),
            file_count: report.files + last.files,
            bytes_written: report.bytes + last.bytes,
            reused_bytes: report.kept,
            fetched_bytes: report.read_bytes + last.read_bytes,
            files_checked: sink.checked(),
            duration_ms: 0,
            neutralised: neutralised.map(str::to_owned).collect(),
            verifybackup: None,
            recovery: None,
        };
        Ok((report, source_settings))
    }

    /// Makes every directory and link; gives the name of the source's `postgresql.auto.conf`, if it has one.
    async fn make_directories(&self, reader: &BackupReader) -> Result<Option<EntryKey>> {
        if let Some(wal) = &self.layout.wal {
            self.layout.make_link(&self.layout.data.join("pg_wal"), wal)?;
        }
        let mut settings = None;
        let mut entries = reader.entries();
        while let Some(Entry { key, mode, kind, .. }) = entries.next().await? {
            if key.tablespace == ATTACHMENTS {
                continue;
            }
            match kind {
                EntryKind::Directory => self.layout.make_directory(&self.layout.path(&key)?, mode & 0o777)?,
                EntryKind::Symlink { target } => {
                    let target = PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&target));
                    self.layout.make_link(&self.layout.path(&key)?, &target)?;
                }
                EntryKind::File(_) if key.tablespace == 0 && key.path == SETTINGS_FILE => settings = Some(key),
                EntryKind::File(_) => {}
            }
        }
        let spaces = self.layout.data.join("pg_tblspc");
        for (oid, place) in &self.layout.tablespaces {
            let link = spaces.join(oid.to_string());
            // A tablespace inside the data directory is a folder at the place of the link.
            if link != *place {
                self.layout.make_link(&link, place)?;
            }
        }
        Ok(settings)
    }
}

//! Runs a restore plan: directories, files straight to their final place, settings, and `pg_control` last, so that a
//! half restore cannot be started.

use std::path::PathBuf;
use std::sync::Arc;

use hardstorage_report::{BackupId, DeploymentName, Error, Event, EventSink, Lsn, Result, Severity, Timeline, code};
use hardstorage_repository::{
    ATTACHMENTS, BackupReader, Deployment, Entry, EntryKind, Manifest, Opening, Purpose, Session,
};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::claim::Claim;
use super::content::{CONTROL_FILE, SETTINGS_FILE, expected};
use super::directory::{DirectorySink, Layout};
use super::plan::RestorePlan;
use super::settings::neutralised;
use super::target::StopAt;
use crate::progress::ProgressMeter;
use crate::recover::{HandOver, Recovery, RecoveryResult};

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

/// What was restored.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreResult {
    /// The backup.
    pub backup_id: BackupId,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The data directory.
    pub target_dir: PathBuf,
    /// Regular files written.
    pub file_count: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Files that were equal to PostgreSQL's own manifest.
    pub files_checked: u64,
    /// Milliseconds.
    pub duration_ms: u64,
    /// Where recovery will stop.
    pub stop_at: StopAt,
    /// What the server does then.
    pub action: super::TargetAction,
    /// The branch that recovery follows.
    pub timeline: Timeline,
    /// In words: the moment that will be reached.
    pub reaches: String,
    /// Where the backup is consistent.
    pub stop_lsn: Lsn,
    /// Settings of the source that were neutralised.
    pub neutralised: Vec<&'static str>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// What PostgreSQL's own verifier said, when it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verifybackup: Option<String>,
    /// What the copy was recovered to, when it was.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryResult>,
}

/// Runs the plan. On an error everything that was written is removed again, so that a second try finds an empty target.
pub async fn run_restore(
    deployment: &Deployment,
    plan: &RestorePlan,
    options: &RestoreOptions,
    sink: Arc<dyn EventSink>,
    cancel: CancellationToken,
) -> Result<RestoreResult> {
    if let Some(error) = plan.blocker() {
        return Err(error);
    }
    let began = std::time::Instant::now();
    // A reader without the right to write relies on the day that passes between a purge and the deletion.
    let mut opening = Opening::new(Purpose::Restore);
    opening.pins = vec![plan.backup_id.clone()];
    opening.run_id.clone_from(&options.run_id);
    let session = match Session::open(deployment, opening).await {
        Ok(session) => {
            if !session.usable_pins().await?.contains(&plan.backup_id) {
                return Err(Error::new(
                    code::repository::BACKUP_MISSING,
                    format!("{} is being purged", plan.backup_id),
                ));
            }
            Some(session)
        }
        Err(error) if error.is(code::storage::DENIED) || error.is(code::storage::READ_ONLY) => None,
        Err(error) => return Err(error),
    };
    let layout = Layout {
        data: plan.target_dir.clone(),
        tablespaces: plan.tablespaces.clone(),
        wal: plan.wal_dir.clone(),
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
    let outcome = run.claimed().await;
    if let Some(session) = session
        && let Err(error) = session.close().await
    {
        tracing::warn!(%error, "the session of the restore stays open");
    }
    let mut result = outcome?;
    result.duration_ms = began.elapsed().as_millis() as u64;
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

    pub(super) fn manifest(&self) -> &Manifest {
        &self.plan.manifest
    }

    /// The whole run, between the claim on its places and their release.
    async fn claimed(&self) -> Result<RestoreResult> {
        let claim = Claim::take(self.layout)?;
        let outcome = self.go(&claim).await;
        let outcome = outcome.and_then(|result| claim.release().map(|()| result));
        if outcome.is_err()
            && let Err(error) = claim.undo()
        {
            tracing::warn!(%error, "the half restore in {} could not be removed", self.layout.data.display());
        }
        outcome
    }

    async fn go(&self, claim: &Claim) -> Result<RestoreResult> {
        let manifest = self.manifest();
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
        let reader = BackupReader::open(self.deployment, &manifest.file_table, &manifest.pack_list).await?;
        let sync_each = claim.needs_each_file_synced()?;
        let source_settings = self.make_directories(&reader).await?;
        let checksums = self.read_postgres_manifest(&reader, sync_each).await?;
        if source_settings.is_none() && checksums.knows(SETTINGS_FILE) {
            return Err(missing("postgresql.auto.conf is not in the backup"));
        }
        let (total, expected) = (checksums.len(), expected(&checksums));
        let sink = Arc::new(DirectorySink::new(self.layout.clone(), checksums, sync_each));
        let wal = self.plan.staged.as_ref().map_or(0, |_| self.plan.wal_bytes);
        let meter = ProgressMeter::new("restore.progress", self.sink.clone(), Some(self.plan.total_bytes + wal));
        let meter = Arc::new(meter.in_stage("copying"));
        let report = self.content(&reader, &sink, &meter).await?;
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
        let (verifybackup, recovery) = match &self.options.recovery {
            Some(recovery) => {
                let (verdict, done) = self.recover(recovery, &source_settings).await?;
                claim.sync()?;
                (verdict, Some(done))
            }
            None => (None, None),
        };
        let hand_over = self.options.recovery.as_ref().map(Recovery::hand_over);
        Ok(RestoreResult {
            backup_id: self.plan.backup_id.clone(),
            deployment: self.plan.deployment.clone(),
            target_dir: self.plan.target_dir.clone(),
            file_count: report.files + last.files,
            bytes_written: report.bytes + last.bytes,
            files_checked: sink.checked(),
            duration_ms: 0,
            stop_at: self.plan.stop_at.clone(),
            action: self.plan.action,
            timeline: self.plan.target_timeline,
            reaches: self.plan.reaches.clone(),
            stop_lsn: self.plan.stop_lsn,
            // CloudNativePG writes these settings itself.
            neutralised: neutralised().filter(|_| hand_over != Some(HandOver::Cnpg)).collect(),
            notes: self.plan.notes.clone(),
            verifybackup,
            recovery,
        })
    }

    /// Makes every directory and link; gives the source's `postgresql.auto.conf`.
    async fn make_directories(&self, reader: &BackupReader) -> Result<Option<String>> {
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
        match settings {
            Some(key) => {
                let bytes = self.read_small(reader, &key).await?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            None => Ok(None),
        }
    }
}

//! The best proof: restore into a scratch directory, start PostgreSQL on it, ask it something, throw it away.
//!
//! Recovery goes to the end of the backup only, so the WAL that it needs is known; it is fetched into the scratch
//! directory by this process, with the keys and credentials that this process has. As root, PostgreSQL runs as an
//! unprivileged user, who can read neither the keyring nor the environment of whoever called us.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hardstorage_report::{BackupId, Error, Event, EventSink, Result, Severity, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{Deployment, Manifest};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::server::ask;
use crate::postgres::{LONGEST, Place, Programs, failed, off_thread, verifybackup};
use crate::restore::{
    Onto, Owner, RecoveryTarget, RestoreOptions, RestoreRequest, Staging, TargetAction, TargetTimeline, plan_restore,
    quote_shell, run_restore, segments_of_backup,
};

/// How the proof is made.
#[derive(Debug, Clone)]
pub struct ScratchPlan {
    /// The backup.
    pub backup: BackupId,
    /// Where to make the scratch directory.
    pub parent: PathBuf,
    /// Directory of PostgreSQL's programs.
    pub pg_bin: Option<PathBuf>,
    /// What to ask.
    pub query: String,
    /// The database to ask in.
    pub database: String,
    /// Threads.
    pub jobs: usize,
    /// The owner, when we are root.
    pub owner: Option<Owner>,
}

/// What PostgreSQL said.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreProof {
    /// The query.
    pub query: String,
    /// Its answer.
    pub answer: String,
    /// What `pg_verifybackup` said, when it is there.
    pub verifybackup: Option<String>,
    /// Milliseconds for the restore of the files.
    pub restore_ms: u64,
    /// Milliseconds until the server had recovered and answered.
    pub recovery_ms: u64,
}

/// Removes the scratch directory, whatever happens.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "the scratch directory {} stays", self.0.display());
        }
    }
}

/// Makes a directory that only its owner can enter.
fn private(path: &Path, owner: Option<Owner>) -> Result<()> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(failed("make", path))?;
    // The umask may have taken something away.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("set the mode of", path))?;
    match owner {
        Some(owner) => {
            std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).map_err(failed("give away", path))
        }
        None => Ok(()),
    }
}

/// Restores, starts, asks, and throws away.
pub async fn prove_by_restore(
    deployment: &Deployment,
    plan: &ScratchPlan,
    sink: Arc<dyn EventSink>,
    cancel: CancellationToken,
) -> Result<RestoreProof> {
    let manifest = super::choose(deployment, Some(&plan.backup)).await?;
    // Looked for before anything is restored.
    let major = (manifest.server.version_num / 10_000).to_string();
    let programs = Programs::of_server(plan.pg_bin.as_deref(), &major)?;
    let random: [u8; 6] = deployment.surroundings().random()?;
    let root = std::path::absolute(&plan.parent).map_err(failed("resolve", &plan.parent))?;
    let root = root.join(format!("hsverify-{}", hex::encode(random)));
    if root.as_os_str().len() > LONGEST {
        return Err(Error::new(
            code::usage::INVALID,
            format!("{} is too long for a Unix socket in it", root.display()),
        )
        .hint("choose a shorter directory with --scratch"));
    }
    private(&root, plan.owner)?;
    let scratch = Scratch(root);
    sink.emit(
        Event::new(Severity::Info, "verify.restore_started")
            .deployment(deployment.name())
            .backup(&plan.backup)
            .body(json!({"scratch": scratch.0, "owner_uid": plan.owner.map(|owner| owner.uid)})),
    );
    let wal = scratch.0.join("wal");
    private(&wal, plan.owner)?;
    let data = scratch.0.join("data");
    let restore = plan_restore(deployment, &request(plan, &manifest, &scratch.0)).await?;
    let options = RestoreOptions {
        jobs: plan.jobs,
        // Like PostgreSQL's own example: `cp` ends with 1 when there is no such file.
        restore_command: format!(
            "cp {}/\"%f\" \"%p\"",
            quote_shell(&wal.to_string_lossy()).replace('%', "%%")
        ),
        run_id: None,
        recovery: None,
    };
    let restored = run_restore(deployment, &restore, &options, sink, cancel.clone(), async |_| Ok(None)).await?;
    let archive = WalArchive::new(deployment.clone(), manifest.lineage, manifest.server.wal_segment_size);
    let staging = Staging {
        archive: &archive,
        follow: manifest.wal.timeline,
        folder: &wal,
        owner: plan.owner,
        cancel: &cancel,
    };
    staging.fetch(&segments_of_backup(&manifest), &|_| {}).await?;
    let named = plan.pg_bin.clone();
    let verdict = off_thread({
        let data = data.clone();
        move || verifybackup(named.as_deref(), &data)
    });
    let verdict = verdict.await?;
    let began = Instant::now();
    let place = Place {
        programs,
        data,
        private: scratch.0.clone(),
        environment: Vec::new(),
    };
    let answer = ask(place, &plan.database, &plan.query, &cancel).await?;
    Ok(RestoreProof {
        query: plan.query.clone(),
        answer,
        verifybackup: verdict,
        restore_ms: restored.duration_ms,
        recovery_ms: began.elapsed().as_millis() as u64,
    })
}

pub(super) fn interrupted() -> Error {
    Error::new(code::cli::INTERRUPTED, "the verification was interrupted")
}

/// To the end of the backup, along its own timeline, with every tablespace in the scratch directory.
fn request(plan: &ScratchPlan, manifest: &Manifest, scratch: &Path) -> RestoreRequest {
    let outside = |location: &str| Path::new(location).is_absolute();
    RestoreRequest {
        backup: Some(plan.backup.clone()),
        target: scratch.join("data"),
        goal: RecoveryTarget::Immediate,
        inclusive: true,
        action: Some(TargetAction::Promote),
        timeline: TargetTimeline::Number(manifest.wal.timeline),
        tablespace_mapping: manifest
            .tablespaces
            .iter()
            .filter(|space| outside(&space.location))
            .map(|space| {
                let place = scratch.join(format!("tablespace-{}", space.oid));
                (PathBuf::from(&space.location), place)
            })
            .collect(),
        owner: plan.owner,
        running_as_root: rustix::process::geteuid().is_root(),
        repository_path: None,
        wal_dir: None,
        wal_in_target: false,
        retry_id: None,
        onto: Onto::Empty,
    }
}

//! Proving a backup: its structure, its signature, every frame, every file, and the WAL from its start to now.

mod postgres_manifest;
mod scratch;
mod server;
mod wal_objects;

use std::collections::BTreeSet;
use std::sync::Arc;

use hardstorage_report::{BackupId, DeploymentName, Error, Event, EventSink, Lsn, Result, Severity, Timeline, code};
use hardstorage_repository::wal::{LsnRange, WalArchive};
use hardstorage_repository::{
    BackupReader, Damage, Deployment, Manifest, Opening, Progress, Purpose, ReadOptions, Session, VerifyDepth,
    damage_impact,
};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::progress::ProgressMeter;
use crate::window::newest_timeline;

pub use crate::postgres::{Programs, verifybackup};
pub use scratch::{RestoreProof, ScratchPlan, prove_by_restore};
pub use wal_objects::{DamagedSegment, WalDepth, damaged_segments};

/// How deep to look.
#[derive(Debug, Clone)]
pub struct VerifyPlan {
    /// The backup; none for the newest.
    pub backup: Option<BackupId>,
    /// Read no pages.
    pub structure_only: bool,
    /// Threads.
    pub jobs: usize,
    /// The scheduler's id.
    pub run_id: Option<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyDamage {
    /// The object.
    pub object: String,
    /// The frame in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<u32>,
    /// The files of this backup that it hurts.
    pub files: BTreeSet<String>,
    /// What is wrong.
    pub reason: String,
}

/// A hole in the WAL behind a backup.
#[derive(Debug, Clone, Serialize)]
pub struct WalHole {
    /// First missing byte.
    pub from: Lsn,
    /// First byte behind it.
    pub to: Lsn,
    /// What the stream recorded about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
}

/// The verdict.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyResult {
    /// The backup.
    pub backup_id: BackupId,
    /// The deployment.
    pub deployment: DeploymentName,
    /// `structure`, `content` or `restore`.
    pub level: &'static str,
    /// Whether everything is as it should be.
    pub ok: bool,
    /// The signer of the manifest.
    pub signer: String,
    /// Packs looked at.
    pub packs: u64,
    /// Files that are whole.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Frames decoded.
    pub frames: u64,
    /// Files that are as PostgreSQL's own manifest says; not looked at on the level `structure`.
    pub postgres_files: u64,
    /// Damage.
    pub damage: Vec<VerifyDamage>,
    /// Other backups that the same damage hurts.
    pub also_hurt: Vec<BackupId>,
    /// Whether the WAL that makes it consistent is whole.
    pub wal_complete: bool,
    /// The timeline that was followed to now.
    pub timeline: Timeline,
    /// How far recovery gets from this backup.
    pub wal_until: Option<Lsn>,
    /// The first hole behind it, with something archived beyond.
    pub wal_hole: Option<WalHole>,
    /// Milliseconds.
    pub duration_ms: u64,
    /// The proof by PostgreSQL's own programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreProof>,
}

impl VerifyResult {
    /// The failure that this verdict amounts to: the backup's own, or a hole in the WAL between it and now.
    pub fn failure(&self) -> Option<Error> {
        self.own_failure().or_else(|| {
            let hole = self.wal_hole.as_ref()?;
            let why = hole
                .recorded
                .as_ref()
                .map_or_else(String::new, |why| format!(": {why}"));
            let message = format!(
                "the WAL behind backup {} has a hole from {} to {}{why}",
                self.backup_id, hole.from, hole.to
            );
            Some(
                Error::new(code::repository::WAL_GAP, message)
                    .hint("the backup itself is whole; recovery from it ends at the hole"),
            )
        })
    }

    /// What is wrong with the backup itself, whatever follows on it.
    pub fn own_failure(&self) -> Option<Error> {
        if let Some(first) = self.damage.first() {
            return Some(Error::new(
                code::repository::OBJECT_CORRUPT,
                format!(
                    "backup {} is damaged in {} place(s), the first of them {}: {}",
                    self.backup_id,
                    self.damage.len(),
                    first.object,
                    first.reason
                ),
            ));
        }
        if !self.wal_complete {
            return Some(Error::new(
                code::repository::WAL_GAP,
                format!(
                    "backup {}: the WAL that makes it consistent is not whole",
                    self.backup_id
                ),
            ));
        }
        None
    }
}

/// The backup that is meant: the one that was named, or the newest.
pub async fn choose(deployment: &Deployment, backup: Option<&BackupId>) -> Result<Manifest> {
    match backup {
        Some(id) if id.deployment() != deployment.name().as_str() => Err(Error::new(
            code::repository::BACKUP_MISSING,
            format!("{id} is a backup of {}, not of {}", id.deployment(), deployment.name()),
        )),
        Some(id) => Ok(Manifest::load(deployment, id).await?.committed(id)?.manifest),
        None => {
            let catalog = deployment.backups().await?;
            let latest = catalog
                .latest()
                .and_then(|entry| entry.manifest())
                .map(|stored| stored.manifest.clone());
            latest.ok_or_else(|| {
                Error::new(
                    code::repository::BACKUP_MISSING,
                    format!("{} has no backup", deployment.name()),
                )
            })
        }
    }
}

/// Looks at a backup.
pub async fn run_verify(
    deployment: &Deployment,
    plan: &VerifyPlan,
    sink: Arc<dyn EventSink>,
    cancel: CancellationToken,
) -> Result<VerifyResult> {
    let began = std::time::Instant::now();
    let manifest = choose(deployment, plan.backup.as_ref()).await?;
    if plan.backup.is_none() {
        tell_of_unreadable(deployment, &manifest.backup_id, &*sink).await?;
    }
    let mut opening = Opening::new(Purpose::Verify);
    opening.pins = vec![manifest.backup_id.clone()];
    opening.run_id.clone_from(&plan.run_id);
    let session = Session::open_reader(deployment, opening).await?;
    let outcome = look(deployment, plan, &manifest, sink.clone(), cancel).await;
    if let Some(session) = session
        && let Err(error) = session.close().await
    {
        tracing::warn!(%error, "the session of the verification stays open");
    }
    let mut result = outcome?;
    result.duration_ms = began.elapsed().as_millis() as u64;
    let event = match result.failure() {
        None => Event::new(Severity::Notice, "verify.completed")
            .body(json!({"level": result.level, "duration_ms": result.duration_ms})),
        Some(error) => Event::new(Severity::Error, "verify.failed")
            .body(json!({"code": error.code().as_str(), "message": error.to_string()})),
    };
    sink.emit(event.deployment(deployment.name()).backup(&result.backup_id));
    Ok(result)
}

/// Whoever asks for the newest must hear that another one may be newer.
async fn tell_of_unreadable(deployment: &Deployment, chosen: &BackupId, sink: &dyn EventSink) -> Result<()> {
    for (id, error) in deployment.backups().await?.unreadable_after(chosen) {
        let message = format!("it may be newer than {chosen}, and was passed over: {error}");
        sink.emit(
            Event::new(Severity::Warning, "verify.backup_unreadable")
                .deployment(deployment.name())
                .backup(id)
                .body(json!({"code": error.code().as_str(), "message": message})),
        );
    }
    Ok(())
}

async fn look(
    deployment: &Deployment,
    plan: &VerifyPlan,
    manifest: &Manifest,
    sink: Arc<dyn EventSink>,
    cancel: CancellationToken,
) -> Result<VerifyResult> {
    sink.emit(
        Event::new(Severity::Info, "verify.started")
            .deployment(deployment.name())
            .backup(&manifest.backup_id)
            .body(json!({"total_bytes": manifest.totals.logical_bytes})),
    );
    let reader = BackupReader::open(deployment, &manifest.file_table, &manifest.pack_list).await?;
    let meter = ProgressMeter::new("verify.progress", sink, Some(manifest.totals.logical_bytes));
    let progress: Progress = Arc::new(move |bytes| meter.add(bytes));
    let options = ReadOptions {
        jobs: plan.jobs,
        cancel,
        progress: Some(progress),
        backup_id: Some(manifest.backup_id.clone()),
        ..ReadOptions::for_store(deployment.store())
    };
    let depth = if plan.structure_only {
        VerifyDepth::Structure
    } else {
        VerifyDepth::Content
    };
    let report = reader.verify(depth, &options).await?;
    let postgres = match depth {
        VerifyDepth::Structure => postgres_manifest::Comparison::default(),
        VerifyDepth::Content => postgres_manifest::compare(&reader, &options).await?,
    };
    let mut damage: Vec<VerifyDamage> = report
        .content
        .damages
        .named
        .iter()
        .map(|damage| VerifyDamage {
            object: damage.object.clone(),
            frame: damage.frame,
            files: damage.files.clone(),
            reason: damage.reason.clone(),
        })
        .collect();
    damage.extend(postgres.damage);
    let wal_damage = wal_objects::needed(deployment, manifest, depth).await?;
    let wal_readable = wal_damage.is_empty();
    damage.extend(wal_damage);
    let also_hurt = if damage.is_empty() {
        Vec::new()
    } else {
        others_hurt(deployment, &manifest.backup_id).await?
    };
    let wal = wal_state(deployment, manifest).await?;
    Ok(VerifyResult {
        backup_id: manifest.backup_id.clone(),
        deployment: deployment.name().clone(),
        level: if plan.structure_only { "structure" } else { "content" },
        ok: damage.is_empty() && wal.complete && wal.hole.is_none(),
        signer: manifest.signer.clone(),
        packs: report.packs,
        files: report.content.files,
        bytes: report.content.bytes,
        frames: report.content.frames,
        postgres_files: postgres.equal,
        damage,
        also_hurt,
        wal_complete: wal.complete && wal_readable,
        timeline: wal.timeline,
        wal_until: wal.until,
        wal_hole: wal.hole,
        duration_ms: 0,
        restore: None,
    })
}

/// Which other backups the recorded damage hurts.
async fn others_hurt(deployment: &Deployment, this: &BackupId) -> Result<Vec<BackupId>> {
    let catalog = deployment.backups().await?;
    let damage = Damage::load(deployment).await?;
    let hurt = damage_impact(deployment, &catalog, &damage).await?;
    Ok(hurt
        .into_iter()
        .map(|backup| backup.backup_id)
        .filter(|id| id != this)
        .collect())
}

struct WalState {
    complete: bool,
    timeline: Timeline,
    until: Option<Lsn>,
    hole: Option<WalHole>,
}

async fn wal_state(deployment: &Deployment, manifest: &Manifest) -> Result<WalState> {
    let archive = WalArchive::new(deployment.clone(), manifest.lineage, manifest.server.wal_segment_size);
    let newest = newest_timeline(&archive, manifest).await?;
    let passes = archive
        .ancestry()
        .await?
        .passes(newest, manifest.wal.timeline, manifest.wal.stop_lsn)?;
    // A backup of a branch that died leads nowhere but to that branch's end.
    let timeline = if passes { newest } else { manifest.wal.timeline };
    let coverage = archive.coverage(timeline, manifest.wal.start_lsn).await?;
    let hole = match coverage.first_hole(manifest.wal.start_lsn) {
        Some(LsnRange { from, to }) => {
            let gaps = archive.gaps().await?;
            let meets = |of: Timeline, lost: LsnRange| of <= timeline && lost.from < to && lost.to > from;
            let known = gaps.records.iter().find(|gap| meets(gap.timeline, gap.range()));
            let damaged = gaps
                .damaged
                .iter()
                .find(|gap| gap.named.is_some_and(|(of, lost)| meets(of, lost)));
            // Nobody streams, or retention let it go: as far as the WAL of this backup reaches nothing was lost.
            let no_loss = known.is_some_and(|gap| {
                let all = gap.range().from <= from && gap.range().to >= to;
                all && (gap.is_between_backups() || gap.is_expired())
            });
            (!no_loss).then(|| WalHole {
                from,
                to,
                recorded: known
                    .map(|gap| gap.reason.clone())
                    .or_else(|| damaged.map(ToString::to_string)),
            })
        }
        None => None,
    };
    Ok(WalState {
        complete: coverage.is_covered(manifest.wal.start_lsn, manifest.wal.stop_lsn),
        timeline,
        until: coverage.recoverable_until(manifest.wal.start_lsn),
        hole,
    })
}

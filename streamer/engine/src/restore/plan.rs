//! The plan of a restore: which backup, which WAL, where to stop, what stands in the way. A value: `--preview` prints it,
//! tests look at it, and a run does exactly what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hardstorage_report::{
    BackupId, DeploymentName, Error, ErrorReport, Lsn, Reachable, RecoveryPoint, Result, SegmentName, SegmentSize,
    SystemId, Timeline, code,
};
use hardstorage_repository::wal::{ServerTime, WalArchive};
use hardstorage_repository::{Deployment, Lineage, Manifest};
use jiff::Timestamp;

use super::choose::{choose_backup, on_the_living_branch};
use super::configuration;
use super::content::source_snapshot;
use super::notes::{notes, wal_bytes};
use super::onto::{self, Onto, Unfinished};
use super::place::{Owner, Place, check, owner, resolve};
use super::record;
use super::stage::segments_until;
use super::stop::{Reach, Stop, branch};
use super::tablespaces::map_tablespaces;
use super::target::{RecoveryTarget, StopAt, TargetAction, TargetTimeline};

/// What a person asks for.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// A backup, or the newest that leads to the target.
    pub backup: Option<BackupId>,
    /// Where to.
    pub target: PathBuf,
    /// The moment.
    pub goal: RecoveryTarget,
    /// Including the target itself.
    pub inclusive: bool,
    /// What then; each goal has its own default.
    pub action: Option<TargetAction>,
    /// Which branch.
    pub timeline: TargetTimeline,
    /// Places of tablespaces.
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Who shall own the files.
    pub owner: Option<Owner>,
    /// Whether this process is root.
    pub running_as_root: bool,
    /// The repository's directory, when it is one on this machine.
    pub repository_path: Option<PathBuf>,
    /// Where `pg_wal` shall lie, when not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Whether everything that recovery needs shall lie in the target.
    pub wal_in_target: bool,
    /// The id under which this restore is tried again: what an earlier process of it has left does not stand in the way.
    pub retry_id: Option<String>,
    /// What may be there already.
    pub onto: Onto,
}

/// What will be done.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// The backup.
    pub backup_id: BackupId,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The data directory.
    pub target_dir: PathBuf,
    /// The server's version as text.
    pub pg_version: String,
    /// The cluster.
    pub system_identifier: SystemId,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// Where the backup is consistent.
    pub stop_lsn: Lsn,
    /// The backup's timeline.
    pub timeline: Timeline,
    /// When the backup ended, by the server's clock.
    pub stopped_at: Timestamp,
    /// The moment that was asked for.
    pub goal: RecoveryTarget,
    /// Including what lies exactly there.
    pub inclusive_goal: bool,
    /// Where PostgreSQL will stop.
    pub stop_at: StopAt,
    /// Including what lies exactly where PostgreSQL will stop.
    pub inclusive: bool,
    /// What then.
    pub action: TargetAction,
    /// Which branch recovery follows: a number, resolved now.
    pub target_timeline: Timeline,
    /// In words: the moment that will be reached.
    pub reaches: String,
    /// That moment, where it is known.
    pub reaches_time: Option<Timestamp>,
    /// Its position, where it is known.
    pub reaches_lsn: Option<Lsn>,
    /// Every moment that this backup leads to on that branch.
    pub reachable: Reachable,
    /// Files, directories and links.
    pub file_count: u64,
    /// Bytes that will be written.
    pub total_bytes: u64,
    /// Bytes of WAL that will be replayed, at most.
    pub wal_bytes: u64,
    /// Where each tablespace goes, by oid.
    pub tablespaces: BTreeMap<u32, PathBuf>,
    /// Where `pg_wal` goes, when not into the data directory.
    pub wal_dir: Option<PathBuf>,
    /// The definition of the source as it was when the backup was taken; null when none was given.
    pub source_snapshot: serde_json::Value,
    /// Who will own the files.
    pub owner: Option<Owner>,
    /// Everything that stands in the way; empty when the restore can run.
    pub problems: Vec<ErrorReport>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
    /// The id under which this restore is tried again.
    pub retry_id: Option<String>,
    /// What may be there already.
    pub onto: Onto,
    /// Whether the archive has a hole behind what this plan can reach.
    hole_behind: bool,
    blockers: Vec<std::sync::Arc<Error>>,
    /// The segments that go into the target.
    pub(super) staged: Option<Vec<SegmentName>>,
    pub(super) manifest: Box<Manifest>,
}

impl RestorePlan {
    /// The life of the cluster that the backup belongs to.
    pub fn lineage(&self) -> Lineage {
        self.manifest.lineage
    }

    /// The size of the cluster's WAL segments.
    pub fn segment_size(&self) -> SegmentSize {
        self.manifest.server.wal_segment_size
    }

    /// Whether PostgreSQL must not read ahead of its target: what it would ask for behind it may be lost, and a
    /// `restore_command` must not call a hole the end of the archive.
    pub fn reads_to_target_only(&self) -> bool {
        match self.stop_at {
            StopAt::EndOfArchive => false,
            StopAt::Immediate => true,
            _ => self.hole_behind,
        }
    }

    /// What its markers tell of it.
    pub(super) fn unfinished(&self) -> Unfinished {
        unfinished(&self.manifest, &self.target_dir, self.goal.point(self.inclusive_goal))
    }

    /// The first thing in the way, as the error of a run.
    pub fn blocker(&self) -> Option<Error> {
        self.blockers.first().map(|error| {
            let copy = Error::new(error.code(), error.to_string()).hint(error.hint_text().to_owned());
            let copy = match error.reach() {
                Some(reachable) => copy.reachable(reachable.clone()),
                None => copy,
            };
            match self.blockers.len() {
                1 => copy,
                many => copy.context(format!("{many} problems, the first of them")),
            }
        })
    }
}

fn unfinished(manifest: &Manifest, data: &Path, target: RecoveryPoint) -> Unfinished {
    Unfinished {
        restores: manifest.backup_id.clone(),
        deployment: manifest.deployment.clone(),
        cluster: manifest.lineage.system_id,
        postgres: manifest.server.version_num / 10_000,
        data: data.to_owned(),
        target,
    }
}

/// Makes the plan. What only stands in the way is in it; an error is a question that has no answer at all.
pub async fn plan_restore(deployment: &Deployment, request: &RestoreRequest) -> Result<RestorePlan> {
    let catalog = deployment.backups().await?;
    let mut problems: Vec<Error> = Vec::new();
    let stored = choose_backup(deployment, &catalog, request, &[]).await?;
    let manifest = &stored.manifest;
    let archive = WalArchive::new(deployment.clone(), manifest.lineage, manifest.server.wal_segment_size);
    // It tells nothing of the data, so that a restore does without it.
    let (branch, snapshot) = tokio::join!(
        branch(&archive, manifest, request.timeline, &mut problems),
        source_snapshot(deployment, manifest)
    );
    let (timeline, coverage) = branch?;
    let dead = request.backup.is_none() && !problems.is_empty();
    if dead && let Some(other) = on_the_living_branch(deployment, &catalog, request, manifest).await? {
        let named = RestoreRequest {
            backup: Some(other),
            ..request.clone()
        };
        let mut plan = Box::pin(plan_restore(deployment, &named)).await?;
        plan.warnings.push(format!(
            "backup {} is newer and was passed by: it lies on a branch that died",
            manifest.backup_id
        ));
        return Ok(plan);
    }
    let end = coverage.recoverable_until(manifest.wal.start_lsn);
    if end.is_none_or(|end| end < manifest.wal.stop_lsn) {
        problems.push(Error::new(
            code::repository::WAL_GAP,
            format!(
                "the WAL that makes backup {} consistent ({} to {}) is not whole",
                manifest.backup_id, manifest.wal.start_lsn, manifest.wal.stop_lsn
            ),
        ));
    }
    let follows = async {
        match request.goal {
            RecoveryTarget::Immediate => Some(record::meets(&archive, &coverage, manifest.wal.stop_lsn).await),
            _ => None,
        }
    };
    let (until, follows) = tokio::join!(archive.complete_up_to(&coverage, manifest.wal.stop_lsn), follows);
    let until = until?.and_then(ServerTime::to_timestamp);
    let latest = until.max(Some(manifest.times.stopped_at));
    let reach = Reach {
        archive: &archive,
        manifest,
        timeline,
        coverage: &coverage,
        end,
        latest,
        // What could not be found out is asked again, and told where it matters.
        follows: follows.and_then(Result::ok),
    };
    let stop = match reach.stop(request).await {
        Ok(found) => found,
        Err(error) => {
            problems.push(error);
            Stop::at(StopAt::Immediate, "-".to_owned())
        }
    };
    let reachable = reach.reachable();
    // What was found before it was known what can be reached.
    let told = |error: Error| match error.reach() {
        None if error.is(code::engine::UNREACHABLE) => error.reachable(reachable.clone()),
        _ => error,
    };
    let mut problems: Vec<Error> = problems.into_iter().map(told).collect();
    let staged = if request.wal_in_target && problems.is_empty() {
        let (from, consistent) = (manifest.wal.start_lsn, manifest.wal.stop_lsn);
        Some(segments_until(&archive, &coverage, from, consistent, &stop).await?)
    } else {
        None
    };
    let wal_bytes = match &staged {
        Some(segments) => segments.len() as u64 * manifest.server.wal_segment_size.bytes(),
        None => wal_bytes(manifest, &stop.at, end),
    };
    let action = request.action.unwrap_or(match request.goal {
        RecoveryTarget::Immediate | RecoveryTarget::Latest => TargetAction::Promote,
        _ => TargetAction::Pause,
    });
    let io = |error: std::io::Error| {
        Error::new(code::cli::IO, format!("resolve {}", request.target.display())).source(error)
    };
    let target = resolve(&request.target).map_err(io)?;
    let tablespaces = map_tablespaces(&manifest.tablespaces, &request.tablespace_mapping, &target)?;
    let in_tablespaces: u64 = manifest.tablespaces.iter().map(|space| space.size).sum();
    let data = Place {
        path: target.clone(),
        bytes: manifest.totals.logical_bytes.saturating_sub(in_tablespaces) + staged.as_ref().map_or(0, |_| wal_bytes),
    };
    let mut places = Vec::new();
    for space in &manifest.tablespaces {
        if let Some(path) = tablespaces.get(&space.oid) {
            places.push(Place {
                path: resolve(path).map_err(io)?,
                bytes: space.size,
            });
        }
    }
    // A tablespace inside the data directory is one of its folders, not a second target.
    places.retain(|place| {
        !place.path.starts_with(&target) || request.tablespace_mapping.iter().any(|(_, new)| *new == place.path)
    });
    let wal_dir = request.wal_dir.as_deref().map(resolve).transpose().map_err(io)?;
    places.extend(wal_dir.iter().map(|path| Place {
        path: path.clone(),
        bytes: 0,
    }));
    let configuration = configuration::place(manifest, &target);
    places.extend(configuration.iter().map(|path| Place {
        path: path.clone(),
        bytes: 0,
    }));
    let (repository, cluster) = (request.repository_path.as_deref(), manifest.lineage.system_id);
    problems.extend(match request.onto {
        Onto::Empty => check(&data, &places, repository, cluster, request.retry_id.as_deref()),
        onto => {
            let wanted = unfinished(manifest, &target, request.goal.point(request.inclusive));
            onto::check(&data, &places, repository, onto, &wanted)
        }
    });
    let owner = match owner(&target, request.owner, request.running_as_root) {
        Ok(owner) => owner,
        Err(error) => {
            problems.push(error);
            None
        }
    };
    let mut warnings = notes(&stored, request, &stop.at);
    warnings.extend(configuration.map(|place| {
        format!(
            "configuration from outside of the data directory goes to {}; PostgreSQL does not read it there",
            place.display()
        )
    }));
    if request.backup.is_none() {
        warnings.extend(
            catalog
                .unreadable_after(&manifest.backup_id)
                .map(|(id, error)| format!("backup {id} may be newer than this one, and cannot be read: {error}")),
        );
    }
    let source_snapshot = match snapshot {
        Ok(found) => found,
        Err(error) => {
            warnings.push(format!("the definition of the source cannot be read: {error}"));
            serde_json::Value::Null
        }
    };
    Ok(RestorePlan {
        backup_id: manifest.backup_id.clone(),
        deployment: manifest.deployment.clone(),
        target_dir: target,
        pg_version: manifest.server.version.clone(),
        system_identifier: manifest.lineage.system_id,
        start_lsn: manifest.wal.start_lsn,
        stop_lsn: manifest.wal.stop_lsn,
        timeline: manifest.wal.timeline,
        stopped_at: manifest.times.stopped_at,
        goal: request.goal.clone(),
        inclusive_goal: request.inclusive,
        wal_bytes,
        wal_dir,
        source_snapshot,
        staged,
        stop_at: stop.at,
        inclusive: stop.inclusive,
        action,
        target_timeline: timeline,
        reaches: stop.reaches,
        reaches_time: stop.time,
        reaches_lsn: stop.lsn,
        reachable,
        hole_behind: coverage.first_hole(manifest.wal.start_lsn).is_some(),
        file_count: manifest.totals.files,
        total_bytes: manifest.totals.logical_bytes,
        tablespaces,
        owner,
        problems: problems.iter().map(ErrorReport::from).collect(),
        warnings,
        retry_id: request.retry_id.clone(),
        onto: request.onto,
        blockers: problems.into_iter().map(std::sync::Arc::new).collect(),
        manifest: Box::new(stored.manifest),
    })
}

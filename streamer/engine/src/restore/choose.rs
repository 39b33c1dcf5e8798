//! Which backup a restore begins with: the one that was named, or the newest that ends before the target and leads to it.

use hardstorage_report::{BackupId, Error, Reachable, Result, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{Catalog, CatalogEntry, Deployment, Manifest, VerifiedManifest};

use super::plan::RestoreRequest;
use super::target::{RecoveryTarget, TargetTimeline};
use crate::window::{newest_known, newest_timeline, recoverable_window};

/// The newest backup that ends before the target and was not passed by, or the one that was named.
pub(super) async fn choose_backup(
    deployment: &Deployment,
    catalog: &Catalog,
    request: &RestoreRequest,
    passed_by: &[BackupId],
) -> Result<VerifiedManifest> {
    if let Some(id) = &request.backup {
        if id.deployment() != deployment.name().as_str() {
            return Err(Error::new(
                code::repository::BACKUP_MISSING,
                format!("{id} is a backup of {}, not of {}", id.deployment(), deployment.name()),
            ));
        }
        let read = catalog.get(id).and_then(CatalogEntry::manifest);
        let found = match read {
            Some(found) => found.clone(),
            // It says why there is none.
            None => Manifest::load(deployment, id).await?.committed(id)?,
        };
        let state = catalog.get(id).and_then(|entry| entry.state.as_ref().ok());
        if state.is_some_and(|state| state.purged.is_some()) {
            return Err(Error::new(
                code::repository::BACKUP_MISSING,
                format!("{id} is being purged"),
            ));
        }
        return Ok(found);
    }
    let usable = catalog
        .entries
        .iter()
        .rev()
        .filter(|entry| entry.is_usable() && !passed_by.contains(&entry.backup_id))
        .filter_map(CatalogEntry::manifest);
    let mut any = false;
    for stored in usable {
        any = true;
        let manifest = &stored.manifest;
        let before = match &request.goal {
            RecoveryTarget::Time(time) => manifest.times.stopped_at <= *time,
            RecoveryTarget::Lsn(lsn) => manifest.wal.stop_lsn <= *lsn,
            // Any backup that ends before the point or the transaction; names are looked up in the archive.
            RecoveryTarget::Name(name) => {
                let archive = WalArchive::new(deployment.clone(), manifest.lineage, manifest.server.wal_segment_size);
                let timeline = match request.timeline {
                    TargetTimeline::Latest => newest_timeline(&archive, manifest).await?,
                    TargetTimeline::Number(timeline) => timeline,
                };
                // The first one that recovery meets must not lie where the data is not consistent yet.
                let point = archive
                    .find_restore_point(timeline, manifest.wal.start_lsn, name)
                    .await?;
                point.is_some_and(|point| point.lsn >= manifest.wal.stop_lsn)
            }
            RecoveryTarget::Immediate | RecoveryTarget::Latest | RecoveryTarget::Xid(_) => true,
        };
        if before {
            return Ok(stored.clone());
        }
    }
    if !any {
        return Err(Error::new(
            code::repository::BACKUP_MISSING,
            format!("{} has no backup", deployment.name()),
        ));
    }
    let earliest = catalog
        .entries
        .iter()
        .find(|entry| entry.is_usable())
        .and_then(CatalogEntry::manifest);
    let error = Error::new(
        code::engine::BEFORE_BACKUP,
        format!(
            "no backup of {} leads to {}",
            deployment.name(),
            describe(&request.goal)
        ),
    );
    let Some(stored) = earliest else {
        return Err(error);
    };
    let error = error.hint(format!(
        "the earliest moment that can be recovered is {} ({}), the end of {}",
        stored.manifest.times.stopped_at, stored.manifest.wal.stop_lsn, stored.manifest.backup_id
    ));
    Err(match reachable(deployment, catalog, &stored.manifest).await? {
        Some(reachable) => error.reachable(reachable),
        None => error,
    })
}

/// The newest backup that leads to where recovery goes, when the one that was chosen lies on a branch that died: a primary
/// that did not know of its successor yet was still backed up.
pub(super) async fn on_the_living_branch(
    deployment: &Deployment,
    catalog: &Catalog,
    request: &RestoreRequest,
    dead: &Manifest,
) -> Result<Option<BackupId>> {
    let mut passed_by = vec![dead.backup_id.clone()];
    let archive = WalArchive::new(deployment.clone(), dead.lineage, dead.server.wal_segment_size);
    let ancestry = archive.ancestry().await?;
    loop {
        let next = match choose_backup(deployment, catalog, request, &passed_by).await {
            Ok(next) => next.manifest,
            Err(error) if error.is(code::engine::BEFORE_BACKUP) || error.is(code::repository::BACKUP_MISSING) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (own, stop) = (next.wal.timeline, next.wal.stop_lsn);
        let timeline = match request.timeline {
            TargetTimeline::Latest => newest_known(&ancestry, &next),
            TargetTimeline::Number(timeline) => timeline,
        };
        let known = timeline == own || ancestry.knows(timeline);
        if next.lineage == dead.lineage && known && ancestry.passes(timeline, own, stop)? {
            return Ok(Some(next.backup_id));
        }
        passed_by.push(next.backup_id);
    }
}

/// What can be reached without a gap in the life of the cluster that the earliest backup is of.
async fn reachable(deployment: &Deployment, catalog: &Catalog, earliest: &Manifest) -> Result<Option<Reachable>> {
    let Some(window) = recoverable_window(deployment, earliest.lineage).await? else {
        return Ok(None);
    };
    let first = catalog.get(&window.first_backup).and_then(CatalogEntry::manifest);
    Ok(first.map(|first| Reachable {
        from: window.from,
        to: window.to,
        from_lsn: first.manifest.wal.stop_lsn,
        to_lsn: Some(window.end_lsn),
        timeline: window.timeline,
        backup_id: window.first_backup.clone(),
    }))
}

fn describe(goal: &RecoveryTarget) -> String {
    match goal {
        RecoveryTarget::Immediate => "the end of the backup".to_owned(),
        RecoveryTarget::Latest => "the end of the archive".to_owned(),
        RecoveryTarget::Time(time) => time.to_string(),
        RecoveryTarget::Lsn(lsn) => lsn.to_string(),
        RecoveryTarget::Name(name) => format!("the restore point {name:?}"),
        RecoveryTarget::Xid(xid) => format!("transaction {xid}"),
    }
}

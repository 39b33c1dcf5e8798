//! How much WAL the backups that count need.

use std::collections::BTreeMap;

use hardstorage_report::{Lsn, Result};
use jiff::SignedDuration;

use super::live::Live;
use super::purge::is_whole;
use super::{CollectOptions, Collection};
use crate::listing::{Objects, folders, remove_all};
use crate::wal::{Expired, LsnRange, WalArchive, WalKeep};
use crate::{CatalogEntry, Deployment, Lineage, Manifest, layout};

pub(super) async fn expire(
    deployment: &Deployment,
    options: &CollectOptions,
    live: &Live,
    done: &mut Collection,
) -> Result<()> {
    let mut lineages = BTreeMap::<Lineage, Vec<(&CatalogEntry, &Manifest)>>::new();
    for (entry, stored) in live.catalog.committed() {
        let backups = lineages.entry(stored.manifest.lineage).or_default();
        if live.backups.contains(&entry.backup_id) {
            backups.push((entry, &stored.manifest));
        }
    }
    // A manifest that cannot be read may need any of it.
    if live.packs.is_none() {
        return Ok(());
    }
    for name in folders(deployment.store(), &layout::wal_folder(deployment.name())).await? {
        let Some(lineage) = Lineage::from_folder(&name) else {
            done.problems
                .push(format!("wal/{}/{name} is no life of a cluster", deployment.name()));
            continue;
        };
        let expired = match lineages.get(&lineage) {
            // Never a backup: a stream that is ahead of the first one, perhaps.
            None => continue,
            Some(backups) if backups.is_empty() => left(deployment, options, live, lineage).await?,
            Some(backups) => {
                let (_, any) = backups[0];
                let archive = WalArchive::new(deployment.clone(), lineage, any.server.wal_segment_size);
                let keep = keep(deployment, options, backups).await?;
                archive.expire(&keep, options.apply).await?
            }
        };
        if expired != Expired::default() {
            done.problems.extend(expired.problems.iter().cloned());
            done.wal.insert(name, expired);
        }
    }
    Ok(())
}

/// What stays of the WAL of a cluster with these backups, of which there is one at least.
async fn keep(
    deployment: &Deployment,
    options: &CollectOptions,
    backups: &[(&CatalogEntry, &Manifest)],
) -> Result<WalKeep> {
    let window = window(deployment, options, backups).await?;
    let mut keep = WalKeep {
        from: Lsn(u64::MAX),
        timeline: hardstorage_report::Timeline(u32::MAX),
        ranges: Vec::new(),
    };
    for (_, manifest) in backups {
        let wal = &manifest.wal;
        let start = wal.start_lsn.segment_start(manifest.server.wal_segment_size);
        if window.is_some_and(|begins| manifest.times.stopped_at < begins) {
            keep.ranges.push(LsnRange {
                from: wal.start_lsn,
                to: wal.stop_lsn,
            });
        } else {
            keep.from = keep.from.min(start);
            keep.timeline = keep.timeline.min(wal.start_timeline);
        }
    }
    Ok(keep)
}

/// When the backup ended from which the oldest moment of the window is reached: the newest whole one before the window
/// begins. `None`: every backup is needed with all that follows it.
async fn window(
    deployment: &Deployment,
    options: &CollectOptions,
    backups: &[(&CatalogEntry, &Manifest)],
) -> Result<Option<jiff::Timestamp>> {
    let Some(keep_wal) = options.keep_wal else {
        return Ok(None);
    };
    let now = deployment.store().clock().await?;
    let length = SignedDuration::try_from(keep_wal).unwrap_or(SignedDuration::MAX);
    let Ok(begins) = now.checked_sub(length) else {
        return Ok(None);
    };
    for (entry, manifest) in backups.iter().rev() {
        if manifest.times.stopped_at <= begins && is_whole(deployment, entry).await? {
            return Ok(Some(manifest.times.stopped_at));
        }
    }
    Ok(None)
}

/// The WAL of a life of which no backup is left: it goes when a later one has a whole backup.
async fn left(deployment: &Deployment, options: &CollectOptions, live: &Live, lineage: Lineage) -> Result<Expired> {
    let mut expired = Expired::default();
    let stops = |wanted: bool| {
        let committed = live.catalog.committed();
        committed.filter(move |(_, stored)| (stored.manifest.lineage == lineage) == wanted)
    };
    let last = stops(true).map(|(_, stored)| stored.manifest.times.stopped_at).max();
    for (entry, stored) in stops(false) {
        if Some(stored.manifest.times.stopped_at) > last && is_whole(deployment, entry).await? {
            let folder = layout::lineage_folder(deployment.name(), lineage);
            let mut keys = Vec::new();
            let mut objects = Objects::under(deployment.store(), folder);
            while let Some(object) = objects.next().await? {
                expired.segments.add(object.size);
                keys.push(object.key);
            }
            if options.apply {
                remove_all(deployment.store(), keys).await?;
            }
            break;
        }
    }
    Ok(expired)
}

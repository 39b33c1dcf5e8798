//! The small objects of backups that are gone: marker, manifest, and after the packs everything else.

use hardstorage_report::{BackupId, Result};

use super::live::Live;
use super::sweep::Remaining;
use super::writers::Writers;
use super::{CollectOptions, Collection};
use crate::listing::remove_all;
use crate::manifest::mark_gone;
use crate::{Content, Deployment, WriterId, layout};

/// Released backups: first the marker, then the manifest, so that no moment shows a backup whose packs go.
pub(super) async fn manifests(
    deployment: &Deployment,
    options: &CollectOptions,
    live: &Live,
    done: &mut Collection,
) -> Result<()> {
    let mut keys = Vec::new();
    for (id, writer) in &live.released {
        done.released.push(id.clone());
        done.small += 1;
        if options.apply {
            mark_gone(deployment, id, *writer).await?;
            keys.push(layout::manifest(deployment.name(), id));
        }
    }
    remove_all(deployment.store(), keys).await?;
    if options.apply {
        deployment.store().sync().await?;
    }
    Ok(())
}

/// What is left when the packs are gone: states of backups that are gone, voids, and the sessions of writers without
/// packs. A session with packs stays: it tells whose they are.
pub(super) async fn remains(
    deployment: &Deployment,
    options: &CollectOptions,
    live: &Live,
    writers: &Writers,
    remaining: &Remaining,
    done: &mut Collection,
) -> Result<()> {
    let mut over = Vec::new();
    for entry in &live.catalog.entries {
        let id = &entry.backup_id;
        let states = entry.state.as_ref().map_or(0, |state| state.sequence);
        match &entry.content {
            _ if live.released.contains_key(id) => over.push(Over {
                id,
                unmarked: None,
                has_manifest: false,
                states,
            }),
            Content::Void(_) => {
                let writer = writers.of(id).filter(|writer| !remaining.contains(writer));
                over.extend(writer.map(|writer| Over {
                    id,
                    unmarked: Some(writer),
                    has_manifest: true,
                    states,
                }));
            }
            _ => {}
        }
    }
    // An earlier run that died, or a writer that woke after its void was collected.
    over.extend(live.catalog.gone.iter().map(|(id, gone)| Over {
        id,
        unmarked: None,
        has_manifest: gone.has_manifest,
        states: gone.state,
    }));
    for one in over {
        done.small += u64::from(one.has_manifest) + u64::from(one.states);
        if options.apply {
            one.remove(deployment).await?;
        }
    }
    sessions(deployment, options, live, writers, remaining, done).await
}

/// A name of which nothing counts any more.
struct Over<'a> {
    id: &'a BackupId,
    /// Its writer, when it has no marker yet.
    unmarked: Option<WriterId>,
    /// Whether a manifest or a void is there.
    has_manifest: bool,
    /// The highest number of its states; 0 when there is none.
    states: u32,
}

impl Over<'_> {
    /// The marker first. Of the states the highest tells all, and goes last.
    async fn remove(&self, deployment: &Deployment) -> Result<()> {
        if let Some(writer) = self.unmarked {
            mark_gone(deployment, self.id, writer).await?;
        }
        let (store, name) = (deployment.store(), deployment.name());
        if self.has_manifest {
            store.delete(&layout::manifest(name, self.id)).await?;
        }
        for sequence in 1..=self.states {
            store.delete(&layout::state(name, self.id, sequence)).await?;
        }
        Ok(())
    }
}

async fn sessions(
    deployment: &Deployment,
    options: &CollectOptions,
    live: &Live,
    writers: &Writers,
    remaining: &Remaining,
    done: &mut Collection,
) -> Result<()> {
    for (writer, (view, id)) in &writers.over {
        // Of a void that is not given up a successor may still take over what it left.
        let committed = id.as_ref().and_then(|id| live.catalog.get(id)?.manifest());
        if committed.is_some() || writers.given_up.contains(writer) || !remaining.contains(writer) {
            done.small += view.progress.len() as u64;
            if options.apply {
                view.forget_progress(deployment).await?;
            }
        }
        // The newest object tells all, and goes last.
        let keep = usize::from(remaining.contains(writer));
        done.small += view.sequences.len().saturating_sub(keep) as u64;
        if options.apply {
            view.forget(deployment, keep).await?;
        }
    }
    Ok(())
}

//! Packs that nobody lists.

use std::collections::BTreeSet;

use hardstorage_report::Result;
use hardstorage_storage::Key;

use super::live::Live;
use super::writers::Writers;
use super::{CollectOptions, Collection};
use crate::listing::{Objects, remove_all};
use crate::{Catalog, Damage, Deployment, WriterId, layout};

/// How many are removed before the listing goes on.
const BATCH: usize = 256;

/// The writers that have packs left.
pub(super) type Remaining = BTreeSet<WriterId>;

/// What may be done with the packs of a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It can commit nothing more: what no backup lists goes.
    Over,
    /// It may commit them, or another took them over.
    InUse,
    /// Nobody knows it: an alarm, not garbage.
    Unknown,
}

pub(super) async fn packs(
    deployment: &Deployment,
    options: &CollectOptions,
    live: &Live,
    writers: &Writers,
    done: &mut Collection,
) -> Result<Remaining> {
    let folder = layout::packs_folder(deployment.name());
    // Those of markers that came since the sessions were listed are not among them: others may adopt them.
    let committed = live.catalog.committed().map(|(_, stored)| stored.manifest.writer.id);
    let known: BTreeSet<WriterId> = committed
        .chain(live.released.values().copied())
        .chain(writers.given_up.iter().copied())
        .collect();
    let (mut remaining, mut batch) = (Remaining::new(), Vec::new());
    let mut current: Option<(WriterId, Verdict)> = None;
    let mut objects = Objects::under(deployment.store(), folder.clone());
    while let Some(object) = objects.next().await? {
        let Some(pack) = layout::pack_id(&folder, &object.key) else {
            done.problems.push(format!("{} is no pack", object.key));
            continue;
        };
        let verdict = match current {
            Some((writer, verdict)) if writer == pack.writer => verdict,
            _ => {
                let verdict = judge(deployment, &known, writers, pack.writer).await?;
                current = Some((pack.writer, verdict));
                if verdict == Verdict::Unknown {
                    let writer = pack.writer;
                    done.problems.push(format!(
                        "the packs of writer {writer} belong to no session and no backup: they are left alone"
                    ));
                }
                verdict
            }
        };
        let unlisted = live.packs.as_ref().is_some_and(|listed| !listed.contains(&pack));
        if verdict == Verdict::Over && unlisted {
            done.packs.add(object.size);
            batch.push(object.key);
        } else {
            if verdict == Verdict::Over && live.packs.is_some() && !live.packs_later.contains(&pack) {
                done.packs_later.add(object.size);
            }
            remaining.insert(pack.writer);
        }
        if batch.len() >= BATCH {
            forget(deployment, options, std::mem::take(&mut batch)).await?;
        }
    }
    forget(deployment, options, batch).await?;
    damage(deployment, options, live, done).await?;
    Ok(remaining)
}

/// The writers whose end is known without a session: of manifests, and of backups that are gone.
fn writers_of(catalog: &Catalog) -> impl Iterator<Item = WriterId> {
    let committed = catalog.committed().map(|(_, stored)| stored.manifest.writer.id);
    committed.chain(catalog.gone.values().map(|gone| gone.writer))
}

async fn judge(
    deployment: &Deployment,
    known: &BTreeSet<WriterId>,
    writers: &Writers,
    writer: WriterId,
) -> Result<Verdict> {
    Ok(if writers.open.contains(&writer) || writers.adopted.contains(&writer) {
        Verdict::InUse
    } else if known.contains(&writer) || writers.over.get(&writer).is_some_and(|(_, id)| id.is_none()) {
        Verdict::Over
    } else if writers.over.contains_key(&writer) {
        // Its void has no marker yet: it may be adopted.
        Verdict::InUse
    } else if Writers::came_since(deployment, writer).await? {
        Verdict::InUse
    } else if is_known_now(deployment, writer).await? {
        // Another collection is at work: it takes them.
        Verdict::InUse
    } else {
        Verdict::Unknown
    })
}

/// Whether the catalogue, as it is now, tells whose the packs are.
async fn is_known_now(deployment: &Deployment, writer: WriterId) -> Result<bool> {
    Ok(writers_of(&deployment.backups().await?).any(|known| known == writer))
}

async fn forget(deployment: &Deployment, options: &CollectOptions, packs: Vec<Key>) -> Result<()> {
    if options.apply {
        remove_all(deployment.store(), packs).await?;
    }
    Ok(())
}

/// Damage records of packs that are gone because nobody lists them. One that is gone though a backup needs it is hurt.
async fn damage(deployment: &Deployment, options: &CollectOptions, live: &Live, done: &mut Collection) -> Result<()> {
    let Some(listed) = &live.packs else { return Ok(()) };
    let mut keys = Vec::new();
    let damage = Damage::load(deployment).await?;
    for (pack, frame, _) in damage.iter().filter(|(pack, ..)| !listed.contains(pack)) {
        let key = layout::pack(deployment.name(), &pack.writer, pack.sequence);
        if deployment.store().head(&key).await?.is_none() {
            keys.push(layout::damage(deployment.name(), &pack.writer, pack.sequence, frame));
        }
    }
    done.small += keys.len() as u64;
    if options.apply {
        remove_all(deployment.store(), keys).await?;
    }
    Ok(())
}

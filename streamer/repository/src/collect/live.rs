//! Which backups count, and which packs they need.

use std::collections::{BTreeMap, HashSet};

use hardstorage_report::{BackupId, Result};

use super::purge::Purged;
use super::writers::Writers;
use super::{CollectOptions, Collection, Ids, Waits};
use crate::catalog::is_collected;
use crate::pack::fetch_root;
use crate::table::PackList;
use crate::writer::is_damage;
use crate::{Catalog, CatalogEntry, Content, Deployment, PackId, WriterId};

/// What counts.
#[derive(Debug)]
pub(super) struct Live {
    /// The catalogue after the sessions were listed.
    pub(super) catalog: Catalog,
    /// Backups whose packs stay.
    pub(super) backups: Ids,
    /// Backups that go now, and their writers.
    pub(super) released: BTreeMap<BackupId, WriterId>,
    /// The packs of those that stay; `None` when one of the lists cannot be read.
    pub(super) packs: Option<HashSet<PackId>>,
    /// The packs of those that stay when nothing waits any more.
    pub(super) packs_later: HashSet<PackId>,
}

impl Live {
    pub(super) async fn decide(
        deployment: &Deployment,
        options: &CollectOptions,
        catalog: Catalog,
        purged: &Purged,
        writers: &Writers,
        done: &mut Collection,
    ) -> Result<Live> {
        let now = deployment.store().clock().await?;
        let (mut backups, mut released) = (Ids::new(), BTreeMap::new());
        for entry in &catalog.entries {
            let id = &entry.backup_id;
            let writer = match &entry.content {
                Content::Void(_) | Content::Absent => continue,
                Content::Committed(manifest) => Some(manifest.manifest.writer.id),
                Content::Broken(_) => writers.of(id),
            };
            let Some(at) = purged.get(id) else {
                backups.insert(id.clone());
                continue;
            };
            let age = now.duration_since(*at);
            let waits = if writers.unknown || writers.pins.contains(id) {
                Some(Waits::Pinned)
            } else {
                (age.is_negative() || age.unsigned_abs() < options.reader_grace).then_some(Waits::Readers)
            };
            match (waits, writer) {
                (None, Some(writer)) => {
                    released.insert(id.clone(), writer);
                }
                (None, None) => {
                    let what = "is purged, but its manifest cannot be read and no session tells its writer: it stays";
                    done.problems.push(format!("backup {id} {what}"));
                    backups.insert(id.clone());
                }
                (Some(waits), _) => {
                    done.waiting.insert(id.clone(), waits);
                    backups.insert(id.clone());
                }
            }
        }
        let mut live = Live {
            catalog,
            backups,
            released,
            packs: None,
            packs_later: HashSet::new(),
        };
        live.read_lists(deployment, done).await?;
        // What a backup had that vanished meanwhile, others may have taken over since: the next collection sees it.
        if writers.unknown || live.catalog.vanished {
            live.packs = None;
        }
        Ok(live)
    }

    /// The backups that count, with what is known of them.
    pub(super) fn entries(&self) -> impl Iterator<Item = &CatalogEntry> {
        let entries = self.catalog.entries.iter();
        entries.filter(|entry| self.backups.contains(&entry.backup_id))
    }

    async fn read_lists(&mut self, deployment: &Deployment, done: &mut Collection) -> Result<()> {
        let (mut packs, mut later, mut whole) = (HashSet::new(), HashSet::new(), true);
        for entry in self.entries() {
            let list = match &entry.content {
                Content::Committed(stored) => list(deployment, &stored.manifest.pack_list).await,
                Content::Broken(_) => {
                    whole = false;
                    let id = &entry.backup_id;
                    done.problems.push(format!(
                        "the manifest of backup {id} cannot be read: no pack goes while nobody knows what it needs"
                    ));
                    continue;
                }
                Content::Void(_) | Content::Absent => continue,
            };
            match list {
                Ok(list) => {
                    let ids = list.packs.iter().map(|pack| pack.id);
                    let waits = done.waiting.get(&entry.backup_id);
                    if matches!(waits, None | Some(Waits::Held | Waits::LastWhole)) {
                        later.extend(ids.clone());
                    }
                    packs.extend(ids);
                }
                Err(error) if is_damage(&error) => {
                    whole = false;
                    let id = &entry.backup_id;
                    // Another collection may have taken it meanwhile: then this one leaves the packs to it.
                    if is_collected(deployment, id).await? {
                        continue;
                    }
                    done.problems.push(format!(
                        "backup {id}: {error}: no pack goes while nobody knows what it needs"
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        self.packs = whole.then_some(packs);
        self.packs_later = later;
        Ok(())
    }
}

async fn list(deployment: &Deployment, root: &crate::Root) -> Result<PackList> {
    PackList::decode(&fetch_root(deployment, root, "pack list").await?)
}

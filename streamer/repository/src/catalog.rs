//! The catalogue of a deployment: every backup with its manifest, its state and what is known to be bad in it. One
//! broken object spoils its own entry only, and says so there.

mod order;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::collections::BTreeMap;

use hardstorage_report::{BackupId, Error, Result, code};

use crate::listing::Objects;
use crate::manifest::{Manifest, StoredManifest, VerifiedManifest, VoidRecord, is_gone};
use crate::{BackupState, Damage, DamageRecord, Deployment, WriterId, layout};

const AT_ONCE: usize = 16;

/// What lies at a backup's name.
#[derive(Debug)]
pub enum Content {
    /// A committed backup.
    Committed(Box<VerifiedManifest>),
    /// A forbidden one.
    Void(Box<VoidRecord>),
    /// No manifest, only a state: a purge in progress.
    Absent,
    /// A manifest that cannot be believed.
    Broken(Error),
}

/// One backup.
#[derive(Debug)]
pub struct CatalogEntry {
    /// Its id.
    pub backup_id: BackupId,
    /// Its manifest.
    pub content: Content,
    /// Its state. When it cannot be read, the backup must be neither deleted nor purged.
    pub state: Result<BackupState>,
    /// Bad frames that a reader of this backup found.
    pub damage: Vec<DamageRecord>,
}

impl CatalogEntry {
    /// The manifest of a committed backup.
    pub fn manifest(&self) -> Option<&VerifiedManifest> {
        match &self.content {
            Content::Committed(manifest) => Some(manifest),
            _ => None,
        }
    }

    /// Whether it is committed and neither deleted nor purged. One whose state cannot be read counts: its content is
    /// there as far as anyone knows.
    pub fn is_usable(&self) -> bool {
        let alive = self
            .state
            .as_ref()
            .map_or(true, |state| state.deleted.is_none() && state.purged.is_none());
        self.manifest().is_some() && alive
    }
}

/// Every backup of a deployment, oldest first (by time, and by position where a clock was set back); those without a
/// readable manifest come first of all.
#[derive(Debug)]
pub struct Catalog {
    /// The backups.
    pub entries: Vec<CatalogEntry>,
    /// Folders below `manifests/` that are no backup's.
    pub strange: Vec<String>,
    /// What was collected. It is no entry, whatever still lies under its name.
    pub(crate) gone: BTreeMap<BackupId, Gone>,
    /// A backup was listed, and collected by the time it was read: nobody can tell any more what it had.
    pub(crate) vanished: bool,
}

/// What lies under the name of a backup that was collected.
#[derive(Debug)]
pub(crate) struct Gone {
    /// Its writer.
    pub(crate) writer: WriterId,
    /// A manifest or a void that is still, or again, there.
    pub(crate) has_manifest: bool,
    /// The highest number of its states; 0 when there is none.
    pub(crate) state: u32,
}

#[derive(Default)]
struct Seen {
    has_manifest: bool,
    state: u32,
    gone: Vec<WriterId>,
}

impl Seen {
    /// The one who wrote what is gone, if the backup is gone. Beside a manifest the marker itself is read: whoever can
    /// only write names must not be able to hide a backup.
    async fn gone(&self, deployment: &Deployment, id: &BackupId) -> Result<Option<WriterId>> {
        for writer in &self.gone {
            if !self.has_manifest {
                return Ok(Some(*writer));
            }
            match is_gone(deployment, id, *writer).await {
                Ok(true) => return Ok(Some(*writer)),
                Ok(false) => {}
                Err(error) => tracing::warn!(error = %keep(error)?, "a marker of a collected backup is not believed"),
            }
        }
        Ok(None)
    }
}

impl Catalog {
    /// Reads it: one listing, then manifests and states, a few at a time; meanwhile, what else they are judged by.
    pub async fn load(deployment: &Deployment) -> Result<Catalog> {
        // Who needs a signer asks for it, and hears why there is none.
        let (damage, read, _signers) = tokio::join!(
            Damage::load(deployment),
            Catalog::read(deployment),
            deployment.signers()
        );
        let (mut catalog, damage) = (read?, damage?);
        for entry in &mut catalog.entries {
            let hurt = damage.iter().filter_map(|(_, _, record)| record.as_ref().ok());
            let hurt = hurt.filter(|record| record.backup_id.as_ref() == Some(&entry.backup_id));
            entry.damage = hurt.cloned().collect();
        }
        Ok(catalog)
    }

    /// Without the damage.
    async fn read(deployment: &Deployment) -> Result<Catalog> {
        let folder = layout::manifests_folder(deployment.name());
        let mut backups = BTreeMap::<BackupId, Seen>::new();
        let mut strange = Vec::new();
        let mut objects = Objects::under(deployment.store(), folder.clone());
        while let Some(object) = objects.next().await? {
            let name = object.key.as_str().strip_prefix(&folder).unwrap_or_default();
            let parsed = name
                .split_once('/')
                .and_then(|(id, rest)| Some((id.parse::<BackupId>().ok()?, rest)));
            match parsed {
                Some((id, "manifest.json")) => backups.entry(id).or_default().has_manifest = true,
                Some((id, rest)) => {
                    if let Some(writer) = layout::gone_writer(rest) {
                        backups.entry(id).or_default().gone.push(writer);
                        continue;
                    }
                    let states = layout::state_folder(deployment.name(), &id);
                    match layout::numbered(&states, &object.key) {
                        Some(sequence) => {
                            let seen = backups.entry(id).or_default();
                            seen.state = seen.state.max(sequence);
                        }
                        None => strange.push(object.key.to_string()),
                    }
                }
                None => strange.push(object.key.to_string()),
            }
        }
        let mut gone = BTreeMap::new();
        for (id, seen) in backups.iter().filter(|(_, seen)| !seen.gone.is_empty()) {
            if let Some(writer) = seen.gone(deployment, id).await? {
                let (has_manifest, state) = (seen.has_manifest, seen.state);
                gone.insert(
                    id.clone(),
                    Gone {
                        writer,
                        has_manifest,
                        state,
                    },
                );
            }
        }
        backups.retain(|id, _| !gone.contains_key(id));
        let loads = backups.into_iter().map(|(id, seen)| load_entry(deployment, id, seen));
        let entries = stream::iter(loads).buffer_unordered(AT_ONCE);
        let entries: Vec<Option<CatalogEntry>> = entries.try_collect().await?;
        let vanished = entries.iter().any(Option::is_none);
        Ok(Catalog {
            entries: in_order(entries.into_iter().flatten().collect()),
            strange,
            gone,
            vanished,
        })
    }

    /// The newest usable backup.
    pub fn latest(&self) -> Option<&CatalogEntry> {
        self.entries.iter().rev().find(|entry| entry.is_usable())
    }

    /// Backups whose manifest cannot be read, and which are not older than this one by their names: nobody knows
    /// whether one of them is the newest.
    pub fn unreadable_after<'a>(&'a self, chosen: &'a BackupId) -> impl Iterator<Item = (&'a BackupId, &'a Error)> {
        let stamp = |id: &'a BackupId| id.as_str().rsplit('.').nth(1);
        self.entries.iter().filter_map(move |entry| match &entry.content {
            Content::Broken(error) if stamp(&entry.backup_id) >= stamp(chosen) => Some((&entry.backup_id, error)),
            _ => None,
        })
    }

    /// One backup.
    pub fn get(&self, id: &BackupId) -> Option<&CatalogEntry> {
        self.entries.iter().find(|entry| entry.backup_id == *id)
    }
}

fn in_order(mut entries: Vec<CatalogEntry>) -> Vec<CatalogEntry> {
    let backups: Vec<_> = entries
        .iter()
        .map(|entry| (&entry.backup_id, entry.manifest().map(|stored| &stored.manifest)))
        .collect();
    let mut order: Vec<_> = order::ages(&backups)
        .into_iter()
        .map(|(age, id)| (age, id.clone()))
        .collect();
    order.sort();
    let places: BTreeMap<BackupId, usize> = order.into_iter().zip(0..).map(|((_, id), place)| (id, place)).collect();
    entries.sort_by_key(|entry| places.get(&entry.backup_id).copied());
    entries
}

impl Deployment {
    /// Every backup, oldest first.
    pub async fn backups(&self) -> Result<Catalog> {
        Catalog::load(self).await
    }
}

// A store that fails ends the whole; an object that is broken ends only in its own entry.
fn keep(error: Error) -> Result<Error> {
    let own = [
        code::repository::MANIFEST_CORRUPT,
        code::repository::OBJECT_CORRUPT,
        code::repository::SIGNER_UNKNOWN,
        code::repository::NEWER_FORMAT,
        code::storage::CORRUPT,
    ];
    if own.iter().any(|code| error.is(*code)) {
        Ok(error)
    } else {
        Err(error)
    }
}

/// `None` when the backup was collected while we looked.
async fn load_entry(deployment: &Deployment, id: BackupId, seen: Seen) -> Result<Option<CatalogEntry>> {
    let content = if seen.has_manifest {
        match Manifest::load(deployment, &id).await {
            Ok(StoredManifest::Committed(manifest)) => Content::Committed(manifest),
            Ok(StoredManifest::Void(record)) => Content::Void(record),
            Ok(StoredManifest::Absent) => return Ok(None),
            Err(error) => Content::Broken(keep(error)?),
        }
    } else {
        Content::Absent
    };
    let state = match seen.state {
        0 => Ok(BackupState::default()),
        sequence => match BackupState::load_at(deployment, &id, sequence).await {
            Err(error) if is_collected(deployment, &id).await? => {
                tracing::debug!(%error, "the backup was collected while its state was read");
                return Ok(None);
            }
            Err(error) => Err(keep(error)?),
            state => state,
        },
    };
    Ok(Some(CatalogEntry {
        backup_id: id,
        content,
        state,
        damage: Vec::new(),
    }))
}

/// Whether a marker says that a backup was collected, or nothing is left of it at all.
pub(crate) async fn is_collected(deployment: &Deployment, id: &BackupId) -> Result<bool> {
    let folder = format!("{}{id}/", layout::manifests_folder(deployment.name()));
    let mut objects = Objects::under(deployment.store(), folder.clone());
    let mut left = false;
    while let Some(object) = objects.next().await? {
        left = true;
        let rest = object.key.as_str().strip_prefix(&folder).unwrap_or_default();
        if let Some(writer) = layout::gone_writer(rest)
            && is_gone(deployment, id, writer).await?
        {
            return Ok(true);
        }
    }
    Ok(!left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{samples, void_backup};
    use crate::{Action, PackId, WriterId};
    use hardstorage_codec::{Secret, SigningKey};
    use hardstorage_storage::{Call, DynStore, Fault, FaultStore, Key, MemoryStore, Store as _};
    use std::sync::Arc;

    fn id(number: u16) -> BackupId {
        format!("db1.full.20260625T083040Z.{number:04x}").parse().unwrap()
    }

    #[tokio::test]
    async fn one_broken_object_spoils_its_own_entry_only() {
        let memory = Arc::new(MemoryStore::new().with_page(4));
        let faults = Arc::new(FaultStore::new(memory.clone()));
        let deployment = Deployment::for_tests(faults.clone() as DynStore, "db1");
        assert!(deployment.backups().await.unwrap().latest().is_none());
        let key = SigningKey::new(&Secret::new([6; 32]));
        deployment.register_signer(&key.public()).await.unwrap();
        // Committed in another order than they were taken.
        for (number, second) in [(1, 500), (2, 400), (3, 300), (4, 200), (5, 100)] {
            let manifest = samples::of(&deployment, &key, id(number).as_str(), second);
            manifest.commit(&deployment, &key, []).await.unwrap();
        }
        void_backup(&deployment, &id(6), "test").await.unwrap();
        let delete = || Action::Delete { reason: "old".into() };
        BackupState::change(&deployment, &id(1), delete()).await.unwrap();
        BackupState::change(&deployment, &id(4), Action::Hold { reason: "x".into() })
            .await
            .unwrap();
        memory.corrupt(&layout::manifest(deployment.name(), &id(2)), |bytes| bytes[300] ^= 1);
        memory.corrupt(&layout::state(deployment.name(), &id(4), 1), |bytes| bytes[100] ^= 1);
        for number in [7, 8] {
            BackupState::change(&deployment, &id(number), delete()).await.unwrap();
        }
        memory
            .put_new(&Key::new("manifests/db1/strange/x").unwrap(), bytes::Bytes::new())
            .await
            .unwrap();
        let pack = PackId {
            writer: WriterId::new([1; 16]),
            sequence: 1,
        };
        Damage::record(&deployment, pack, 3, "hash", Some(&id(3)))
            .await
            .unwrap();

        let catalog = deployment.backups().await.unwrap();
        assert_eq!(catalog.entries.len(), 8);
        assert_eq!(catalog.strange, ["manifests/db1/strange/x"]);
        assert_eq!(catalog.latest().unwrap().backup_id, id(3), "1 is deleted, 2 is broken");
        let entry = |number| catalog.get(&id(number)).unwrap();
        assert!(matches!(&entry(2).content, Content::Broken(error) if error.is(code::repository::MANIFEST_CORRUPT)));
        assert!(entry(4).state.is_err() && entry(4).is_usable());
        assert!(entry(1).manifest().is_some() && !entry(1).is_usable());
        assert!(matches!(entry(6).content, Content::Void(_)) && matches!(entry(7).content, Content::Absent));
        assert_eq!(entry(3).damage.len(), 1);
        assert!(entry(5).damage.is_empty());

        // A store that fails is no broken backup.
        let down = Error::new(code::storage::UNREACHABLE, "down");
        faults.on(Call::Get, faults.count(Call::Get) + 4, Fault::FailBefore(down));
        assert!(deployment.backups().await.unwrap_err().is(code::storage::UNREACHABLE));
        assert!(faults.most_at_once() <= AT_ONCE);
    }

    #[tokio::test]
    async fn a_backup_by_an_unknown_signer_is_broken() {
        let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
        let key = SigningKey::new(&Secret::new([6; 32]));
        deployment.register_signer(&key.public()).await.unwrap();
        samples::of(&deployment, &key, id(1).as_str(), 0)
            .commit(&deployment, &key, [])
            .await
            .unwrap();
        let signer = layout::signer(deployment.name(), &hardstorage_codec::fingerprint(&key.public()));
        deployment.store().delete(&signer).await.unwrap();
        let catalog = deployment.twin().backups().await.unwrap();
        let Content::Broken(error) = &catalog.entries[0].content else {
            panic!("{catalog:?}")
        };
        assert!(error.is(code::repository::SIGNER_UNKNOWN));
    }
}

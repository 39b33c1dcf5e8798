//! What lies under a name, and the names that are due.

use hardstorage_report::{BackupId, DeploymentName, Result};
use hardstorage_storage::{DynStore, Key, ObjectMeta};

use super::round::{END, place};
use crate::listing::Objects;
use crate::wal::NamedWal;
use crate::{EnvelopeKind, PackId, layout};

/// So many names are held at once.
const HELD: usize = 100_000;

/// What an object is, by its name.
#[derive(Debug, Clone)]
pub(super) enum Class {
    Pack(PackId),
    Wal(NamedWal),
    /// A manifest or a void.
    Manifest(BackupId),
    Envelope(EnvelopeKind),
    /// An anchor of another repository.
    ForeignAnchor,
    Strange,
}

impl Class {
    pub(super) fn of(name: &DeploymentName, key: &Key) -> Class {
        Self::known(name, key).unwrap_or(Class::Strange)
    }

    fn known(name: &DeploymentName, key: &Key) -> Option<Class> {
        let (folder, _) = key.as_str().split_once('/').unwrap_or((key.as_str(), ""));
        let envelope = |kind, named: bool| named.then_some(Class::Envelope(kind));
        match folder {
            "HARDSTORAGE" => envelope(EnvelopeKind::Descriptor, *key == layout::descriptor()),
            "config" => envelope(
                EnvelopeKind::Config,
                layout::numbered(layout::CONFIG_FOLDER, key).is_some(),
            ),
            "anchors" => Some(Class::ForeignAnchor),
            "packs" => layout::pack_id(&layout::packs_folder(name), key).map(Class::Pack),
            "wal" => wal(name, key),
            "manifests" => manifest(name, key),
            "sessions" if layout::progress_object(&layout::sessions_folder(name), key).is_some() => {
                envelope(EnvelopeKind::Progress, true)
            }
            "sessions" => {
                let named = layout::session_object(&layout::sessions_folder(name), key).is_some();
                envelope(EnvelopeKind::Session, named)
            }
            "damage" => {
                let named = layout::damaged_frame(&layout::damage_folder(name), key).is_some();
                envelope(EnvelopeKind::Damage, named)
            }
            "audit" if key.as_str().starts_with(&layout::receipts_folder(name)) => envelope(EnvelopeKind::Anchor, true),
            "audit" => {
                let named = layout::audit_object(&layout::audit_folder(name), key).is_some();
                envelope(EnvelopeKind::Audit, named)
            }
            "keys" => envelope(EnvelopeKind::Key, true),
            "signers" => envelope(EnvelopeKind::Signer, true),
            "scrub" => envelope(
                EnvelopeKind::Scrub,
                layout::numbered(&layout::scrub_folder(name), key).is_some(),
            ),
            _ => None,
        }
    }
}

fn wal(name: &DeploymentName, key: &Key) -> Option<Class> {
    if let Some(named) = NamedWal::of(name, key) {
        return Some(Class::Wal(named));
    }
    let mut parts = key.as_str().strip_prefix(&layout::wal_folder(name))?.split('/');
    let kind = match parts.nth(1)? {
        "timelines" => EnvelopeKind::History,
        "aux" if key.as_str().ends_with(".backup") => EnvelopeKind::Aux,
        "gaps" => EnvelopeKind::Gap,
        _ => return None,
    };
    Some(Class::Envelope(kind))
}

fn manifest(name: &DeploymentName, key: &Key) -> Option<Class> {
    let (id, rest) = key
        .as_str()
        .strip_prefix(&layout::manifests_folder(name))?
        .split_once('/')?;
    let id: BackupId = id.parse().ok()?;
    if rest == "manifest.json" {
        return Some(Class::Manifest(id));
    }
    if layout::gone_writer(rest).is_some() {
        return Some(Class::Envelope(EnvelopeKind::Gone));
    }
    layout::numbered(&layout::state_folder(name, &id), key)?;
    Some(Class::Envelope(EnvelopeKind::State))
}

/// The folders of what belongs to no deployment, but for the descriptor.
pub(super) const SHARED: [&str; 2] = [layout::CONFIG_FOLDER, "anchors/"];

/// The folders of a deployment, those first that the others are read by.
pub(super) fn folders(name: &DeploymentName) -> [String; 9] {
    [
        layout::keys_folder(name),
        layout::signers_folder(name),
        layout::manifests_folder(name),
        layout::sessions_folder(name),
        layout::damage_folder(name),
        layout::audit_folder(name),
        layout::scrub_folder(name),
        layout::wal_folder(name),
        layout::packs_folder(name),
    ]
}

/// What belongs to no deployment: a few small objects, read each time.
pub(super) async fn shared(store: &DynStore) -> Result<Vec<ObjectMeta>> {
    let mut found = Vec::new();
    found.extend(store.head(&layout::descriptor()).await?);
    for folder in SHARED {
        found.extend(Objects::under(store, folder).all().await?);
    }
    Ok(found)
}

/// The objects of a deployment whose places lie in a range, by their places, and the place to which all of them are
/// there: the end of the range, unless they are too many to be held.
pub(super) async fn upcoming(
    store: &DynStore,
    name: &DeploymentName,
    from: u64,
    to: u64,
) -> Result<(Vec<(u64, ObjectMeta)>, u64)> {
    let mut found = Vec::new();
    let mut reached = to.min(END);
    for folder in folders(name) {
        let mut objects = Objects::under(store, folder);
        while let Some(object) = objects.next().await? {
            let place = place(&object.key);
            if place >= from && place < reached {
                found.push((place, object));
            }
            if found.len() >= 2 * HELD {
                reached = keep_lowest(&mut found, HELD).unwrap_or(reached);
            }
        }
    }
    found.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.key.as_str().cmp(y.key.as_str())));
    Ok((found, reached))
}

/// Keeps about `count`, those with the lowest places; the place from which on they went. None of one place goes without
/// the others of it, and never all.
fn keep_lowest(found: &mut Vec<(u64, ObjectMeta)>, count: usize) -> Option<u64> {
    found.sort_unstable_by_key(|(place, _)| *place);
    let lowest = found.first()?.0;
    let bound = found.get(count)?.0.max(lowest + 1);
    found.retain(|(place, _)| *place < bound);
    Some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hardstorage_storage::{MemoryStore, Store as _};
    use std::sync::Arc;

    #[tokio::test]
    async fn in_turn_and_all_of_them() {
        let memory = Arc::new(MemoryStore::new().with_page(7));
        let name: DeploymentName = "db1".parse().unwrap();
        for number in 0..60u8 {
            let key = layout::session(&name, &crate::WriterId::new([number; 16]), 0);
            memory.put_new(&key, vec![number].into()).await.unwrap();
        }
        let other = layout::session(&"db2".parse().unwrap(), &crate::WriterId::new([0; 16]), 0);
        memory.put_new(&other, vec![1].into()).await.unwrap();
        let store: DynStore = memory;
        let (all, reached) = upcoming(&store, &name, 0, END).await.unwrap();
        assert_eq!((all.len(), reached), (60, END));
        assert!(all.is_sorted_by_key(|(place, _)| *place));
        let middle = all[30].0;
        let (first, _) = upcoming(&store, &name, 0, middle).await.unwrap();
        let (second, _) = upcoming(&store, &name, middle, END).await.unwrap();
        assert_eq!((first.len(), second.len()), (30, 30));
    }

    #[test]
    fn of_too_many_the_lowest_stay() {
        let object = |text: &str| ObjectMeta {
            key: Key::new(text).unwrap(),
            size: 1,
            modified: None,
        };
        let mut found: Vec<_> = [9, 3, 5, 5, 7].map(|place| (place, object("a"))).into();
        assert_eq!(keep_lowest(&mut found, 2), Some(5));
        assert_eq!(found.len(), 1);
        let mut same: Vec<_> = [4, 4, 4].map(|place| (place, object("a"))).into();
        assert_eq!(keep_lowest(&mut same, 1), Some(5));
        assert_eq!(same.len(), 3);
    }
}

//! Which packs of an earlier backup are gone, and which are so little used that the rest of them is stored anew.

use std::collections::{HashMap, HashSet};

use hardstorage_report::Result;

use crate::listing::Objects;
use crate::table::PackList;
use crate::{Deployment, PackId, PackKind, WriterId, layout};

/// The packs of the list that the store does not have, or has in another length.
pub(super) async fn missing_packs(deployment: &Deployment, list: &PackList) -> Result<HashSet<PackId>> {
    let mut missing: HashMap<PackId, u64> = list.packs.iter().map(|pack| (pack.id, pack.length)).collect();
    let folder = layout::packs_folder(deployment.name());
    let mut objects = Objects::under(deployment.store(), folder.clone());
    while let Some(object) = objects.next().await? {
        let name = object
            .key
            .as_str()
            .strip_prefix(&folder)
            .and_then(|name| name.split_once('/'));
        let Some((writer, sequence)) = name else { continue };
        let id = WriterId::from_hex(writer).zip(u32::from_str_radix(sequence, 16).ok());
        let Some((writer, sequence)) = id else { continue };
        let id = PackId { writer, sequence };
        if missing
            .get(&id)
            .is_some_and(|length| *length == object.size || *length == 0)
        {
            missing.remove(&id);
        }
    }
    for pack in missing.keys() {
        tracing::warn!(?pack, "a pack of the earlier backup is missing or has another length");
    }
    Ok(missing.into_keys().collect())
}

/// The packs with the least in use, below 30 %, and what is left of the budget for sparse frames. Together they bound
/// what is stored anew to half of what the ancestor had changed, or 1 % of all pages, whichever is more.
pub(super) fn sparse_packs(list: &PackList) -> (HashSet<PackId>, u64) {
    let mut chosen = HashSet::new();
    let mut budget = 0;
    for kind in [PackKind::Meta, PackKind::Data] {
        let packs = list.packs.iter().filter(|pack| pack.kind == kind && pack.length > 0);
        let all: u64 = packs.clone().map(|pack| pack.live).sum();
        budget = match kind {
            PackKind::Data => (list.changed_pages / 2).min(all / 4).max(all / 100),
            // Frames of metadata, not pages: they are few, and a stack that is written anew is one base again.
            PackKind::Meta => all / 10,
        };
        let mut sparse: Vec<_> = packs
            .filter(|pack| pack.live > 0 && pack.live * 10 < pack.total * 3)
            .collect();
        sparse.sort_by_key(|pack| (pack.live * 1000 / pack.total.max(1), pack.id));
        for pack in sparse {
            if pack.live > budget {
                break;
            }
            budget -= pack.live;
            chosen.insert(pack.id);
        }
    }
    (chosen, budget)
}

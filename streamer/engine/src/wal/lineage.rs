//! Which life of which cluster a stream or a backup belongs to.
//!
//! A deployment's name is given by a person and can be pointed at another server by mistake; its archive cannot. The
//! system identifier decides, on every connection: a new one is taken only by an explicit word.

use std::collections::BTreeSet;

use hardstorage_report::{Error, Result, SystemId, code};
use hardstorage_repository::{AuditAction, AuditEvent, Catalog, Deployment, Lineage, layout};
use hardstorage_storage::ListRequest;
use serde_json::json;

/// Every life that the deployment has WAL or backups of, in order.
pub async fn lineages(deployment: &Deployment) -> Result<BTreeSet<Lineage>> {
    Ok(lineages_and_backups(deployment).await?.0)
}

/// The same, with the backups that tell of them.
pub async fn lineages_and_backups(deployment: &Deployment) -> Result<(BTreeSet<Lineage>, Catalog)> {
    let (mut found, catalog) = tokio::try_join!(archived(deployment), deployment.backups())?;
    found.extend(
        catalog
            .entries
            .iter()
            .filter_map(|entry| entry.manifest().map(|stored| stored.manifest.lineage)),
    );
    Ok((found, catalog))
}

/// Every life that the deployment has WAL of.
async fn archived(deployment: &Deployment) -> Result<BTreeSet<Lineage>> {
    let folder = layout::wal_folder(deployment.name());
    let mut found = BTreeSet::new();
    let mut request = ListRequest::level(folder.clone());
    loop {
        let page = deployment.store().list(&request).await?;
        found.extend(
            page.folders
                .iter()
                .filter_map(|name| Lineage::from_folder(name.strip_prefix(&folder)?.strip_suffix('/')?)),
        );
        match page.next {
            Some(next) => request = request.after(next),
            None => break,
        }
    }
    Ok(found)
}

/// The life of a cluster that WAL comes from, which must be known unless nothing is. The manifests of all backups are
/// read only when there is no WAL of it: a backup stores its WAL before its manifest.
pub async fn lineage_of(deployment: &Deployment, system_id: SystemId) -> Result<Lineage> {
    let known = archived(deployment).await?;
    if let Some(ours) = known.into_iter().rfind(|lineage| lineage.system_id == system_id) {
        return Ok(ours);
    }
    choose_lineage(&lineages(deployment).await?, system_id, false)
}

/// The life to go on with: the newest of this cluster. A deployment that knows only other clusters refuses, unless the
/// new one is accepted.
pub fn choose_lineage(known: &BTreeSet<Lineage>, system_id: SystemId, accept_new: bool) -> Result<Lineage> {
    if let Some(ours) = known.iter().rfind(|lineage| lineage.system_id == system_id) {
        return Ok(*ours);
    }
    let first = Lineage {
        system_id,
        incarnation: 1,
    };
    match known.iter().next_back() {
        None => Ok(first),
        Some(_) if accept_new => Ok(first),
        Some(other) => Err(Error::new(
            code::repository::SYSTEM_MISMATCH,
            format!(
                "the server is the cluster {system_id}, the repository has {} under this name",
                other.system_id
            ),
        )),
    }
}

/// Whether this life was chosen although the deployment knows only other clusters.
pub fn is_another_cluster(known: &BTreeSet<Lineage>, chosen: Lineage) -> bool {
    !known.is_empty() && known.iter().all(|lineage| lineage.system_id != chosen.system_id)
}

/// That another cluster than before was taken, for the audit chain.
pub fn system_accepted(chosen: Lineage, run_id: Option<String>) -> AuditEvent {
    AuditEvent::new(AuditAction::SystemAccepted, run_id)
        .body(json!({"system_id": chosen.system_id, "incarnation": chosen.incarnation}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(id: u64, incarnation: u16) -> Lineage {
        Lineage {
            system_id: SystemId(id),
            incarnation,
        }
    }

    #[test]
    fn another_cluster_is_taken_only_by_an_explicit_word() {
        let known = BTreeSet::from([lineage(7, 1), lineage(7, 2), lineage(9, 1)]);
        assert_eq!(choose_lineage(&known, SystemId(7), false).unwrap(), lineage(7, 2));
        let refused = choose_lineage(&known, SystemId(8), false).unwrap_err();
        assert!(refused.is(code::repository::SYSTEM_MISMATCH));
        assert_eq!(choose_lineage(&known, SystemId(8), true).unwrap(), lineage(8, 1));
        assert!(is_another_cluster(&known, lineage(8, 1)) && !is_another_cluster(&known, lineage(9, 1)));
        assert!(!is_another_cluster(&BTreeSet::new(), lineage(8, 1)));
        assert_eq!(
            choose_lineage(&BTreeSet::new(), SystemId(8), false).unwrap(),
            lineage(8, 1)
        );
    }
}

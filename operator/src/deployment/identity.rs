//! What a Deployment is called: in the repository, at the server, and on its children. Pure.

use std::collections::BTreeMap;

use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};

use crate::names::{self, Role, label};

/// The longest name of a slot.
const SLOT_LIMIT: usize = 63;

/// The name in the repository that the user chose, or the one that follows from namespace and name. Further lineages have
/// it as their beginning.
pub fn name(deployment: &ProtectedDeployment) -> String {
    match deployment.spec.name_in_repository.as_deref() {
        Some(chosen) if !chosen.is_empty() => chosen.to_owned(),
        _ => names::name_in_repository(&deployment.namespace().unwrap_or_default(), &deployment.name_any()),
    }
}

/// The name of a cluster that took the place of another one.
pub fn lineage_name(base: &str, system_identifier: &str) -> String {
    format!("{base}.{system_identifier}")
}

/// The name in the repository of the cluster that is protected now: streams and backups go there.
pub fn current_name(deployment: &ProtectedDeployment) -> String {
    let base = name(deployment);
    let lineages = deployment.status.as_ref().map(|status| status.lineages.as_slice());
    lineages
        .unwrap_or_default()
        .iter()
        .find(|lineage| lineage.current && belongs(&lineage.name, &base))
        .map_or(base, |lineage| lineage.name.clone())
}

/// Every name in the repository under which backups of this object may lie, without any twice.
pub fn all_names(deployment: &ProtectedDeployment) -> Vec<String> {
    let mut all = vec![name(deployment)];
    let lineages = deployment.status.as_ref().map(|status| status.lineages.as_slice());
    for lineage in lineages.unwrap_or_default() {
        if !all.contains(&lineage.name) {
            all.push(lineage.name.clone());
        }
    }
    all
}

/// Whether a name is that of this object, or of one of its lineages.
pub fn belongs(name: &str, base: &str) -> bool {
    name == base
        || name
            .strip_prefix(base)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
}

/// The replication slot: the user's, or one that no other namespace and name has. It does not follow the name in the
/// repository, which may be chosen later: the slot of before would hold back the server's WAL for ever.
pub fn slot(deployment: &ProtectedDeployment) -> String {
    let chosen = deployment
        .spec
        .stream
        .as_ref()
        .and_then(|stream| stream.slot_name.clone());
    chosen.filter(|slot| !slot.is_empty()).unwrap_or_else(|| {
        let full = names::name_in_repository(&deployment.namespace().unwrap_or_default(), &deployment.name_any());
        let hash = names::short_hash(&full);
        let plain: String = full
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let room = SLOT_LIMIT - "pg_hardstorage__".len() - hash.len();
        let cut: String = plain.chars().take(room).collect();
        format!("pg_hardstorage_{cut}_{hash}")
    })
}

/// Children go with the object; none of them holds data or keys.
pub fn owner(deployment: &ProtectedDeployment) -> Option<OwnerReference> {
    deployment.controller_owner_ref(&())
}

/// The labels of a child: our own, never the parent's.
pub fn labels(deployment: &ProtectedDeployment, role: Role) -> BTreeMap<String, String> {
    let mut labels = names::own_labels(role);
    labels.insert(label::DEPLOYMENT.to_owned(), deployment.name_any());
    labels.insert(
        label::REPOSITORY.to_owned(),
        deployment.spec.repository_ref.name.clone(),
    );
    labels
}

/// The ConfigMap with what is known of the source, kept with each backup.
pub fn snapshot_name(name: &str) -> String {
    format!("{name}-source")
}

/// The Service that leads to the leader of a Patroni cluster.
pub fn leader_service(name: &str) -> String {
    // Of all names that of a Service alone has to begin with a letter.
    let before = if name.starts_with(|c: char| c.is_ascii_digit()) {
        "pg-"
    } else {
        ""
    };
    format!("{before}{name}-leader")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::super::samples::deployment;
    use super::*;
    use hardstorage_crds::Lineage;

    #[test]
    fn names_follow_from_namespace_and_name() {
        let mut object = deployment("team-a", "orders");
        assert_eq!(name(&object), "team-a.orders");
        object.spec.name_in_repository = Some(String::new());
        assert_eq!(name(&object), "team-a.orders");
        object.spec.name_in_repository = Some("shop".into());
        assert_eq!((name(&object), current_name(&object)), ("shop".into(), "shop".into()));
    }

    #[test]
    fn a_new_lineage_has_a_name_of_its_own() {
        let mut object = deployment("team-a", "orders");
        let lineage = |name: &str, current| Lineage {
            name: name.into(),
            system_identifier: "7".into(),
            current,
        };
        object.status.get_or_insert_default().lineages =
            vec![lineage("team-a.orders", false), lineage("team-a.orders.7", true)];
        assert_eq!(current_name(&object), "team-a.orders.7");
        assert_eq!(all_names(&object), ["team-a.orders", "team-a.orders.7"]);
        // Another name was chosen since: what was before is still its own, but no longer current.
        object.spec.name_in_repository = Some("shop".into());
        assert_eq!(current_name(&object), "shop");
        assert_eq!(all_names(&object), ["shop", "team-a.orders", "team-a.orders.7"]);
        assert!(belongs("shop.77", "shop") && !belongs("shop.eu", "shop") && !belongs("shop2", "shop"));
    }

    #[test]
    fn slots_fit_and_differ() {
        let object = deployment("team-a", "orders");
        let slot_name = slot(&object);
        assert!(slot_name.starts_with("pg_hardstorage_team_a_orders_"), "{slot_name}");
        assert_ne!(slot_name, slot(&deployment("team", "a-orders")));
        let long = slot(&deployment(&"n".repeat(63), &"d".repeat(45)));
        assert!(long.len() <= 63, "{long}");
        let mut chosen = deployment("team-a", "orders");
        chosen.spec.stream.get_or_insert_default().slot_name = Some("mine".into());
        assert_eq!(slot(&chosen), "mine");
    }

    #[test]
    fn a_service_begins_with_a_letter_and_fits() {
        assert_eq!(leader_service("orders"), "orders-leader");
        assert_eq!(leader_service("1st"), "pg-1st-leader");
        assert!(leader_service(&"7".repeat(45)).len() <= 63);
    }

    #[test]
    fn labels_of_the_parent_reach_no_child() {
        let mut object = deployment("team-a", "orders");
        object.metadata.labels = Some(BTreeMap::from([("argocd.argoproj.io/instance".into(), "app".into())]));
        let labels = labels(&object, Role::Stream);
        assert!(
            labels
                .keys()
                .all(|key| key.starts_with("hardstorage.dev/") || key.starts_with("app.kubernetes.io/")),
            "{labels:?}"
        );
        assert_ne!(labels["app.kubernetes.io/managed-by"], "Helm");
    }
}

//! Restores of other namespaces: while one runs, its namespace needs what the Repository shares, though nothing streams from
//! there. It gets nothing for a name that it may not read, and keeps nothing when the restore is over.

use std::collections::BTreeSet;

use crate::guarded::Guarded;
use hardstorage_crds::{NamespacesFrom, Repository, RepositoryRef, Restore};
use kube::ResourceExt as _;
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;

use super::access::may_read;
use crate::context::Context;
use crate::controllers;
use crate::error::Result;
use crate::restore::is_over;

/// The Repository of another namespace that a Restore reads by its name.
fn elsewhere(restore: &Restore) -> Option<(String, &RepositoryRef, &str)> {
    let wanted = restore.spec.source.repository.as_ref()?;
    let home = wanted.reference.namespace.as_ref()?;
    let namespace = restore.namespace()?;
    (*home != namespace).then_some((namespace, &wanted.reference, wanted.name.as_str()))
}

fn ended(restore: &Restore) -> bool {
    restore.metadata.deletion_timestamp.is_some() || restore.status.as_ref().is_some_and(is_over)
}

/// Other namespaces in which something that they may read is being restored.
pub async fn restoring(context: &Context, repository: &Repository) -> Result<BTreeSet<String>> {
    let allowed = repository.spec.allowed_namespaces.as_ref();
    if allowed.is_none_or(|allowed| allowed.from == NamespacesFrom::Same) {
        return Ok(BTreeSet::new());
    }
    let api = controllers::api::<Guarded<Restore>>(context);
    let list = api.list(&ListParams::default()).await?;
    let readable = list.items.iter().filter_map(|guard| guard.0.as_ref().ok());
    let readers = readable.filter(|restore| !ended(restore)).filter_map(|restore| {
        let (namespace, reference, name) = elsewhere(restore)?;
        let is_this = reference.name == repository.name_any() && reference.namespace == repository.namespace();
        (is_this && may_read(repository, &namespace, name)).then_some(namespace)
    });
    Ok(readers.collect())
}

/// The Repository that has to look when a Restore of another namespace begins or is over; how far it is, is no news.
pub fn of_restore(guard: &Guarded<Restore>) -> Option<ObjectRef<Guarded<Repository>>> {
    let restore = guard.0.as_ref().ok()?;
    let (_, reference, _) = elsewhere(restore)?;
    let planned = restore.status.as_ref().is_some_and(|status| status.plan.is_some());
    if planned && !ended(restore) {
        return None;
    }
    Some(ObjectRef::new(&reference.name).within(reference.namespace.as_deref()?))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::needless_pass_by_value,
        reason = "test code"
    )]
    use super::*;
    use crate::remembering::Server;
    use crate::scripted::Answers;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    fn restore(namespace: &str, name: &str, status: Value) -> Value {
        json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Restore",
            "metadata": {"name": "back", "namespace": namespace},
            "spec": {"source": {"repository": {"ref": {"name": "main", "namespace": "backups"}, "name": name}},
                "destination": {"persistentVolumeClaim": {"name": "pg"}}},
            "status": status})
    }

    #[tokio::test]
    async fn who_restores_what_it_may_read_is_served_until_it_is_over() {
        let repository: Repository = serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1",
            "kind": "Repository", "metadata": {"name": "main", "namespace": "backups"},
            "spec": {"url": "s3://b/p", "allowedNamespaces": {"from": "All"}, "grants": [{"namespace": "granted", "deployments": ["shop.orders"], "verbs": ["read"]}]}}))
        .unwrap();
        let running = json!({"phase": "Copying"});
        let all = [
            ("own", restore("own", "own.orders", Value::Null)),
            ("granted", restore("granted", "shop.orders", running.clone())),
            ("stranger", restore("stranger", "shop.orders", running.clone())),
            ("over", restore("over", "over.orders", json!({"phase": "Completed"}))),
            ("backups", restore("backups", "shop.orders", running)),
        ];
        let server = Server::new(vec![], Timestamp::UNIX_EPOCH);
        for (namespace, object) in all {
            let path = format!("/apis/hardstorage.dev/v1alpha1/namespaces/{namespace}/hsrestores/back");
            server.put(&path, object);
        }
        let found = restoring(&server.context(Answers::default()), &repository)
            .await
            .unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["granted", "own"]);
    }

    #[test]
    fn only_its_beginning_and_its_end_are_news() {
        let wakes = |status: Value| {
            let object: Restore = serde_json::from_value(restore("own", "own.orders", status)).unwrap();
            of_restore(&Guarded(Ok(object))).is_some()
        };
        assert!(wakes(Value::Null) && wakes(json!({"phase": "Pending"})));
        assert!(!wakes(json!({"phase": "Copying", "plan": {}})));
        assert!(wakes(json!({"phase": "Completed", "plan": {}})));
    }
}

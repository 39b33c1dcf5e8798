//! What wakes a Deployment: its children, and its Repository when that changes in what a look goes by. That its catalogue was
//! read once more is no such thing: a thousand streams would be looked at for it.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::ready;
use futures::{Stream, TryStreamExt as _};
use hardstorage_crds::{ProtectedDeployment, Repository};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Controller, WatchStreamExt as _};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::fetch::Shared;
use crate::controllers::ours;
use crate::guarded::Guarded;

type Watched = Guarded<ProtectedDeployment>;

/// Adds the children of a kind.
pub fn by_children<K>(
    controller: Controller<Watched>,
    api: Api<PartialObjectMeta<K>>,
    shared: &Arc<Shared>,
) -> Controller<Watched>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    let shared = shared.clone();
    let children = watcher(api, ours()).touched_objects();
    controller.owns_stream(children.inspect_ok(move |child: &PartialObjectMeta<K>| {
        for owner in child.owner_references() {
            shared.memory.wake(&owner.uid);
        }
    }))
}

/// Adds the Repositories.
pub fn by_repositories(
    controller: Controller<Watched>,
    api: Api<Guarded<Repository>>,
    shared: &Arc<Shared>,
) -> Controller<Watched> {
    let shared = shared.clone();
    let news = news(watcher(api, watcher::Config::default()));
    controller.watches_stream(news, move |repository| {
        let users = users(&repository, &shared.all);
        users
            .into_iter()
            .map(|(uid, reference)| {
                shared.memory.wake(&uid);
                reference
            })
            .collect::<Vec<_>>()
    })
}

/// Repositories that have changed, or are gone.
fn news(
    events: impl Stream<Item = watcher::Result<Event<Guarded<Repository>>>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<Guarded<Repository>>> + Send + 'static {
    let mut seen: HashMap<Option<String>, String> = HashMap::new();
    events.try_filter_map(move |event| {
        ready(Ok(match event {
            Event::Apply(repository) | Event::InitApply(repository) => {
                let is = what_matters(&repository);
                let before = seen.insert(repository.uid(), is.clone());
                (before != Some(is)).then_some(repository)
            }
            Event::Delete(repository) => {
                seen.remove(&repository.uid());
                Some(repository)
            }
            // What went while nobody watched is found at the next whole look.
            Event::Init | Event::InitDone => None,
        }))
    })
}

/// Its spec, by the generation; what is known of the store; and what is wrong with it.
fn what_matters(repository: &Guarded<Repository>) -> String {
    let status = repository.0.as_ref().ok().and_then(|object| object.status.as_ref());
    let conditions: Vec<_> = status
        .iter()
        .flat_map(|status| &status.conditions)
        .map(|one| (&one.type_, &one.status, &one.reason))
        .collect();
    let metadata = repository.meta();
    let going = metadata.deletion_timestamp.is_some();
    let store = status.map(|status| (&status.repository_id, &status.kek_fingerprint));
    format!("{:?}", (metadata.generation, going, store, conditions))
}

/// The Deployments that use it, with their UIDs.
fn users(repository: &Guarded<Repository>, all: &Store<Watched>) -> Vec<(String, ObjectRef<Watched>)> {
    let (namespace, name) = (repository.namespace(), repository.name_any());
    let uses = |guard: &Watched| {
        guard.0.as_ref().is_ok_and(|deployment| {
            let reference = &deployment.spec.repository_ref;
            reference.name == name && reference.namespace.clone().or_else(|| deployment.namespace()) == namespace
        })
    };
    let all = all.state();
    let found = all.iter().filter(|guard| uses(guard));
    found
        .filter_map(|guard| Some((guard.uid()?, ObjectRef::from_obj(&**guard))))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use futures::StreamExt as _;
    use serde_json::{Value, json};

    fn repository(generation: i64, status: &Value) -> Guarded<Repository> {
        serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
            "metadata": {"name": "main", "namespace": "team", "uid": "r", "generation": generation},
            "spec": {"url": "s3://b/p"}, "status": status}))
        .unwrap()
    }

    #[tokio::test]
    async fn only_what_a_look_goes_by_is_news() {
        let reachable = |status: &str, time: &str| {
            json!({"repositoryID": "01", "lastSyncTime": time, "conditions": [{"type": "Reachable", "status": status,
                "reason": "Good", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        let good = reachable("True", "2026-01-01T00:00:00Z");
        let read_again = reachable("True", "2026-01-01T01:00:00Z");
        let bad = reachable("False", "2026-01-01T01:00:00Z");
        let events = [
            (Event::InitApply(repository(1, &good)), true),
            (Event::Apply(repository(1, &read_again)), false),
            (Event::Apply(repository(1, &bad)), true),
            (Event::Apply(repository(2, &bad)), true),
            (Event::Apply(repository(2, &bad)), false),
            (Event::Delete(repository(2, &bad)), true),
            (Event::Apply(repository(2, &bad)), true),
        ];
        for number in 1..=events.len() {
            let told = |number: usize| {
                let events: Vec<_> = events[..number].iter().map(|(event, _)| Ok(event.clone())).collect();
                news(futures::stream::iter(events)).count()
            };
            let wanted = events[..number].iter().filter(|(_, is_news)| *is_news).count();
            assert_eq!(told(number).await, wanted, "{number}");
        }
    }
}

//! The pod that streams for one of our Deployments: believed only when the chain of its controllers, by UID, ends there.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use crate::context::Context;
use crate::error::Result;
use crate::job::PodFacts;
use crate::names::{Role, label};

/// The newest pod of a streamer that is not on its way out.
pub async fn stream_pod(context: &Context, streamer: &Deployment, owner: &str) -> Result<Option<PodFacts>> {
    let (Some(namespace), Some(uid)) = (&streamer.metadata.namespace, &streamer.metadata.uid) else {
        return Ok(None);
    };
    let selector = format!(
        "{}={},{}={owner}",
        label::ROLE,
        Role::Stream.as_str(),
        label::DEPLOYMENT
    );
    let params = ListParams::default().labels(&selector);
    let sets: Api<ReplicaSet> = Api::namespaced(context.client.clone(), namespace);
    let sets = sets.list(&params).await?;
    let controls = |owners: Option<&Vec<_>>, uid: &str| {
        owners.is_some_and(
            |owners: &Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>| {
                owners
                    .iter()
                    .any(|owner| owner.uid == uid && owner.controller == Some(true))
            },
        )
    };
    let ours: Vec<String> = sets
        .items
        .iter()
        .filter(|set| controls(set.metadata.owner_references.as_ref(), uid))
        .filter_map(|set| set.metadata.uid.clone())
        .collect();
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let pods = pods.list(&params).await?;
    Ok(pods
        .items
        .iter()
        .filter(|pod| {
            ours.iter()
                .any(|set| controls(pod.metadata.owner_references.as_ref(), set))
        })
        .max_by_key(|pod| {
            (
                pod.metadata.deletion_timestamp.is_none(),
                pod.metadata.creation_timestamp.clone().map(|time| time.0),
            )
        })
        .map(PodFacts::of))
}

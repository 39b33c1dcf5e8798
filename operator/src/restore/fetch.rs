//! What there is of a Restore on the API server. It reads only.

use hardstorage_crds::Restore;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::destination::{Found, Wanted, is_ours};
use super::{build, cluster, drill, patroni};
use crate::apply;
use crate::context::Context;
use crate::error::Result;
use crate::names::label;
use crate::repository::Refusal;

/// A Job of this very Restore that stays.
pub async fn job(context: &Context, restore: &Restore, name: &str) -> Result<Option<Job>> {
    let namespace = restore.namespace().unwrap_or_default();
    let found = apply::get::<Job>(context, &namespace, name).await?;
    Ok(found.filter(|job| belongs(job, restore)))
}

/// Whether an object goes with this very Restore.
pub fn belongs<K: kube::Resource>(object: &K, restore: &Restore) -> bool {
    let uid = restore.metadata.uid.as_deref();
    object
        .owner_references()
        .iter()
        .any(|owner| Some(owner.uid.as_str()) == uid)
}

/// What is there of the destination.
pub async fn destination(context: &Context, restore: &Restore, wanted: &Wanted) -> Result<Result<Found, Refusal>> {
    let namespace = restore.namespace().unwrap_or_default();
    let mut found = Found::default();
    if let Some(new) = &restore.spec.destination.cloud_native_pg {
        found.cluster = match cluster::get(context, &namespace, &new.cluster).await? {
            Ok(cluster) => cluster,
            Err(refusal) => return Ok(Err(refusal)),
        };
        found.of_the_cluster = claims(context, &namespace, &format!("cnpg.io/cluster={}", new.cluster)).await?;
    }
    if let Some(to) = &restore.spec.destination.patroni {
        found.patroni = patroni::look(context, &namespace, to).await?;
    }
    for mount in &wanted.data.mounts {
        let claim = apply::get::<PersistentVolumeClaim>(context, &namespace, &mount.claim).await?;
        found.claims.extend(claim);
    }
    found.pods = pods_of_others(context, restore).await?;
    Ok(Ok(found))
}

async fn claims(context: &Context, namespace: &str, selector: &str) -> Result<Vec<PersistentVolumeClaim>> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    Ok(api.list(&ListParams::default().labels(selector)).await?.items)
}

/// The claims that this very Restore has made and that are there.
pub async fn own_claims(context: &Context, restore: &Restore) -> Result<Vec<PersistentVolumeClaim>> {
    let namespace = restore.namespace().unwrap_or_default();
    let selector = format!("{}={}", label::RESTORE, restore.name_any());
    let all = claims(context, &namespace, &selector).await?;
    let uid = restore.uid().unwrap_or_default();
    Ok(all
        .into_iter()
        .filter(|claim| is_ours(claim.metadata.annotations.as_ref(), &uid))
        .collect())
}

/// Pods in the namespace that have not ended, without those of this Restore's Jobs.
pub async fn pods_of_others(context: &Context, restore: &Restore) -> Result<Vec<Pod>> {
    let all = pods(context, restore, &ListParams::default()).await?;
    Ok(all.into_iter().filter(|pod| !is_of(pod, restore)).collect())
}

/// Pods of this Restore's Jobs that have not ended.
pub async fn own_pods(context: &Context, restore: &Restore) -> Result<Vec<Pod>> {
    let selector = format!("{}={}", label::RESTORE, restore.name_any());
    let all = pods(context, restore, &ListParams::default().labels(&selector)).await?;
    Ok(all.into_iter().filter(|pod| is_of(pod, restore)).collect())
}

async fn pods(context: &Context, restore: &Restore, params: &ListParams) -> Result<Vec<Pod>> {
    let namespace = restore.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let list = api.list(params).await?;
    let goes_on = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    };
    Ok(list.items.into_iter().filter(goes_on).collect())
}

/// Whether a pod was made by a Job of this Restore: by the Job's name, which follows from the Restore's UID.
fn is_of(pod: &Pod, restore: &Restore) -> bool {
    let jobs = [build::run_name(restore), drill::name(restore)];
    pod.owner_references()
        .iter()
        .any(|owner| owner.kind == "Job" && owner.controller == Some(true) && jobs.contains(&owner.name))
}

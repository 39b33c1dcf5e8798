//! Looks at a run: its Job's pods, and what the newest of them serves.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use super::outcome::{Observed, PodFacts, another_try_follows, judge, run_id};
use crate::context::Context;
use crate::error::Result;
use crate::names::label;
use crate::report::ServedCatalog;

/// How a Job's run is now.
pub async fn observe(context: &Context, job: &Job, pending_limit: Duration) -> Result<Observed> {
    let newest = newest_pod(context, job).await?;
    let served = match newest
        .as_ref()
        .and_then(|pod| pod.ip.as_deref().filter(|_| pod.phase == "Running"))
    {
        // That it does not answer yet, or any more, is no failure: the termination message and the Job tell the rest.
        Some(ip) => context.reports.report(ip).await.ok(),
        None => None,
    };
    // A failed try has nothing to wait for: its report is its termination message too.
    if let (Some(report), Some(pod)) = (&served, &newest)
        && report.run_id.as_deref() == run_id(job)
        && another_try_follows(job, report)
    {
        tell(context, pod, job).await;
    }
    Ok(judge(job, newest.as_ref(), served, context.now(), pending_limit))
}

/// Tells the pod of a run that its result is stored, so that it need not go on answering.
pub async fn heard(context: &Context, job: &Job) -> Result<()> {
    let Some(pod) = newest_pod(context, job).await? else {
        return Ok(());
    };
    tell(context, &pod, job).await;
    Ok(())
}

/// The catalogue that the pod of a run serves; none when it does not answer, or not any more.
pub async fn catalog(context: &Context, job: &Job) -> Result<Option<ServedCatalog>> {
    let Some(pod) = newest_pod(context, job).await? else {
        return Ok(None);
    };
    let Some(ip) = pod.ip.as_deref().filter(|_| pod.phase == "Running") else {
        return Ok(None);
    };
    match context.reports.catalog(ip).await {
        Ok(catalog) => Ok(Some(catalog)),
        Err(error) => {
            tracing::debug!(%error, pod = pod.name, "the catalogue was not read");
            Ok(None)
        }
    }
}

async fn tell(context: &Context, pod: &PodFacts, job: &Job) {
    if pod.phase != "Running" {
        return;
    }
    if let (Some(ip), Some(run)) = (&pod.ip, run_id(job))
        && let Err(error) = context.reports.heard(ip, run).await
    {
        // It then answers until its limit and ends by itself.
        tracing::debug!(%error, pod = pod.name, "the pod was not told that its result was heard");
    }
}

/// The newest pod that the Job controller made for this very Job: by the Job's UID, so that a pod that somebody labelled
/// like ours is not asked, and its owner must say the same.
async fn newest_pod(context: &Context, job: &Job) -> Result<Option<PodFacts>> {
    let (Some(namespace), Some(uid)) = (&job.metadata.namespace, &job.metadata.uid) else {
        return Ok(None);
    };
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let list = pods
        .list(&ListParams::default().labels(&format!("{}={uid}", label::JOB_UID)))
        .await?;
    let ours = list.items.iter().filter(|pod| {
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        owners
            .iter()
            .any(|owner| owner.uid == *uid && owner.controller == Some(true))
    });
    Ok(ours
        .max_by_key(|pod| pod.metadata.creation_timestamp.clone().map(|time| time.0))
        .map(PodFacts::of))
}

//! The ledger: whether a run has made a backup, by what lies in the repository. A run whose pod is gone, whose status was
//! lost, or which came back from a copy of the cluster is looked up there, and never taken again.

use hardstorage_report::BackupRecord;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;

use super::target;
use crate::apply;
use crate::context::Context;
use crate::error::Result;
use crate::names;
use crate::report::{ServedCatalog, stream_pod};

/// What the ledger says of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Ledger {
    /// Nobody could be asked; why.
    Unheard(String),
    /// The repository has no backup of that run, as far as its stream has read.
    Absent,
    /// It has.
    Found(Box<BackupRecord>),
}

/// Looks for a run.
pub async fn look(context: &Context, namespace: &str, name: &str, run: &str) -> Result<Ledger> {
    Ok(match catalog(context, namespace, name).await? {
        Ok(catalog) => find(catalog.backups, run),
        Err(why) => Ledger::Unheard(why),
    })
}

/// Asks the stream of a Deployment for the catalogue, which it knows; or why it could not be asked.
pub async fn catalog(context: &Context, namespace: &str, name: &str) -> Result<Result<ServedCatalog, String>> {
    let deployment = match target::deployment(context, namespace, name).await? {
        Ok(deployment) => deployment,
        Err(refusal) => return Ok(Err(refusal.message)),
    };
    let Some(streamer) = apply::get::<Deployment>(context, namespace, &names::stream(name)).await? else {
        return Ok(Err(format!("Deployment {name} does not stream")));
    };
    let pod = stream_pod(context, &streamer, name).await?;
    let Some(ip) = pod.and_then(|pod| pod.ip) else {
        return Ok(Err(format!("the stream of Deployment {name} has no pod")));
    };
    let report = match context.reports.report(&ip).await {
        Ok(report) => report,
        Err(error) => return Ok(Err(error.to_string())),
    };
    // A pod's address may be another pod's by now.
    if report.run_id != deployment.uid() {
        return Ok(Err(format!("the pod at {ip} is not the stream")));
    }
    if report.catalog.is_none() {
        return Ok(Err("the stream has not read the catalogue yet".to_owned()));
    }
    Ok(context.reports.catalog(&ip).await.map_err(|error| error.to_string()))
}

fn find(backups: Vec<BackupRecord>, run: &str) -> Ledger {
    let found = backups.into_iter().find(|record| record.run_id.as_deref() == Some(run));
    found.map_or(Ledger::Absent, |record| Ledger::Found(Box::new(record)))
}

//! Streams that are as they were. A look at everything around a Deployment reads a dozen objects; while its stream flows
//! and says the same as before, nothing that wakes us has changed, and the last whole look was not long ago, one question to
//! its pod tells as much. A stream that breaks, that has a new backup or another server is told by the stream itself.
//!
//! It is a cache of having looked: what is not in it is looked at.

use std::time::Duration;

use hardstorage_crds::condition::READY;
use hardstorage_crds::{DeploymentStatus, ProtectedDeployment};
use hardstorage_report::RunReport;
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::fetch::{Facts, Shared};
use super::plan::Plan;
use super::status::Heard;
use super::upgrade::Turn;
use crate::context::Context;
use crate::error::Result;
use crate::settings::Settings;

/// How it was when everything was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steady {
    at: Timestamp,
    /// How often it had been woken before that look.
    woken: u64,
    object: [u8; 32],
    ip: String,
    said: String,
    /// Whether its backups are shown; while many wait for that, each looks again when there is room.
    shown: bool,
}

/// Whether everything is as it was at the last whole look, and nothing that was left then can be done now.
pub async fn is_as_before(context: &Context, deployment: &ProtectedDeployment, shared: &Shared) -> Result<bool> {
    let Some(uid) = deployment.uid() else {
        return Ok(false);
    };
    let mut remembered = shared.memory.get(&uid);
    let Some(before) = remembered.steady.clone() else {
        return Ok(false);
    };
    let age = Duration::try_from(context.now().duration_since(before.at));
    if !age.is_ok_and(|age| age < Settings::FIGURES_PERIOD)
        || (!before.shown && context.showing.available_permits() > 0)
        || before.woken != shared.memory.woken(&uid)
        || before.object != object(deployment, deployment.status.as_ref())?
    {
        return Ok(false);
    }
    let Ok(report) = context.reports.report(&before.ip).await else {
        return Ok(false);
    };
    if report.run_id.as_deref() != Some(uid.as_str()) || said(&report) != before.said {
        return Ok(false);
    }
    remembered.heard = Some(context.now());
    shared.memory.put(&uid, remembered);
    Ok(true)
}

/// How it is after a whole look that left nothing to do but perhaps to show its backups, which was begun after it had been
/// woken so often. Nothing unless it is well, and waits for no turn of an upgrade: those that it waits for do not wake it.
pub fn steady(
    context: &Context,
    deployment: &ProtectedDeployment,
    facts: &Facts,
    plan: &Plan,
    after: &DeploymentStatus,
    (woken, shown): (u64, bool),
) -> Result<Option<Steady>> {
    let mut conditions = after.conditions.iter();
    let is_well = conditions.any(|one| one.type_ == READY && one.status == "True") && plan.turn == Turn::Go;
    let ip = facts.pod.as_ref().and_then(|pod| pod.ip.clone());
    let (Heard::Now(report), Some(ip), true) = (&facts.heard, ip, is_well) else {
        return Ok(None);
    };
    Ok(Some(Steady {
        at: context.now(),
        woken,
        object: object(deployment, Some(after))?,
        ip,
        said: said(report),
        shown,
    }))
}

/// All of an object that a look goes by, as it is once its status is written.
fn object(deployment: &ProtectedDeployment, status: Option<&DeploymentStatus>) -> Result<[u8; 32]> {
    let metadata = &deployment.metadata;
    let whole = json!({
        "generation": metadata.generation,
        "labels": metadata.labels,
        "annotations": metadata.annotations,
        "finalizers": metadata.finalizers,
        "going": metadata.deletion_timestamp,
        "spec": deployment.spec,
        "status": status,
    });
    Ok(Sha256::digest(serde_json::to_vec(&whole)?).into())
}

/// What a stream says, without what changes while it flows.
fn said(report: &RunReport) -> String {
    let stream = report.stream.as_ref().map(|stream| {
        (
            (stream.phase, stream.system_id, stream.timeline),
            (&stream.slot, stream.slot_health),
            (stream.recoverable_from, stream.gaps),
            (stream.started_at, stream.connections),
            stream.last_error.as_ref().map(|error| &error.code),
        )
    });
    let error = report.error.as_ref().map(|error| &error.code);
    let catalog = report.catalog.as_ref().map(|catalog| &catalog.etag);
    format!("{:?}", (&report.version, report.state, stream, error, catalog))
}

#[cfg(test)]
#[path = "steady_tests.rs"]
mod tests;

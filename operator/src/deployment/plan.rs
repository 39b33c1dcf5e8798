//! Which children a Deployment should have, from the facts. Pure.
//!
//! The stream is changed only when everything that it is built from is known and nothing stands against it. A Repository
//! that is gone, a Secret that is missing, a source that cannot be read: the stream that runs stays exactly as it is.

use hardstorage_crds::{Lineage, ProtectedDeployment};
use hardstorage_report::RunReport;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;

use super::build::{Moved, StreamPlan, built_for, image_of, stream};
use super::fetch::{Facts, pinned};
use super::identity;
use super::lineage::{SystemFacts, Systems, judge};
use super::status::Heard;
use super::upgrade::{Turn, turn};
use crate::job::PodFacts;
use crate::pod::Image;
use crate::settings::Settings;

/// What the engine says when another cluster lies under a name.
const OTHER_SYSTEM: &str = "conflict.system_identifier";

/// What is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Whether it is the same cluster.
    pub systems: Systems,
    /// What was protected, from now on.
    pub lineages: Vec<Lineage>,
    /// Whether the image is on its way.
    pub turn: Turn,
    /// The stream, when it is to be as this; otherwise it stays as it is.
    pub stream: Option<Box<Deployment>>,
    /// Whether the stream that runs is left alone until its turn comes: whatever else this version builds in another way
    /// would restart all streams at once, and with an engine that may not know it. What the user changes is no such thing.
    pub waits: bool,
}

impl Plan {
    /// The name under which it is streamed.
    pub fn name(&self, deployment: &ProtectedDeployment) -> String {
        let current = self.lineages.iter().find(|lineage| lineage.current);
        current.map_or_else(|| identity::name(deployment), |lineage| lineage.name.clone())
    }
}

/// Plans.
pub fn plan(deployment: &ProtectedDeployment, facts: &Facts, settings: &Settings, now: Timestamp) -> Plan {
    let systems = systems(deployment, facts);
    let lineages = match &systems {
        Systems::Changed(lineages) => lineages.clone(),
        Systems::Same | Systems::Refused(_) => known(deployment),
    };
    let (image, moved, turn) = image(deployment, facts, settings, now);
    let mut plan = Plan {
        systems,
        lineages,
        waits: waits(deployment, facts, settings, &turn),
        turn,
        stream: None,
    };
    let hindered = facts.collision.is_some() || matches!(plan.systems, Systems::Refused(_));
    if let (Ok(repository), Some(source), false) = (&facts.repository, &facts.source.access, hindered) {
        plan.stream = Some(Box::new(stream(&StreamPlan {
            deployment,
            repository,
            source,
            name_in_repository: &plan.name(deployment),
            image,
            moved,
            surroundings: facts.namespace.surroundings,
        })));
    }
    plan
}

/// The lineages of the status. Those of a name that was chosen since are no longer the current ones.
fn known(deployment: &ProtectedDeployment) -> Vec<Lineage> {
    let base = identity::name(deployment);
    let mut all = deployment
        .status
        .as_ref()
        .map(|status| status.lineages.clone())
        .unwrap_or_default();
    for lineage in &mut all {
        lineage.current = lineage.current && identity::belongs(&lineage.name, &base);
    }
    all
}

fn systems(deployment: &ProtectedDeployment, facts: &Facts) -> Systems {
    let report = reported(deployment, &facts.heard, facts.pod.as_ref());
    let stream = report.as_ref().and_then(|report| report.stream.as_ref());
    let error = report.as_ref().and_then(|report| {
        report
            .error
            .clone()
            .or_else(|| report.stream.as_ref()?.last_error.clone())
    });
    let conflict = error.is_some_and(|error| error.code == OTHER_SYSTEM);
    let streamed = stream.and_then(|stream| stream.system_id).map(|id| id.to_string());
    let base = identity::name(deployment);
    // Under another name than before everything begins anew.
    let lineages: Vec<Lineage> = known(deployment)
        .into_iter()
        .filter(|lineage| identity::belongs(&lineage.name, &base))
        .collect();
    let status = deployment.status.as_ref();
    let judged = judge(&SystemFacts {
        base: &base,
        lineages: &lineages,
        on_new_system: &deployment.spec.on_new_system,
        before: status.and_then(|status| status.source.as_ref()),
        // A stream that was refused has seen the server itself; what describes the cluster may be behind.
        system_identifier: if conflict { streamed.as_deref() } else { None }
            .or(facts.source.system_identifier.as_deref())
            .or(streamed.as_deref()),
        cluster_uid: facts.source.cluster_uid.as_deref(),
        version: facts.source.version.as_deref(),
        conflict,
    });
    match judged {
        // Those under other names are kept for the retention.
        Systems::Changed(changed) => {
            let foreign = known(deployment)
                .into_iter()
                .filter(|lineage| !identity::belongs(&lineage.name, &base));
            Systems::Changed(foreign.chain(changed).collect())
        }
        other => other,
    }
}

/// What the stream said last: by itself, or in the last words of its container.
fn reported(deployment: &ProtectedDeployment, heard: &Heard, pod: Option<&PodFacts>) -> Option<RunReport> {
    match heard {
        Heard::Now(report) => Some((**report).clone()),
        Heard::Silent { .. } => pod?.last_words(&deployment.uid()?),
    }
}

fn waits(deployment: &ProtectedDeployment, facts: &Facts, settings: &Settings, turn: &Turn) -> bool {
    let Some(child) = facts.child.as_ref().filter(|_| *turn != Turn::Go) else {
        return false;
    };
    image_of(child).as_ref() != Some(&settings.engine_image) && built_for(child) == deployment.metadata.generation
}

/// The image that the stream should have now, and what there is to say about it.
fn image(
    deployment: &ProtectedDeployment,
    facts: &Facts,
    settings: &Settings,
    now: Timestamp,
) -> (Image, Option<Moved>, Turn) {
    let chosen = deployment.spec.engine.as_ref();
    let policy = chosen.map_or_else(
        || settings.engine_image_pull_policy.clone(),
        |engine| engine.image_pull_policy.to_string(),
    );
    let with = |name: String| Image {
        name,
        pull_policy: policy.clone(),
    };
    let moved = facts.child.as_ref().and_then(Moved::of);
    if let Some(pinned) = pinned(deployment) {
        return (with(pinned), moved, Turn::Go);
    }
    let target = settings.engine_image.clone();
    let Some(running) = facts.child.as_ref().and_then(image_of) else {
        return (with(target), None, Turn::Go);
    };
    let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
    let turn = turn(&facts.streams, (&namespace, &name), &target, settings.staging(), now);
    if running == target {
        return (with(target), moved, turn);
    }
    if turn != Turn::Go {
        return (with(running), moved, turn);
    }
    let mine = facts
        .streams
        .iter()
        .find(|seen| seen.who == (namespace.clone(), name.clone()));
    let moved = Moved {
        at: now,
        streamed: mine.is_some_and(|mine| !mine.down),
    };
    (with(target), Some(moved), turn)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

//! One look at a Deployment: fetch, plan, apply, say. Each step can be broken off; the next look goes on from what is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hardstorage_crds::condition::STALLED;
use hardstorage_crds::condition::deployment::{ARCHIVE_CONTINUOUS, SLOT_HEALTHY, STREAMING, UPGRADE_HALTED};
use hardstorage_crds::{Backup, BackupSpec, BackupType, DeploymentRef, DeploymentStatus, ProtectedDeployment};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};

use super::fetch::{Facts, Shared, fetch};
use super::plan::{Plan, plan};
use super::status::{Findings, settle, status};
use super::steady::{is_as_before, steady};
use super::{children, deletion, identity, retain, retention, source};
use crate::apply::{self, Made};
use crate::backup::mirror;
use crate::condition::Conditions;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::PodFacts;
use crate::names::{self, FINALIZER, Role};
use crate::repository::Refusal;
use crate::settings::Settings;

/// The word in metrics.
pub const KIND: &str = "Deployment";
/// A pod whose grace was over so long ago is stuck on a node that does not answer.
const STUCK: Duration = Duration::from_mins(1);

/// Looks at one.
pub async fn reconcile(
    deployment: Arc<ProtectedDeployment>,
    context: Arc<Context>,
    shared: Arc<Shared>,
) -> Result<Action> {
    let (deployment, context) = (&*deployment, &*context);
    if deployment.metadata.deletion_timestamp.is_some() {
        return deletion::run(context, deployment, &shared).await;
    }
    if is_as_before(context, deployment, &shared).await? {
        return Ok(Action::requeue(with_jitter(Settings::STREAM_PERIOD)));
    }
    let uid = deployment.uid().ok_or(Error::Incomplete("uid"))?;
    let woken = shared.memory.woken(&uid);
    let facts = fetch(context, deployment, &shared).await?;
    let plan = plan(deployment, &facts, &context.settings, context.now());
    // Before there can be a slot; and where there may be one, whatever has become of the finalizer.
    let kept;
    let deployment = if plan.stream.is_some() || facts.child.is_some() {
        kept = apply::with_finalizer(context, deployment, FINALIZER).await?;
        &kept
    } else {
        deployment
    };
    let refused = children::apply(context, deployment, &facts, &plan).await?;
    if let Some(pod) = &facts.pod {
        remove_stuck(context, deployment, pod).await?;
    }
    // It is said, whatever is wrong with it: without a status an object counts as finished.
    let after = say(context, deployment, &facts, &plan, refused.as_ref(), &shared).await?;
    let shown = show_backups(context, deployment, &facts, &plan, &shared).await?;
    first_backup(context, deployment, &facts, &plan).await?;
    let retained = retain::run(context, deployment, &facts, &plan).await?;
    let mut remembered = shared.memory.get(&uid);
    remembered.steady = if retained {
        steady(context, deployment, &facts, &plan, &after, (woken, shown))?
    } else {
        None
    };
    shared.memory.put(&uid, remembered);
    Ok(Action::requeue(with_jitter(Settings::STREAM_PERIOD)))
}

/// A tenth more or less, so that a thousand streams are not asked in the same moment.
pub fn with_jitter(period: Duration) -> Duration {
    period.mul_f64(rand::random_range(0.9..1.1))
}

/// A pod on a node that is lost never ends by itself, and the next one waits for that. Removing it is safe even when it
/// lives: the slot admits one walsender, and commits are create-only.
async fn remove_stuck(context: &Context, deployment: &ProtectedDeployment, pod: &PodFacts) -> Result<()> {
    let over = pod
        .deletes_at
        .is_some_and(|end| Duration::try_from(context.now().duration_since(end)).is_ok_and(|since| since >= STUCK));
    if !over {
        return Ok(());
    }
    let namespace = deployment.namespace().ok_or(Error::Incomplete("namespace"))?;
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&pod.name, &params).await.map_err(Error::from) {
        Ok(_) => {
            tracing::warn!(pod = pod.name, %namespace, "a pod that did not end was removed by force");
            Ok(())
        }
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes the status, and events where something has changed; the status as it is then.
async fn say(
    context: &Context,
    deployment: &ProtectedDeployment,
    facts: &Facts,
    plan: &Plan,
    refused: Option<&Refusal>,
    shared: &Shared,
) -> Result<DeploymentStatus> {
    let uid = deployment.uid().ok_or(Error::Incomplete("uid"))?;
    let mut remembered = shared.memory.get(&uid);
    let slot = match (&deployment.spec.source.patroni, &facts.source.leader, &plan.stream) {
        (Some(patroni), Some(leader), Some(_)) => {
            let namespace = deployment.namespace().unwrap_or_default();
            let name = identity::slot(deployment);
            Some(source::tend_slot(context, &namespace, patroni, leader.ip.as_deref(), &name).await?)
        }
        _ => None,
    };
    let name = plan.name(deployment);
    let records = facts.catalog.as_ref().map(|catalog| catalog.backups.as_slice());
    let findings = Findings {
        deployment,
        collision: facts.collision.as_ref(),
        refusal: facts.repository.as_ref().err().or(refused),
        source: &facts.source,
        systems: &plan.systems,
        lineages: &plan.lineages,
        has_child: facts.child.is_some(),
        pod: facts.pod.as_ref(),
        heard: &facts.heard,
        slot: slot.as_ref(),
        turn: &plan.turn,
        newest: records.and_then(|records| retention::newest(&name, records)),
        now: context.now(),
    };
    let (after, conditions) = status(&findings);
    let before = deployment.status.clone().unwrap_or_default();
    let after = settle(&before, after, context.now(), remembered.written);
    let (old, new) = (serde_json::to_value(&deployment.status)?, serde_json::to_value(&after)?);
    if apply::write_status_of_seen(context, KIND, deployment, &old, &new).await? {
        remembered.written = Some(context.now());
        shared.memory.put(&uid, remembered);
        tell(context, deployment, &conditions).await;
    }
    Ok(after)
}

async fn tell(context: &Context, deployment: &ProtectedDeployment, conditions: &Conditions) {
    let about = deployment.object_ref(&());
    for changed in conditions.changed() {
        let bad = match changed.type_.as_str() {
            STALLED | UPGRADE_HALTED => changed.status == "True",
            STREAMING | ARCHIVE_CONTINUOUS | SLOT_HEALTHY => changed.status != "True",
            _ => continue,
        };
        // That nothing stands still, and no upgrade is halted, is no news.
        if !bad && matches!(changed.type_.as_str(), STALLED | UPGRADE_HALTED) {
            continue;
        }
        let note = format!("{}={}: {}", changed.type_, changed.status, changed.message);
        context.tell(&about, bad, &changed.reason, &note).await;
    }
}

/// Shows the backups of the catalogue as objects, when it has changed; whether they are shown. When many want to, as after a
/// start, a look that would have to wait for the others leaves it to the next one: there is more to do in it.
async fn show_backups(
    context: &Context,
    deployment: &ProtectedDeployment,
    facts: &Facts,
    plan: &Plan,
    shared: &Shared,
) -> Result<bool> {
    let (Some(uid), Some(catalog), Ok(_)) = (deployment.uid(), &facts.catalog, &facts.repository) else {
        return Ok(true);
    };
    let mut remembered = shared.memory.get(&uid);
    // Another number of objects is another picture of the same catalogue.
    let picture = format!("{} {}", catalog.etag, facts.backup_objects);
    if remembered.shown.as_ref() == Some(&picture) {
        return Ok(true);
    }
    let Ok(_turn) = context.showing.try_acquire() else {
        return Ok(false);
    };
    let namespace = deployment.namespace().ok_or(Error::Incomplete("namespace"))?;
    let place = mirror::Place {
        repository: deployment.spec.repository_ref.clone(),
        names: mirror::Names::Only(BTreeSet::from([plan.name(deployment)])),
        owner: None,
        limit: facts.backup_objects,
        namespace: namespace.clone(),
    };
    let existing = mirror::objects(context, &namespace).await?;
    let changes = mirror::changes(&place, &catalog.backups, &existing, context.now());
    mirror::carry_out(context, changes).await?;
    remembered.shown = Some(picture);
    shared.memory.put(&uid, remembered);
    Ok(true)
}

/// A new lineage has no backup: nothing of it can be restored until there is one, so that none is waited for.
async fn first_backup(context: &Context, deployment: &ProtectedDeployment, facts: &Facts, plan: &Plan) -> Result<()> {
    let name = plan.name(deployment);
    let (Some(catalog), true) = (&facts.catalog, name != identity::name(deployment)) else {
        return Ok(());
    };
    if retention::newest(&name, &catalog.backups).is_some() {
        return Ok(());
    }
    let wish = Backup {
        metadata: ObjectMeta {
            namespace: deployment.namespace(),
            name: Some(names::job(&deployment.name_any(), Role::Backup, &name)),
            labels: Some(identity::labels(deployment, Role::Backup)),
            ..ObjectMeta::default()
        },
        spec: BackupSpec {
            deployment_ref: Some(DeploymentRef {
                name: deployment.name_any(),
            }),
            type_: Some(BackupType::Full),
            recorded: None,
            from: None,
            checkpoint: None,
            label: None,
            max_rate: None,
        },
        status: None,
    };
    if let Made::Created(made) = apply::create_once(context, &wish).await? {
        let note = format!(
            "another cluster is protected now, as {name}; the Backup {} was made",
            made.name_any()
        );
        context
            .tell(&deployment.object_ref(&()), false, "NewLineage", &note)
            .await;
    }
    Ok(())
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
pub mod tests;

//! Lets a Deployment go: gathers what is known, and takes the next step of [`super::delete`].

use std::time::Duration;

use hardstorage_crds::{DataDeletion, ProtectedDeployment, SlotDeletion};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use super::build::{Run, slot_drop};
use super::delete::{DATA_LIMIT, DeletionFacts, Left, NoSlot, Progress, Step, decide};
use super::fetch::{Shared, is_controlled_by, pinned};
use super::source::{self, SourceFacts};
use super::{erase, identity, retain};
use crate::apply;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::{self, Observed};
use crate::names::{self, FINALIZER, Role};
use crate::namespace::NamespaceFacts;
use crate::pod::Image;
use crate::report::stream_pod;
use crate::settings::Settings;

/// How long a server is tried to be reached, where the user says nothing.
const SLOT_TIMEOUT: Duration = Duration::from_mins(2);
/// What the engine says of a slot that is not there.
const NO_SUCH_SLOT: &str = "notfound.slot";

/// Takes the next step.
pub async fn run(context: &Context, deployment: &ProtectedDeployment, shared: &Shared) -> Result<Action> {
    if !deployment.finalizers().iter().any(|one| one == FINALIZER) {
        if let Some(uid) = deployment.uid() {
            shared.memory.forget(&uid);
        }
        return Ok(Action::await_change());
    }
    let namespace = deployment.namespace().ok_or(Error::Incomplete("namespace"))?;
    let looked = NamespaceFacts::look_at_the_end(context, &namespace).await?;
    // A namespace that goes takes everything: nothing else is asked, and nothing is made in it.
    if looked.going {
        return leave(context, deployment, shared).await;
    }
    let elapsed = elapsed(context, deployment, shared);
    let deletion = deployment.spec.deletion.clone().unwrap_or_default();
    let slot_timeout = deletion.slot_timeout.get().unwrap_or(SLOT_TIMEOUT);
    let limit = match deletion.data {
        DataDeletion::Delete => slot_timeout.max(DATA_LIMIT),
        _ => slot_timeout,
    };
    match advance(context, deployment, shared, looked, elapsed).await {
        // It began to go in between.
        Err(error) if error.is_namespace_going() => leave(context, deployment, shared).await,
        // What cannot be looked at, or made, keeps nothing for ever.
        Err(error) if elapsed >= limit => {
            let left = [Left::Slot(error.to_string())];
            let_go(context, deployment, None, &left, shared).await
        }
        other => other,
    }
}

/// Lets it go with its namespace, in which no event can be written any more. A server elsewhere keeps the slot.
async fn leave(context: &Context, deployment: &ProtectedDeployment, shared: &Shared) -> Result<Action> {
    if deployment.spec.source.connection.is_some() && has_streamed(deployment) {
        let (name, namespace) = (deployment.name_any(), deployment.namespace());
        let note = slot_note(deployment, None, "its namespace goes");
        tracing::warn!(name, namespace, note, "a slot is left");
    }
    let_go(context, deployment, None, &[], shared).await
}

async fn advance(
    context: &Context,
    deployment: &ProtectedDeployment,
    shared: &Shared,
    looked: NamespaceFacts,
    elapsed: Duration,
) -> Result<Action> {
    let namespace = deployment.namespace().ok_or(Error::Incomplete("namespace"))?;
    let found = source::look(context, deployment).await?;
    let child = apply::get::<Deployment>(context, &namespace, &names::stream(&deployment.name_any())).await?;
    let uid = deployment.uid().ok_or(Error::Incomplete("uid"))?;
    let child = child.filter(|child| is_controlled_by(child, &uid));
    let pod = match &child {
        Some(child) => stream_pod(context, child, &deployment.name_any()).await?,
        None => None,
    };
    let run = Run {
        deployment,
        image: Image {
            name: pinned(deployment).unwrap_or(context.settings.engine_image.clone()),
            pull_policy: context.settings.engine_image_pull_policy.clone(),
        },
        surroundings: looked.surroundings,
    };
    let job = retain::jobs(context, deployment, Role::SlotDrop)
        .await?
        .into_iter()
        .next();
    let deletion = deployment.spec.deletion.clone().unwrap_or_default();
    let delete_data = deletion.data == DataDeletion::Delete;
    let no_slot = no_slot(deployment, &deletion.slot, &found, child.is_some());
    let mut facts = DeletionFacts {
        namespace_going: false,
        owner_going: is_owned(deployment),
        no_slot,
        stream_runs: child.as_ref().is_some_and(wants_pods),
        pod_there: pod.is_some(),
        reachable: found.access.is_some(),
        drop: drop_progress(context, job.as_ref()).await?,
        elapsed,
        slot_timeout: deletion.slot_timeout.get().unwrap_or(SLOT_TIMEOUT),
        delete_data,
        data: Progress::NotMade,
    };
    let mut step = decide(&facts);
    if step == Step::DeleteData {
        facts.data = erase::erase(context, &run).await?;
        step = decide(&facts);
    }
    match step {
        Step::StopStream => {
            if let Some(child) = &child {
                stop(context, child).await?;
            }
        }
        Step::DropSlot => {
            if let Some(access) = &found.access {
                forget(context, deployment, &found).await?;
                let limit = i64::try_from(facts.slot_timeout.as_secs()).unwrap_or(i64::MAX).max(10);
                apply::create_once(context, &slot_drop(&run, access, &uid, limit)).await?;
            }
        }
        Step::RetryDrop => {
            if let Some(job) = &job {
                apply::delete(context, job).await?;
            }
        }
        Step::AwaitPod | Step::AwaitDrop | Step::DeleteData => {}
        Step::LetGo(left) => return let_go(context, deployment, Some(&found), &left, shared).await,
    }
    Ok(Action::requeue(Settings::JOB_PERIOD))
}

/// Tells what is left to do, and removes the finalizer.
async fn let_go(
    context: &Context,
    deployment: &ProtectedDeployment,
    found: Option<&SourceFacts>,
    left: &[Left],
    shared: &Shared,
) -> Result<Action> {
    let about = deployment.object_ref(&());
    for one in left {
        let (reason, note) = match one {
            Left::Slot(why) => ("SlotLeft", slot_note(deployment, found, why)),
            Left::Data(why) => (
                "DataLeft",
                format!(
                    "not all backups of {} were marked as deleted ({why}); pg_hardstorage list shows them, and backup delete \
                     marks them",
                    identity::all_names(deployment).join(", ")
                ),
            ),
        };
        context.tell(&about, true, reason, &note).await;
    }
    apply::set_finalizer(context, deployment, FINALIZER, false).await?;
    if let Some(uid) = deployment.uid() {
        shared.memory.forget(&uid);
    }
    Ok(Action::await_change())
}

/// The exact SQL, and where.
fn slot_note(deployment: &ProtectedDeployment, found: Option<&SourceFacts>, why: &str) -> String {
    let slot = identity::slot(deployment);
    let server = found.and_then(|found| found.primary.clone()).map_or_else(
        || "the primary".to_owned(),
        |primary| format!("the primary ({primary})"),
    );
    // What is to be done goes first: the end of a long reason may be cut off.
    format!(
        "on {server} run: SELECT pg_drop_replication_slot('{slot}') FROM pg_replication_slots WHERE slot_name = '{slot}'; \
         until then the slot holds back WAL: it was not dropped ({why})"
    )
}

/// Why there is no slot to drop, if so.
fn no_slot(
    deployment: &ProtectedDeployment,
    wanted: &SlotDeletion,
    found: &SourceFacts,
    has_child: bool,
) -> Option<NoSlot> {
    if *wanted == SlotDeletion::Keep {
        return Some(NoSlot::Kept);
    }
    if found.is_gone() {
        return Some(NoSlot::ClusterGone);
    }
    let lineages = deployment.status.as_ref().map(|status| status.lineages.as_slice());
    let ours = lineages.unwrap_or_default().iter().find(|lineage| lineage.current);
    let is_other = ours
        .zip(found.system_identifier.as_ref())
        .is_some_and(|(ours, now)| ours.system_identifier != *now);
    if is_other {
        return Some(NoSlot::OtherSystem);
    }
    // Without a stream, now or ever, nobody has made one.
    (!has_child && !has_streamed(deployment)).then_some(NoSlot::NeverMade)
}

fn has_streamed(deployment: &ProtectedDeployment) -> bool {
    let stream = deployment.status.as_ref().and_then(|status| status.stream.as_ref());
    stream.is_some_and(|stream| stream.slot.is_some())
}

/// An object with an owner may go because that one does: then nobody has said that its backups are to go.
fn is_owned(deployment: &ProtectedDeployment) -> bool {
    !deployment.owner_references().is_empty()
}

fn wants_pods(child: &Deployment) -> bool {
    child.spec.as_ref().and_then(|spec| spec.replicas) != Some(0)
}

/// For how long this process has tried. An operator that was away while its objects were deleted would otherwise let all
/// of them go without a try, and leave every slot.
fn elapsed(context: &Context, deployment: &ProtectedDeployment, shared: &Shared) -> Duration {
    let Some(uid) = deployment.uid() else {
        return Duration::ZERO;
    };
    let mut remembered = shared.memory.get(&uid);
    let since = *remembered.going.get_or_insert(context.now());
    shared.memory.put(&uid, remembered);
    Duration::try_from(context.now().duration_since(since)).unwrap_or_default()
}

async fn stop(context: &Context, child: &Deployment) -> Result<()> {
    let namespace = child.namespace().ok_or(Error::Incomplete("namespace"))?;
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({"metadata": {"uid": child.uid()}, "spec": {"replicas": 0}});
    match api
        .patch(&child.name_any(), &PatchParams::default(), &Patch::Merge(&body))
        .await
        .map_err(Error::from)
    {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Patroni would make the slot again.
async fn forget(context: &Context, deployment: &ProtectedDeployment, found: &SourceFacts) -> Result<()> {
    let Some(patroni) = &deployment.spec.source.patroni else {
        return Ok(());
    };
    let namespace = deployment.namespace().unwrap_or_default();
    let leader = found.leader.as_ref().and_then(|leader| leader.ip.as_deref());
    let slot = identity::slot(deployment);
    if let Some(note) = source::forget_slot(context, &namespace, patroni, leader, &slot).await? {
        context
            .tell(&deployment.object_ref(&()), true, "SlotInPatroni", &note)
            .await;
    }
    Ok(())
}

async fn drop_progress(context: &Context, job: Option<&Job>) -> Result<Progress> {
    let Some(job) = job else {
        return Ok(Progress::NotMade);
    };
    Ok(match job::observe(context, job, Duration::from_mins(2)).await? {
        Observed::Waiting(..) | Observed::Running(_) => Progress::Running,
        Observed::Ended { report, .. } => {
            job::heard(context, job).await?;
            match &report.error {
                Some(error) if error.code == NO_SUCH_SLOT => Progress::Done,
                Some(error) => Progress::Failed(format!("{}: {}", error.code, error.message)),
                None if report.state == hardstorage_report::RunState::Succeeded => Progress::Done,
                None => Progress::Failed("the run failed".to_owned()),
            }
        }
        // A pod that ended well and told nobody has dropped it.
        Observed::Failed { exit_code: Some(0), .. } => Progress::Done,
        Observed::Failed { reason, message, .. } => Progress::Failed(format!("{}: {message}", reason.as_str())),
    })
}

#[cfg(test)]
#[path = "deletion_tests.rs"]
mod tests;

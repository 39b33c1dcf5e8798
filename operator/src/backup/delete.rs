//! A Backup that is deleted with its data: only on the explicit word, which is the annotation `delete-data` with the id of
//! this very backup, and only for the object itself. While its namespace or its owner goes away the word does not count.
//!
//! The annotation brings a finalizer, so that the object waits until the backup is marked as deleted; without it there is
//! none. When the object goes before the finalizer is there, the data stays.

use std::time::Duration;

use crate::guarded::Guarded;
use hardstorage_crds::{Backup, BackupPhase, ProtectedDeployment, Repository, RepositoryRef};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};

use super::build::{Tombstone, job_name};
use super::decide::elapsed;
use super::status::Writer;
use super::target;
use crate::apply;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::{self, Observed};
use crate::names::{self, Role, annotation};
use crate::namespace::NamespaceFacts;
use crate::repository::{Intent, Refusal, resolve};
use crate::settings::Settings;

/// Keeps an object until its data is marked as deleted.
const FINALIZER: &str = names::DATA_FINALIZER;
/// A Job that could not do it stays so long, for its log; then another one tries.
const AGAIN: Duration = Duration::from_mins(10);
/// How long its pod may wait for a node.
const PENDING: Duration = Duration::from_mins(15);

/// The id of the backup whose data goes with the object.
pub fn with_data(backup: &Backup) -> Option<&str> {
    let recorded = backup.spec.recorded.as_ref().map(|recorded| &recorded.backup_id);
    let id = recorded.or_else(|| backup.status.as_ref()?.backup_id.as_ref())?;
    let word = backup.annotations().get(annotation::DELETE_DATA)?;
    (word == id).then_some(id.as_str())
}

/// Keeps the finalizer of an object that stays as the annotation has it.
pub async fn watch_over(context: &Context, backup: &Backup) -> Result<bool> {
    apply::set_finalizer(context, backup, FINALIZER, with_data(backup).is_some()).await
}

/// Of an object that is being deleted.
pub async fn go(context: &Context, backup: &Backup) -> Result<Action> {
    if !backup.finalizers().iter().any(|one| one == FINALIZER) {
        return Ok(Action::await_change());
    }
    let namespace = backup.namespace().ok_or(Error::Incomplete("namespace"))?;
    let Some(id) = with_data(backup) else {
        return let_go(context, backup, None).await;
    };
    let facts = NamespaceFacts::look_at_the_end(context, &namespace).await?;
    if facts.going || owner_goes(context, backup, &namespace).await? {
        return let_go(context, backup, None).await;
    }
    // The id ends with kind, time and a suffix; what is before is the name in the repository.
    let name = id.rsplitn(4, '.').nth(3).unwrap_or(id);
    let reference = match repository(context, backup, &namespace).await? {
        Ok(reference) => reference,
        Err(refusal) => return refused(context, backup, &refusal).await,
    };
    let resolved = match resolve(context, &namespace, &reference, name, Intent::Write).await? {
        Ok(resolved) => resolved,
        Err(refusal) => return refused(context, backup, &refusal).await,
    };
    let uid = backup.uid().ok_or(Error::Incomplete("uid"))?;
    let called = job_name(&backup.name_any(), Role::Tombstone, &format!("{uid}/{id}"));
    let Some(job) = apply::get::<Job>(context, &namespace, &called).await? else {
        let tombstone = Tombstone {
            namespace: &namespace,
            backup: &backup.name_any(),
            repository: &resolved.access,
            name,
            id,
            image: context.settings.engine(),
            surroundings: facts.surroundings,
        };
        apply::create_once(context, &tombstone.job(called)).await?;
        return Ok(Action::requeue(Settings::JOB_PERIOD));
    };
    observe(context, backup, &job).await
}

async fn observe(context: &Context, backup: &Backup, job: &Job) -> Result<Action> {
    let (reason, message) = match job::observe(context, job, PENDING).await? {
        Observed::Waiting(..) | Observed::Running(_) => return Ok(Action::requeue(Settings::JOB_PERIOD)),
        Observed::Ended { report, .. } => {
            let error = report.error.clone();
            // What is not there any more needs no mark.
            let gone = error.as_ref().is_some_and(|error| error.code.starts_with("notfound."));
            if report.state == hardstorage_report::RunState::Succeeded || gone {
                return let_go(context, backup, Some(job)).await;
            }
            error.map_or_else(
                || ("ReportLost".to_owned(), "the engine gave no reason".to_owned()),
                |error| {
                    let reason = crate::condition::reason_of(&error.code);
                    (reason, format!("{}; {}", error.message, error.hint))
                },
            )
        }
        Observed::Failed { reason, message, .. } => {
            (reason.as_str().to_owned(), format!("{message}; {}", reason.hint()))
        }
    };
    job::heard(context, job).await?;
    let made = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
    if made.is_none_or(|made| elapsed(made, context.now()) >= AGAIN) {
        apply::delete(context, job).await?;
    }
    let message =
        format!("its data could not be marked as deleted: {message}; take the annotation away to keep the data");
    say(context, backup, &reason, &message).await?;
    Ok(Action::requeue(Duration::from_mins(1)))
}

/// Lets the object go, and its Job with it.
async fn let_go(context: &Context, backup: &Backup, job: Option<&Job>) -> Result<Action> {
    if let Some(job) = job {
        job::heard(context, job).await?;
        let note = format!("backup {} is marked as deleted", with_data(backup).unwrap_or_default());
        context.tell(&backup.object_ref(&()), false, "DataDeleted", &note).await;
    }
    apply::set_finalizer(context, backup, FINALIZER, false).await?;
    if let Some(job) = job {
        apply::delete(context, job).await?;
    }
    Ok(Action::await_change())
}

/// Says what it waits for.
pub async fn refused(context: &Context, backup: &Backup, refusal: &Refusal) -> Result<Action> {
    let message = format!(
        "its data cannot be marked as deleted: {}; take the annotation away to keep the data",
        refusal.text()
    );
    say(context, backup, &refusal.reason, &message).await?;
    Ok(Action::requeue(Duration::from_mins(1)))
}

async fn say(context: &Context, backup: &Backup, reason: &str, message: &str) -> Result<()> {
    let phase = backup.status.as_ref().and_then(|status| status.phase.clone());
    let writer = Writer::new(backup, context.now());
    let (status, _) = writer.waits(phase.unwrap_or(BackupPhase::Completed), reason, message, true);
    let (before, after) = (serde_json::to_value(&backup.status)?, serde_json::to_value(status)?);
    if apply::write_status_of_seen(context, "Backup", backup, &before, &after).await? {
        context.tell(&backup.object_ref(&()), true, reason, message).await;
    }
    Ok(())
}

async fn repository(context: &Context, backup: &Backup, namespace: &str) -> Result<Result<RepositoryRef, Refusal>> {
    if let Some(recorded) = &backup.spec.recorded {
        return Ok(Ok(recorded.repository_ref.clone()));
    }
    let name = backup
        .spec
        .deployment_ref
        .as_ref()
        .map(|reference| reference.name.as_str());
    let found = target::deployment(context, namespace, name.unwrap_or_default()).await?;
    Ok(found.map(|deployment| deployment.spec.repository_ref))
}

/// Whether one of our objects that it belongs to is gone or going: then it goes by the way, and nobody meant its data.
async fn owner_goes(context: &Context, backup: &Backup, namespace: &str) -> Result<bool> {
    for owner in backup.owner_references() {
        if !owner.api_version.starts_with(hardstorage_crds::GROUP) {
            continue;
        }
        let stays = match owner.kind.as_str() {
            "Deployment" => stays::<ProtectedDeployment>(context, namespace, owner).await?,
            "Repository" => stays::<Repository>(context, namespace, owner).await?,
            _ => true,
        };
        if !stays {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn stays<K>(context: &Context, namespace: &str, owner: &OwnerReference) -> Result<bool>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let found = apply::get::<Guarded<K>>(context, namespace, &owner.name).await?;
    Ok(found.is_some_and(|object| {
        object.meta().uid.as_ref() == Some(&owner.uid) && object.meta().deletion_timestamp.is_none()
    }))
}

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;

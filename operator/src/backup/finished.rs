//! Backups about which nothing is left to do: they are not held. There are many of them, and each says one thing for ever.
//!
//! What may be left of a finished run is its Job, when we were broken off behind its last status. Such Jobs are few, and are
//! looked at for themselves.

use std::sync::Arc;

use hardstorage_crds::condition::STALLED;
use hardstorage_crds::{Backup, BackupPhase};
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Resource as _, ResourceExt as _};

use super::decide::run_id;
use super::run::{REST, Run};
use super::{mirror, of_job};
use crate::apply;
use crate::context::Context;
use crate::controllers::api;
use crate::error::{Error, Result};
use crate::guarded::Guarded;
use crate::job;
use crate::names::{Role, annotation, label};
use crate::unfinished;

/// Whether nothing is left to do about a Backup, or to be said of it to anybody who counts what is wrong. One that cannot be
/// read is none of them.
pub fn is_finished(backup: &Guarded<Backup>) -> bool {
    let Ok(backup) = &backup.0 else { return false };
    let status = backup.status.as_ref();
    let is_over = if backup.spec.recorded.is_some() {
        status.is_some()
    } else {
        let phase = status.and_then(|status| status.phase.as_ref());
        let mut conditions = status.iter().flat_map(|status| &status.conditions);
        // A failure is looked into for a while, and stays in sight.
        matches!(phase, Some(BackupPhase::Completed | BackupPhase::Tombstoned))
            && !conditions.any(|one| one.type_ == STALLED && one.status == "True")
    };
    is_over
        && backup.metadata.deletion_timestamp.is_none()
        && backup.finalizers().is_empty()
        && !backup.annotations().contains_key(annotation::DELETE_DATA)
}

/// A controller of the Jobs of runs that are not put away.
pub fn jobs(context: &Context) -> Controller<Guarded<Job>> {
    let selector = format!("{}={}", label::ROLE, Role::Backup.as_str());
    unfinished::controller(api(context), watcher::Config::default().labels(&selector), is_put_away)
}

fn is_put_away(job: &Guarded<Job>) -> bool {
    let metadata = job.meta();
    metadata.deletion_timestamp.is_some() || job.annotations().contains_key(annotation::STORED)
}

/// Puts a Job away whose run is finished. While it is not, its Backup is held and sees to it; that it ends there does not
/// change the Job, so that this looks again.
pub async fn put_away(job: Arc<Job>, context: Arc<Context>) -> Result<Action> {
    let Some(backup) = backup_of(&context, &job).await? else {
        return Ok(Action::requeue(REST));
    };
    let guarded = Guarded(Ok(backup));
    let (true, Ok(backup)) = (is_finished(&guarded), &guarded.0) else {
        return Ok(Action::requeue(REST));
    };
    let namespace = backup.namespace().ok_or(Error::Incomplete("namespace"))?;
    let deployment = backup.spec.deployment_ref.as_ref();
    let run = Run {
        context: &context,
        backup,
        namespace: &namespace,
        deployment: deployment.map_or("", |deployment| &deployment.name),
    };
    run.put_away(Some(&job)).await?;
    Ok(Action::await_change())
}

/// The Backup whose run a Job is: the one that it is named after, or another of its schedule when that name was taken.
async fn backup_of(context: &Context, job: &Job) -> Result<Option<Backup>> {
    let run = job::run_id(job);
    let is_its = |backup: &Backup| run_id(backup).as_deref() == run;
    let namespace = job.namespace().ok_or(Error::Incomplete("namespace"))?;
    let named = of_job(job).map(|reference| reference.name);
    if let Some(name) = named
        && let Some(Guarded(Ok(found))) = apply::get(context, &namespace, &name).await?
        && is_its(&found)
    {
        return Ok(Some(found));
    }
    let Some(schedule) = job.labels().get(label::SCHEDULE) else {
        return Ok(None);
    };
    let of_schedule = mirror::objects_of_schedule(context, &namespace, schedule).await?;
    Ok(of_schedule.into_iter().find(is_its))
}

#[cfg(test)]
#[path = "finished_tests.rs"]
mod tests;

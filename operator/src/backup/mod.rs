//! Backup: one run, or the mirror of a backup that lies in a repository.
//!
//! A mirror starts nothing; its status is written by those who read the catalogue. A run is a wish, which becomes one Job,
//! or stands for a Job that a schedule's CronJob made. Either way the object says how far it is and what came of it.

mod build;
mod decide;
mod delete;
mod finished;
pub mod ledger;
mod lookup;
pub mod mirror;
mod run;
mod status;
mod store;
pub mod target;
pub mod turn;

use std::sync::Arc;

use crate::guarded::Guarded;
use hardstorage_crds::{Backup, BackupPhase, BackupStatus, Origin};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::apply;
use crate::condition::Conditions;
use crate::context::Context;
use crate::controllers::{api, drive, drive_unshown, ours};
use crate::error::{Error, Result};
use crate::names::{MANAGER, Role, label};
use crate::repository::Refusal;
use crate::unfinished;

pub use build::{Manner, Taking, job_name};
pub use decide::is_sought;
#[cfg(test)]
pub use run::tests;

/// Runs the controller.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let backups = api::<Guarded<Backup>>(&context);
    let controller = unfinished::controller(backups, watcher::Config::default(), finished::is_finished).watches(
        api::<Job>(&context),
        ours(),
        |job| of_job(&job),
    );
    let jobs = finished::jobs(&context);
    tokio::join!(
        drive("Backup", controller, context.clone(), stop.clone(), reconcile),
        drive_unshown("Job", jobs, context, stop, finished::put_away),
    );
}

/// The Backup that a Job was made for, or that is named after it.
fn of_job(job: &Job) -> Option<ObjectRef<Guarded<Backup>>> {
    let labels = job.labels();
    let role = labels.get(label::ROLE)?;
    let named = match labels.get(label::BACKUP) {
        Some(backup) => Some(backup.clone()),
        None if role == Role::Backup.as_str() => Some(job.name_any()),
        None => None,
    };
    Some(ObjectRef::new(&named?).within(&job.namespace()?))
}

pub(crate) async fn reconcile(backup: Arc<Backup>, context: Arc<Context>) -> Result<Action> {
    if backup.metadata.deletion_timestamp.is_some() {
        return match delete::go(&context, &backup).await {
            Err(error) => delete::refused(&context, &backup, &Refusal::of_right(error)?).await,
            gone => gone,
        };
    }
    if delete::watch_over(&context, &backup).await? {
        // The change wakes us.
        return Ok(Action::await_change());
    }
    let namespace = backup.namespace().ok_or(Error::Incomplete("namespace"))?;
    if let (None, Some(reference)) = (&backup.spec.recorded, &backup.spec.deployment_ref) {
        let run = run::Run {
            context: &context,
            backup: &backup,
            namespace: &namespace,
            deployment: &reference.name,
        };
        return run.go().await;
    }
    if backup.status.is_none() {
        if is_being_made(&backup, &context) {
            return Ok(Action::requeue(run::REST));
        }
        let status = serde_json::to_value(not_read(&backup, &context))?;
        apply::write_first_status(&context, "Backup", backup.as_ref(), &status).await?;
    }
    Ok(Action::await_change())
}

/// Whether it is one of ours that was made just now: its status, which says more, is on its way.
fn is_being_made(backup: &Backup, context: &Context) -> bool {
    let made = backup.metadata.creation_timestamp.as_ref().map(|time| time.0);
    backup.labels().get(label::MANAGED_BY).map(String::as_str) == Some(MANAGER)
        && made.is_some_and(|made| decide::elapsed(made, context.now()) < run::REST)
}

/// The first status of a mirror that somebody else made: without one it would count as finished.
fn not_read(backup: &Backup, context: &Context) -> BackupStatus {
    let mut conditions = Conditions::new(&[], backup.metadata.generation, context.now());
    conditions.progressing(
        "CatalogNotRead",
        "the catalogue of its repository has not been read yet",
    );
    BackupStatus {
        observed_generation: backup.metadata.generation,
        conditions: conditions.finish(),
        phase: Some(BackupPhase::Pending),
        origin: Some(Origin::Repository),
        ..BackupStatus::default()
    }
}

#[cfg(test)]
mod first_status {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use crate::remembering::Server;
    use crate::scripted::Answers;
    use jiff::Timestamp;
    use serde_json::json;

    const MIRROR: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups/mine";

    /// We made a mirror and wrote its status; the watch told of the making only.
    #[tokio::test]
    async fn what_the_catalogue_said_is_not_written_over() {
        let bare = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "mine", "namespace": "team", "uid": "own"},
            "spec": {"recorded": {"repositoryRef": {"name": "main"}, "name": "team.orders", "backupID": "an-id"}}});
        let server = Server::new(vec![(MIRROR, bare)], Timestamp::UNIX_EPOCH);
        let seen = server.get::<Backup>(MIRROR).unwrap();
        server.change(MIRROR, |object| object["status"] = json!({"phase": "Completed"}));
        reconcile(Arc::new(seen), server.context(Answers::default()))
            .await
            .unwrap();
        let phase = |backup: Backup| backup.status.and_then(|status| status.phase);
        assert_eq!(phase(server.get(MIRROR).unwrap()), Some(BackupPhase::Completed));

        server.change(MIRROR, |object| {
            object.as_object_mut().unwrap().remove("status");
        });
        let seen = server.get::<Backup>(MIRROR).unwrap();
        reconcile(Arc::new(seen), server.context(Answers::default()))
            .await
            .unwrap();
        assert_eq!(phase(server.get(MIRROR).unwrap()), Some(BackupPhase::Pending));
    }

    /// Thousands are made in a row, each with its status behind it; one that we were broken off at gets its first one.
    #[tokio::test]
    async fn ours_waits_for_the_status_that_is_on_its_way() {
        let bare = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "mine", "namespace": "team", "uid": "own", "creationTimestamp": "1970-01-01T00:00:00Z",
                "labels": {label::MANAGED_BY: MANAGER}},
            "spec": {"recorded": {"repositoryRef": {"name": "main"}, "name": "team.orders", "backupID": "an-id"}}});
        for (second, wanted) in [(59, None), (60, Some(BackupPhase::Pending))] {
            let server = Server::new(vec![(MIRROR, bare.clone())], Timestamp::from_second(second).unwrap());
            let seen = server.get::<Backup>(MIRROR).unwrap();
            reconcile(Arc::new(seen), server.context(Answers::default()))
                .await
                .unwrap();
            let after: Backup = server.get(MIRROR).unwrap();
            assert_eq!(after.status.and_then(|status| status.phase), wanted);
        }
    }
}

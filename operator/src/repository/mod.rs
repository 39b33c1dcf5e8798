//! Repository: found or created, with its key; looked at, checked, and shown; and who may use it.
//!
//! Each reconcile looks at everything, judges it, shows a catalogue that was read, writes the status, and takes at most one
//! step. What it remembers lies in the status and on the Jobs, so a crash between any two lines costs a look and no more.

mod access;
mod build;
mod copies;
mod decide;
mod fetch;
mod news;
mod outcome;
mod resolve;
mod restoring;
#[cfg(test)]
mod samples;
mod share;
mod status;
mod steps;
mod verdict;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::guarded::Guarded;
use hardstorage_crds::{ProtectedDeployment, Repository, Restore};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::ResourceExt as _;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::backup::turn::is_over;
use crate::context::Context;
use crate::controllers::{api, drive, ours};
use crate::error::Result;
use crate::names::{Role, label};
use crate::settings::Settings;
use decide::{Facts, Step, decide};
use hardstorage_schedule::Plan;
use share::Signers;
use status::{Seen, status, unseen};
use steps::Steps;
use verdict::{judge, without_secret};

pub use access::{Intent, Refusal};
pub use resolve::{Resolved, resolve};

/// How soon one is looked at again that may not be looked at.
const REST: Duration = Duration::from_mins(1);
/// Its Secrets are no objects of ours, and nothing wakes us when one goes. A claim is looked for more often: it takes its data
/// along as soon as nobody uses it.
const LOOK: Duration = Duration::from_mins(5);

/// Runs the controller.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let (signers, seen) = (Arc::new(Signers::default()), Seens::default());
    let controller = Controller::new(api::<Guarded<Repository>>(&context), watcher::Config::default())
        .owns(api::<CronJob>(&context), ours())
        .watches(api::<Job>(&context), ours(), |job| of_job(&job))
        .watches(
            api::<Guarded<ProtectedDeployment>>(&context),
            watcher::Config::default(),
            move |guard| of_deployment(&guard, &seen),
        )
        .watches(api::<Guarded<Restore>>(&context), watcher::Config::default(), |guard| {
            restoring::of_restore(&guard)
        });
    drive("Repository", controller, context, stop, move |repository, context| {
        reconcile(repository, context, signers.clone())
    })
    .await;
}

/// The Repository that a Job works for: one of its own, or a backup that is over.
fn of_job(job: &Job) -> Option<ObjectRef<Guarded<Repository>>> {
    let roles = [Role::Probe, Role::Init, Role::Sync, Role::Check].map(Role::as_str);
    let labels = job.labels();
    let role = labels.get(label::ROLE)?.as_str();
    let name = labels.get(label::REPOSITORY)?;
    let namespace = if roles.contains(&role) {
        job.namespace()?
    } else if role == Role::Backup.as_str() && is_over(job) {
        labels.get(label::REPOSITORY_NAMESPACE)?.clone()
    } else {
        return None;
    };
    Some(ObjectRef::new(name).within(&namespace))
}

/// What was seen of Deployments, by UID: the generation, and the newest backup.
type Seens = Mutex<HashMap<String, (Option<i64>, Option<String>)>>;

/// The Repository that a Deployment uses, when its spec has changed, it has a new backup, or it is being deleted: what else
/// its status says, and that is every minute something else, is no news to the Repository.
fn of_deployment(guard: &Guarded<ProtectedDeployment>, seen: &Seens) -> Option<ObjectRef<Guarded<Repository>>> {
    let deployment = guard.0.as_ref().ok()?;
    let last = deployment
        .status
        .as_ref()
        .and_then(|status| status.last_backup.as_ref());
    let is = (deployment.metadata.generation, last.and_then(|last| last.id.clone()));
    let uid = deployment.uid()?;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if deployment.metadata.deletion_timestamp.is_some() {
        seen.remove(&uid);
    } else if seen.insert(uid, is.clone()) == Some(is) {
        return None;
    }
    let reference = &deployment.spec.repository_ref;
    let namespace = reference.namespace.clone().or_else(|| deployment.namespace())?;
    Some(ObjectRef::new(&reference.name).within(&namespace))
}

async fn reconcile(repository: Arc<Repository>, context: Arc<Context>, signers: Arc<Signers>) -> Result<Action> {
    if repository.metadata.deletion_timestamp.is_some() {
        // Its Jobs go with it, and everything else stays: backups, keys, claims.
        return Ok(Action::await_change());
    }
    let before = repository.status.clone().unwrap_or_default();
    // Boxed: what is looked at is much, and is done with before anything is done about it.
    let found = match Box::pin(fetch::fetch(&context, &repository)).await {
        Ok(found) => found,
        Err(error) => {
            let (after, conditions) = unseen(&repository, &Refusal::of_right(error)?, context.now());
            Box::pin(steps::write(&context, &repository, &before, &after, &conditions)).await?;
            return Ok(Action::requeue(REST));
        }
    };
    let mut verdict = judge(&repository.spec, &before, &found.claim, &found.probe, &found.init);
    if found.key_gone {
        verdict = without_secret(verdict);
    }
    let maintenance = repository.spec.maintenance.clone().unwrap_or_default();
    let seed = format!(
        "{}/{}",
        repository.namespace().unwrap_or_default(),
        repository.name_any()
    );
    let plan = Plan::new(maintenance.schedule.as_str(), &maintenance.time_zone, &seed);
    let problem = plan.as_ref().err().cloned();
    let problem = problem.or_else(|| steps::taken(found.cron.as_ref(), &repository));
    let steps = Steps {
        context: &context,
        repository: &repository,
        found: &found,
        signers: &signers,
    };
    let catalog = steps.show(&verdict).await?;
    let sharing = share::share(&context, &repository, &found.users.consumers, &signers).await?;
    let (after, conditions) = status(&Seen {
        repository: &repository,
        verdict: &verdict,
        probe: &found.probe,
        init: &found.init,
        sync: &found.sync,
        check: &found.check,
        catalog: catalog.as_ref(),
        sharing: &sharing,
        schedule: problem.as_deref(),
        now: context.now(),
    });
    steps::write(&context, &repository, &before, &after, &conditions).await?;
    steps.tidy(&after).await?;
    steps.keep_checking(&verdict, &after, plan.ok().as_ref()).await?;
    let step = decide(&Facts {
        spec: &repository.spec,
        generation: repository.metadata.generation.unwrap_or_default(),
        status: &after,
        verdict: &verdict,
        sync_now: repository
            .annotations()
            .get(crate::names::annotation::SYNC_NOW)
            .map(String::as_str),
        news: &found.users.news.word(),
        probe: &found.probe,
        init: &found.init,
        sync: &found.sync,
        now: context.now(),
    });
    if let Step::Wait(wait) = step {
        let longest = repository.spec.persistent_volume_claim.as_ref().map_or(LOOK, |_| REST);
        return Ok(Action::requeue(wait.min(longest)));
    }
    steps.admit().await?;
    steps.take(&step).await?;
    Ok(Action::requeue(Settings::JOB_PERIOD))
}

#[cfg(test)]
mod on_api_server;
#[cfg(test)]
mod tests;

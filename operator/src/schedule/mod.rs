//! BackupSchedule: a CronJob that takes backups, a Backup object for each of its Jobs, and what came of them.
//!
//! Each reconcile gives every Job its object, starts what is due, keeps the CronJob as it should be, removes what is past,
//! does the same for drills, and writes the status. It can be broken off between any two of these: each finds what is there.

mod build;
mod drill;
mod due;
mod fetch;
mod history;
#[cfg(test)]
pub mod samples;
mod status;

use std::sync::Arc;
use std::time::Duration;

use crate::guarded::Guarded;
use hardstorage_crds::condition::schedule::{LAST_DRILL_PASSED, LAST_RUN_SUCCEEDED};
use hardstorage_crds::condition::{READY, STALLED};
use hardstorage_crds::{Backup, BackupSchedule, Phase, ProtectedDeployment, Restore};
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::apply;
use crate::backup::ledger;
use crate::backup::target::Target;
use crate::condition::Conditions;
use crate::context::Context;
use crate::controllers::{api, drive, ours};
use crate::deployment::retention::{Outcome, newest};
use crate::error::{Error, Result};
use crate::names::{annotation, label};
use crate::repository::Refusal;
use crate::settings::Settings;
use build::Ground;
use due::{Due, Facts, due, is_young};
use fetch::Fetched;
use hardstorage_schedule::Plan;
use status::{Seen, is_running, rests, status};

/// What it depends on does not always wake us: the source, the repository.
const LOOK: Duration = Duration::from_mins(1);

/// Runs the controller.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let controller = Controller::new(api::<Guarded<BackupSchedule>>(&context), watcher::Config::default())
        .owns(api::<CronJob>(&context), ours())
        .watches(api::<Job>(&context), ours(), |job| of_run(&job))
        .watches(
            api::<Guarded<Backup>>(&context),
            watcher::Config::default().labels(label::SCHEDULE),
            |backup| of_run(&backup),
        )
        .watches(
            api::<Guarded<Restore>>(&context),
            watcher::Config::default().labels(label::SCHEDULE),
            |restore| drill::of_drill(&restore),
        );
    drive("BackupSchedule", controller, context, stop, reconcile).await;
}

/// The schedule that a Job or a Backup belongs to.
fn of_run<K: kube::Resource>(object: &K) -> Option<ObjectRef<Guarded<BackupSchedule>>> {
    let name = object.meta().labels.as_ref()?.get(label::SCHEDULE)?;
    Some(ObjectRef::new(name).within(object.meta().namespace.as_deref()?))
}

async fn reconcile(schedule: Arc<BackupSchedule>, context: Arc<Context>) -> Result<Action> {
    if schedule.metadata.deletion_timestamp.is_some() {
        // The CronJob goes with it, and every backup stays.
        return Ok(Action::await_change());
    }
    match look(&schedule, &context).await {
        Err(error) => {
            let refusal = Refusal::of_right(error)?;
            let (after, conditions) = status::unseen(&schedule, &refusal, context.now());
            write(&context, &schedule, &serde_json::to_value(after)?, &conditions).await?;
            Ok(Action::requeue(LOOK))
        }
        looked => looked,
    }
}

async fn look(schedule: &BackupSchedule, context: &Context) -> Result<Action> {
    let found = fetch::fetch(context, schedule).await?;
    let steps = Steps {
        context,
        schedule,
        found: &found,
    };
    let (namespace, name) = (schedule.namespace().unwrap_or_default(), schedule.name_any());
    let spec = &schedule.spec;
    let plan = Plan::new(spec.schedule.as_str(), &spec.time_zone, &format!("{namespace}/{name}"));
    let adopted = steps.adopt().await?;
    let (started, refused) = match steps.keep(plan.as_ref().ok()).await {
        Ok(started) => (started, None),
        Err(error) => (false, Some(Refusal::of_job(error)?)),
    };
    let (history, runs) = (spec.history.clone().unwrap_or_default(), found.runs(schedule));
    for job in history::past(&history, &found.jobs) {
        apply::delete(context, job).await?;
    }
    for backup in history::spent(&history, &runs, context.now()) {
        apply::delete(context, backup).await?;
    }
    let drilled = drill::keep(context, schedule).await?;
    let retained = Outcome::over(&found.rotations);
    let (after, conditions) = status(&Seen {
        schedule,
        plan: plan.as_ref().map_err(String::as_str),
        refusal: found.target.as_ref().err().or(refused.as_ref()),
        name_taken: found.name_taken(schedule),
        backups: &runs,
        retention: retained.as_ref(),
        drilled: drilled.as_ref(),
        now: context.now(),
    });
    write(context, schedule, &serde_json::to_value(after)?, &conditions).await?;
    Ok(Action::requeue(if adopted || started {
        Settings::JOB_PERIOD
    } else {
        LOOK
    }))
}

/// One reconcile.
struct Steps<'a> {
    context: &'a Context,
    schedule: &'a BackupSchedule,
    found: &'a Fetched,
}

impl Steps<'_> {
    /// Gives each Job its Backup object; whether one was missing.
    async fn adopt(&self) -> Result<bool> {
        // Its objects go with the Deployment, as its mirrors do.
        let owner = self.found.target.as_ref().ok();
        let owner = owner.and_then(|target| target.deployment.owner_ref(&()));
        let missing = history::missing(self.schedule, owner.as_ref(), &self.found.jobs, &self.found.backups);
        for backup in &missing {
            apply::create_once(self.context, backup).await?;
        }
        Ok(!missing.is_empty())
    }

    /// Starts what is due, and keeps the CronJob; whether something was started. What cannot be built now is left as it
    /// is, but rests when there is nothing to back up.
    async fn keep(&self, plan: Option<&Plan>) -> Result<bool> {
        let (Some(plan), false) = (plan, self.found.name_taken(self.schedule)) else {
            return Ok(false);
        };
        let existing = self.found.cron_job.as_ref();
        let target = match &self.found.target {
            Ok(target) => target,
            Err(refusal) => {
                if let (Some(existing), true) = (existing, rests(refusal)) {
                    self.rest(existing).await?;
                }
                return Ok(false);
            }
        };
        let image = self.context.settings.engine();
        let ground = Ground {
            schedule: self.schedule,
            target,
            image: &image,
        };
        let remembered = existing.and_then(|cron_job| cron_job.annotations().get(annotation::RUN_NOW));
        let asked = self.schedule.annotations().get(annotation::RUN_NOW);
        let facts = self.facts(plan, &target.deployment, remembered.map(String::as_str));
        let mut job = due(&facts, self.context.now());
        if job.as_ref().is_some_and(|due| !due.asked) && !self.has_nothing_young(target, facts.interval).await? {
            job = None;
        }
        if let Some(Due { job: name, .. }) = &job {
            let namespace = self.schedule.namespace().unwrap_or_default();
            let known = apply::get::<Guarded<Backup>>(self.context, &namespace, name).await?;
            // One that has its object already has run, and its Job is past.
            if known.is_none() {
                apply::create_once(self.context, &ground.job(name.clone())).await?;
            }
        }
        // What was asked for is remembered once its Job is there; while another runs it still waits.
        let done = if job.is_some() { asked } else { remembered };
        let wanted = ground.cron_job(plan, done.map(String::as_str));
        apply::apply_changed(self.context, existing, wanted).await?;
        Ok(job.is_some())
    }

    fn facts<'a>(&'a self, plan: &Plan, deployment: &ProtectedDeployment, done: Option<&'a str>) -> Facts<'a> {
        let status = deployment.status.clone().unwrap_or_default();
        let before = self.schedule.status.as_ref();
        let runs = self.found.backups.iter().filter(|backup| {
            backup.spec.recorded.is_none()
                && backup.labels().get(label::SCHEDULE) == self.schedule.metadata.name.as_ref()
        });
        let jobs = self
            .found
            .jobs
            .iter()
            .filter_map(|job| job.metadata.creation_timestamp.as_ref());
        let last_run = runs
            .filter_map(status::began)
            .chain(jobs.map(|time| time.0))
            .chain(before.and_then(|status| status.last_time.as_ref()).map(|time| time.0))
            .max();
        Facts {
            name: self.schedule.metadata.name.as_deref().unwrap_or_default(),
            uid: self.schedule.metadata.uid.as_deref().unwrap_or_default(),
            run_now: self.schedule.annotations().get(annotation::RUN_NOW).map(String::as_str),
            done,
            immediate: self.schedule.spec.immediate,
            suspended: self.schedule.spec.suspend,
            running: is_running(&self.found.jobs),
            // A stream that flows has told what is there.
            catalog_known: matches!(status.phase, Some(Phase::Streaming | Phase::CatchingUp)),
            newest: status.last_backup.and_then(|last| last.time).map(|time| time.0),
            last_run,
            interval: plan.interval(self.context.now()),
        }
    }

    async fn rest(&self, cron_job: &CronJob) -> Result<()> {
        if cron_job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
            return Ok(());
        }
        let namespace = cron_job.namespace().ok_or(Error::Incomplete("namespace"))?;
        let api: Api<CronJob> = Api::namespaced(self.context.client.clone(), &namespace);
        let body = json!({"metadata": {"uid": cron_job.uid()}, "spec": {"suspend": true}});
        api.patch(&cron_job.name_any(), &PatchParams::default(), &Patch::Merge(&body))
            .await?;
        Ok(())
    }

    /// Asks the stream itself: its Deployment's status may be of before the catalogue was read, as when all objects have just
    /// come back from Git. What cannot be asked has something, perhaps.
    async fn has_nothing_young(&self, target: &Target, interval: Option<SignedDuration>) -> Result<bool> {
        let namespace = self.schedule.namespace().unwrap_or_default();
        let deployment = &self.schedule.spec.deployment_ref.name;
        let (Some(interval), Ok(catalog)) = (interval, ledger::catalog(self.context, &namespace, deployment).await?)
        else {
            return Ok(false);
        };
        let newest = newest(&target.name, &catalog.backups).and_then(|record| record.stopped_at);
        Ok(!is_young(newest, interval, self.context.now()))
    }
}

/// Writes the status, and an event for what has changed.
async fn write(
    context: &Context,
    schedule: &BackupSchedule,
    after: &serde_json::Value,
    conditions: &Conditions,
) -> Result<()> {
    let before = serde_json::to_value(&schedule.status)?;
    if !apply::write_status_of_seen(context, "BackupSchedule", schedule, &before, after).await? {
        return Ok(());
    }
    let about = schedule.object_ref(&());
    let stalled = conditions.get(STALLED).is_some_and(|stalled| stalled.status == "True");
    for condition in conditions.changed() {
        let warning = match condition.type_.as_str() {
            READY => stalled,
            LAST_RUN_SUCCEEDED | LAST_DRILL_PASSED if condition.status == "False" => true,
            _ => continue,
        };
        context
            .tell(&about, warning, &condition.reason, &condition.message)
            .await;
    }
    Ok(())
}

#[cfg(test)]
mod runs_tests;
#[cfg(test)]
mod tests;

//! The plan: made by a Job, stored, and made again while it cannot be made. Nothing is touched before it is stored.

use std::collections::BTreeSet;
use std::time::Duration;

use hardstorage_crds::{Reachable, Restore, RestoreFailure, RestorePhase, Subscriptions};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::controller::Action;

use super::decide::nearest;
use super::destination::{self, Wanted};
use super::plan::{self, Made, Outcome};
use super::run::{PENDING, REST, WAIT, Work, failure_of};
use super::target::wanted_time;
use super::{build, fetch, resolve};
use crate::apply;
use crate::condition::reason_of;
use crate::error::Result;
use crate::job::{self, Observed};
use crate::repository::Refusal;
use crate::settings::Settings;

impl Work<'_> {
    /// The Job that plans, made or looked at.
    pub(super) async fn plan(&self, time: Option<Timestamp>, nearest: Option<Timestamp>) -> Result<Action> {
        let name = build::plan_name(self.restore, nearest);
        if let Some(job) = fetch::job(self.context, self.restore, &name).await? {
            return self.planning(&job, time, nearest).await;
        }
        let source = match resolve::source(self.context, self.namespace, self.restore).await? {
            Ok(source) => source,
            Err(refusal) => return self.held_up(RestorePhase::Pending, &refusal).await,
        };
        if let Err(refusal) = destination::can_read(self.restore, &source.repository.access) {
            let reason = refusal.reason.clone();
            return self.refuse(None, &reason, failure_of(refusal)).await;
        }
        let engine = self.engine();
        let ground = self.ground(&source, &engine).await?;
        if let Err(error) = apply::create_once(self.context, &job::build(build::plan(&ground, time, nearest))).await {
            return self.held_up(RestorePhase::Pending, &Refusal::of_job(error)?).await;
        }
        self.write(
            self.writer()
                .waits(RestorePhase::Pending, "Planning", "the plan is being made", false),
        )
        .await?;
        Ok(Action::requeue(Settings::JOB_PERIOD))
    }

    async fn planning(&self, job: &Job, time: Option<Timestamp>, nearest: Option<Timestamp>) -> Result<Action> {
        if job.metadata.deletion_timestamp.is_some() {
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        let (reason, message) = match job::observe(self.context, job, PENDING).await? {
            Observed::Waiting(reason, message) => {
                self.write(self.writer().waits(RestorePhase::Pending, reason, &message, false))
                    .await?;
                return Ok(Action::requeue(Settings::JOB_PERIOD));
            }
            Observed::Running(_) => return Ok(Action::requeue(Settings::JOB_PERIOD)),
            Observed::Ended { report, .. } => match plan::read(&report, self.restore, time) {
                Outcome::Made(made) => return self.planned(job, *made, nearest.is_some()).await,
                Outcome::Unreachable(failure, reachable) => return self.unreachable(job, failure, reachable).await,
                Outcome::Refused(failure) => {
                    let reason = failure.code.as_deref().map(reason_of).unwrap_or_default();
                    return self.refuse(Some(job), &reason, failure).await;
                }
                Outcome::Again(reason, message) => (reason, message),
            },
            Observed::Failed { reason, message, .. } => {
                (reason.as_str().to_owned(), format!("{message}; {}", reason.hint()))
            }
        };
        self.write(self.writer().waits(RestorePhase::Pending, &reason, &message, true))
            .await?;
        let made = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let age = made.map(|made| self.context.now().duration_since(made));
        if age.is_none_or(|age| age >= REST.try_into().unwrap_or_default()) {
            job::heard(self.context, job).await?;
            apply::delete(self.context, job).await?;
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        Ok(Action::requeue(WAIT))
    }

    async fn planned(&self, job: &Job, made: Made, nearest: bool) -> Result<Action> {
        let mut made = made;
        // What is wanted follows from the plan, so it is looked at as if it were stored.
        let mut object = self.restore.clone();
        object.status.get_or_insert_default().plan = Some(made.plan.clone());
        match destination::wanted(&object, &self.engine()) {
            Ok(wanted) => complete(&mut made, &object, &wanted),
            Err(refusal) => {
                return self
                    .refuse(Some(job), &refusal.reason.clone(), failure_of(refusal))
                    .await;
            }
        }
        if nearest {
            let moment = made.target.moment.clone().unwrap_or_default();
            let wish = self
                .restore
                .spec
                .recovery_target
                .as_ref()
                .and_then(|target| target.time.clone());
            let wish = wish.unwrap_or_default();
            made.plan
                .warnings
                .insert(0, format!("{wish} cannot be reached: the nearest moment is {moment}"));
        }
        let writer = self.writer();
        self.write(writer.planned(made, nearest)).await?;
        job::heard(self.context, job).await?;
        Ok(Action::requeue(Duration::ZERO))
    }

    async fn unreachable(&self, job: &Job, failure: RestoreFailure, reachable: Option<Reachable>) -> Result<Action> {
        let mut object = self.restore.clone();
        object.status.get_or_insert_default().reachable.clone_from(&reachable);
        let wanted = wanted_time(self.restore).ok().flatten();
        let first = nearest(self.restore, wanted).is_none();
        if first
            && nearest(&object, wanted).is_some()
            && let Some(reachable) = reachable
        {
            self.write(self.writer().takes_nearest(&failure, reachable)).await?;
            self.put_away(job, &RestorePhase::Pending).await?;
            return Ok(Action::requeue(Duration::ZERO));
        }
        self.write(self.writer().unreachable(failure, reachable)).await?;
        self.put_away(job, &RestorePhase::Refused).await?;
        Ok(Action::await_change())
    }

    /// The plan is stored: its Job is of no use any more.
    pub(super) async fn tidy_plan(&self) -> Result<()> {
        let wanted = wanted_time(self.restore).ok().flatten();
        let times = [None, nearest(self.restore, wanted), self.planned_time()];
        let names: BTreeSet<String> = times
            .into_iter()
            .map(|time| build::plan_name(self.restore, time))
            .collect();
        for name in names {
            if let Some(job) = fetch::job(self.context, self.restore, &name).await?
                && job.metadata.deletion_timestamp.is_none()
            {
                self.put_away(&job, &RestorePhase::Planned).await?;
            }
        }
        Ok(())
    }

    fn planned_time(&self) -> Option<Timestamp> {
        let target = self.restore.status.as_ref()?.target.as_ref()?;
        target.time.as_ref().map(|time| time.0)
    }
}

/// What is known of the place goes into the plan.
fn complete(made: &mut Made, restore: &Restore, wanted: &Wanted) {
    let first = wanted.claims.first().and_then(|claim| claim.spec.as_ref());
    let requests = first.and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    made.plan.claim_size = requests.and_then(|requests| Some(requests.get("storage")?.0.clone()));
    made.plan.image = wanted.postgres.as_ref().map(|image| image.name.clone());
    if wanted.postgres.is_none() && restore.spec.subscriptions == Subscriptions::Disable {
        made.plan.warnings.push(
            "the first server that is started on the claim recovers it, and its logical subscriptions are as they were in \
             the source: to have them disabled, set postgresImage"
                .to_owned(),
        );
    }
}

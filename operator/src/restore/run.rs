//! The life of a Restore: planned, run, taken over or looked at.

use std::time::Duration;

use hardstorage_crds::{Restore, RestoreFailure, RestorePhase};
use hardstorage_report::ErrorReport;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use super::build::{self, Ground};
use super::decide::{Step, decide, is_over, is_restored, then};
use super::destination::{self, USED};
use super::fetch;
use super::resolve::Source;
use super::result::{Done, found_used};
use super::status::Writer;
use super::target::wanted_time;
use crate::apply;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::{self, FailureReason, Observed};
use crate::names::RESTORE_FINALIZER;
use crate::namespace::NamespaceFacts;
use crate::pod::Image;
use crate::repository::Refusal;
use crate::settings::Settings;

/// How soon something is looked at again that waits for another object, whose change does not wake us.
pub(super) const WAIT: Duration = Duration::from_secs(15);
/// The same for what only a person changes; a plan that could not be made is made again after so long.
pub(super) const REST: Duration = Duration::from_mins(1);
/// How long a pod may wait for a node.
pub(super) const PENDING: Duration = Duration::from_mins(15);

/// One reconcile.
pub struct Work<'a> {
    /// Shared.
    pub context: &'a Context,
    /// The object.
    pub restore: &'a Restore,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its UID.
    pub uid: &'a str,
}

impl Work<'_> {
    /// Does what is to be done, or says what the operator has no right to.
    pub async fn go(&self) -> Result<Action> {
        let going = self.restore.metadata.deletion_timestamp.is_some();
        let outcome = if going { self.delete().await } else { self.step().await };
        match outcome {
            Err(error) => self.lacks_right(error, going).await,
            done => done,
        }
    }

    async fn lacks_right(&self, error: Error, going: bool) -> Result<Action> {
        let status = self.restore.status.clone().unwrap_or_default();
        if is_over(&status) && !going {
            return Err(error);
        }
        let refusal = Refusal::of_right(error)?;
        let phase = status.phase.unwrap_or(RestorePhase::Pending);
        self.held_up(if going { RestorePhase::Cancelled } else { phase }, &refusal)
            .await
    }

    async fn step(&self) -> Result<Action> {
        let wanted = match wanted_time(self.restore) {
            Ok(wanted) => wanted,
            Err(text) => return self.no_time(&text).await,
        };
        let run = fetch::job(self.context, self.restore, &build::run_name(self.restore)).await?;
        match decide(self.restore, wanted, run.is_some()) {
            Step::Plan { nearest } => self.plan(nearest.or(wanted), nearest).await,
            Step::Planned => {
                self.tidy_plan().await?;
                self.write(self.writer().waits_for_approval()).await?;
                Ok(Action::await_change())
            }
            Step::Prepare => self.prepare().await,
            Step::Run => match run {
                Some(job) => self.observe(&job).await,
                None => Ok(Action::requeue(WAIT)),
            },
            Step::Adopt => self.adopt(run.as_ref()).await,
            Step::Check => self.check(run.as_ref()).await,
            Step::Rest => self.rest(run.as_ref()).await,
        }
    }

    pub(super) fn writer(&self) -> Writer {
        Writer::new(self.restore, self.context.now())
    }

    pub(super) fn engine(&self) -> Image {
        self.context.settings.engine()
    }

    async fn no_time(&self, text: &str) -> Result<Action> {
        let failure = RestoreFailure {
            code: Some(hardstorage_report::code::usage::TIME.as_str().to_owned()),
            message: Some(format!("recoveryTarget.time is no time: {text}")),
            hint: Some("make another Restore, with a time such as 2026-11-22T08:15:00Z".to_owned()),
            attempts: None,
        };
        self.write(self.writer().refused("UsageTime", failure)).await?;
        Ok(Action::await_change())
    }

    pub(super) async fn ground<'b>(&'b self, source: &'b Source, engine: &'b Image) -> Result<Ground<'b>> {
        let facts = NamespaceFacts::look(self.context, self.namespace).await?;
        Ok(Ground {
            restore: self.restore,
            source,
            engine,
            surroundings: facts.surroundings,
        })
    }

    /// The Job that fills the place.
    async fn observe(&self, job: &Job) -> Result<Action> {
        if job.metadata.deletion_timestamp.is_some() {
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        let writer = self.writer();
        match job::observe(self.context, job, PENDING).await? {
            Observed::Waiting(reason, message) => {
                self.write(writer.waits(RestorePhase::Preparing, reason, &message, false))
                    .await?;
                Ok(Action::requeue(Settings::JOB_PERIOD))
            }
            Observed::Running(report) => {
                self.write(writer.runs(report.as_deref())).await?;
                Ok(Action::requeue(Settings::JOB_PERIOD))
            }
            Observed::Ended { report, .. } if report.state == hardstorage_report::RunState::Succeeded => {
                self.restored(job, Done::of(&report)).await
            }
            Observed::Failed { .. } if job::is_complete(job) => self.restored(job, Done::unheard()).await,
            Observed::Ended { report, .. } => {
                let failure = told(report.error, job);
                if failure.code.as_deref().is_some_and(found_used) {
                    return self.refuse(Some(job), USED, failure).await;
                }
                self.fail(job, failure).await
            }
            Observed::Failed { reason, message, .. } => self.fail(job, untold(reason, message, job)).await,
        }
    }

    async fn restored(&self, job: &Job, done: Done) -> Result<Action> {
        self.note_restored(done).await?;
        self.put_away(job, &RestorePhase::Completed).await?;
        Ok(Action::requeue(Duration::ZERO))
    }

    /// Its data is complete: from now on nothing is taken away again, but the copy of a drill.
    pub(super) async fn note_restored(&self, done: Done) -> Result<()> {
        let next = destination::next(self.restore, &self.engine());
        let then = then(self.restore);
        self.write(self.writer().with_next(next).restored(done, then)).await
    }

    async fn fail(&self, job: &Job, failure: RestoreFailure) -> Result<Action> {
        self.write(self.writer().fails(failure)).await?;
        self.put_away(job, &RestorePhase::Failed).await?;
        Ok(Action::requeue(Duration::ZERO))
    }

    pub(super) async fn refuse(&self, job: Option<&Job>, reason: &str, failure: RestoreFailure) -> Result<Action> {
        self.write(self.writer().refused(reason, failure)).await?;
        if let Some(job) = job {
            self.put_away(job, &RestorePhase::Refused).await?;
        }
        Ok(Action::requeue(Duration::ZERO))
    }

    /// Nothing more happens: what is left of the work is put away.
    async fn rest(&self, run: Option<&Job>) -> Result<Action> {
        let status = self.restore.status.clone().unwrap_or_default();
        if status.observed_generation != self.restore.metadata.generation {
            // How its pods are run was changed, or a plan that was refused was let go: seen, and of no effect.
            self.write(self.writer().seen()).await?;
        }
        let phase = status.phase.clone().unwrap_or(RestorePhase::Completed);
        if let Some(job) = run.filter(|job| job.metadata.deletion_timestamp.is_none()) {
            self.put_away(job, &phase).await?;
        }
        self.tidy_plan().await?;
        if self.restore.spec.destination.drill.is_some() {
            return self.after_drill(&status).await;
        }
        // What was made and not finished goes with the object; what is finished stays.
        let unfinished = !is_restored(&status) && !fetch::own_claims(self.context, self.restore).await?.is_empty();
        apply::set_finalizer(self.context, self.restore, RESTORE_FINALIZER, unfinished).await?;
        Ok(Action::await_change())
    }

    /// It waits for another object, or for a person.
    pub(super) async fn held_up(&self, phase: RestorePhase, refusal: &Refusal) -> Result<Action> {
        self.write(
            self.writer()
                .waits(phase, &refusal.reason, &refusal.text(), !refusal.waits),
        )
        .await?;
        Ok(Action::requeue(if refusal.waits { WAIT } else { REST }))
    }
}

pub(super) fn failure_of(refusal: Refusal) -> RestoreFailure {
    RestoreFailure {
        code: Some(refusal.reason),
        message: Some(refusal.message),
        hint: Some(refusal.hint).filter(|hint| !hint.is_empty()),
        attempts: None,
    }
}

/// Why a run has failed, in the engine's words.
pub(super) fn told(error: Option<ErrorReport>, job: &Job) -> RestoreFailure {
    let (code, message, hint) = match error {
        Some(error) => (Some(error.code), error.message, error.hint),
        None => (
            None,
            "the engine ended without an error or a result".to_owned(),
            format!("look at the log of Job {}", job.name_any()),
        ),
    };
    RestoreFailure {
        code,
        message: Some(message),
        hint: Some(hint),
        attempts: Some(tries(job)),
    }
}

/// Why a run has failed that could not say it itself.
pub(super) fn untold(reason: FailureReason, message: String, job: &Job) -> RestoreFailure {
    RestoreFailure {
        code: Some(reason.as_str().to_owned()),
        message: Some(message),
        hint: Some(reason.hint().to_owned()),
        attempts: Some(tries(job)),
    }
}

fn tries(job: &Job) -> i32 {
    let failed = job.status.as_ref().and_then(|status| status.failed);
    failed.unwrap_or(1).max(1)
}

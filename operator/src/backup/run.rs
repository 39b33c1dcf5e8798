//! The life of a run: begun once, observed, looked up when it is gone, put away when its result is stored.

use std::time::Duration;

use crate::guarded::Guarded;
use hardstorage_crds::{Backup, BackupPhase, BackupSchedule, Failure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use super::build::{Manner, Taking, job_name};
use super::decide::{GRACE, Step, decide, elapsed, run_id};
use super::ledger::{self, Ledger};
use super::lookup::LOOKING_UP;
use super::status::{Writer, Written};
use super::store::ended;
use super::target;
use super::turn;
use crate::apply::{self, Made};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::{self, FailureReason, Observed};
use crate::names::{Role, annotation, label};
use crate::repository::Refusal;
use crate::settings::Settings;

/// How soon something is looked at again that waits for another object, whose change does not wake us.
pub(super) const WAIT: Duration = Duration::from_secs(15);
/// The same for what only a person changes.
pub(super) const REST: Duration = Duration::from_mins(1);

/// One reconcile of a run.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Shared.
    pub context: &'a Context,
    /// The object.
    pub backup: &'a Backup,
    /// Its namespace.
    pub namespace: &'a str,
    /// The Deployment.
    pub deployment: &'a str,
}

impl Run<'_> {
    /// Does what is to be done, or says what the operator has no right to.
    pub async fn go(&self) -> Result<Action> {
        match self.step().await {
            Err(error) if !self.is_settled() => {
                let refusal = Refusal::of_right(error)?;
                let status = self.backup.status.as_ref();
                let phase = status
                    .and_then(|status| status.phase.clone())
                    .unwrap_or(BackupPhase::Pending);
                let written = self.writer().waits(phase, &refusal.reason, &refusal.text(), true);
                self.write(written).await?;
                Ok(Action::requeue(REST))
            }
            other => other,
        }
    }

    /// Whether what came of it is known: that does not change for what is only left to be put away.
    fn is_settled(&self) -> bool {
        let phase = self.backup.status.as_ref().and_then(|status| status.phase.as_ref());
        matches!(
            phase,
            Some(BackupPhase::Completed | BackupPhase::Failed | BackupPhase::Tombstoned)
        )
    }

    async fn step(&self) -> Result<Action> {
        let job = self.job().await?;
        match decide(self.backup, job.is_some(), self.context.now()) {
            Step::Observe => match job {
                Some(job) => self.observe(&job).await,
                None => Ok(Action::requeue(WAIT)),
            },
            Step::Begin { pledged } => self.begin(pledged).await,
            Step::LookUp => self.look_up().await,
            Step::CameBack => self.came_back().await,
            Step::Seek => {
                self.put_away(job.as_ref()).await?;
                self.seek().await
            }
            Step::Rest => {
                self.put_away(job.as_ref()).await?;
                Ok(Action::await_change())
            }
        }
    }

    pub(super) fn writer(&self) -> Writer<'_> {
        Writer::new(self.backup, self.context.now())
    }

    /// The Job of the run: by the id of the run, not by its name.
    async fn job(&self) -> Result<Option<Job>> {
        let Some(run) = run_id(self.backup) else {
            return Ok(None);
        };
        let jobs: Api<Job> = Api::namespaced(self.context.client.clone(), self.namespace);
        let selector = format!("{}={}", label::ROLE, Role::Backup.as_str());
        let list = jobs.list(&ListParams::default().labels(&selector)).await?;
        Ok(list
            .items
            .into_iter()
            .find(|job| job::run_id(job) == Some(run.as_str()) && job.metadata.deletion_timestamp.is_none()))
    }

    /// The settings of the schedule that it belongs to.
    async fn manner(&self) -> Result<(Manner, Option<String>)> {
        let Some(name) = self.backup.labels().get(label::SCHEDULE) else {
            return Ok((Manner::of(None), None));
        };
        let found = apply::get::<Guarded<BackupSchedule>>(self.context, self.namespace, name).await?;
        let schedule = found.and_then(|guard| guard.0.ok());
        Ok((Manner::of(schedule.as_ref()), schedule.map(|_| name.clone())))
    }

    async fn begin(&self, pledged: bool) -> Result<Action> {
        let target = match target::look(self.context, self.namespace, self.deployment).await? {
            Ok(target) => target,
            Err(refusal) => return self.refused(&refusal).await,
        };
        let uid = self.backup.uid().ok_or(Error::Incomplete("uid"))?;
        // What we see may be older than what we wrote: then its Job may have come and gone.
        if pledged && !self.is_as_seen().await? {
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        let paused = target
            .deployment
            .spec
            .stream
            .as_ref()
            .is_some_and(|stream| stream.paused);
        if pledged && !paused {
            match ledger::look(self.context, self.namespace, self.deployment, &uid).await? {
                Ledger::Found(record) => return self.write(self.writer().found(&record)).await,
                Ledger::Absent => {}
                Ledger::Unheard(why) => {
                    let message = format!("whether it has run before is not known: {why}");
                    return self.wait("CatalogUnheard", &message, false, WAIT).await;
                }
            }
        }
        let pledge;
        let backup = if pledged {
            self.backup
        } else {
            pledge = self.pledge(&uid).await?;
            &pledge
        };
        let run = Run { backup, ..*self };
        let (manner, schedule) = self.manner().await?;
        let spec = &self.backup.spec;
        let taking = Taking {
            target: &target,
            image: self.context.settings.engine(),
            manner,
            from: spec.from.clone().unwrap_or_default(),
            checkpoint: spec.checkpoint.clone().unwrap_or_default(),
            label: spec.label.clone(),
            max_rate: spec.max_rate.clone().unwrap_or_else(hardstorage_crds::Rate::unlimited),
            schedule,
            backup: Some(self.backup.name_any()),
            run_id: Some(uid.clone()),
        };
        let name = job_name(&self.backup.name_any(), Role::Backup, &uid);
        let mut wanted = job::build(taking.plan(name.clone(), self.backup.controller_owner_ref(&())));
        wanted
            .annotations_mut()
            .insert(annotation::RUN_ID.to_owned(), uid.clone());
        let made = match apply::create_once(self.context, &wanted).await {
            Err(error) => return run.refused(&Refusal::of_job(error)?).await,
            Ok(Made::Created(job)) => job,
            Ok(Made::Exists) => match apply::get::<Job>(self.context, self.namespace, &name).await? {
                Some(job) if job::run_id(&job) == Some(uid.as_str()) => job,
                Some(_) => {
                    let message = format!("there is another Job {name}; remove it");
                    return run.wait("JobNameTaken", &message, true, REST).await;
                }
                None => return Ok(Action::requeue(Settings::JOB_PERIOD)),
            },
        };
        let writer = run.writer().with_job(&made);
        let written = if turn::is_held_back(&made) {
            writer.waits(BackupPhase::Queued, "Queued", "it waits for its turn", false)
        } else {
            writer.waits(BackupPhase::Pending, "Starting", "its Job is there", false)
        };
        run.write(written).await?;
        Ok(Action::requeue(Settings::JOB_PERIOD))
    }

    /// Whether the object is still what the watch told of.
    async fn is_as_seen(&self) -> Result<bool> {
        let now = apply::get::<Backup>(self.context, self.namespace, &self.backup.name_any()).await?;
        Ok(now.is_some_and(|now| {
            now.uid() == self.backup.uid() && now.resource_version() == self.backup.resource_version()
        }))
    }

    /// Writes the annotation, and gives the object as it is then. The resourceVersion is a precondition: of two that saw the
    /// wish without it, one is wrong.
    async fn pledge(&self, uid: &str) -> Result<Backup> {
        let api: Api<Backup> = Api::namespaced(self.context.client.clone(), self.namespace);
        let body = json!({"metadata": {
            "uid": uid,
            "resourceVersion": self.backup.resource_version(),
            "annotations": {annotation::RUN_ID: uid},
        }});
        Ok(api
            .patch(&self.backup.name_any(), &PatchParams::default(), &Patch::Merge(&body))
            .await?)
    }

    async fn observe(&self, job: &Job) -> Result<Action> {
        let (manner, _) = self.manner().await?;
        let observed = job::observe(self.context, job, manner.pending).await?;
        let writer = self.writer().with_job(job);
        let written = match &observed {
            Observed::Waiting("Queued", message) => return self.queued(job, writer, message).await,
            Observed::Waiting(reason, message) => writer.waits(BackupPhase::Pending, reason, message, false),
            Observed::Running(report) => writer.runs(report.as_deref()),
            Observed::Ended { report, .. } => writer.ended(report),
            Observed::Failed {
                reason,
                message,
                exit_code,
            } => match self.without_a_word(job, *reason, message, *exit_code).await? {
                Some(written) => written,
                None => writer.waits(
                    BackupPhase::Running,
                    LOOKING_UP,
                    "it has ended without a word: the repository is looked at",
                    false,
                ),
            },
        };
        let phase = written.0.phase.clone();
        self.write(written).await?;
        match phase {
            Some(phase @ (BackupPhase::Completed | BackupPhase::Failed)) => {
                self.put_away_as(job, &phase, matches!(observed, Observed::Failed { .. }))
                    .await?;
                Ok(if phase == BackupPhase::Failed {
                    Action::requeue(REST)
                } else {
                    Action::await_change()
                })
            }
            _ => Ok(Action::requeue(Settings::JOB_PERIOD)),
        }
    }

    async fn queued(&self, job: &Job, writer: Writer<'_>, message: &str) -> Result<Action> {
        let written = match target::look(self.context, self.namespace, self.deployment).await? {
            Ok(target) => {
                if turn::take(self.context, &target.repository.repository, job).await? {
                    let written = writer.waits(BackupPhase::Pending, "Starting", "it is its turn", false);
                    self.write(written).await?;
                    return Ok(Action::requeue(Settings::JOB_PERIOD));
                }
                writer.waits(BackupPhase::Queued, "Queued", message, false)
            }
            // It asks for no turn, so that nobody waits behind it.
            Err(refusal) => {
                let message = format!("{message}; {}", refusal.text());
                writer.waits(BackupPhase::Queued, &refusal.reason, &message, !refusal.waits)
            }
        };
        self.write(written).await?;
        Ok(Action::requeue(WAIT))
    }

    /// A run that has ended, or never began, and told nothing; none while its commit may still be seen.
    async fn without_a_word(
        &self,
        job: &Job,
        reason: FailureReason,
        message: &str,
        exit_code: Option<i32>,
    ) -> Result<Option<Written>> {
        let writer = self.writer().with_job(job);
        let never_began = matches!(
            reason,
            FailureReason::Unschedulable | FailureReason::ImageUnavailable | FailureReason::QuotaExceeded
        );
        if !never_began {
            let run = job::run_id(job).unwrap_or_default();
            if let Ledger::Found(record) = ledger::look(self.context, self.namespace, self.deployment, run).await? {
                return Ok(Some(writer.found(&record)));
            }
            if ended(job).is_some_and(|ended| elapsed(ended, self.context.now()) < GRACE) {
                return Ok(None);
            }
        }
        let failure = Failure {
            code: None,
            message: Some(message.to_owned()),
            hint: Some(reason.hint().to_owned()),
            exit_code,
        };
        Ok(Some(writer.fails(reason.as_str(), failure)))
    }

    async fn refused(&self, refusal: &Refusal) -> Result<Action> {
        let after = if refusal.waits { WAIT } else { REST };
        self.wait(&refusal.reason, &refusal.text(), !refusal.waits, after).await
    }

    pub(super) async fn wait(&self, reason: &str, message: &str, stalled: bool, after: Duration) -> Result<Action> {
        self.write(self.writer().waits(BackupPhase::Pending, reason, message, stalled))
            .await?;
        Ok(Action::requeue(after))
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
pub mod tests;

//! What is stored of a run, and what becomes of its Job then: first the status, then its pod is told, then the Job is put
//! away. Broken off in between, the rest is done at the next look.

use hardstorage_crds::condition::{READY, STALLED};
use hardstorage_crds::{BackupPhase, BackupStatus};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};

use super::decide::elapsed;
use super::run::Run;
use super::status::Written;
use crate::apply;
use crate::error::Result;
use crate::job;
use crate::names::{annotation, label};
use crate::settings::Settings;

impl Run<'_> {
    /// What a Job of a run whose result is stored is still good for: nothing, or its pod's log.
    pub(super) async fn put_away(&self, job: Option<&Job>) -> Result<()> {
        let status = self.backup.status.as_ref();
        if let (Some(job), Some(phase)) = (job, status.and_then(|status| status.phase.clone())) {
            let without_a_word = status
                .and_then(|status| status.failure.as_ref())
                .is_some_and(|failure| failure.code.is_none());
            self.put_away_as(job, &phase, without_a_word).await?;
        }
        Ok(())
    }

    pub(super) async fn put_away_as(&self, job: &Job, phase: &BackupPhase, without_a_word: bool) -> Result<()> {
        if job.annotations().contains_key(annotation::STORED) {
            return Ok(());
        }
        let failed = *phase == BackupPhase::Failed;
        if failed && without_a_word && ended(job).is_none() {
            // It must not begin after all, now that it counts as failed.
            return apply::delete(self.context, job).await;
        }
        job::heard(self.context, job).await?;
        if !failed && job.labels().contains_key(label::BACKUP) {
            return apply::delete(self.context, job).await;
        }
        let word = if failed { "Failed" } else { "Completed" };
        job::mark_stored(self.context, job, word).await
    }

    /// Writes the status, and an event when something has changed that a person would want to hear of.
    pub(super) async fn write(&self, (status, conditions): Written) -> Result<Action> {
        let (before, after) = (
            serde_json::to_value(&self.backup.status)?,
            serde_json::to_value(&status)?,
        );
        let only_figures = self.backup.status.as_ref().is_some_and(|before| {
            let still = |status: &BackupStatus| BackupStatus {
                progress: None,
                ..status.clone()
            };
            serde_json::to_value(still(before)).ok() == serde_json::to_value(still(&status)).ok()
        });
        let recently = apply::status_written(self.backup)
            .is_some_and(|at| elapsed(at, self.context.now()) < Settings::FIGURES_PERIOD);
        if only_figures && recently {
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        if apply::write_status_of_seen(self.context, "Backup", self.backup, &before, &after).await?
            && let Some(ready) = conditions.changed().into_iter().find(|one| one.type_ == READY)
        {
            let warning = conditions.get(STALLED).is_some_and(|stalled| stalled.status == "True");
            let about = self.backup.object_ref(&());
            self.context.tell(&about, warning, &ready.reason, &ready.message).await;
        }
        Ok(Action::await_change())
    }
}

/// When a Job ended.
pub(super) fn ended(job: &Job) -> Option<Timestamp> {
    let time = job::ending(job)?
        .last_transition_time
        .as_ref()
        .or(job.metadata.creation_timestamp.as_ref());
    Some(time.map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

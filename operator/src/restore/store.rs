//! What is stored of a Restore, and what becomes of its Jobs then: first the status, then the pod is told, then the Job is
//! put away. Broken off in between, the rest is done at the next look.

use hardstorage_crds::condition::{READY, STALLED};
use hardstorage_crds::{RestorePhase, RestoreStatus};
use k8s_openapi::api::batch::v1::Job;
use kube::{Resource as _, ResourceExt as _};

use super::run::Work;
use super::status::Written;
use crate::apply;
use crate::error::Result;
use crate::job;
use crate::names::annotation;
use crate::settings::Settings;

impl Work<'_> {
    /// Writes the status, and an event when something has changed that a person would want to hear of. Figures alone are
    /// written once a minute.
    pub(super) async fn write(&self, (status, conditions): Written) -> Result<()> {
        let (before, after) = (
            serde_json::to_value(&self.restore.status)?,
            serde_json::to_value(&status)?,
        );
        let still = |status: &RestoreStatus| RestoreStatus {
            progress: None,
            ..status.clone()
        };
        let only_figures = self
            .restore
            .status
            .as_ref()
            .is_some_and(|before| still(before) == still(&status));
        let recently = apply::status_written(self.restore).is_some_and(|at| {
            self.context.now().duration_since(at) < Settings::FIGURES_PERIOD.try_into().unwrap_or_default()
        });
        if only_figures && recently {
            return Ok(());
        }
        if apply::write_status_of_seen(self.context, "Restore", self.restore, &before, &after).await?
            && let Some(ready) = conditions.changed().into_iter().find(|one| one.type_ == READY)
        {
            let warning = conditions.get(STALLED).is_some_and(|stalled| stalled.status == "True");
            let about = self.restore.object_ref(&());
            self.context.tell(&about, warning, &ready.reason, &ready.message).await;
        }
        Ok(())
    }

    /// What a Job is still good for once its result is stored: nothing, or its pod's log. One that never began must not
    /// begin after all.
    pub(super) async fn put_away(&self, job: &Job, phase: &RestorePhase) -> Result<()> {
        if job.annotations().contains_key(annotation::STORED) {
            return Ok(());
        }
        let failed = matches!(phase, RestorePhase::Failed | RestorePhase::Refused);
        job::heard(self.context, job).await?;
        if !failed || job::ending(job).is_none() {
            return apply::delete(self.context, job).await;
        }
        job::mark_stored(self.context, job, phase.as_str()).await
    }
}

//! A Restore that is deleted. Of a drill everything goes at once. Else what is complete stays. What is not is half a database
//! that nobody can use: its Job is ended, and when the pod is gone, the claims go that this very Restore has made, that nobody
//! owns and nobody uses. Nothing else.

use hardstorage_crds::RestorePhase;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use super::decide::is_restored;
use super::destination::mounts;
use super::run::Work;
use super::{build, fetch};
use crate::apply;
use crate::error::Result;
use crate::job;
use crate::names::RESTORE_FINALIZER;
use crate::namespace::NamespaceFacts;
use crate::settings::Settings;

impl Work<'_> {
    /// Of an object that is being deleted.
    pub async fn delete(&self) -> Result<Action> {
        if !self.restore.finalizers().iter().any(|one| one == RESTORE_FINALIZER) {
            return Ok(Action::await_change());
        }
        let status = self.restore.status.clone().unwrap_or_default();
        let facts = NamespaceFacts::look(self.context, self.namespace).await?;
        if facts.going {
            return self.let_go().await;
        }
        if self.restore.spec.destination.drill.is_some() {
            return match self.throw_away().await? {
                Some(left) => {
                    self.say(&left).await?;
                    Ok(Action::requeue(Settings::JOB_PERIOD))
                }
                None => self.let_go().await,
            };
        }
        if is_restored(&status) {
            return self.let_go().await;
        }
        if let Some(job) = fetch::job(self.context, self.restore, &build::run_name(self.restore)).await? {
            if job::is_complete(&job) {
                // Complete, and not stored yet: it stays as it would have a moment later.
                return self.let_go().await;
            }
            self.say("its Job is being ended").await?;
            if job.metadata.deletion_timestamp.is_none() {
                apply::delete(self.context, &job).await?;
            }
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        if let Some(pod) = fetch::own_pods(self.context, self.restore).await?.first() {
            self.say(&format!("pod {} is ending", pod.name_any())).await?;
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        let claims = fetch::own_claims(self.context, self.restore).await?;
        let others = if claims.is_empty() {
            Vec::new()
        } else {
            fetch::pods_of_others(self.context, self.restore).await?
        };
        for claim in claims {
            let name = claim.name_any();
            let used = !claim.owner_references().is_empty() || others.iter().any(|pod| mounts(pod, &name));
            if !used && claim.metadata.deletion_timestamp.is_none() {
                tracing::info!(namespace = self.namespace, name, "an unfinished claim is deleted");
                apply::delete(self.context, &claim).await?;
            }
        }
        self.let_go().await
    }

    async fn let_go(&self) -> Result<Action> {
        apply::set_finalizer(self.context, self.restore, RESTORE_FINALIZER, false).await?;
        Ok(Action::await_change())
    }

    async fn say(&self, message: &str) -> Result<()> {
        self.write(
            self.writer()
                .waits(RestorePhase::Cancelled, "Cancelled", message, false),
        )
        .await
    }
}

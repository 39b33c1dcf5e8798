//! The place: made once, then the Job that fills it; and at the end the Cluster that takes it over.

use std::time::Duration;

use hardstorage_crds::RestorePhase;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use serde_json::Value;

use super::decide::then;
use super::destination::cnpg::{Adoption, adoption};
use super::destination::{self, USED, Wanted, cluster_is_ours, is_ours, judge};
use super::result::Done;
use super::run::{REST, WAIT, Work, failure_of};
use super::status::step;
use super::{build, cluster, fetch, resolve};
use crate::apply::{self, Made};
use crate::error::{Error, Result};
use crate::job;
use crate::names::RESTORE_FINALIZER;
use crate::repository::Refusal;
use crate::settings::Settings;

/// A Cluster that has not taken its claims over after so long has to be looked at.
const ADOPTION: Duration = Duration::from_mins(5);
const CLAIM: &str = "PersistentVolumeClaim";
const CLUSTER: &str = "Cluster";

impl Work<'_> {
    /// Makes the place, and the Job that fills it.
    pub(super) async fn prepare(&self) -> Result<Action> {
        self.tidy_plan().await?;
        let wanted = match destination::wanted(self.restore, &self.engine()) {
            Ok(wanted) => wanted,
            Err(refusal) => return self.turned_down(refusal).await,
        };
        let source = match resolve::source(self.context, self.namespace, self.restore).await? {
            Ok(source) => source,
            Err(refusal) => return self.held_up(RestorePhase::Preparing, &refusal).await,
        };
        let found = match fetch::destination(self.context, self.restore, &wanted).await? {
            Ok(found) => found,
            Err(refusal) => return self.turned_down(refusal).await,
        };
        if found.cluster.as_ref().is_some_and(|one| cluster_is_ours(one, self.uid)) {
            // Its Cluster is made only of complete data: the status was lost.
            let done = Done {
                sentence: "its Cluster was found".to_owned(),
                ..Done::default()
            };
            self.note_restored(done).await?;
            return Ok(Action::requeue(Duration::ZERO));
        }
        if let Err(refusal) = judge(self.restore, &wanted, &found) {
            return self.turned_down(refusal).await;
        }
        // Before anything is made: what is made and not finished goes with the object.
        if apply::set_finalizer(self.context, self.restore, RESTORE_FINALIZER, true).await? {
            return Ok(Action::await_change());
        }
        let mut writer = self.writer();
        for claim in &wanted.claims {
            let name = claim.name_any();
            if let Err(refusal) = self.make(claim).await? {
                return self.turned_down(refusal).await;
            }
            if then(self.restore) != Some(RestorePhase::Checking) {
                // What is thrown away is not told as made.
                writer = writer.with_created(CLAIM, &name);
            }
        }
        // What was made is stored before the Job is there: so it is known of whatever the Job comes to.
        self.write(writer.clone().prepared()).await?;
        let engine = self.engine();
        let ground = self.ground(&source, &engine).await?;
        let run = job::build(build::run(&ground, &wanted));
        let made = match apply::create_once(self.context, &run).await {
            Ok(made) => made,
            Err(error) => return self.held_up(RestorePhase::Preparing, &Refusal::of_job(error)?).await,
        };
        if made == Made::Exists && fetch::job(self.context, self.restore, &run.name_any()).await?.is_none() {
            let message = format!("there is another Job {}; remove it", run.name_any());
            self.write(writer.waits(RestorePhase::Preparing, "JobNameTaken", &message, true))
                .await?;
            return Ok(Action::requeue(REST));
        }
        Ok(Action::requeue(Settings::JOB_PERIOD))
    }

    /// A claim, once: one that is there must be ours.
    async fn make(&self, claim: &PersistentVolumeClaim) -> Result<Result<(), Refusal>> {
        let name = claim.name_any();
        match apply::create_once(self.context, claim).await {
            Ok(Made::Created(_)) => return Ok(Ok(())),
            Ok(Made::Exists) => {}
            Err(error) => return Ok(Err(not_taken(&format!("the claim {name}"), error)?)),
        }
        let there = apply::get::<PersistentVolumeClaim>(self.context, self.namespace, &name).await?;
        Ok(match there {
            Some(there) if is_ours(there.metadata.annotations.as_ref(), self.uid) => Ok(()),
            Some(_) => Err(destination::refusal(
                USED,
                format!("there is a claim {name}, which this Restore has not made"),
                "make another Restore with another name",
            )),
            None => Err(Refusal {
                waits: true,
                ..destination::refusal("ClaimDeleting", format!("the claim {name} went away"), "")
            }),
        })
    }

    async fn turned_down(&self, refusal: Refusal) -> Result<Action> {
        if refusal.waits {
            return self.held_up(RestorePhase::Preparing, &refusal).await;
        }
        let reason = refusal.reason.clone();
        self.refuse(None, &reason, failure_of(refusal)).await
    }

    /// The data is complete: CloudNativePG takes it over.
    pub(super) async fn adopt(&self, run: Option<&Job>) -> Result<Action> {
        // A pod that still has the claims mounted would keep an instance from its volumes.
        if let Some(job) = run {
            if job.metadata.deletion_timestamp.is_none() {
                self.put_away(job, &RestorePhase::Completed).await?;
            }
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        let Some(new) = &self.restore.spec.destination.cloud_native_pg else {
            self.note_restored(Done::default()).await?;
            return Ok(Action::requeue(Duration::ZERO));
        };
        let wanted = match destination::wanted(self.restore, &self.engine()) {
            Ok(wanted) => wanted,
            Err(refusal) => return self.not_adopted(&refusal.text(), true).await,
        };
        let there = match cluster::get(self.context, self.namespace, &new.cluster).await? {
            Ok(there) => there,
            Err(refusal) => return self.not_adopted(&refusal.text(), true).await,
        };
        if let Some(missing) = self.missing_claim(&wanted).await? {
            let message =
                format!("the claim {missing} is gone, or another one has its name: the restored data is lost");
            return self.not_adopted(&message, true).await;
        }
        match there {
            Some(there) if !cluster_is_ours(&there, self.uid) => {
                let message = format!("there is a Cluster {} that this Restore has not made", new.cluster);
                self.not_adopted(&message, true).await
            }
            Some(there) => self.look_at(&new.cluster, &there).await,
            None => self.make_cluster(&new.cluster, &wanted).await,
        }
    }

    async fn make_cluster(&self, name: &str, wanted: &Wanted) -> Result<Action> {
        if let Some(pod) = fetch::own_pods(self.context, self.restore).await?.first() {
            return self
                .not_adopted(&format!("pod {} still has the claims mounted", pod.name_any()), false)
                .await;
        }
        let made = self.restore.status.as_ref().is_some_and(|status| {
            let created = &status.created;
            created.iter().any(|one| one.kind == CLUSTER && one.name == name)
        });
        if made {
            // Somebody has deleted it, and what they wanted gone does not come back by itself.
            return self.not_adopted(&format!("the Cluster {name} is gone"), true).await;
        }
        if let Some(cluster) = &wanted.cluster
            && let Err(error) = cluster::create(self.context, self.namespace, cluster).await
        {
            let refusal = not_taken(&format!("the Cluster {name}"), error)?;
            return self.not_adopted(&refusal.text(), true).await;
        }
        let writer = self.writer().with_created(CLUSTER, name);
        let message = format!("the Cluster {name} is made");
        self.write(writer.waits(RestorePhase::Adopting, "Adopting", &message, false))
            .await?;
        Ok(Action::requeue(Settings::JOB_PERIOD))
    }

    async fn look_at(&self, name: &str, there: &Value) -> Result<Action> {
        match adoption(there) {
            Adoption::Adopted => {
                let writer = self.writer().with_created(CLUSTER, name);
                let ready = there
                    .pointer("/status/readyInstances")
                    .and_then(Value::as_i64)
                    .unwrap_or_default();
                let sentence = format!("Cluster {name} is healthy, with {ready} instances ready");
                self.write(writer.adopted(&sentence)).await?;
                Ok(Action::requeue(Duration::ZERO))
            }
            Adoption::Waiting { words, serves: true } => {
                let writer = self.writer();
                self.write(writer.waits(RestorePhase::Adopting, "Adopting", &words, false))
                    .await?;
                Ok(Action::requeue(Settings::JOB_PERIOD))
            }
            Adoption::Waiting { words, .. } => self.not_adopted(&words, false).await,
        }
    }

    /// A claim that is not the one that was filled.
    pub(super) async fn missing_claim(&self, wanted: &Wanted) -> Result<Option<String>> {
        for claim in &wanted.claims {
            let name = claim.name_any();
            let there = apply::get::<PersistentVolumeClaim>(self.context, self.namespace, &name).await?;
            let ours = there.is_some_and(|there| {
                is_ours(there.metadata.annotations.as_ref(), self.uid) && there.metadata.deletion_timestamp.is_none()
            });
            if !ours {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Not yet; after a while somebody has to look. It goes on looking.
    async fn not_adopted(&self, words: &str, at_once: bool) -> Result<Action> {
        let since = self.restored_at();
        let late = since
            .is_some_and(|since| self.context.now().duration_since(since) >= ADOPTION.try_into().unwrap_or_default());
        let writer = self.writer();
        if at_once || late {
            let message = format!("{words}; the data is complete on its claims");
            self.write(writer.waits(RestorePhase::Adopting, "NotAdopted", &message, true))
                .await?;
            return Ok(Action::requeue(WAIT));
        }
        self.write(writer.waits(RestorePhase::Adopting, "Adopting", words, false))
            .await?;
        Ok(Action::requeue(Settings::JOB_PERIOD))
    }

    fn restored_at(&self) -> Option<Timestamp> {
        let steps = &self.restore.status.as_ref()?.steps;
        steps.iter().find(|one| one.name == step::RESTORE).map(|one| one.time.0)
    }
}

/// What the API server has against an object: a quota, a policy, a right. It may change its mind, so that is no end.
fn not_taken(what: &str, error: Error) -> Result<Refusal> {
    let Some(said) = error.refusal() else {
        return Err(error);
    };
    Ok(Refusal {
        waits: true,
        ..destination::refusal(
            "NotTaken",
            format!("the API server does not take {what}: {said}"),
            "correct what it names",
        )
    })
}

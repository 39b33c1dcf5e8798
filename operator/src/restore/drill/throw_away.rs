//! The end of a drill: what it has proven is told, and everything that it made goes. The copy of one that failed waits for a
//! look first. Our finalizer stays on the object until nothing is left to do.

use hardstorage_crds::RestoreStatus;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use super::build;
use crate::apply;
use crate::error::Result;
use crate::job;
use crate::names::RESTORE_FINALIZER;
use crate::restore::fetch;
use crate::restore::run::Work;
use crate::settings::Settings;

impl Work<'_> {
    /// Of a drill that is over.
    pub(in crate::restore) async fn after_drill(&self, status: &RestoreStatus) -> Result<Action> {
        if !self.restore.finalizers().iter().any(|one| one == RESTORE_FINALIZER) {
            // Nothing was made, or nothing is left.
            return Ok(Action::await_change());
        }
        self.tell_proof(status).await?;
        let kept = status.drill.as_ref().and_then(|drill| drill.kept_until.as_ref());
        if let Some(left) = kept.map(|until| until.0.duration_since(self.context.now()))
            && left.is_positive()
        {
            return Ok(Action::requeue(left.unsigned_abs()));
        }
        if self.throw_away().await?.is_some() {
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        apply::set_finalizer(self.context, self.restore, RESTORE_FINALIZER, false).await?;
        Ok(Action::await_change())
    }

    /// Takes everything away that the drill made; what it still waits for. The pods go first: a claim ends when nobody has
    /// it mounted, and until then the pod stays shut in.
    pub(in crate::restore) async fn throw_away(&self) -> Result<Option<String>> {
        let name = build::name(self.restore);
        let mut ending = None;
        for job in [crate::restore::build::run_name(self.restore), name.clone()] {
            if let Some(job) = fetch::job(self.context, self.restore, &job).await? {
                if job.metadata.deletion_timestamp.is_none() {
                    job::heard(self.context, &job).await?;
                    apply::delete::<Job>(self.context, &job).await?;
                }
                ending = Some(format!("Job {} is ending", job.name_any()));
            }
        }
        if ending.is_some() {
            return Ok(ending);
        }
        if let Some(pod) = fetch::own_pods(self.context, self.restore).await?.first() {
            return Ok(Some(format!("pod {} is ending", pod.name_any())));
        }
        for claim in fetch::own_claims(self.context, self.restore).await? {
            if claim.metadata.deletion_timestamp.is_none() {
                tracing::info!(
                    namespace = self.namespace,
                    name = claim.name_any(),
                    "the copy of a drill is deleted"
                );
                apply::delete(self.context, &claim).await?;
            }
        }
        self.take_away::<ConfigMap>(&name).await?;
        self.take_away::<NetworkPolicy>(&name).await?;
        Ok(None)
    }

    async fn take_away<K>(&self, name: &str) -> Result<()>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        match apply::get::<K>(self.context, self.namespace, name).await? {
            Some(object) if fetch::belongs(&object, self.restore) => apply::delete(self.context, &object).await,
            _ => Ok(()),
        }
    }
}

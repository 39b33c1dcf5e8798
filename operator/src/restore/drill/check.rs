//! The copy is complete: the second pod is made and looked at.

use std::time::Duration;

use hardstorage_crds::{DrillDestination, DrillStatus, RestorePhase};
use hardstorage_report::{RunState, code};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use super::build;
use super::result::{failing, read};
use crate::apply::{self, Made};
use crate::error::Result;
use crate::job::{self, Observed};
use crate::namespace::NamespaceFacts;
use crate::repository::Refusal;
use crate::restore::destination;
use crate::restore::fetch;
use crate::restore::run::{PENDING, Work, failure_of, told, untold};
use crate::settings::Settings;

/// What to do about a copy that is not as it should be.
const HINT: &str =
    "status.drill has every answer; ask the database itself the same, to tell lost data from a wrong check";

impl Work<'_> {
    /// Looks at the copy, once the pod with the credentials is gone.
    pub(in crate::restore) async fn check(&self, run: Option<&Job>) -> Result<Action> {
        let Some(drill) = &self.restore.spec.destination.drill else {
            return Ok(Action::await_change());
        };
        if let Some(job) = run {
            if job.metadata.deletion_timestamp.is_none() {
                self.put_away(job, &RestorePhase::Completed).await?;
            }
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        if let Some(job) = fetch::job(self.context, self.restore, &build::name(self.restore)).await? {
            return self.observe_check(&job).await;
        }
        if let Some(pod) = fetch::own_pods(self.context, self.restore).await?.first() {
            let message = format!("pod {} still has the claim mounted", pod.name_any());
            self.write(self.writer().waits(RestorePhase::Checking, "Checking", &message, false))
                .await?;
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        self.begin_check(drill).await
    }

    async fn begin_check(&self, drill: &DrillDestination) -> Result<Action> {
        let engine = self.engine();
        let wanted = match destination::wanted(self.restore, &engine) {
            Ok(wanted) => wanted,
            Err(refusal) => return self.could_not_ask(refusal).await,
        };
        if let Some(missing) = self.missing_claim(&wanted).await? {
            let message = format!("the claim {missing} is gone, or another one has its name");
            let refusal = destination::refusal("ClaimGone", message, "make another Restore");
            return self.could_not_ask(refusal).await;
        }
        let surroundings = NamespaceFacts::look(self.context, self.namespace).await?.surroundings;
        // What keeps the pod in is there before it is, or there is no pod.
        let fence = build::isolation(self.restore, &self.context.settings.namespace);
        let job = job::build(build::job(self.restore, &wanted, &engine, surroundings));
        let mut made = self.make_own(&fence).await?;
        if made.is_ok() {
            made = self.make_own(&build::checks(self.restore, drill)).await?;
        }
        if made.is_ok() {
            made = self.make_own(&job).await?;
        }
        if let Err(refusal) = made {
            return self.held_up(RestorePhase::Checking, &refusal).await;
        }
        self.write(self.writer().asks(None)).await?;
        Ok(Action::requeue(Settings::JOB_PERIOD))
    }

    /// Makes an object that goes with the Restore; another's of its name is not used.
    async fn make_own<K>(&self, object: &K) -> Result<Result<(), Refusal>>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        match apply::create_once(self.context, object).await {
            Ok(Made::Created(_)) => return Ok(Ok(())),
            Ok(Made::Exists) => {}
            Err(error) => return Ok(Err(Refusal::of_job(error)?)),
        }
        let name = object.name_any();
        let there = apply::get::<K>(self.context, self.namespace, &name).await?;
        let ours = there.is_some_and(|there| fetch::belongs(&there, self.restore));
        Ok(if ours {
            Ok(())
        } else {
            let message = format!("there is another {} {name}", K::kind(&()));
            Err(destination::refusal("NameTaken", message, "remove it"))
        })
    }

    async fn observe_check(&self, job: &Job) -> Result<Action> {
        if job.metadata.deletion_timestamp.is_some() {
            return Ok(Action::requeue(Settings::JOB_PERIOD));
        }
        let writer = self.writer();
        let (writer, failure) = match job::observe(self.context, job, PENDING).await? {
            Observed::Waiting(reason, message) => {
                self.write(writer.waits(RestorePhase::Checking, reason, &message, false))
                    .await?;
                return Ok(Action::requeue(Settings::JOB_PERIOD));
            }
            Observed::Running(report) => {
                self.write(writer.asks(report.as_deref())).await?;
                return Ok(Action::requeue(Settings::JOB_PERIOD));
            }
            Observed::Ended { report, .. } => {
                let found = read(&report);
                if report.state == RunState::Succeeded && failing(&found).is_none() {
                    self.write(writer.passed(found)).await?;
                    self.put_away(job, &RestorePhase::Completed).await?;
                    return Ok(Action::requeue(Duration::ZERO));
                }
                let mut failure = told(report.error, job);
                if let Some(words) = failing(&found) {
                    failure
                        .code
                        .get_or_insert_with(|| code::engine::DRILL_FAILED.as_str().to_owned());
                    failure.message = Some(words);
                    failure.hint = Some(HINT.to_owned());
                }
                (writer.with_answers(found), failure)
            }
            Observed::Failed { .. } if job::is_complete(job) => {
                let found = DrillStatus {
                    notes: vec!["it ended well, and its report was not heard".to_owned()],
                    ..DrillStatus::default()
                };
                self.write(writer.passed(found)).await?;
                self.put_away(job, &RestorePhase::Completed).await?;
                return Ok(Action::requeue(Duration::ZERO));
            }
            Observed::Failed { reason, message, .. } => (writer, untold(reason, message, job)),
        };
        self.write(writer.fails(failure)).await?;
        self.put_away(job, &RestorePhase::Failed).await?;
        Ok(Action::requeue(Duration::ZERO))
    }

    async fn could_not_ask(&self, refusal: Refusal) -> Result<Action> {
        self.write(self.writer().fails(failure_of(refusal))).await?;
        Ok(Action::requeue(Duration::ZERO))
    }
}

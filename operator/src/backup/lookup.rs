//! A run of which nothing but the repository can tell: its Job is gone, it came back from a copy of the cluster, or it has
//! failed without a word. What is not found is not called lost before its commit would have been seen.

use hardstorage_crds::condition::READY;
use hardstorage_crds::{BackupPhase, Failure};
use kube::runtime::controller::Action;

use super::decide::{GRACE, SOUGHT, elapsed, run_id};
use super::ledger::{self, Ledger};
use super::run::{REST, Run, WAIT};
use crate::apply;
use crate::error::Result;
use crate::job::FailureReason;

/// The reason while the repository is looked at.
pub(super) const LOOKING_UP: &str = "LookingUp";

impl Run<'_> {
    /// Its Job is gone.
    pub(super) async fn look_up(&self) -> Result<Action> {
        let why = "its Job is gone";
        if !self.may_still_be_seen() {
            return self.settle(why, true).await;
        }
        let run = run_id(self.backup).unwrap_or_default();
        let written = match ledger::look(self.context, self.namespace, self.deployment, &run).await? {
            Ledger::Found(record) => self.writer().found(&record),
            Ledger::Absent | Ledger::Unheard(_) => {
                let message = format!("{why}: the repository is looked at");
                self.writer().waits(BackupPhase::Running, LOOKING_UP, &message, false)
            }
        };
        self.write(written).await?;
        Ok(Action::requeue(WAIT))
    }

    /// Whether its commit may still be seen: that its Job is gone was met just now.
    fn may_still_be_seen(&self) -> bool {
        let mut conditions = self.backup.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions.find(|one| one.type_ == READY);
        ready.is_none_or(|ready| ready.reason != LOOKING_UP)
            || apply::status_written(self.backup).is_some_and(|at| elapsed(at, self.context.now()) < GRACE)
    }

    /// It came back from Velero, etcd or Git, or its Job went before anybody saw it.
    pub(super) async fn came_back(&self) -> Result<Action> {
        let made = self.backup.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let patient = made.is_some_and(|made| elapsed(made, self.context.now()) < SOUGHT);
        self.settle("the object came back without its status", !patient).await
    }

    async fn settle(&self, why: &str, impatient: bool) -> Result<Action> {
        let run = run_id(self.backup).unwrap_or_default();
        let known = match ledger::look(self.context, self.namespace, self.deployment, &run).await? {
            Ledger::Found(record) => return self.write(self.writer().found(&record)).await,
            Ledger::Absent => "the repository has no backup of run".to_owned(),
            Ledger::Unheard(reason) if impatient => format!("the repository was not asked ({reason}) about run"),
            Ledger::Unheard(reason) => {
                let message = format!("{why}, and the repository was not asked: {reason}");
                return self.wait("CatalogUnheard", &message, false, REST).await;
            }
        };
        let failure = Failure {
            message: Some(format!("{why}; {known} {run}")),
            hint: Some("it is not run again: make another Backup, without the annotation".to_owned()),
            ..Failure::default()
        };
        self.write(self.writer().fails(FailureReason::ReportLost.as_str(), failure))
            .await?;
        Ok(Action::requeue(REST))
    }

    /// Of one that has failed without a word: a commit that is seen late.
    pub(super) async fn seek(&self) -> Result<Action> {
        let run = run_id(self.backup).unwrap_or_default();
        if let Ledger::Found(record) = ledger::look(self.context, self.namespace, self.deployment, &run).await? {
            return self.write(self.writer().found(&record)).await;
        }
        Ok(Action::requeue(REST))
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;

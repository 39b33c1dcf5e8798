//! What the supervisor shows after each step.

use std::collections::BTreeMap;

use hardstorage_report::DeploymentName;
use jiff::Timestamp;

use super::Supervisor;
use crate::agent::schedule::{Newest, Outcome, When};
use crate::agent::stream::Stream;
use crate::agent::task::TaskName;
use crate::agent::view::{DeploymentView, SCHEMA, StreamView, TaskView, View};

impl Supervisor<'_> {
    pub(super) fn view(&mut self, now: Timestamp) -> View {
        let mut deployments = BTreeMap::new();
        let names: Vec<DeploymentName> = self.cared.keys().cloned().collect();
        for name in names {
            let mut tasks = BTreeMap::new();
            for task in TaskName::all() {
                let next = self.due_at(&name, task, now);
                let record = self.book.record(&name, task, now).clone();
                let Some(cared) = self.cared.get(&name) else { continue };
                let runs = Outcome::ALL.map(|outcome| {
                    let count = self.runs.get(&(name.clone(), task, outcome));
                    (outcome, count.copied().unwrap_or(0))
                });
                let view = TaskView {
                    schedule: cared.target.tasks.get(&task).map(When::shown).unwrap_or_default(),
                    next_at: next.filter(|_| !cared.leaving),
                    running_since: cared.running.get(&task).map(|running| running.since),
                    waiting: self
                        .queue
                        .iter()
                        .any(|waiting| (&waiting.0, waiting.1) == (&name, task)),
                    runs: runs.into_iter().collect(),
                    last: record,
                };
                tasks.insert(task, view);
            }
            let Some(cared) = self.cared.get(&name) else { continue };
            let stream = cared.stream.as_ref().map(|stream: &Stream| StreamView {
                runs: stream.child().is_some(),
                restarts: stream.restarts,
                error: stream.error.clone(),
                address: stream.address(),
                status: None,
            });
            let newest = match cared.newest {
                Newest::At { stopped, .. } => Some(stopped),
                Newest::Unknown | Newest::None => None,
            };
            let view = DeploymentView {
                stream,
                newest_backup_at: newest,
                repository_error: cared.look_error.clone(),
                tasks,
            };
            deployments.insert(name, view);
        }
        View {
            schema: SCHEMA,
            generated_at: now,
            started_at: self.started_at,
            config_error: self.config_error.clone(),
            deployments,
        }
    }
}

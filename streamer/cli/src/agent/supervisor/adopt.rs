//! A new plan: what is new begins, what is gone ends, what changed changes.

use std::collections::BTreeMap;

use hardstorage_report::{ErrorReport, Severity};
use jiff::Timestamp;
use serde_json::json;

use super::{Cared, Supervisor, complaint};
use crate::agent::child::Child;
use crate::agent::plan::Plan;
use crate::agent::schedule::Newest;
use crate::agent::stream::Stream;

impl Supervisor<'_> {
    /// Takes a plan: what is new begins, what is gone ends, what changed changes.
    pub(super) fn adopt(&mut self, plan: Plan, now: Timestamp) {
        for (name, target) in &plan.targets {
            if let Some(cared) = self.cared.get_mut(name) {
                if !cared.target.streams_as(target) || cared.leaving {
                    if let Some(child) = cared.stream.as_ref().and_then(Stream::child) {
                        child.stop();
                    }
                    // Another repository has other backups: an answer that is on its way is about the old one.
                    cared.look.iter().for_each(Child::stop);
                    (cared.newest, cared.looked) = (Newest::Unknown, None);
                }
                (cared.target, cared.leaving) = (target.clone(), false);
                continue;
            }
            let cared = Cared {
                target: target.clone(),
                leaving: false,
                since: now,
                stream: None,
                newest: Newest::Unknown,
                look: None,
                looked: None,
                look_error: None,
                running: BTreeMap::new(),
            };
            self.cared.insert(name.clone(), cared);
        }
        for (name, cared) in &mut self.cared {
            if plan.targets.contains_key(name) {
                continue;
            }
            cared.leaving = true;
            let tasks = cared.running.values().map(|running| &running.child);
            let children = tasks
                .chain(&cared.look)
                .chain(cared.stream.as_ref().and_then(Stream::child));
            children.for_each(Child::stop);
        }
        self.plan = plan;
    }

    /// Asks for a new plan, and goes on with the old one when it is refused.
    pub(super) fn reload(&mut self) {
        match (self.reload)() {
            Ok(plan) => {
                let names = |plan: &Plan| plan.targets.keys().cloned().collect::<Vec<_>>();
                self.adopt(plan, Timestamp::now());
                self.config_error = None;
                self.tell(
                    Severity::Notice,
                    "agent.config.taken",
                    None,
                    json!({"deployments": names(&self.plan)}),
                );
            }
            Err(error) => {
                let body = complaint(&error);
                self.config_error = Some(ErrorReport::from(&error));
                self.tell(Severity::Error, "agent.config.refused", None, body);
            }
        }
    }
}

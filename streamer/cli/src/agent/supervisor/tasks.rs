//! Which tasks are due, and which of them get a place.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hardstorage_report::{DeploymentName, Severity};
use jiff::Timestamp;
use serde_json::json;

use super::{BEAT, FRESH, Job, LOOK, LOOK_LIMIT, Running, SILENT, Supervisor};
use crate::agent::schedule::{Facts, due};
use crate::agent::task::TaskName;

impl Supervisor<'_> {
    /// Lets what is due wait for a place, and asks the repository first where that may settle it; how long nothing else is due.
    pub(super) fn step_tasks(&mut self, name: &DeploymentName, now: Timestamp, monotonic: Instant) -> Duration {
        let Some(cared) = self.cared.get_mut(name).filter(|cared| !cared.leaving) else {
            return BEAT;
        };
        // A beginning in the future is that of a clock that was ahead.
        cared.since = cared.since.min(now);
        let mut wait = BEAT;
        let mut look = cared.looked.is_none_or(|at| monotonic.duration_since(at) >= LOOK);
        for task in TaskName::all() {
            if self.book.record(name, task, now).mend(now) {
                self.book.touch();
            }
            let Some(at) = self.due_at(name, task, now) else {
                continue;
            };
            let Some(cared) = self.cared.get(name) else { continue };
            if cared.running.contains_key(&task)
                || self.queue.iter().any(|waiting| (&waiting.0, waiting.1) == (name, task))
            {
                continue;
            }
            if at > now {
                wait = wait.min(Duration::try_from(at.duration_since(now)).unwrap_or(BEAT));
                continue;
            }
            // The repository knows better than we do whether somebody made one, and is asked first.
            let stale = cared.looked.is_none_or(|at| monotonic.duration_since(at) >= FRESH);
            if task.task().makes_backups && stale {
                look = true;
                continue;
            }
            self.queue.push_back((name.clone(), task));
        }
        if look && self.cared.get(name).is_some_and(|cared| cared.look.is_none()) {
            let words = ["list", name.as_str()].map(str::to_owned).to_vec();
            let child = self.start(name, Job::Look, words, Some(LOOK_LIMIT));
            if let Some(cared) = self.cared.get_mut(name) {
                cared.look = Some(child);
            }
        }
        wait
    }

    /// When a task is due; never for one that nobody asked for.
    pub(super) fn due_at(&mut self, name: &DeploymentName, task: TaskName, now: Timestamp) -> Option<Timestamp> {
        let backed_up = TaskName::all()
            .filter(|task| task.task().makes_backups)
            .filter_map(|task| self.book.record(name, task, now).succeeded)
            .max();
        let cared = self.cared.get(name)?;
        let facts = Facts {
            now,
            since: cared.since,
            spread: cared.target.spread,
            newest: cared.newest,
            backed_up,
        };
        let when = cared.target.tasks.get(&task)?;
        due(
            when,
            task.task().makes_backups,
            self.book.record(name, task, now),
            &facts,
        )
    }

    /// Those who wait get the places that are free, in order.
    pub(super) fn serve_queue(&mut self, now: Timestamp) {
        let mut waiting = VecDeque::new();
        for (name, task) in std::mem::take(&mut self.queue) {
            // It may have been settled or taken away while it waited.
            let still = self.due_at(&name, task, now).is_some_and(|at| at <= now);
            let cared = self.cared.get(&name).filter(|cared| still && !cared.leaving);
            let Some(words) = cared.map(|cared| cared.target.words(task)) else {
                continue;
            };
            if self.places_taken(task) >= self.plan.max_concurrent {
                waiting.push_back((name, task));
                continue;
            }
            let limit = self.plan.limits.get(&task).copied();
            self.tell(
                Severity::Info,
                "agent.task.started",
                Some(&name),
                json!({"task": task.as_str()}),
            );
            let child = self.start(&name, Job::Task(task, now), words, limit);
            self.book.record(&name, task, now).begin(now);
            self.book.touch();
            if let Some(cared) = self.cared.get_mut(&name) {
                cared.running.insert(task, Running { child, since: now });
            }
        }
        self.queue = waiting;
    }

    fn places_taken(&self, like: TaskName) -> usize {
        let kind = like.task().makes_backups;
        self.cared
            .values()
            .flat_map(|cared| &cared.running)
            .filter(|(task, running)| task.task().makes_backups == kind && running.child.silence() < SILENT)
            .count()
    }
}

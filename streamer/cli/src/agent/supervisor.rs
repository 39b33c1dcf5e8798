//! The one loop that owns everything: it decides what is due, starts it, and hears how it ended. It waits for its own
//! events only, never for a child, a server or a repository, so that nothing that hangs holds up anything else.
//!
//! At most `max_concurrent` backups run at once, and as many other tasks beside them; whoever waits is served in order. A
//! child that has said nothing for a while makes no load and is not counted, so that hung deployments do not keep the
//! places of the others; its limit ends it. Streams are never counted.

mod adopt;
mod end;
mod hear;
mod show;
mod tasks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hardstorage_report::{DeploymentName, Error, ErrorReport, Event, EventSink, Severity};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

pub(super) use self::hear::{is_refusal, newest};
use super::child::{Child, End, Errand, Launcher};
use super::plan::{Plan, Target};
use super::schedule::{Newest, Outcome};
use super::state::Book;
use super::stream::{self, Stream};
use super::task::TaskName;
use super::view::View;
use crate::signals::Stop;

/// The longest time between two looks at the clock, which may jump.
const BEAT: Duration = Duration::from_secs(5);
/// A child that has been silent for so long keeps nobody waiting: one that gets on says so every minute.
const SILENT: Duration = Duration::from_mins(2);
/// The repository is asked for the newest backup at least so often.
const LOOK: Duration = Duration::from_hours(1);
/// What is known of it when a backup is due must not be older.
const FRESH: Duration = Duration::from_mins(1);
/// It has so long to answer.
pub(super) const LOOK_LIMIT: Duration = Duration::from_mins(2);
/// Children have so long to end with us.
const LAST: Duration = Duration::from_secs(100);
/// After a SIGKILL only the kernel can hold one.
const REAPED: Duration = Duration::from_secs(5);

/// What a child was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// The stream.
    Stream,
    /// A look into the repository.
    Look,
    /// A task, begun at that time.
    Task(TaskName, Timestamp),
}

type Key = (DeploymentName, Job);
type Ended = (Key, End);

/// A task at work.
#[derive(Debug)]
struct Running {
    child: Child,
    since: Timestamp,
}

/// One deployment as it is looked after.
#[derive(Debug)]
struct Cared {
    target: Target,
    /// Not in the configuration any more: it goes as soon as its children have.
    leaving: bool,
    since: Timestamp,
    stream: Option<Stream>,
    newest: Newest,
    look: Option<Child>,
    looked: Option<Instant>,
    look_error: Option<ErrorReport>,
    running: BTreeMap<TaskName, Running>,
}

/// How the agent ended.
#[derive(Debug, Serialize)]
pub(crate) struct Stopped {
    /// Every child ended by itself: what the streams had received is durable.
    pub(crate) clean_stop: bool,
    /// The deployments whose children had to be killed.
    pub(crate) killed: BTreeSet<DeploymentName>,
}

/// Where a new plan comes from, when it is asked for.
pub(crate) type Reload<'a> = &'a (dyn Fn() -> hardstorage_report::Result<Plan> + Sync);

/// The supervisor.
pub(crate) struct Supervisor<'a> {
    plan: Plan,
    book: Book,
    launcher: Launcher,
    reload: Reload<'a>,
    sink: Arc<dyn EventSink>,
    cared: BTreeMap<DeploymentName, Cared>,
    queue: VecDeque<(DeploymentName, TaskName)>,
    runs: BTreeMap<(DeploymentName, TaskName, Outcome), u64>,
    config_error: Option<ErrorReport>,
    save_failed: bool,
    started_at: Timestamp,
    ends: (mpsc::UnboundedSender<Ended>, mpsc::UnboundedReceiver<Ended>),
    /// What is shown is made anew after every step.
    show: tokio::sync::watch::Sender<Arc<View>>,
}

/// What an event says of an error.
fn complaint(error: &Error) -> serde_json::Value {
    json!({"code": error.code().as_str(), "message": error.to_string(), "hint": error.hint_text()})
}

impl<'a> Supervisor<'a> {
    /// One that has started nothing yet.
    pub(crate) fn new(
        plan: Plan,
        book: Book,
        launcher: Launcher,
        reload: Reload<'a>,
        sink: Arc<dyn EventSink>,
    ) -> Supervisor<'a> {
        let now = Timestamp::now();
        let mut this = Supervisor {
            plan: plan.clone(),
            book,
            launcher,
            reload,
            sink,
            cared: BTreeMap::new(),
            queue: VecDeque::new(),
            runs: BTreeMap::new(),
            config_error: None,
            save_failed: false,
            started_at: now,
            ends: mpsc::unbounded_channel(),
            show: tokio::sync::watch::Sender::new(Arc::new(View::new(now))),
        };
        this.adopt(plan, now);
        this
    }

    /// What is shown, now and later.
    pub(crate) fn shown(&self) -> tokio::sync::watch::Receiver<Arc<View>> {
        self.show.subscribe()
    }

    fn tell(&self, severity: Severity, name: &str, deployment: Option<&DeploymentName>, body: serde_json::Value) {
        let mut event = Event::new(severity, name).body(body);
        event.subject.deployment = deployment.cloned();
        self.sink.emit(event);
    }

    /// Runs until it is told to stop. `beat` is called after each step; `reloads` asks for a new plan.
    pub(crate) async fn run(
        mut self,
        stop: &Stop,
        reloads: &mut mpsc::UnboundedReceiver<()>,
        beat: impl Fn(),
    ) -> Stopped {
        loop {
            let next = self.step(Timestamp::now());
            beat();
            tokio::select! {
                () = stop.drain.cancelled() => break,
                Some((key, end)) = self.ends.1.recv() => self.ended(key, end),
                Some(()) = reloads.recv() => self.reload(),
                () = tokio::time::sleep(next) => {}
            }
        }
        self.end(stop).await
    }

    /// Starts what is due; how long nothing else will be.
    fn step(&mut self, now: Timestamp) -> Duration {
        let monotonic = Instant::now();
        self.cared.retain(|_, cared| {
            let gone = cared.running.is_empty()
                && cared.look.is_none()
                && cared.stream.as_ref().and_then(Stream::child).is_none();
            !(cared.leaving && gone)
        });
        let mut wait = BEAT;
        let names: Vec<DeploymentName> = self.cared.keys().cloned().collect();
        for name in &names {
            wait = wait.min(self.step_stream(name, monotonic));
            wait = wait.min(self.step_tasks(name, now, monotonic));
        }
        self.serve_queue(now);
        match self.book.save() {
            Ok(()) => self.save_failed = false,
            // Once: it is tried again at every step.
            Err(error) if !std::mem::replace(&mut self.save_failed, true) => {
                let body = complaint(&error);
                self.tell(Severity::Error, "agent.state.not_saved", None, body);
            }
            Err(_) => {}
        }
        let view = self.view(now);
        self.show.send_replace(Arc::new(view));
        wait
    }

    fn start(&self, name: &DeploymentName, job: Job, words: Vec<String>, limit: Option<Duration>) -> Child {
        let errand = Errand {
            key: (name.clone(), job),
            deployment: name.clone(),
            words,
            limit,
        };
        self.launcher.start(errand, self.sink.clone(), self.ends.0.clone())
    }

    fn step_stream(&mut self, name: &DeploymentName, now: Instant) -> Duration {
        let Some(cared) = self.cared.get_mut(name) else {
            return BEAT;
        };
        let wanted = cared.target.stream && !cared.leaving;
        if !wanted {
            if cared.stream.as_ref().is_some_and(|stream| stream.child().is_none()) {
                cared.stream = None;
            }
            return BEAT;
        }
        let stream = cared.stream.get_or_insert_with(|| Stream::new(now));
        if !stream.is_due(now) {
            return stream.starts_at().map_or(BEAT, |at| at.saturating_duration_since(now));
        }
        let child = self.start(name, Job::Stream, stream::words(name), None);
        if let Some(stream) = self.cared.get_mut(name).and_then(|cared| cared.stream.as_mut()) {
            stream.started(child, now);
        }
        BEAT
    }
}

#[cfg(test)]
#[path = "supervisor/tests.rs"]
mod tests;

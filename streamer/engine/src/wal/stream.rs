//! The always-on stream: connect, find the way, record, acknowledge, reconnect.
//!
//! What it never does: acknowledge a byte that is not durable in the repository; go on from a server that is another
//! cluster, a standby (unless asked) or behind the archive's timeline; pass a hole without recording it.

use std::sync::Arc;
use std::time::Duration;

use hardstorage_replication::Host;
use hardstorage_report::{
    DeploymentName, Error, Event, EventSink, Lsn, Result, Severity, SlotHealth, StreamPhase, SystemId, Timeline, code,
};
use hardstorage_repository::wal::LsnRange;
use hardstorage_repository::{Deployment, Lineage, Surroundings};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::apart::apart;
use super::monitor::Monitor;
use super::opening::opened;
use super::own_tails::OwnTails;
use super::patience::{Backoff, needs_a_person, never_heals};
use super::slot::SlotKnown;
use super::window_watch::WindowWatch;
use crate::patroni::Patroni;
use crate::preflight::Finding;
use crate::source::Source;

/// How a stream is run.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    /// The deployment.
    pub deployment: DeploymentName,
    /// The server.
    pub source: Source,
    /// The slot; none to stream without.
    pub slot: Option<String>,
    /// Who has to know the slot, where Patroni looks after the servers.
    pub patroni: Option<Patroni>,
    /// Unfinished segments become durable at least so often.
    pub flush_interval: Duration,
    /// Whether what comes becomes durable at once: commits wait for it.
    pub synchronous: bool,
    /// The server hears from us at least so often.
    pub status_interval: Duration,
    /// A server that is silent for so long is dead.
    pub receive_timeout: Duration,
    /// The longest wait between two attempts.
    pub max_backoff: Duration,
    /// Whether to connect again after a break.
    pub reconnect: bool,
    /// Whether also a first attempt waits for what only a person can cure, as one after a break does: a scheduler starts
    /// the stream, and would only start it again.
    pub persistent: bool,
    /// Whether to look at the server's settings.
    pub preflight: bool,
    /// Whether a standby will do.
    pub allow_standby: bool,
    /// Whether to wait for a slot that another process holds.
    pub wait: bool,
    /// Whether a new cluster is taken.
    pub accept_new_system: bool,
    /// The scheduler's id.
    pub run_id: Option<String>,
    /// The clock.
    pub surroundings: Surroundings,
}

/// How a stream is told to end.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    /// Take what the server has committed until now, make it durable, then end.
    pub drain: CancellationToken,
    /// Take nothing more, and end as soon as what was received is durable; without it when that takes long.
    pub kill: CancellationToken,
}

/// What a stream did, at its end.
#[derive(Debug, Clone, Serialize)]
pub struct StreamResult {
    /// The deployment.
    pub deployment: DeploymentName,
    /// The slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// The cluster.
    pub system_id: Option<SystemId>,
    /// The last timeline.
    pub timeline: Option<Timeline>,
    /// End of what was received.
    pub received_lsn: Option<Lsn>,
    /// End of what is durable.
    pub synced_lsn: Option<Lsn>,
    /// Bytes received.
    pub bytes_received: u64,
    /// Segments stored.
    pub segments: u64,
    /// Connections opened.
    pub attempts: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub stopped_at: Timestamp,
    /// Whether everything received is durable.
    pub clean_stop: bool,
}

/// How one attempt ended without an error.
#[derive(Debug)]
pub(super) enum Ended {
    /// Asked to.
    Stopped,
    /// The timeline did: look again, at once.
    TimelineSwitched,
    /// What was asked for is gone, and that is recorded: look again, at once.
    GapRecorded,
    /// The server has given up the slot: make it anew, at once.
    SlotLost,
    /// The server did.
    ServerStopped,
    /// The server is an old primary that does not know it yet, and there are others to ask.
    OldPrimary(Error),
}

/// How long a first attempt waits for a slot whose holder may just have died.
const SLOT_GRACE: Duration = Duration::from_secs(5);
/// A busy slot is looked at so often.
const SLOT_BUSY: Duration = Duration::from_secs(1);
/// So long a store may take to keep what was received when the stream was told twice to end.
const LAST_FLUSH: Duration = Duration::from_secs(5);
/// A connection that lived for so long was a good one: the backoff begins anew.
const HEALTHY: Duration = Duration::from_secs(5);

/// Streams until it is told to end, or until an error that no retry can cure. `open` opens the deployment; it is called
/// again when it fails and the plan is persistent.
pub async fn run_stream(
    plan: &StreamPlan,
    open: impl AsyncFnMut() -> Result<Deployment>,
    stop: &StopSignal,
    sink: Arc<dyn EventSink>,
    monitor: Arc<Monitor>,
) -> Result<StreamResult> {
    monitor.update(|status| {
        status.slot.clone_from(&plan.slot);
        if plan.slot.is_none() {
            status.slot_health = SlotHealth::None;
        }
    });
    let ended = match opened(plan, open, stop, &sink, &monitor).await {
        Ok(Some(deployment)) => stream(deployment, plan, stop, &sink, &monitor).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    let status = monitor.status();
    monitor.update(|status| status.phase = StreamPhase::Stopped);
    ended?;
    let result = StreamResult {
        deployment: plan.deployment.clone(),
        slot: plan.slot.clone(),
        system_id: status.system_id,
        timeline: status.timeline,
        received_lsn: status.received_lsn,
        synced_lsn: status.durable_lsn,
        bytes_received: status.bytes_received,
        segments: status.segments,
        attempts: status.connections,
        started_at: status.started_at,
        stopped_at: plan.surroundings.now(),
        clean_stop: status.received_lsn <= status.durable_lsn,
    };
    let mut stopped = Event::new(Severity::Notice, "wal.stream.stopped")
        .deployment(&plan.deployment)
        .body(serde_json::to_value(&result).unwrap_or_default());
    stopped.subject.timeline = result.timeline;
    sink.emit(stopped);
    Ok(result)
}

async fn stream(
    deployment: Deployment,
    plan: &StreamPlan,
    stop: &StopSignal,
    sink: &Arc<dyn EventSink>,
    monitor: &Arc<Monitor>,
) -> Result<()> {
    let mut streamer = Streamer {
        deployment,
        plan: plan.clone(),
        sink: Arc::clone(sink),
        monitor: Arc::clone(monitor),
        own: OwnTails::default(),
        asked: Vec::new(),
        window: WindowWatch::default(),
        waiting: None,
        attempt: 0,
        lineage: None,
        started: false,
        heard: false,
        flowed: false,
        slot_wanted_since: None,
        slot_known: SlotKnown::default(),
        old_primary: None,
        patroni_later: None,
        caller: None,
    };
    if plan.slot.is_none() {
        streamer.emit(
            Severity::Warning,
            "wal.slot.disabled",
            json!({
                "message": "streaming without a slot: the server may remove WAL before it was streamed",
            }),
        );
    }
    // A store that is far away is waited for without holding up a thread.
    if !plan.synchronous || streamer.deployment.store().caps().remote {
        return streamer.go(stop).await;
    }
    streamer.caller = Some(Handle::current());
    let stopping = stop.clone();
    tokio::select! {
        ended = apart(move || async move { streamer.go(&stopping).await }) => ended,
        // Its thread may hang in the disk.
        () = killed(stop) => Ok(()),
    }
}

pub(super) struct Streamer {
    pub(super) deployment: Deployment,
    pub(super) plan: StreamPlan,
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) own: OwnTails,
    /// Holes that a server of this process was asked for in vain.
    pub(super) asked: Vec<LsnRange>,
    pub(super) window: WindowWatch,
    /// What was told last about commits that wait for this stream.
    pub(super) waiting: Option<Vec<Finding>>,
    pub(super) attempt: u64,
    pub(super) lineage: Option<Lineage>,
    /// Whether bytes ever flowed.
    pub(super) started: bool,
    /// Whether the server has sent anything on this connection. Before it has, nothing is acknowledged: a slot goes wherever
    /// it is told, also back to WAL that is gone, and then keeps what no stream can begin with.
    pub(super) heard: bool,
    /// Whether bytes flowed on this connection.
    pub(super) flowed: bool,
    pub(super) slot_wanted_since: Option<Instant>,
    pub(super) slot_known: SlotKnown,
    /// A server that has missed a promotion. It says of itself that it is the primary, so that it is asked last.
    pub(super) old_primary: Option<Host>,
    /// Names the slot to Patroni beside the stream, where it could not be done before.
    pub(super) patroni_later: Option<AbortOnDropHandle<()>>,
    /// The runtime of whoever started a stream that has a thread of its own.
    pub(super) caller: Option<Handle>,
}

impl Streamer {
    pub(super) fn emit(&self, severity: Severity, name: &str, body: serde_json::Value) {
        let status = self.monitor.status();
        let mut event = Event::new(severity, name).deployment(self.deployment.name()).body(body);
        event.subject.timeline = status.timeline;
        self.sink.emit(event);
    }

    pub(super) fn now(&self) -> Timestamp {
        self.deployment.surroundings().now()
    }

    async fn go(&mut self, stop: &StopSignal) -> Result<()> {
        let mut backoff = Backoff::new(self.plan.max_backoff);
        loop {
            self.attempt += 1;
            let began = Instant::now();
            let ended = tokio::select! {
                biased;
                ended = self.attempt(stop) => ended,
                () = killed(stop) => return Ok(()),
            };
            let (reason, error) = match ended {
                Ok(Ended::Stopped) => return Ok(()),
                Ok(Ended::TimelineSwitched | Ended::GapRecorded | Ended::SlotLost) if stop.drain.is_cancelled() => {
                    return Ok(());
                }
                Ok(Ended::TimelineSwitched | Ended::GapRecorded | Ended::SlotLost) => continue,
                Ok(Ended::ServerStopped) => ("server_stopped", None),
                Ok(Ended::OldPrimary(error)) => {
                    self.monitor.failed(&error);
                    if stop.drain.is_cancelled() {
                        return Err(error);
                    }
                    ("old_primary", Some(error))
                }
                Err(error) => {
                    self.monitor.failed(&error);
                    if self.is_final(&error) || stop.drain.is_cancelled() {
                        return Err(error);
                    }
                    (if self.started { "stream_break" } else { "setup_failure" }, Some(error))
                }
            };
            if !self.plan.reconnect {
                return match error {
                    Some(error) => Err(error),
                    None => Ok(()),
                };
            }
            if began.elapsed() >= HEALTHY {
                backoff.reset();
            }
            let slot_busy = error
                .as_ref()
                .is_some_and(|error| error.is(code::replication::SLOT_IN_USE));
            // A busy slot is looked at every second: its holder may be a dead connection of our own.
            let wait = if slot_busy { SLOT_BUSY } else { backoff.wait() };
            self.monitor.update(|status| status.phase = StreamPhase::Reconnecting);
            let durable = self.monitor.status().durable_lsn;
            self.emit(
                Severity::Warning,
                "wal.stream.reconnecting",
                json!({
                    "attempt": self.attempt,
                    "backoff": format!("{}s", wait.as_secs()),
                    "reason": reason,
                    "code": error.as_ref().map(|error| error.code().as_str()),
                    "error": error.as_ref().map(ToString::to_string),
                    "synced_lsn": durable,
                }),
            );
            tokio::select! {
                () = stop.drain.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Whether trying again makes no sense. What only an administrator can change ends a stream that never flowed: the
    /// person who starts it should see why. One that did flow goes on trying, because passwords and settings come back,
    /// and so does one that a scheduler has started. Whether a slot is waited for has a word of its own.
    fn is_final(&self, error: &Error) -> bool {
        if error.is(code::replication::SLOT_IN_USE) {
            let grace_over = self
                .slot_wanted_since
                .is_some_and(|since| since.elapsed() >= SLOT_GRACE);
            return !self.started && !self.plan.wait && grace_over;
        }
        never_heals(error) || (!self.started && !self.plan.persistent && needs_a_person(error))
    }
}

/// Returns when there is no time left.
async fn killed(stop: &StopSignal) {
    stop.kill.cancelled().await;
    tokio::time::sleep(LAST_FLUSH).await;
}

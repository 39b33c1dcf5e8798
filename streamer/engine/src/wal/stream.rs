//! The always-on stream: connect, find the way, record, acknowledge, reconnect.
//!
//! What it never does: acknowledge a byte that is not durable in the repository; go on from a server that is another
//! cluster, a standby (unless asked) or behind the archive's timeline; pass a hole without recording it.

use std::sync::Arc;
use std::time::Duration;

use hardstorage_replication::{Acknowledge, Connection, ReplicationStream, StreamEvent, StreamOptions};
use hardstorage_report::{
    DeploymentName, Error, Event, EventSink, Kind, Lsn, Result, Severity, SlotHealth, StreamPhase, SystemId, Timeline,
    code,
};
use hardstorage_repository::wal::{ServerTime, WalArchive};
use hardstorage_repository::{Deployment, Lineage, WriterId};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::histories::capture_histories;
use super::lineage::{choose_lineage, lineages};
use super::monitor::Monitor;
use super::recorder::Recorder;
use super::route::{Leg, Route, RouteFacts, after_gap, plan_route};
use crate::preflight::{self, FindingSeverity};
use crate::progress::ProgressMeter;
use crate::source::{ServerIdentity, Source, identify, server_facts};
use crate::window::recoverable_window;

/// How a stream is run.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    /// The server.
    pub source: Source,
    /// The slot; none to stream without.
    pub slot: Option<String>,
    /// Unfinished segments become durable at least so often.
    pub flush_interval: Duration,
    /// The server hears from us at least so often.
    pub status_interval: Duration,
    /// A server that is silent for so long is dead.
    pub receive_timeout: Duration,
    /// The longest wait between two attempts.
    pub max_backoff: Duration,
    /// Whether to connect again after a break.
    pub reconnect: bool,
    /// Whether to look at the server's settings.
    pub preflight: bool,
    /// Whether a standby will do.
    pub allow_standby: bool,
    /// Whether to wait for a slot that another process holds.
    pub wait: bool,
    /// Whether a new cluster is taken.
    pub accept_new_system: bool,
}

/// How a stream is told to end.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    /// Make everything durable, then end.
    pub drain: CancellationToken,
    /// End now.
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
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// Asked to.
    Stopped,
    /// The timeline did: look again, at once.
    TimelineSwitched,
    /// The server did.
    ServerStopped,
}

/// An idle archive says so this often, so that a time without any commit can be recovered to.
const IDLE_MARK: Duration = Duration::from_secs(30);
/// How long a first attempt waits for a slot whose holder may just have died.
const SLOT_GRACE: Duration = Duration::from_secs(5);
/// The recoverable window is computed anew so often: a backup or a rotation has moved its beginning.
const WINDOW: Duration = Duration::from_mins(1);
/// A backlog of more segments than this is worth a progress line.
const CATCH_UP: u64 = 4;
/// A connection that lived for so long was a good one: the backoff begins anew.
const HEALTHY: Duration = Duration::from_secs(5);
/// A server that shuts down asks again and again; one tail for each question would be a storm.
const FLUSH_ON_DEMAND: Duration = Duration::from_millis(200);

/// Streams until it is told to end, or until an error that no retry can cure.
pub async fn run_stream(
    deployment: &Deployment,
    plan: &StreamPlan,
    stop: &StopSignal,
    sink: Arc<dyn EventSink>,
    monitor: Arc<Monitor>,
) -> Result<StreamResult> {
    let surroundings = deployment.surroundings().clone();
    let mut streamer = Streamer {
        deployment: deployment.clone(),
        plan: plan.clone(),
        sink,
        monitor,
        writer: WriterId::new(surroundings.random()?),
        attempt: 0,
        lineage: None,
        started: false,
        slot_wanted_since: None,
    };
    streamer.monitor.update(|status| {
        status.slot.clone_from(&plan.slot);
        if plan.slot.is_none() {
            status.slot_health = SlotHealth::None;
        }
    });
    if plan.slot.is_none() {
        streamer.emit(
            Severity::Warning,
            "wal.slot.disabled",
            json!({
                "message": "streaming without a slot: the server may remove WAL before it was streamed",
            }),
        );
    }
    let ended = streamer.go(stop).await;
    let status = streamer.monitor.subscribe().borrow().clone();
    streamer.monitor.update(|status| status.phase = StreamPhase::Stopped);
    ended?;
    let result = StreamResult {
        deployment: deployment.name().clone(),
        slot: plan.slot.clone(),
        system_id: status.system_id,
        timeline: status.timeline,
        received_lsn: status.received_lsn,
        synced_lsn: status.durable_lsn,
        bytes_received: status.bytes_received,
        segments: status.segments,
        attempts: status.connections,
        started_at: status.started_at,
        stopped_at: surroundings.now(),
        clean_stop: status.received_lsn <= status.durable_lsn,
    };
    streamer.emit(
        Severity::Notice,
        "wal.stream.stopped",
        serde_json::to_value(&result).unwrap_or_default(),
    );
    Ok(result)
}

struct Streamer {
    deployment: Deployment,
    plan: StreamPlan,
    sink: Arc<dyn EventSink>,
    monitor: Arc<Monitor>,
    writer: WriterId,
    attempt: u64,
    lineage: Option<Lineage>,
    /// Whether bytes ever flowed.
    started: bool,
    slot_wanted_since: Option<Instant>,
}

impl Streamer {
    fn emit(&self, severity: Severity, name: &str, body: serde_json::Value) {
        let status = self.monitor.subscribe().borrow().clone();
        let mut event = Event::new(severity, name).deployment(self.deployment.name()).body(body);
        event.subject.timeline = status.timeline;
        self.sink.emit(event);
    }

    fn now(&self) -> Timestamp {
        self.deployment.surroundings().now()
    }

    async fn go(&mut self, stop: &StopSignal) -> Result<()> {
        let mut backoff = Duration::from_secs(1);
        loop {
            self.attempt += 1;
            let began = Instant::now();
            let ended = tokio::select! {
                biased;
                () = stop.kill.cancelled() => return Ok(()),
                ended = self.attempt(stop) => ended,
            };
            let (reason, error) = match ended {
                Ok(Ended::Stopped) => return Ok(()),
                Ok(Ended::TimelineSwitched) => continue,
                Ok(Ended::ServerStopped) => ("server_stopped", None),
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
                backoff = Duration::from_secs(1);
            }
            let slot_busy = error
                .as_ref()
                .is_some_and(|error| error.is(code::replication::SLOT_IN_USE));
            // A busy slot is looked at every second: its holder may be a dead connection of our own.
            let wait = if slot_busy {
                Duration::from_secs(1)
            } else {
                backoff.min(self.plan.max_backoff)
            };
            self.monitor.update(|status| status.phase = StreamPhase::Reconnecting);
            let durable = self.monitor.subscribe().borrow().durable_lsn;
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
            backoff = (backoff * 2).min(self.plan.max_backoff);
        }
    }

    /// Whether trying again makes no sense. What only an administrator can change ends a stream that never flowed: the
    /// person who starts it should see why. One that did flow goes on trying, because passwords and settings come back.
    fn is_final(&self, error: &Error) -> bool {
        if error.is(code::replication::SLOT_IN_USE) {
            let grace_over = self
                .slot_wanted_since
                .is_some_and(|since| since.elapsed() >= SLOT_GRACE);
            return !self.started && !self.plan.wait && grace_over;
        }
        let for_ever = [
            code::repository::SYSTEM_MISMATCH,
            code::repository::SPLIT_BRAIN,
            code::repository::KEY_WRONG,
        ];
        if for_ever.iter().any(|code| error.is(*code)) || error.kind() == Kind::Usage {
            return true;
        }
        let needs_a_person = matches!(
            error.kind(),
            Kind::Auth | Kind::Preflight | Kind::Conflict | Kind::Verify
        );
        !self.started && needs_a_person
    }

    async fn attempt(&mut self, stop: &StopSignal) -> Result<Ended> {
        let mut connection = self.plan.source.connect().await?;
        self.monitor.update(|status| status.connections += 1);
        let server = identify(&mut connection).await?;
        if server.standby && !self.plan.allow_standby {
            return Err(Error::new(
                code::engine::SOURCE_IS_STANDBY,
                format!("the server ({}) is a standby", self.plan.source.redacted()),
            ));
        }
        let archive = self.archive(&server).await?;
        if self.plan.preflight {
            self.look_at(&mut connection).await?;
        }
        let ancestors = capture_histories(&mut connection, &archive, server.timeline, self.sink.as_ref()).await?;
        let slot_restart = self.ensure_slot(&mut connection).await?;
        let frontiers = frontiers(&archive).await?;
        let facts = RouteFacts {
            current: server.timeline,
            ancestors: &ancestors,
            frontiers: &frontiers,
            slot_restart,
            server_flush: server.flush_lsn,
            size: server.wal_segment_size,
        };
        let route = plan_route(&facts)?;
        let Some(leg) = route.legs.first().copied() else {
            return Ok(Ended::TimelineSwitched);
        };
        let known = frontiers
            .iter()
            .find(|(timeline, _)| *timeline == leg.timeline)
            .map_or(leg.start, |(_, end)| *end);
        match self
            .stream_leg(connection, &archive, &server, &route, leg, known, stop)
            .await
        {
            Err(error) if error.is(code::replication::WAL_REMOVED) => {
                self.record_gap(&archive, &facts, &leg, known, &error).await?;
                let from = slot_restart.unwrap_or(server.flush_lsn);
                let route = after_gap(&facts, from);
                let Some(leg) = route.legs.first().copied() else {
                    return Err(error);
                };
                let connection = self.plan.source.connect().await?;
                self.stream_leg(connection, &archive, &server, &route, leg, leg.start, stop)
                    .await
            }
            other => other,
        }
    }

    /// The archive of the cluster that answered. Checked on every connection: an address can change its meaning.
    async fn archive(&mut self, server: &ServerIdentity) -> Result<WalArchive> {
        let lineage = match self.lineage {
            Some(lineage) if lineage.system_id == server.system_id => lineage,
            Some(other) => {
                return Err(Error::new(
                    code::repository::SYSTEM_MISMATCH,
                    format!(
                        "the server is now the cluster {}, it was {}",
                        server.system_id, other.system_id
                    ),
                ));
            }
            None => {
                let known = lineages(&self.deployment).await?;
                *self
                    .lineage
                    .insert(choose_lineage(&known, server.system_id, self.plan.accept_new_system)?)
            }
        };
        self.monitor.update(|status| status.system_id = Some(server.system_id));
        Ok(WalArchive::new(
            self.deployment.clone(),
            lineage,
            server.wal_segment_size,
        ))
    }

    async fn look_at(&mut self, connection: &mut Connection) -> Result<()> {
        let name = self.plan.source.application_name().to_owned();
        let facts = server_facts(connection, &name, self.plan.slot.as_deref()).await?;
        let findings = preflight::judge(&facts);
        let fatal = findings
            .iter()
            .find(|finding| finding.severity == FindingSeverity::Fatal);
        if self.attempt == 1 || fatal.is_some() {
            for finding in &findings {
                self.sink.emit(finding.event().deployment(self.deployment.name()));
            }
        }
        match fatal {
            Some(finding) => Err(preflight::failure(finding)),
            None => Ok(()),
        }
    }

    async fn ensure_slot(&mut self, connection: &mut Connection) -> Result<Option<Lsn>> {
        let Some(slot) = self.plan.slot.clone() else {
            return Ok(None);
        };
        if connection.read_slot(&slot).await?.is_none() {
            match connection.create_slot(&slot, false, true).await {
                Ok(()) => self.emit(Severity::Notice, "wal.slot.created", json!({"slot": slot})),
                // Another process was faster; whether it also uses it shows at the start.
                Err(error) if error.is(code::replication::SLOT_EXISTS) => {}
                Err(error) => return Err(error),
            }
        }
        let state = connection.read_slot(&slot).await?;
        self.monitor.update(|status| {
            status.slot_health = if state.is_some() {
                SlotHealth::Inactive
            } else {
                SlotHealth::Missing
            };
        });
        Ok(state.and_then(|state| state.restart_lsn))
    }

    async fn record_gap(
        &self,
        archive: &WalArchive,
        facts: &RouteFacts<'_>,
        leg: &Leg,
        from: Lsn,
        error: &Error,
    ) -> Result<()> {
        let to = facts
            .slot_restart
            .unwrap_or(facts.server_flush)
            .segment_start(facts.size);
        if to <= from {
            return Err(Error::new(
                code::replication::WAL_REMOVED,
                format!("the server has removed WAL from {from} on, although its slot keeps {to}"),
            ));
        }
        let evidence = json!({
            "slot": self.plan.slot,
            "slot_restart_lsn": facts.slot_restart,
            "server_flush_lsn": facts.server_flush,
            "server_timeline": facts.current,
            "answer": error.to_string(),
        });
        let reason = "the server had removed this WAL before it was streamed";
        archive.put_gap(leg.timeline, (from, to), reason, evidence).await?;
        self.monitor.update(|status| status.gaps += 1);
        self.emit(Severity::Critical, "wal.gap", json!({
            "gap_start_lsn": from,
            "gap_end_lsn": to,
            "gap_bytes": from.bytes_until(to),
            "message": "WAL is lost: nothing between these positions can be recovered, and no recovery passes the gap",
            "hint": "take a new backup now",
        }));
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one leg needs everything that the attempt found out"
    )]
    async fn stream_leg(
        &mut self,
        connection: Connection,
        archive: &WalArchive,
        server: &ServerIdentity,
        route: &Route,
        leg: Leg,
        known: Lsn,
        stop: &StopSignal,
    ) -> Result<Ended> {
        let options = StreamOptions {
            status_interval: self.plan.status_interval,
            receive_timeout: self.plan.receive_timeout,
            ..StreamOptions::default()
        };
        let started = connection
            .start_replication(self.plan.slot.as_deref(), leg.start, leg.timeline, options)
            .await;
        let stream = match started {
            Ok(stream) => stream,
            Err(error) => {
                if error.is(code::replication::SLOT_IN_USE) {
                    self.slot_wanted_since.get_or_insert_with(Instant::now);
                    self.monitor
                        .update(|status| status.slot_health = SlotHealth::HeldByOther);
                }
                return Err(error);
            }
        };
        self.slot_wanted_since = None;
        let slot = self.plan.slot.is_some();
        self.monitor.update(|status| {
            status.timeline = Some(leg.timeline);
            status.durable_lsn = Some(known.max(leg.start));
            if slot {
                status.slot_health = SlotHealth::Active;
            }
        });
        self.emit(
            Severity::Info,
            "wal.stream.starting",
            json!({
                "attempt": self.attempt,
                "slot": self.plan.slot,
                "start_lsn": leg.start,
                "end_lsn": leg.end,
                "resume_strategy": route.strategy,
                "last_lsn_in_repo": route.frontier,
                "system_id": server.system_id,
                "status_interval": format!("{}s", self.plan.status_interval.as_secs_f64()),
                "encryption": self.deployment.key().seals(),
            }),
        );
        let recorder = Recorder::new(archive.clone(), self.writer, leg.timeline, leg.start, known);
        let backlog = leg.start.bytes_until(leg.end.unwrap_or(server.flush_lsn));
        // Below that a live line would only flicker.
        let catching_up = backlog > CATCH_UP * server.wal_segment_size.bytes();
        let meter = catching_up.then(|| ProgressMeter::new("wal.stream.progress", self.sink.clone(), Some(backlog)));
        self.follow(stream, recorder, leg, meter, stop).await
    }

    /// Takes what comes, makes it durable, tells the server.
    async fn follow(
        &mut self,
        mut stream: ReplicationStream,
        mut recorder: Recorder,
        leg: Leg,
        mut meter: Option<ProgressMeter>,
        stop: &StopSignal,
    ) -> Result<Ended> {
        let acknowledge = stream.acknowledge();
        let segment = recorder.segment_size().bytes();
        let mut flush = tokio::time::interval_at(Instant::now() + self.plan.flush_interval, self.plan.flush_interval);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = tokio::time::interval_at(Instant::now() + IDLE_MARK, IDLE_MARK);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut window = tokio::time::interval(WINDOW);
        window.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut demanded = Instant::now();
        let mut segments = 0;
        self.tell(&recorder, &acknowledge, segment, &mut segments);
        loop {
            tokio::select! {
                biased;
                () = stop.drain.cancelled() => {
                    self.monitor.update(|status| status.phase = StreamPhase::Stopping);
                    recorder.flush().await?;
                    self.tell(&recorder, &acknowledge, segment, &mut segments);
                    stream.stop();
                    // The position is durable; that the server did not say goodbye changes nothing.
                    if let Ok(connection) = stream.finish().await {
                        connection.close().await;
                    }
                    return Ok(Ended::Stopped);
                }
                settled = recorder.settle(), if recorder.has_finishing() => {
                    settled?;
                    self.tell(&recorder, &acknowledge, segment, &mut segments);
                }
                _ = flush.tick() => {
                    if recorder.is_behind() {
                        recorder.flush().await?;
                        self.tell(&recorder, &acknowledge, segment, &mut segments);
                        recorder.tidy().await?;
                    }
                }
                _ = window.tick() => self.refresh_window(),
                _ = idle.tick() => {
                    if recorder.mark_idle().await? {
                        self.tell(&recorder, &acknowledge, segment, &mut segments);
                    }
                }
                event = stream.next() => match event? {
                    Some(StreamEvent::Data { lsn, bytes, server_end, server_time }) => {
                        let length = bytes.len() as u64;
                        recorder.push(lsn, bytes, server_end, ServerTime(server_time.0)).await?;
                        self.started = true;
                        acknowledge.set(recorder.received(), recorder.durable());
                        if let Some(catch_up) = &meter {
                            catch_up.add(length);
                            if recorder.received() >= server_end {
                                meter = None;
                            }
                        }
                        self.monitor.update(|status| status.bytes_received += length);
                        self.monitor.heard(server_end, recorder.received(), self.now());
                    }
                    Some(StreamEvent::Keepalive { server_end, server_time, reply_requested }) => {
                        recorder.heard(server_end, ServerTime(server_time.0));
                        self.started = true;
                        self.monitor.heard(server_end, recorder.received(), self.now());
                        // A server that shuts down waits until its last bytes are flushed.
                        if reply_requested && recorder.is_behind() && demanded.elapsed() >= FLUSH_ON_DEMAND {
                            recorder.flush().await?;
                            demanded = Instant::now();
                            self.tell(&recorder, &acknowledge, segment, &mut segments);
                        }
                    }
                    Some(StreamEvent::EndOfTimeline { next, at }) => {
                        recorder.flush().await?;
                        self.tell(&recorder, &acknowledge, segment, &mut segments);
                        if leg.end.is_some_and(|end| end != at) {
                            return Err(Error::new(
                                code::repository::SPLIT_BRAIN,
                                format!("timeline {} ends at {at} on the server, its history says {:?}", leg.timeline, leg.end),
                            ));
                        }
                        self.emit(Severity::Notice, "wal.timeline.switched", json!({"next_timeline": next, "switch_lsn": at}));
                        return Ok(Ended::TimelineSwitched);
                    }
                    Some(StreamEvent::ServerShutdown) | None => {
                        recorder.flush().await?;
                        self.tell(&recorder, &acknowledge, segment, &mut segments);
                        return Ok(Ended::ServerStopped);
                    }
                },
            }
        }
    }

    /// Computes beside the stream from when to when the cluster can be recovered.
    fn refresh_window(&self) {
        let Some(lineage) = self.lineage else { return };
        let (deployment, monitor) = (self.deployment.clone(), self.monitor.clone());
        tokio::spawn(async move {
            match recoverable_window(&deployment, lineage).await {
                Ok(window) => monitor.update(|status| {
                    status.recoverable_from = window.as_ref().map(|window| window.from);
                    status.recoverable_to = status.recoverable_to.max(window.map(|window| window.to));
                }),
                Err(error) => tracing::warn!(%error, "the recoverable window is not known"),
            }
        });
    }

    /// Tells server and status what is durable now.
    fn tell(&self, recorder: &Recorder, acknowledge: &Acknowledge, segment: u64, segments: &mut u64) {
        acknowledge.set(recorder.received(), recorder.durable());
        let stored = recorder.stored().segments;
        let new = stored - *segments;
        *segments = stored;
        if new > 0 {
            self.monitor.update(|status| status.segments += new);
        }
        self.monitor
            .durable(recorder.durable(), recorder.durable_up_to(), segment, self.now());
    }
}

/// The end of what the archive has of each timeline: the newest finished segment, and the tails behind it.
pub async fn frontiers(archive: &WalArchive) -> Result<Vec<(Timeline, Lsn)>> {
    let size = archive.segment_size();
    let mut found = Vec::new();
    for timeline in archive.timelines().await? {
        let newest = archive.newest_segment(timeline).await?;
        let finished = newest
            .and_then(|name| name.start(size))
            .map(|start| start.add(size.bytes()));
        let mut end = finished;
        for segment in archive.segments_with_tails(timeline).await? {
            let behind = segment
                .start(size)
                .is_some_and(|start| finished.is_none_or(|finished| start >= finished));
            if behind && let Some(assembled) = archive.assemble(segment).await? {
                let range = assembled.range();
                // Tails that do not follow on what is finished are islands: streaming goes on before them.
                if end.is_none_or(|end| range.from <= end) {
                    end = end.max(Some(range.to));
                }
            }
        }
        if let Some(end) = end {
            found.push((timeline, end));
        }
    }
    Ok(found)
}

//! One leg in flight: what comes is recorded, made durable, and only then acknowledged.

use std::pin::pin;
use std::time::Duration;

use hardstorage_replication::{Acknowledge, ReplicationStream, StreamEvent};
use hardstorage_report::{Error, Kind, Lsn, Result, Severity, StreamPhase, code};
use hardstorage_repository::wal::ServerTime;
use hardstorage_storage::trial;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::drain::Drain;
use super::recorder::Recorder;
use super::route::Leg;
use super::stream::{Ended, StopSignal, Streamer};
use super::sync_watch::SyncWatch;
use crate::preflight::Finding;
use crate::progress::ProgressMeter;
use crate::source::ServerIdentity;

/// An idle archive says so this often, so that a time without any commit can be recovered to.
const IDLE_MARK: Duration = Duration::from_secs(30);
/// Whether the beginning of the recoverable window has moved is looked at so often.
const WINDOW: Duration = Duration::from_mins(1);
/// Of a flood of WAL so much is made durable before more of it is taken: a commit in it must not wait for its end.
const BATCH: usize = 1 << 20;
/// A server that shuts down asks again and again; one tail for each question would be a storm.
const FLUSH_ON_DEMAND: Duration = Duration::from_millis(200);

impl Streamer {
    /// Takes what comes, makes it durable, tells the server.
    pub(super) async fn follow(
        &mut self,
        mut stream: ReplicationStream,
        mut recorder: Recorder,
        server: &ServerIdentity,
        leg: Leg,
        mut meter: Option<ProgressMeter>,
        stop: &StopSignal,
    ) -> Result<Ended> {
        let acknowledge = stream.acknowledge();
        let stand_in = |caller: &Handle| AbortOnDropHandle::new(caller.spawn(stream.acknowledge().stand_in()));
        let _standing_in = self.caller.as_ref().map(stand_in);
        let segment = recorder.segment_size().bytes();
        let mut flush = tokio::time::interval_at(Instant::now() + self.plan.flush_interval, self.plan.flush_interval);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = tokio::time::interval_at(Instant::now() + IDLE_MARK, IDLE_MARK);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut window = tokio::time::interval(WINDOW);
        window.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = SyncWatch::new(self.plan.source.clone(), self.waiting.clone());
        let mut demanded = Instant::now();
        let mut segments = 0;
        let mut server_has = recorder.received();
        self.tell(&recorder, &acknowledge, segment, &mut segments);
        let mut drain: Option<Drain> = None;
        // Made once: a commit waits for every turn.
        let (mut killed, mut draining) = (pin!(stop.kill.cancelled()), pin!(stop.drain.cancelled()));
        let mut heard: Option<Lsn> = None;
        loop {
            let drained = drain.as_ref().is_some_and(|drain| drain.is_over(recorder.received()));
            if drained || stop.kill.is_cancelled() {
                self.note(&recorder, &mut heard);
                recorder.flush().await?;
                self.tell(&recorder, &acknowledge, segment, &mut segments);
                stream.stop();
                // The position is durable; that the server did not say goodbye changes nothing.
                if let Ok(connection) = stream.finish().await {
                    connection.close().await;
                }
                return Ok(Ended::Stopped);
            }
            let unflushed = recorder.unflushed();
            // What lies more than a segment behind becomes a segment sooner than tails of it would help anybody.
            let near = recorder.received().bytes_until(server_has) <= segment;
            // All that has come by now is one flush; what comes while it is written is the next one.
            let waited_for = self.plan.synchronous && unflushed > 0;
            let due = waited_for && (!stream.has_next() || (near && unflushed >= BATCH));
            let flushed = if due { recorder.flush_received().await } else { Ok(()) };
            if due && flushed.is_ok() {
                // A commit goes on with it; everything else has time.
                self.acknowledge(&recorder, &acknowledge);
            }
            self.note(&recorder, &mut heard);
            flushed?;
            if due {
                self.show(&recorder, segment, &mut segments);
                recorder.begin_tidy(false);
            }
            tokio::select! {
                biased;
                // The next turn ends it, with what was received.
                () = &mut killed => {}
                () = &mut draining, if drain.is_none() => {
                    self.monitor.update(|status| status.phase = StreamPhase::Stopping);
                    drain = Some(Drain::begin(self.plan.source.clone(), server.system_id, leg.timeline));
                }
                () = changed(&mut drain), if drain.is_some() => {}
                advanced = recorder.advanced(), if recorder.has_work() => {
                    advanced?;
                    self.tell(&recorder, &acknowledge, segment, &mut segments);
                }
                _ = flush.tick() => {
                    if recorder.is_behind() {
                        recorder.flush_received().await?;
                        self.tell(&recorder, &acknowledge, segment, &mut segments);
                    }
                    recorder.begin_tidy(true);
                }
                found = watch.changed(), if self.plan.synchronous => self.tell_waiting(found),
                _ = window.tick() => self.refresh_window(),
                _ = idle.tick() => {
                    if recorder.mark_idle().await? {
                        self.tell(&recorder, &acknowledge, segment, &mut segments);
                    }
                }
                event = stream.next() => match self.received(event, &mut recorder, &acknowledge).await? {
                    Some(StreamEvent::Data { lsn, bytes, server_end, server_time }) => {
                        let length = bytes.len() as u64;
                        server_has = server_end;
                        recorder.push(lsn, bytes, server_end, ServerTime(server_time.0)).await?;
                        self.started = true;
                        (self.heard, self.flowed) = (true, true);
                        acknowledge.set(recorder.received(), promised(&recorder));
                        if let Some(catch_up) = &meter {
                            catch_up.add(length);
                            if recorder.received() >= server_end {
                                meter = None;
                                self.emit(
                                    Severity::Info,
                                    "wal.stream.caught_up",
                                    json!({"received_lsn": recorder.received()}),
                                );
                            }
                        }
                        self.monitor.update(|status| status.bytes_received += length);
                        heard = Some(server_end);
                    }
                    Some(StreamEvent::Keepalive { server_end, server_time, reply_requested }) => {
                        recorder.heard(server_end, ServerTime(server_time.0));
                        self.started = true;
                        self.heard = true;
                        acknowledge.set(recorder.received(), promised(&recorder));
                        heard = Some(server_end);
                        // A server that shuts down waits until its last bytes are flushed.
                        if reply_requested && recorder.is_behind() && demanded.elapsed() >= FLUSH_ON_DEMAND {
                            recorder.flush_received().await?;
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

    /// What the stream gave. When it broke, what it gave before is made durable first: the server may have removed it by
    /// the time of the next connection.
    async fn received(
        &self,
        event: Result<Option<StreamEvent>>,
        recorder: &mut Recorder,
        acknowledge: &Acknowledge,
    ) -> Result<Option<StreamEvent>> {
        if let Err(broken) = &event
            && recorder.is_behind()
        {
            match recorder.flush().await {
                Ok(()) => acknowledge.set(recorder.received(), promised(recorder)),
                // Other bytes than the archive has matter more than a broken connection.
                Err(error) if error.kind() == Kind::Conflict => return Err(error),
                Err(error) => tracing::warn!(%broken, %error, "what was received before the break is not stored"),
            }
        }
        event
    }

    /// Tells what the administrator has changed about the waiting of commits.
    fn tell_waiting(&mut self, found: Vec<Finding>) {
        for finding in &found {
            self.sink.emit(finding.event().deployment(self.deployment.name()));
        }
        self.waiting = Some(found);
    }

    fn refresh_window(&mut self) {
        if let Some(lineage) = self.lineage {
            self.window.refresh(&self.deployment, lineage, &self.monitor);
        }
    }

    /// Tells the status how far the server was when it was heard.
    fn note(&self, recorder: &Recorder, heard: &mut Option<Lsn>) {
        if let Some(server_end) = heard.take() {
            self.monitor.heard(server_end, recorder.received(), self.now());
        }
    }

    /// Tells the server what is durable now.
    fn acknowledge(&self, recorder: &Recorder, acknowledge: &Acknowledge) {
        if self.heard {
            acknowledge.set(recorder.received(), promised(recorder));
        }
    }

    /// Tells server and status what is durable now.
    fn tell(&self, recorder: &Recorder, acknowledge: &Acknowledge, segment: u64, segments: &mut u64) {
        self.acknowledge(recorder, acknowledge);
        self.show(recorder, segment, segments);
    }

    /// Tells the status what is durable now.
    fn show(&self, recorder: &Recorder, segment: u64, segments: &mut u64) {
        let stored = recorder.stored().segments;
        let new = stored - *segments;
        *segments = stored;
        if new > 0 {
            self.monitor.update(|status| status.segments += new);
        }
        self.monitor
            .durable(promised(recorder), recorder.durable_up_to(), segment, self.now());
    }
}

/// What is durable, for somebody who will count on it.
fn promised(recorder: &Recorder) -> Lsn {
    let durable = recorder.durable();
    trial::promise(|| format!("durable {durable}"));
    durable
}

/// Waits for something new about a stop.
async fn changed(drain: &mut Option<Drain>) {
    match drain {
        Some(drain) => drain.changed().await,
        None => std::future::pending().await,
    }
}

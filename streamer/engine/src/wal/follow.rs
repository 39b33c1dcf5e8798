//! One leg in flight: what comes is recorded, made durable, and only then acknowledged.

use std::future::ready;
use std::pin::pin;
use std::time::Duration;

use hardstorage_replication::ReplicationStream;
use hardstorage_report::{Result, StreamPhase};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::drain::Drain;
use super::flow::Flow;
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
/// A server whose commits wait says something again sooner than this, or not for a while.
const HERE: Duration = Duration::from_millis(2);
/// Everything else (ends, clocks, segments that are done) is given a turn so often while commits come one after the other.
const ELSEWHERE: Duration = Duration::from_millis(5);

impl Streamer {
    /// Takes what comes, makes it durable, tells the server.
    pub(super) async fn follow(
        &mut self,
        mut stream: ReplicationStream,
        mut recorder: Recorder,
        server: &ServerIdentity,
        leg: Leg,
        meter: Option<ProgressMeter>,
        stop: &StopSignal,
    ) -> Result<Ended> {
        let stand_in = |caller: &Handle| AbortOnDropHandle::new(caller.spawn(stream.acknowledge().stand_in()));
        let _standing_in = self.caller.as_ref().map(stand_in);
        let mut flush = tokio::time::interval_at(Instant::now() + self.plan.flush_interval, self.plan.flush_interval);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = tokio::time::interval_at(Instant::now() + IDLE_MARK, IDLE_MARK);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut window = tokio::time::interval(WINDOW);
        window.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = SyncWatch::new(self.plan.source.clone(), self.waiting.clone());
        let mut flow = Flow::new(stream.acknowledge(), leg, &recorder, meter);
        self.tell(&recorder, &mut flow);
        let mut drain: Option<Drain> = None;
        // Made once: a commit waits for every turn.
        let (mut killed, mut draining) = (pin!(stop.kill.cancelled()), pin!(stop.drain.cancelled()));
        // Something is durable that the status was not told of.
        let mut unseen = false;
        // When the runtime was given a turn.
        let mut turn = Instant::now();
        loop {
            let drained = drain.as_ref().is_some_and(|drain| drain.is_over(recorder.received()));
            if drained || stop.kill.is_cancelled() {
                self.note(&recorder, &mut flow);
                recorder.flush().await?;
                self.tell(&recorder, &mut flow);
                stream.stop();
                // The position is durable; that the server did not say goodbye changes nothing.
                if let Ok(connection) = stream.finish().await {
                    connection.close().await;
                }
                return Ok(Ended::Stopped);
            }
            let unflushed = recorder.unflushed();
            // What lies more than a segment behind becomes a segment sooner than tails of it would help anybody.
            let near = recorder.received().bytes_until(flow.server_has) <= flow.segment;
            // All that has come by now is one flush; what comes while it is written is the next one.
            let waited_for = self.plan.synchronous && unflushed > 0;
            let due = waited_for && (!stream.has_next() || (near && unflushed >= BATCH));
            if due {
                if let Err(error) = recorder.flush_received().await {
                    self.note(&recorder, &mut flow);
                    return Err(error);
                }
                // A commit goes on with it; everything else has time.
                self.acknowledge(&recorder, &flow);
                unseen = true;
            }
            // Whoever has the thread to themselves waits for the next commit in the kernel.
            let alone = self.plan.synchronous && self.caller.is_some() && drain.is_none();
            let here = alone && turn.elapsed() < ELSEWHERE;
            let busy = alone && !here;
            // What has come meanwhile comes before what somebody may look at.
            let mut event = here.then(|| stream.next_here(Duration::ZERO)).flatten();
            if event.is_none() {
                self.note(&recorder, &mut flow);
                if std::mem::take(&mut unseen) {
                    self.show(&recorder, &mut flow);
                    recorder.begin_tidy(false);
                }
                event = here.then(|| stream.next_here(HERE)).flatten();
            }
            if let Some(event) = event {
                if let Some(ended) = self.take(Ok(Some(event)), &mut recorder, &mut flow).await? {
                    return Ok(ended);
                }
                continue;
            }
            if busy {
                yield_now().await;
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
                    self.tell(&recorder, &mut flow);
                }
                _ = flush.tick() => {
                    if recorder.is_behind() {
                        recorder.flush_received().await?;
                        self.tell(&recorder, &mut flow);
                    }
                    recorder.begin_tidy(true);
                }
                found = watch.changed(), if self.plan.synchronous => self.tell_waiting(found),
                _ = window.tick() => self.refresh_window(),
                _ = idle.tick() => {
                    if recorder.mark_idle().await? {
                        self.tell(&recorder, &mut flow);
                    }
                }
                event = stream.next() => {
                    if let Some(ended) = self.take(event, &mut recorder, &mut flow).await? {
                        return Ok(ended);
                    }
                }
                // Everything else was asked.
                () = ready(()), if busy => {}
            }
            turn = Instant::now();
        }
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
}

/// Waits for something new about a stop.
async fn changed(drain: &mut Option<Drain>) {
    match drain {
        Some(drain) => drain.changed().await,
        None => std::future::pending().await,
    }
}

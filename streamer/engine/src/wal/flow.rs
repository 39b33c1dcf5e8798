//! What each event of a leg changes, and who is told of it.

use hardstorage_replication::{Acknowledge, StreamEvent};
use hardstorage_report::{Error, Kind, Lsn, Result, Severity, code};
use hardstorage_repository::wal::ServerTime;
use hardstorage_storage::trial;
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::recorder::Recorder;
use super::route::Leg;
use super::stream::{Ended, Streamer};
use crate::progress::ProgressMeter;

/// A server that shuts down asks again and again; one tail for each question would be a storm.
const FLUSH_ON_DEMAND: Duration = Duration::from_millis(200);

/// One leg in flight.
pub(super) struct Flow {
    acknowledge: Acknowledge,
    leg: Leg,
    /// Bytes of a segment.
    pub(super) segment: u64,
    /// Segments that the status was told of.
    shown: u64,
    /// How far the server said that it is.
    pub(super) server_has: Lsn,
    /// The same, while the status was not told of it.
    heard: Option<Lsn>,
    /// When something was made durable because the server asked.
    demanded: Instant,
    /// Tells of the way up to the server's end.
    meter: Option<ProgressMeter>,
}

impl Flow {
    pub(super) fn new(acknowledge: Acknowledge, leg: Leg, recorder: &Recorder, meter: Option<ProgressMeter>) -> Flow {
        Flow {
            acknowledge,
            leg,
            segment: recorder.segment_size().bytes(),
            shown: 0,
            server_has: recorder.received(),
            heard: None,
            demanded: Instant::now(),
            meter,
        }
    }

    fn set(&self, recorder: &Recorder) {
        self.acknowledge.set(recorder.received(), promised(recorder));
    }
}

impl Streamer {
    /// Takes what the stream gave; tells how the leg has ended, if it has.
    pub(super) async fn take(
        &mut self,
        event: Result<Option<StreamEvent>>,
        recorder: &mut Recorder,
        flow: &mut Flow,
    ) -> Result<Option<Ended>> {
        match or_store(event, recorder, flow).await? {
            Some(StreamEvent::Data {
                lsn,
                bytes,
                server_end,
                server_time,
            }) => {
                let length = bytes.len() as u64;
                flow.server_has = server_end;
                recorder.push(lsn, bytes, server_end, ServerTime(server_time.0)).await?;
                self.started = true;
                (self.heard, self.flowed) = (true, true);
                flow.set(recorder);
                if let Some(catch_up) = &flow.meter {
                    catch_up.add(length);
                    if recorder.received() >= server_end {
                        flow.meter = None;
                        let body = json!({"received_lsn": recorder.received()});
                        self.emit(Severity::Info, "wal.stream.caught_up", body);
                    }
                }
                self.monitor.update(|status| status.bytes_received += length);
                flow.heard = Some(server_end);
                Ok(None)
            }
            Some(StreamEvent::Keepalive {
                server_end,
                server_time,
                reply_requested,
            }) => {
                recorder.heard(server_end, ServerTime(server_time.0));
                (self.started, self.heard) = (true, true);
                flow.set(recorder);
                flow.heard = Some(server_end);
                // A server that shuts down waits until its last bytes are flushed.
                if reply_requested && recorder.is_behind() && flow.demanded.elapsed() >= FLUSH_ON_DEMAND {
                    recorder.flush_received().await?;
                    flow.demanded = Instant::now();
                    self.tell(recorder, flow);
                }
                Ok(None)
            }
            Some(StreamEvent::EndOfTimeline { next, at }) => {
                recorder.flush().await?;
                self.tell(recorder, flow);
                let leg = flow.leg;
                if leg.end.is_some_and(|end| end != at) {
                    return Err(Error::new(
                        code::repository::SPLIT_BRAIN,
                        format!(
                            "timeline {} ends at {at} on the server, its history says {:?}",
                            leg.timeline, leg.end
                        ),
                    ));
                }
                let body = json!({"next_timeline": next, "switch_lsn": at});
                self.emit(Severity::Notice, "wal.timeline.switched", body);
                Ok(Some(Ended::TimelineSwitched))
            }
            Some(StreamEvent::ServerShutdown) | None => {
                recorder.flush().await?;
                self.tell(recorder, flow);
                Ok(Some(Ended::ServerStopped))
            }
        }
    }

    /// Tells the status how far the server was when it was heard.
    pub(super) fn note(&self, recorder: &Recorder, flow: &mut Flow) {
        if let Some(server_end) = flow.heard.take() {
            self.monitor.heard(server_end, recorder.received(), self.now());
        }
    }

    /// Tells the server what is durable now.
    pub(super) fn acknowledge(&self, recorder: &Recorder, flow: &Flow) {
        if self.heard {
            flow.set(recorder);
        }
    }

    /// Tells server and status what is durable now.
    pub(super) fn tell(&self, recorder: &Recorder, flow: &mut Flow) {
        self.acknowledge(recorder, flow);
        self.show(recorder, flow);
    }

    /// Tells the status what is durable now.
    pub(super) fn show(&self, recorder: &Recorder, flow: &mut Flow) {
        let stored = recorder.stored().segments;
        let new = stored - flow.shown;
        flow.shown = stored;
        if new > 0 {
            self.monitor.update(|status| status.segments += new);
        }
        let durable = promised(recorder);
        self.monitor
            .durable(durable, recorder.durable_up_to(), flow.segment, self.now());
    }
}

/// What the stream gave. When it broke, what it gave before is made durable first: the server may have removed it by the
/// time of the next connection.
async fn or_store(
    event: Result<Option<StreamEvent>>,
    recorder: &mut Recorder,
    flow: &Flow,
) -> Result<Option<StreamEvent>> {
    if let Err(broken) = &event
        && recorder.is_behind()
    {
        match recorder.flush().await {
            Ok(()) => flow.set(recorder),
            // Other bytes than the archive has matter more than a broken connection.
            Err(error) if error.kind() == Kind::Conflict => return Err(error),
            Err(error) => tracing::warn!(%broken, %error, "what was received before the break is not stored"),
        }
    }
    event
}

/// What is durable, for somebody who will count on it.
fn promised(recorder: &Recorder) -> Lsn {
    let durable = recorder.durable();
    trial::promise(|| format!("durable {durable}"));
    durable
}

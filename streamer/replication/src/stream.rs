//! Streaming replication as the engine sees it: events on one side, acknowledgements on the other.
//!
//! The socket belongs to a task of its own (see `pump`). A consumer that takes its time stops the reading, by a
//! budget of bytes, but never the status messages: a server drops a client that is silent for `wal_sender_timeout`.
//! Acknowledging is a handle of its own, because what makes WAL safe is not what receives it: it tells the server itself,
//! on the half of the connection that it shares with that task (see `line`). Whoever holds up the thread of that task has
//! somebody on another thread stand in for it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, Retry, Timeline, code};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::command;
use crate::connection::{Answer, Connection, within};
use crate::message::protocol;
use crate::pump::{self, Pump};
use crate::server_error::During;
use crate::setting;
use crate::shared_line::SharedLine;
use crate::wal_frame::ServerTime;

/// How a stream behaves.
#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// The longest time between two status messages. It is shortened to a third of the server's `wal_sender_timeout`
    /// and to a quarter of `receive_timeout`.
    pub status_interval: Duration,
    /// How long the server may say nothing, although it was asked to, before it counts as unreachable.
    pub receive_timeout: Duration,
    /// How many bytes may wait for [`ReplicationStream::next`] before nothing more is read from the socket. It is
    /// exceeded by at most one message.
    pub budget: usize,
    /// How long the reading rests after it has taken all there was, so that what comes next is taken together. Zero where
    /// somebody waits for every byte.
    pub linger: Duration,
    /// The clock of the status messages; the server only shows it.
    pub clock: fn() -> SystemTime,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions {
            status_interval: Duration::from_secs(10),
            receive_timeout: Duration::from_mins(1),
            // What one read of the socket brings, many times over; more would only be memory.
            budget: 4 << 20,
            linger: Duration::ZERO,
            clock: SystemTime::now,
        }
    }
}

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// WAL.
    Data {
        /// The position of the first byte, exactly as the server sent it. That it follows on the last event is for
        /// the consumer to check.
        lsn: Lsn,
        /// The bytes: a slice of the read buffer. A record is never split but at page boundaries.
        bytes: Bytes,
        /// The end of WAL on the server.
        server_end: Lsn,
        /// The server's clock when it sent this.
        server_time: ServerTime,
    },
    /// No WAL, but a sign of life.
    Keepalive {
        /// The end of WAL on the server.
        server_end: Lsn,
        /// The server's clock when it sent this.
        server_time: ServerTime,
        /// The server asked for a status. It has been answered with what was acknowledged; a server that shuts down
        /// asks again and again until everything it has is flushed, so this is the moment to make the rest safe.
        reply_requested: bool,
    },
    /// The timeline ends here and the next begins. The last event; the connection can be used again.
    EndOfTimeline {
        /// The timeline that follows.
        next: Timeline,
        /// Where it branches off. It may lie before the end of what was received: the rest never happened on `next`.
        at: Lsn,
    },
    /// The server has shut down in order, and all it had was flushed. The last event; the connection is gone.
    ServerShutdown,
}

/// Tells the server what is written and what is safe. Clones mean the same stream.
#[derive(Clone)]
pub struct Acknowledge {
    pub(crate) line: SharedLine,
}

impl std::fmt::Debug for Acknowledge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acknowledge").finish_non_exhaustive()
    }
}

impl Acknowledge {
    /// Raises the positions; neither ever goes back. The server may remove all WAL before `flushed`, on all of its
    /// disks, as soon as it hears of it.
    ///
    /// A higher `flushed` is told at once, a higher `written` with the next status. What was not received from the
    /// server is never acknowledged to it, whatever is set here.
    pub fn set(&self, written: Lsn, flushed: Lsn) {
        self.line.acknowledge(written, flushed);
    }

    /// Tells the server what is known when the task that reads the stream is overdue with it, because whoever makes WAL safe
    /// holds up their thread. To be run on another one; returns when the stream ends.
    pub async fn stand_in(self) {
        self.line.stand_in().await;
    }
}

/// The bytes that wait for the consumer.
#[derive(Debug)]
pub(crate) struct Budget {
    queued: AtomicUsize,
    limit: usize,
    freed: Notify,
}

/// What an event costs beside its bytes, so that keepalives are bounded too.
const EVENT_COST: usize = 64;

impl Budget {
    pub(crate) fn new(limit: usize) -> Budget {
        Budget {
            queued: AtomicUsize::new(0),
            limit,
            freed: Notify::new(),
        }
    }

    fn cost(event: &StreamEvent) -> usize {
        match event {
            StreamEvent::Data { bytes, .. } => EVENT_COST + bytes.len(),
            _ => EVENT_COST,
        }
    }

    pub(crate) fn take(&self, event: &StreamEvent) {
        self.queued.fetch_add(Self::cost(event), Ordering::AcqRel);
    }

    pub(crate) fn give_back(&self, event: &StreamEvent) {
        self.queued.fetch_sub(Self::cost(event), Ordering::AcqRel);
        self.freed.notify_one();
    }

    pub(crate) fn has_room(&self) -> bool {
        self.queued.load(Ordering::Acquire) < self.limit
    }

    /// Returns after something was given back since the last return.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// How the pump ended: with the connection, without one after the server's shutdown, or with an error.
type Outcome = Result<Option<Connection>>;

/// A running stream. Dropping it closes the socket at once.
#[derive(Debug)]
pub struct ReplicationStream {
    /// What was read past the pump, before anything that it has taken since.
    pub(crate) ahead: VecDeque<StreamEvent>,
    pub(crate) socket: Weak<OwnedFd>,
    pub(crate) events: mpsc::UnboundedReceiver<StreamEvent>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) acknowledge: Acknowledge,
    stop: CancellationToken,
    pump: AbortOnDropHandle<Outcome>,
    outcome: Option<Outcome>,
}

impl Connection {
    /// START_REPLICATION ... PHYSICAL: streams WAL of `timeline` from `lsn`, from a slot or without.
    ///
    /// `lsn` should be the start of a segment. A slot that another process uses is
    /// [`code::replication::SLOT_IN_USE`], WAL that is gone [`code::replication::WAL_REMOVED`] (it may also come from
    /// [`ReplicationStream::next`]). When an older timeline ends exactly at `lsn`, the first event is its end.
    ///
    /// The connection is given back by [`ReplicationStream::finish`]; after an error here it is closed.
    pub async fn start_replication(
        mut self,
        slot: Option<&str>,
        lsn: Lsn,
        timeline: Timeline,
        mut options: StreamOptions,
    ) -> Result<ReplicationStream> {
        let text = command::start_replication(slot, lsn, timeline)?;
        options.status_interval = self.status_interval(&options).await?;
        let limit = self.reply_timeout();
        let begin = async {
            self.begin(&text).await?;
            self.answer().await
        };
        let first = within(limit, begin)
            .await
            .map_err(|failure| failure.into_error(During::Stream(slot), &text))?;

        let budget = Arc::new(Budget::new(options.budget));
        let (sender, events) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let (line, pump) = match first {
            Answer::Copy(crate::Message::CopyBothResponse) => {
                let line = SharedLine::new(Some(self), options, lsn);
                let shared = pump::Shared {
                    events: sender,
                    budget: Arc::clone(&budget),
                    line: line.clone(),
                    stop: stop.clone(),
                };
                let pump = Pump::new(shared, options, slot.map(str::to_owned));
                (line, tokio::spawn(pump.run()))
            }
            // The timeline ends exactly here: there is nothing to copy.
            Answer::Rows(set) => {
                let row = set.into_single(&text)?;
                let end = within(limit, pump::end(&mut self, Some(row)))
                    .await
                    .map_err(|failure| failure.into_error(During::Stream(slot), &text))?
                    .ok_or_else(|| protocol("no timeline follows one that has ended"))?;
                let pump = tokio::spawn(async move {
                    // Without a receiver nobody wants to know.
                    let _ = sender.send(end);
                    Ok(Some(self))
                });
                (SharedLine::new(None, options, lsn), pump)
            }
            other => return Err(protocol(format!("{text} was answered with {other:?}"))),
        };
        Ok(ReplicationStream {
            ahead: VecDeque::new(),
            socket: line.socket(),
            events,
            budget,
            acknowledge: Acknowledge { line },
            stop,
            pump: AbortOnDropHandle::new(pump),
            outcome: None,
        })
    }

    /// How often a status must go out so that this server keeps the connection.
    async fn status_interval(&mut self, options: &StreamOptions) -> Result<Duration> {
        let mut interval = options.status_interval.min(options.receive_timeout / 4);
        match self.show("wal_sender_timeout").await {
            Ok(text) => match setting::duration(&text) {
                // Zero switches the server's timeout off.
                Some(timeout) if !timeout.is_zero() => interval = interval.min(timeout / 3),
                Some(_) => {}
                None => debug!(%text, "wal_sender_timeout cannot be read"),
            },
            Err(error) if error.is(code::replication::DENIED) => {
                debug!("wal_sender_timeout is not visible to this role");
            }
            Err(error) => return Err(error),
        }
        Ok(interval.max(Duration::from_millis(10)))
    }
}

impl ReplicationStream {
    /// The next event; `None` after the last one, which is the end of the timeline, the server's shutdown, or a stop.
    ///
    /// Cancel safe. The server's silence is [`code::replication::UNREACHABLE`].
    pub async fn next(&mut self) -> Result<Option<StreamEvent>> {
        if let Some(event) = self.ahead.pop_front() {
            return Ok(Some(event));
        }
        if let Some(event) = self.events.recv().await {
            self.budget.give_back(&event);
            return Ok(Some(event));
        }
        self.join().await;
        match self.outcome.take() {
            Some(Err(error)) => {
                let again = Error::new(error.code(), "the stream has failed before").retry(error.retry_advice());
                self.outcome = Some(Err(again));
                Err(error)
            }
            outcome => {
                self.outcome = outcome;
                Ok(None)
            }
        }
    }

    /// Whether an event waits that [`ReplicationStream::next`] would give without waiting.
    pub fn has_next(&self) -> bool {
        !self.ahead.is_empty() || !self.events.is_empty()
    }

    /// The handle that tells the server what is safe.
    pub fn acknowledge(&self) -> Acknowledge {
        self.acknowledge.clone()
    }

    /// Begins to stop: a last status with what is acknowledged goes out, then the server is told that no more is
    /// wanted. Events that were received before still come from [`ReplicationStream::next`].
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends the stream in order and gives the connection back for the next command. What was not taken is dropped.
    ///
    /// After [`StreamEvent::ServerShutdown`] there is no connection: [`code::replication::UNREACHABLE`].
    pub async fn finish(mut self) -> Result<Connection> {
        self.stop.cancel();
        self.events.close();
        self.join().await;
        let message = "PostgreSQL has shut down";
        let shutdown = || Error::new(code::replication::UNREACHABLE, message).retry(Retry::Later);
        self.outcome.take().unwrap_or_else(|| Err(gone()))?.ok_or_else(shutdown)
    }

    async fn join(&mut self) {
        if self.outcome.is_none() {
            self.outcome = Some((&mut self.pump).await.unwrap_or_else(|error| Err(gone().source(error))));
        }
    }
}

fn gone() -> Error {
    Error::new(code::cli::INTERNAL, "the task that reads the stream is gone").retry(Retry::Now)
}

//! The task that owns the socket of a stream: it reads while there is room, and tells the server how far we are
//! whether it reads or not.
//!
//! A status goes out
//! - at once when the flushed position rose (rises while the last one is still being written become one status),
//! - at once when the server asks (the same answer again only after a moment),
//! - and after the status interval. When nothing came meanwhile it asks the server for an answer: a server with
//!   nothing to send is otherwise silent as long as we are not, and could not be told from a dead one.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hardstorage_report::{Lsn, Result, Timeline};
use postgres_protocol::message::frontend;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::connection::{Answer, Connection, Failure, silent, within};
use crate::message::{Message, protocol};
use crate::rows::Row;
use crate::server_error::During;
use crate::stream::{Budget, Positions, StreamEvent, StreamOptions};
use crate::wal_frame::{FromServer, ServerTime, Status};
use crate::wire::Wire;

/// The shortest time between two answers that say the same. A server that shuts down asks again as soon as it was
/// answered, until what it waits for is flushed: a million times in a few minutes without this.
const SAME_ANSWER_GAP: Duration = Duration::from_millis(100);

/// How many messages are taken from the buffer before clocks and handles are looked at again.
const BATCH: usize = 64;

/// What the pump shares with the stream's handles.
pub(crate) struct Shared {
    pub(crate) events: mpsc::UnboundedSender<StreamEvent>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) positions: Arc<watch::Sender<Positions>>,
    pub(crate) stop: CancellationToken,
}

pub(crate) struct Pump {
    connection: Connection,
    shared: Shared,
    options: StreamOptions,
    slot: Option<String>,
    /// The end of what was received, or the start of the stream.
    received: Lsn,
    told: Positions,
    last_status: Instant,
    last_asked: Instant,
    last_received: Instant,
    /// The server asked and was not answered yet.
    owes_reply: bool,
    /// Our half of the COPY is over.
    stopping: bool,
    reading: bool,
}

/// What woke the pump.
enum Woke {
    Stop,
    Look,
    Message(Result<Message>),
}

/// How a stream ended.
enum End {
    Ready,
    Shutdown,
}

/// How a message changes the stream.
enum Next {
    GoOn,
    ServerDone,
    Shutdown,
}

impl Pump {
    pub(crate) fn new(
        connection: Connection,
        shared: Shared,
        options: StreamOptions,
        start: Lsn,
        slot: Option<String>,
    ) -> Pump {
        let now = Instant::now();
        Pump {
            connection,
            shared,
            options,
            slot,
            received: start,
            told: Positions::default(),
            last_status: now,
            last_asked: now,
            last_received: now,
            owes_reply: false,
            stopping: false,
            reading: true,
        }
    }

    /// Runs to the end of the stream. The connection comes back unless the server has shut down.
    pub(crate) async fn run(mut self) -> Result<Option<Connection>> {
        let outcome = self.pump().await;
        let slot = self.slot.as_deref();
        let end = outcome.map_err(|failure| failure.into_error(During::Stream(slot), "stream WAL"))?;
        Ok(match end {
            End::Ready => Some(self.connection),
            End::Shutdown => None,
        })
    }

    async fn pump(&mut self) -> Result<End, Failure> {
        let positions = Arc::clone(&self.shared.positions);
        let mut changes = positions.subscribe();
        let stop = self.shared.stop.clone();
        loop {
            let now = Instant::now();
            self.decide_reading(now);
            self.tell(now);
            let deadline = self.last_received + self.options.receive_timeout;
            if self.reading && now >= deadline {
                return Err(silent(self.options.receive_timeout).into());
            }
            let wake = self.wake(deadline);
            let (reading, stopping) = (self.reading, self.stopping);
            let budget = &self.shared.budget;
            let wire = self.connection.wire();
            let woke = tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => Woke::Stop,
                _ = changes.changed(), if !stopping => Woke::Look,
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => Woke::Look,
                () = budget.freed(), if !reading => Woke::Look,
                woke = poll_fn(|cx| drive(wire, reading, cx)) => woke,
            };
            match woke {
                Woke::Look => {}
                Woke::Stop => self.begin_stop(),
                Woke::Message(message) => match self.take_batch(message?)? {
                    Next::GoOn => {}
                    Next::ServerDone => return self.end_of_copy().await,
                    Next::Shutdown => {
                        self.emit(StreamEvent::ServerShutdown);
                        return Ok(End::Shutdown);
                    }
                },
            }
        }
    }

    /// Reads only when there is room. Time without reading is not the server's silence.
    fn decide_reading(&mut self, now: Instant) {
        let reading = self.stopping || self.shared.budget.has_room();
        if reading && !self.reading {
            self.last_received = now;
        }
        self.reading = reading;
    }

    /// When to look again although nothing happened.
    fn wake(&mut self, deadline: Instant) -> Option<Instant> {
        let mut wake = self.reading.then_some(deadline);
        // A status that cannot be written now is no reason to wake before the writing goes on.
        if !self.stopping && !self.connection.wire().has_unsent() {
            let status = self.last_status + self.options.status_interval;
            let ask = self.reading.then(|| self.ask_due());
            let reply = self.owes_reply.then(|| self.same_answer_due());
            wake = [wake, Some(status), ask, reply].into_iter().flatten().min();
        }
        wake
    }

    /// When the server must be asked for a sign of life.
    fn ask_due(&self) -> Instant {
        self.last_received.max(self.last_asked) + self.options.status_interval
    }

    /// When the same answer may be given again.
    fn same_answer_due(&self) -> Instant {
        self.last_status + SAME_ANSWER_GAP.min(self.options.status_interval)
    }

    /// Queues a status when one is due.
    fn tell(&mut self, now: Instant) {
        // While one is still being written the next waits, and then tells all that happened since.
        if self.stopping || self.connection.wire().has_unsent() {
            return;
        }
        let positions = self.positions();
        let news = positions.flushed > self.told.flushed;
        let ask = self.reading && now >= self.ask_due();
        let answer = self.owes_reply && (positions != self.told || now >= self.same_answer_due());
        if news || ask || answer || now >= self.last_status + self.options.status_interval {
            self.queue_status(positions, ask, now);
        }
    }

    /// What may be told: what was set, but never more than was received. An acknowledged position lets the server
    /// remove WAL, and what lies ahead can only be a mistake of ours.
    fn positions(&self) -> Positions {
        let set = *self.shared.positions.borrow();
        Positions {
            written: set.written.min(self.received),
            flushed: set.flushed.min(self.received),
        }
    }

    fn queue_status(&mut self, positions: Positions, ask: bool, now: Instant) {
        let mut bytes = BytesMut::with_capacity(64);
        Status {
            written: positions.written,
            flushed: positions.flushed,
            time: ServerTime::from_system((self.options.clock)()),
            reply_requested: ask,
        }
        .encode(&mut bytes);
        self.connection.wire().queue(&bytes);
        self.told = positions;
        self.last_status = now;
        self.owes_reply = false;
        if ask {
            self.last_asked = now;
        }
    }

    /// The last status, then the end of our half: after it the server takes no more.
    fn begin_stop(&mut self) {
        let now = Instant::now();
        self.queue_status(self.positions(), false, now);
        self.queue_copy_done();
        self.stopping = true;
        self.last_received = now;
    }

    fn queue_copy_done(&mut self) {
        let mut bytes = BytesMut::new();
        frontend::copy_done(&mut bytes);
        self.connection.wire().queue(&bytes);
    }

    /// Takes a message and those that lie behind it in the buffer.
    fn take_batch(&mut self, message: Message) -> Result<Next, Failure> {
        self.last_received = Instant::now();
        let mut next = self.take(message)?;
        for _ in 1..BATCH {
            let room = self.stopping || self.shared.budget.has_room();
            if !room || self.owes_reply || !matches!(next, Next::GoOn) {
                break;
            }
            match self.connection.wire().try_recv()? {
                Some(message) => next = self.take(message)?,
                None => break,
            }
        }
        Ok(next)
    }

    fn take(&mut self, message: Message) -> Result<Next, Failure> {
        match message {
            Message::CopyData(body) => self.take_frame(body).map_err(Failure::Broken)?,
            Message::CopyDone => return Ok(Next::ServerDone),
            Message::CommandComplete(_) => return Ok(Next::Shutdown),
            Message::ErrorResponse(error) => return Err(Failure::Server(error)),
            other => return Err(other.unexpected("streaming").into()),
        }
        Ok(Next::GoOn)
    }

    fn take_frame(&mut self, body: Bytes) -> Result<()> {
        match FromServer::decode(body)? {
            FromServer::Data {
                lsn,
                server_end,
                server_time,
                bytes,
            } => {
                if !self.stopping {
                    self.received = self.received.max(lsn.add(bytes.len() as u64));
                    self.emit(StreamEvent::Data {
                        lsn,
                        bytes,
                        server_end,
                        server_time,
                    });
                }
            }
            FromServer::Keepalive {
                server_end,
                server_time,
                reply_requested,
            } => {
                self.owes_reply |= reply_requested;
                if !self.stopping {
                    self.emit(StreamEvent::Keepalive {
                        server_end,
                        server_time,
                        reply_requested,
                    });
                }
            }
        }
        Ok(())
    }

    fn emit(&self, event: StreamEvent) {
        self.shared.budget.take(&event);
        // A consumer that is gone has asked for a stop or dropped the stream; either ends this task.
        let _ = self.shared.events.send(event);
    }

    /// The server's half is over: ours too, then the answer to the command.
    async fn end_of_copy(&mut self) -> Result<End, Failure> {
        let asked = self.stopping;
        if !asked {
            self.begin_stop();
        }
        let limit = self.options.receive_timeout;
        let end = within(limit, async {
            self.connection.wire().flush().await;
            end(&mut self.connection, None).await
        })
        .await?;
        match end {
            Some(end) => self.emit(end),
            None if asked => {}
            None => return Err(protocol("the stream ended, but not the timeline").into()),
        }
        Ok(End::Ready)
    }
}

/// Writes what waits, and reads when it may.
fn drive(wire: &mut Wire, reading: bool, cx: &mut Context<'_>) -> Poll<Woke> {
    if wire.has_unsent() && wire.poll_flush(cx).is_ready() {
        return Poll::Ready(Woke::Look);
    }
    if reading {
        return wire.poll_recv(cx).map(Woke::Message);
    }
    Poll::Pending
}

/// Reads the answer after the COPY, up to ReadyForQuery: the row that names the next timeline, when there is one.
pub(crate) async fn end(connection: &mut Connection, mut row: Option<Row>) -> Result<Option<StreamEvent>, Failure> {
    loop {
        match connection.answer().await? {
            Answer::Rows(set) => row = set.into_rows().pop().or(row),
            Answer::Ready => break,
            Answer::Copy(message) => return Err(message.unexpected("the end of a stream").into()),
        }
    }
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(StreamEvent::EndOfTimeline {
        next: Timeline(row.require(0, "the next timeline")?),
        at: row.require(1, "the start of the next timeline")?,
    }))
}

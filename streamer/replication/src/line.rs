//! The line of a stream: its connection, what came on it, and what the server was told and when. Several hold it: see
//! `shared_line`.
//!
//! A status goes out
//! - at once when the flushed position rose (rises while the last one is still being written become one status),
//! - at once when the server asks (the same answer again only after a moment),
//! - and after the status interval. When nothing came meanwhile it asks the server for an answer: a server with
//!   nothing to send is otherwise silent as long as we are not, and could not be told from a dead one.
//!
//! Where the pump has no thread of its own, somebody stands in for it when its status is overdue.

use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hardstorage_report::{Lsn, Result};
use postgres_protocol::message::frontend;
use tokio::time::Instant;

use crate::connection::{Connection, silent};
use crate::message::Message;
use crate::stream::{StreamEvent, StreamOptions};
use crate::wal_frame::{self, ServerTime, Status};
use crate::wire::Wire;

/// The shortest time between two answers that say the same. A server that shuts down asks again as soon as it was
/// answered, until what it waits for is flushed: a million times in a few minutes without this.
const SAME_ANSWER_GAP: Duration = Duration::from_millis(100);

/// What was made safe so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    pub(crate) written: Lsn,
    pub(crate) flushed: Lsn,
}

/// What woke the pump.
pub(crate) enum Woke {
    Stop,
    Look,
    Message(Result<Message>),
}

/// What the pump waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// When to look again although nothing happened.
    pub(crate) wake: Option<Instant>,
    /// Whether to read.
    pub(crate) reading: bool,
    /// Whether our half of the COPY is over.
    pub(crate) stopping: bool,
}

/// See the module.
pub(crate) struct Line {
    /// `None` when the stream is over.
    connection: Option<Connection>,
    pub(crate) options: StreamOptions,
    /// What was set.
    safe: Positions,
    /// The end of what was received, or the start of the stream.
    pub(crate) received: Lsn,
    told: Positions,
    last_status: Instant,
    last_asked: Instant,
    last_received: Instant,
    /// The server asked and was not answered yet.
    pub(crate) owes_reply: bool,
    /// Our half of the COPY is over.
    pub(crate) stopping: bool,
    pub(crate) reading: bool,
    /// Nothing is read before.
    linger: Option<Instant>,
    /// The pump has a message in its hand, which comes before all that is read next.
    pub(crate) in_hand: bool,
    /// What was read past the pump and is for it.
    pub(crate) left: Option<Result<Message>>,
}

impl Line {
    pub(crate) fn new(connection: Option<Connection>, options: StreamOptions, start: Lsn) -> Line {
        let now = Instant::now();
        Line {
            connection,
            options,
            safe: Positions::default(),
            received: start,
            told: Positions::default(),
            last_status: now,
            last_asked: now,
            last_received: now,
            owes_reply: false,
            stopping: false,
            reading: true,
            linger: None,
            in_hand: false,
            left: None,
        }
    }

    /// The wire, unless the stream is over.
    pub(crate) fn wire(&mut self) -> Option<&mut Wire> {
        self.connection.as_mut().map(Connection::wire)
    }

    /// The connection; the stream is over.
    pub(crate) fn take(&mut self) -> Option<Connection> {
        self.connection.take()
    }

    fn has_unsent(&mut self) -> bool {
        self.wire().is_some_and(|wire| wire.has_unsent())
    }

    /// Whether `flushed` rose.
    pub(crate) fn raise(&mut self, written: Lsn, flushed: Lsn) -> bool {
        let raised = self.safe.flushed < flushed;
        self.safe = Positions {
            flushed: self.safe.flushed.max(flushed),
            written: self.safe.written.max(written).max(flushed),
        };
        raised
    }

    /// Tells what was acknowledged, on the spot; whether all of it is on its way.
    pub(crate) fn tell_at_once(&mut self) -> bool {
        if self.is_over() {
            return true;
        }
        if self.has_unsent() {
            return false;
        }
        self.tell(Instant::now());
        self.flush_at_once()
    }

    /// The pump has had its time, and half of it again.
    pub(crate) fn overdue(&self) -> Instant {
        self.last_status + self.options.status_interval * 3 / 2
    }

    /// Tells what is known in the place of the pump; whether all of it is on its way.
    pub(crate) fn tell_overdue(&mut self, now: Instant) -> bool {
        // Then it is the server that does not take it, and the pump finds out for how long.
        if self.has_unsent() {
            return false;
        }
        // Nobody has read meanwhile, which is not the server's silence.
        self.last_received = now;
        self.queue_status(self.positions(), false, now);
        self.flush_at_once()
    }

    /// Nobody waits with this: when the socket is full the pump is woken, and waits.
    fn flush_at_once(&mut self) -> bool {
        self.poll_flush(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Writes what waits.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.wire() {
            Some(wire) if wire.has_unsent() => wire.poll_flush(cx),
            _ => Poll::Ready(()),
        }
    }

    /// Writes what waits, and reads when it may.
    pub(crate) fn drive(&mut self, reading: bool, cx: &mut Context<'_>) -> Poll<Woke> {
        let Some(wire) = self.connection.as_mut().map(Connection::wire) else {
            return Poll::Pending;
        };
        if wire.has_unsent() && wire.poll_flush(cx).is_ready() {
            return Poll::Ready(Woke::Look);
        }
        if !reading {
            return Poll::Pending;
        }
        let message = match self.left.take() {
            Some(left) => left,
            None => ready!(wire.poll_recv(cx)),
        };
        self.in_hand = true;
        Poll::Ready(Woke::Message(message))
    }

    /// Queues what is due, writes what the socket takes of it, and decides what comes next. `room`: whether the consumer
    /// takes more.
    pub(crate) fn turn(&mut self, room: bool, cx: &mut Context<'_>) -> Result<Turn> {
        let now = Instant::now();
        self.decide_reading(room, now);
        self.tell(now);
        // Before clocks are set: a commit may wait for it. What is left, and what fails, is met when the writing goes on.
        while self.has_unsent() && self.poll_flush(cx).is_ready() {
            self.tell(now);
        }
        let deadline = self.last_received + self.options.receive_timeout;
        if self.reading && now >= deadline {
            return Err(silent(self.options.receive_timeout));
        }
        Ok(Turn {
            wake: self.wake(deadline),
            reading: self.reading,
            stopping: self.stopping,
        })
    }

    /// Reads only when there is room, and after a lull when nobody waits. Time without reading is not the server's
    /// silence.
    fn decide_reading(&mut self, room: bool, now: Instant) {
        self.linger = self.linger.filter(|until| now < *until && !self.stopping);
        let reading = self.stopping || (room && self.linger.is_none());
        if reading && !self.reading {
            self.last_received = now;
        }
        self.reading = reading;
    }

    /// Something came, and everything that came was taken: what comes next is better taken together.
    pub(crate) fn rest(&mut self) {
        if !self.options.linger.is_zero() {
            self.linger = Some(self.last_received + self.options.linger);
        }
    }

    /// What a message of the COPY says; `None` when nobody wants to know any more.
    pub(crate) fn take_frame(&mut self, body: Bytes) -> Result<Option<StreamEvent>> {
        let event = wal_frame::decode(body)?;
        match &event {
            StreamEvent::Data { lsn, bytes, .. } if !self.stopping => {
                self.received = self.received.max(lsn.add(bytes.len() as u64));
            }
            StreamEvent::Keepalive { reply_requested, .. } => self.owes_reply |= reply_requested,
            _ => {}
        }
        Ok(Some(event).filter(|_| !self.stopping))
    }

    /// Takes note that the server has said something.
    pub(crate) fn heard(&mut self) {
        self.last_received = Instant::now();
    }

    /// When to look again although nothing happened.
    fn wake(&mut self, deadline: Instant) -> Option<Instant> {
        let mut wake = [self.linger, self.reading.then_some(deadline)]
            .into_iter()
            .flatten()
            .min();
        // A status that cannot be written now is no reason to wake before the writing goes on.
        if !self.stopping && !self.has_unsent() {
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
        if self.stopping || self.has_unsent() {
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
        Positions {
            written: self.safe.written.min(self.received),
            flushed: self.safe.flushed.min(self.received),
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
        self.queue(&bytes);
        self.told = positions;
        self.last_status = now;
        self.owes_reply = false;
        if ask {
            self.last_asked = now;
        }
    }

    fn queue(&mut self, bytes: &[u8]) {
        if let Some(wire) = self.wire() {
            wire.queue(bytes);
        }
    }

    /// The last status, then the end of our half: after it the server takes no more.
    pub(crate) fn begin_stop(&mut self) {
        let now = Instant::now();
        self.queue_status(self.positions(), false, now);
        let mut bytes = BytesMut::new();
        frontend::copy_done(&mut bytes);
        self.queue(&bytes);
        self.stopping = true;
        self.last_received = now;
    }

    /// Whether nothing more is told.
    pub(crate) fn is_over(&self) -> bool {
        self.stopping || self.connection.is_none()
    }
}

//! The task that reads a stream's socket while there is room, and keeps the server told whether it reads or not.
//!
//! What is told, and when, is the line's business (see `line`); how long the reading rests too. Where nobody waits for
//! what comes, the pump rests a moment after it has taken all there was: a busy server sends every commit by itself, and
//! a hundred of them taken together cost the server's machine little more than one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hardstorage_report::{Result, Timeline};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::connection::{Answer, Connection, Failure, within};
use crate::line::{Line, Turn, Woke};
use crate::message::{Message, protocol};
use crate::rows::Row;
use crate::server_error::During;
use crate::shared_line::SharedLine;
use crate::stream::{Budget, StreamEvent, StreamOptions};

/// How many messages are taken from the buffer before clocks and handles are looked at again.
const BATCH: usize = 64;
/// More than this at once is a flood, in which the reading does not rest.
const FLOOD: u64 = 128 << 10;

/// What the pump shares with the stream's handles.
pub(crate) struct Shared {
    pub(crate) events: mpsc::UnboundedSender<StreamEvent>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) line: SharedLine,
    pub(crate) stop: CancellationToken,
}

pub(crate) struct Pump {
    shared: Shared,
    options: StreamOptions,
    slot: Option<String>,
}

/// How a message changes the stream.
enum Next {
    GoOn,
    ServerDone,
    Shutdown,
}

impl Pump {
    pub(crate) fn new(shared: Shared, options: StreamOptions, slot: Option<String>) -> Pump {
        Pump { shared, options, slot }
    }

    /// Runs to the end of the stream. The connection comes back unless the server has shut down.
    pub(crate) async fn run(self) -> Result<Option<Connection>> {
        let slot = self.slot.as_deref();
        let outcome = self.pump().await;
        outcome.map_err(|failure| failure.into_error(During::Stream(slot), "stream WAL"))
    }

    async fn pump(&self) -> Result<Option<Connection>, Failure> {
        let Shared { budget, line, stop, .. } = &self.shared;
        // Made once, not for every turn: a commit may wait for the next message.
        let (mut stop, mut untold) = (pin!(stop.cancelled()), pin!(line.untold()));
        let mut clock = pin!(sleep_until(Instant::now()));
        loop {
            let room = budget.has_room();
            let Turn {
                wake,
                reading,
                stopping,
            } = poll_fn(|cx| Poll::Ready(line.hold().turn(room, cx))).await?;
            // Rarely set anew: mostly the moment has moved on, and to look once in vain costs less.
            if let Some(wake) = wake.filter(|wake| clock.is_elapsed() || *wake < clock.deadline()) {
                clock.as_mut().reset(wake);
            }
            let woke = tokio::select! {
                biased;
                () = &mut stop, if !stopping => Woke::Stop,
                () = &mut untold, if !stopping => {
                    untold.set(line.untold());
                    Woke::Look
                }
                () = &mut clock, if wake.is_some() => Woke::Look,
                () = budget.freed(), if !room && !stopping => Woke::Look,
                woke = poll_fn(|cx| line.hold().drive(reading, cx)) => woke,
            };
            match woke {
                Woke::Look => {}
                Woke::Stop => line.hold().begin_stop(),
                Woke::Message(message) => match self.take_batch(message?)? {
                    // Who waits for every byte is given it before anything else is seen to.
                    Next::GoOn if self.options.linger.is_zero() => yield_now().await,
                    Next::GoOn => {}
                    Next::ServerDone => return self.end_of_copy().await.map(Some),
                    Next::Shutdown => {
                        self.emit(StreamEvent::ServerShutdown);
                        return Ok(None);
                    }
                },
            }
        }
    }

    /// Takes a message and those that lie behind it in the buffer.
    fn take_batch(&self, message: Message) -> Result<Next, Failure> {
        let mut held = self.shared.line.hold();
        let line = &mut *held;
        line.in_hand = false;
        line.heard();
        let before = line.received;
        let mut next = self.take(line, message)?;
        let mut all = false;
        for _ in 1..BATCH {
            let room = line.stopping || self.shared.budget.has_room();
            if !room || line.owes_reply || !matches!(next, Next::GoOn) {
                break;
            }
            let Some(wire) = line.wire() else { break };
            let Some(message) = wire.try_recv()? else {
                all = true;
                break;
            };
            next = self.take(line, message)?;
        }
        if all && before < line.received && before.bytes_until(line.received) < FLOOD {
            line.rest();
        }
        Ok(next)
    }

    fn take(&self, line: &mut Line, message: Message) -> Result<Next, Failure> {
        match message {
            Message::CopyData(body) => {
                if let Some(event) = line.take_frame(body)? {
                    self.emit(event);
                }
            }
            Message::CopyDone => return Ok(Next::ServerDone),
            Message::CommandComplete(_) => return Ok(Next::Shutdown),
            Message::ErrorResponse(error) => return Err(Failure::Server(error)),
            other => return Err(other.unexpected("streaming").into()),
        }
        Ok(Next::GoOn)
    }

    fn emit(&self, event: StreamEvent) {
        self.shared.budget.take(&event);
        // A consumer that is gone has asked for a stop or dropped the stream; either ends this task.
        let _ = self.shared.events.send(event);
    }

    /// The server's half is over: ours too, then the answer to the command.
    async fn end_of_copy(&self) -> Result<Connection, Failure> {
        let (asked, connection) = {
            let mut line = self.shared.line.hold();
            let asked = line.stopping;
            if !asked {
                line.begin_stop();
            }
            (asked, line.take())
        };
        let mut connection = connection.ok_or_else(|| protocol("the stream has ended before"))?;
        let end = within(self.options.receive_timeout, async {
            connection.wire().flush().await;
            end(&mut connection, None).await
        })
        .await?;
        match end {
            Some(end) => self.emit(end),
            None if asked => {}
            None => return Err(protocol("the stream ended, but not the timeline").into()),
        }
        Ok(connection)
    }
}

impl Drop for Pump {
    /// However it ends, the socket is closed, although handles that acknowledge may be left.
    fn drop(&mut self) {
        let left = self.shared.line.hold().take();
        drop(left);
    }
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

//! The wire: one byte stream to a server, cut into messages.
//!
//! It owns both buffers and the header's rules, and nothing about what a sequence of messages means. Notices and
//! parameter changes are kept aside, so that every reader above sees only the messages of its own exchange.
//! Every operation is a poll function over state that lives here: dropping a future loses no byte, and one task
//! can write while it reads or while it declines to read.
//! `CopyData` is a slice of the read buffer: WAL and base backups cross this file without a copy.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use hardstorage_report::{Error, Result, Retry, code};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::message::{Message, protocol};
use crate::server_error::ServerError;

/// What a connection runs over: TCP, TLS, a Unix socket, or a pipe in memory.
pub trait AsyncStream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> AsyncStream for T {}

/// A stream chosen at run time.
pub type BoxStream = Box<dyn AsyncStream>;

/// One read buffer: two of the largest WAL messages (16 blocks of 8 KiB), eight pieces of a base backup.
const BUFFER: usize = 256 << 10;

/// How many full buffers are remembered: 8 MiB.
const MAX_RETIRED: usize = 32;

/// The longest message of the kinds that carry data. A server sends at most a block run or a history file.
const MAX_LONG: usize = 16 << 20;

/// The longest message of every other kind; libpq has the same number.
const MAX_SHORT: usize = 30_000;

/// How many notices are kept until somebody takes them.
const MAX_NOTICES: usize = 1_000;

/// A byte stream cut into messages. See the module.
pub struct Wire {
    stream: BoxStream,
    /// The socket below the stream, when nothing lies between them.
    pub(crate) socket: Option<Arc<OwnedFd>>,
    /// Where the socket is read to on the spot.
    pub(crate) here: Vec<u8>,
    /// What the socket said then instead of bytes.
    pub(crate) read_error: Option<io::Error>,
    pub(crate) input: BytesMut,
    /// Buffers that are full, of which somebody may still hold slices. The first touch of memory costs more than
    /// reading into it, so they are used again.
    retired: VecDeque<BytesMut>,
    /// Whether `input` is of the size that is used again.
    reusable: bool,
    allocated: usize,
    output: BytesMut,
    flushed: bool,
    write_error: Option<io::Error>,
    parameters: BTreeMap<String, String>,
    notices: VecDeque<ServerError>,
    notices_dropped: u64,
}

impl Wire {
    /// A wire over a stream on which nothing was read yet that belongs to it.
    pub fn new(stream: BoxStream) -> Wire {
        Wire {
            stream,
            socket: None,
            here: Vec::new(),
            read_error: None,
            input: BytesMut::new(),
            retired: VecDeque::new(),
            reusable: false,
            allocated: 0,
            output: BytesMut::new(),
            flushed: true,
            write_error: None,
            parameters: BTreeMap::new(),
            notices: VecDeque::new(),
            notices_dropped: 0,
        }
    }

    /// The same wire, that can also be read by this socket, which is the stream's own.
    pub(crate) fn over(mut self, socket: Option<OwnedFd>) -> Wire {
        self.socket = socket.map(Arc::new);
        self
    }

    /// A wire that has read these bytes already and will read nothing more.
    pub(crate) fn buffering(bytes: &[u8]) -> Wire {
        let mut wire = Wire::new(Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink())));
        wire.input.extend_from_slice(bytes);
        wire
    }

    /// Puts bytes behind what waits to be written. They go out with the next [`Wire::flush`].
    pub fn queue(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.flushed = false;
    }

    /// Writes bytes and whatever waited before them. See [`Wire::flush`].
    pub async fn send(&mut self, bytes: &[u8]) {
        self.queue(bytes);
        self.flush().await;
    }

    /// Writes all that waits. Cancel safe: what was written is not written again.
    ///
    /// A failed write is not told here but by [`Wire::recv`], after everything that the server said before: its
    /// last words are the reason for the failure, and a broken pipe is not.
    pub async fn flush(&mut self) {
        poll_fn(|cx| self.poll_flush(cx)).await;
    }

    /// The next message that is neither a notice nor a parameter change. Cancel safe.
    ///
    /// An [`Message::ErrorResponse`] is a message like every other here: what it means depends on the exchange.
    /// The end of the stream and a failed read are [`code::replication::UNREACHABLE`].
    pub async fn recv(&mut self) -> Result<Message> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The parameters that the server reported, by name (`server_version`, `TimeZone` and so on).
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// Takes the notices that came since the last call, and how many more there were no room for.
    pub fn take_notices(&mut self) -> (Vec<ServerError>, u64) {
        let dropped = std::mem::take(&mut self.notices_dropped);
        (std::mem::take(&mut self.notices).into(), dropped)
    }

    /// Whether bytes wait to be written.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.flushed
    }

    /// [`Wire::flush`] as a poll function.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.flushed {
            return Poll::Ready(());
        }
        if let Err(error) = ready!(self.poll_write_out(cx)) {
            self.output.clear();
            self.write_error = Some(error);
        }
        self.flushed = true;
        Poll::Ready(())
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.output.has_remaining() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(count);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// [`Wire::recv`] as a poll function.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message>> {
        loop {
            let missing = match self.cut()? {
                Cut::Missing(missing) => missing,
                Cut::Message(message) => match self.keep_aside(message) {
                    Some(message) => return Poll::Ready(Ok(message)),
                    None => continue,
                },
            };
            if let Err(error) = ready!(self.poll_fill(cx, missing)) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// A message that was read already, without a look at the stream.
    pub(crate) fn try_recv(&mut self) -> Result<Option<Message>> {
        while let Cut::Message(message) = self.cut()? {
            if let Some(message) = self.keep_aside(message) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Takes one whole message from the front of the buffer, or says how many bytes it lacks.
    fn cut(&mut self) -> Result<Cut> {
        let Some((tag, length)) = header(&self.input)? else {
            return Ok(Cut::Missing(HEADER - self.input.len()));
        };
        let total = HEADER + length;
        if self.input.len() < total {
            return Ok(Cut::Missing(total - self.input.len()));
        }
        let mut message = self.input.split_to(total);
        message.advance(HEADER);
        Message::decode(tag, message.freeze()).map(Cut::Message)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, missing: usize) -> Poll<Result<()>> {
        if let Some(error) = self.read_error.take() {
            return Poll::Ready(Err(self.ended(Some(error))));
        }
        if self.input.capacity() - self.input.len() < missing {
            self.make_room(missing);
        }
        // The future keeps nothing between two polls, so a new one each time loses nothing.
        let read = pin!(self.stream.read_buf(&mut self.input));
        Poll::Ready(match ready!(read.poll(cx)) {
            Ok(0) => Err(self.ended(None)),
            Ok(_) => Ok(()),
            Err(error) => Err(self.ended(Some(error))),
        })
    }

    /// Makes room for so many more bytes: in the same buffer or in an earlier one when nobody holds a slice of it any
    /// more, else in a new one.
    pub(crate) fn make_room(&mut self, missing: usize) {
        let kept = self.input.len();
        let size = BUFFER.max(kept + missing);
        if self.input.try_reclaim(size - kept) {
            return;
        }
        let free = self.retired.iter_mut().position(|buffer| buffer.try_reclaim(size));
        let mut next = free.and_then(|index| self.retired.remove(index)).unwrap_or_else(|| {
            self.allocated += 1;
            BytesMut::with_capacity(size)
        });
        next.extend_from_slice(&self.input);
        let mut full = std::mem::replace(&mut self.input, next);
        // Only those of the one size: a message of many megabytes is not remembered.
        let reusable = std::mem::replace(&mut self.reusable, size == BUFFER);
        if reusable && self.retired.len() < MAX_RETIRED {
            full.clear();
            self.retired.push_back(full);
        }
    }

    /// The error for the end of the stream. A failed write is the earlier cause.
    fn ended(&mut self, read_error: Option<io::Error>) -> Error {
        let error = Error::new(code::replication::UNREACHABLE, "the connection to PostgreSQL ended").retry(Retry::Now);
        match self.write_error.take().or(read_error) {
            Some(cause) => error.source(cause),
            None => error,
        }
    }

    fn keep_aside(&mut self, message: Message) -> Option<Message> {
        match message {
            Message::NoticeResponse(notice) => {
                if self.notices.len() < MAX_NOTICES {
                    self.notices.push_back(*notice);
                } else {
                    self.notices_dropped += 1;
                }
                None
            }
            Message::ParameterStatus { name, value } => {
                self.parameters.insert(name, value);
                None
            }
            Message::NotificationResponse => None,
            other => Some(other),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither buffer: they may hold a password or a secret.
        f.debug_struct("Wire")
            .field("input", &self.input.len())
            .field("output", &self.output.len())
            .field("buffers", &self.allocated)
            .finish_non_exhaustive()
    }
}

enum Cut {
    Message(Message),
    Missing(usize),
}

/// The tag and the length that counts itself.
const HEADER: usize = 5;

/// Reads a header: the tag and the length of the body. `None` when it is not all there.
fn header(input: &[u8]) -> Result<Option<(u8, usize)>> {
    let Some((&[tag, a, b, c, d], _)) = input.split_first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let body = length
        .checked_sub(4)
        .ok_or_else(|| protocol("a message shorter than its header"))?;
    // The kinds that may be long, as libpq has them.
    let limit = if matches!(tag, b'd' | b'D' | b'T' | b'E' | b'N' | b'A') {
        MAX_LONG
    } else {
        MAX_SHORT
    };
    if body > limit {
        return Err(protocol(format!(
            "a message of {body} bytes with the tag '{}', more than {limit}",
            tag.escape_ascii()
        )));
    }
    Ok(Some((tag, body)))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;

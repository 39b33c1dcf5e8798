//! Reading on the spot, past the pump and its runtime: for who has a thread of their own and waits for nothing else.
//!
//! The pump owns the order: what it has taken comes first, and what it alone knows what to do with (the end of the COPY, an
//! error, a read that failed) is left to it. Nothing is told here that [`ReplicationStream::next`] would not tell.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::line::Line;
use crate::message::Message;
use crate::stream::{ReplicationStream, StreamEvent};
use crate::wire::Wire;

/// So much is read on the spot at once: a commit with the images of some pages.
const HERE: usize = 32 << 10;

impl ReplicationStream {
    /// The next event, for which this thread waits in the kernel at most so long: for who has a thread of their own, whose
    /// runtime has nothing else to do. To ask the runtime for what comes costs as much as a fifth of a fast disk's sync.
    ///
    /// `None` when nothing came, when what came is no event, and where TLS lies between the socket and the bytes:
    /// [`ReplicationStream::next`] goes on from there, and tells what is wrong.
    pub fn next_here(&mut self, limit: Duration) -> Option<StreamEvent> {
        if let Some(event) = self.at_hand() {
            return Some(event);
        }
        let socket = self.socket.upgrade()?;
        // Where commits come one after the other, the next one is mostly here already.
        if self.take_here() && self.ahead.is_empty() && !limit.is_zero() && readable(&socket, limit) {
            self.take_here();
        }
        self.at_hand()
    }

    fn take_here(&mut self) -> bool {
        let taken = || !self.events.is_empty();
        self.acknowledge.line.take_here(taken, &mut self.ahead)
    }

    fn at_hand(&mut self) -> Option<StreamEvent> {
        if let Some(event) = self.ahead.pop_front() {
            return Some(event);
        }
        let event = self.events.try_recv().ok()?;
        self.budget.give_back(&event);
        Some(event)
    }
}

impl Line {
    /// Whether somebody else than the pump may read now.
    pub(crate) fn may_read_here(&self) -> bool {
        let pump = self.in_hand || self.owes_reply || self.left.is_some();
        !pump && self.reading && !self.is_over()
    }

    /// Takes what came in the place of the pump, and what it has left in the buffer. Whether something is left that only the
    /// pump knows what to do with.
    pub(crate) fn take_here(&mut self, events: &mut VecDeque<StreamEvent>) -> bool {
        let more = self.wire().is_some_and(Wire::read_here);
        self.left = loop {
            let Some(wire) = self.wire() else { break None };
            match wire.try_recv() {
                Ok(None) => break None,
                Ok(Some(Message::CopyData(body))) => match self.take_frame(body) {
                    Ok(event) => events.extend(event),
                    Err(error) => break Some(Err(error)),
                },
                Ok(Some(other)) => break Some(Ok(other)),
                Err(error) => break Some(Err(error)),
            }
        };
        if !events.is_empty() {
            self.heard();
        }
        more || self.owes_reply || self.left.is_some()
    }
}

impl Wire {
    /// Reads what has come, past the runtime and without waiting. Whether it is for [`Wire::poll_recv`] to go on: the stream
    /// has ended, or there may be more.
    pub(crate) fn read_here(&mut self) -> bool {
        let Some(socket) = &self.socket else { return true };
        self.here.resize(HERE, 0);
        let count = match rustix::net::recv(socket, &mut self.here[..], RecvFlags::DONTWAIT) {
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(errno) => {
                self.read_error = Some(errno.into());
                return true;
            }
        };
        if self.input.capacity() - self.input.len() < count {
            self.make_room(count);
        }
        self.input.extend_from_slice(self.here.get(..count).unwrap_or_default());
        count == 0 || count == HERE
    }
}

/// Waits until something can be read, which also the end is.
fn readable(socket: &OwnedFd, limit: Duration) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    let limit = Timespec::try_from(limit).ok();
    // What is wrong, whoever reads finds out.
    limit.is_some_and(|limit| rustix::event::poll(&mut polled, Some(&limit)).is_ok_and(|ready| ready > 0))
}

//! A line that several hold: the pump, whoever acknowledges, whoever stands in, and whoever reads on the spot.
//!
//! The pump reads from it, and tells the server how far we are when a clock says so. Whoever acknowledges tells it too,
//! at once and where it is: a commit may wait for the answer, and to wake another thread for it costs as much as a fast
//! disk. All hold the line for moments only, and never while anything is awaited.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hardstorage_report::Lsn;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;
use crate::line::Line;
use crate::stream::{StreamEvent, StreamOptions};

/// See the module.
#[derive(Clone)]
pub(crate) struct SharedLine {
    line: Arc<Mutex<Line>>,
    /// The pump is to look: something was acknowledged that could not be told at once, or something came that is for it.
    untold: Arc<Notify>,
}

impl SharedLine {
    pub(crate) fn new(connection: Option<Connection>, options: StreamOptions, start: Lsn) -> SharedLine {
        SharedLine {
            line: Arc::new(Mutex::new(Line::new(connection, options, start))),
            untold: Arc::default(),
        }
    }

    pub(crate) fn hold(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the positions; a higher `flushed` is told.
    pub(crate) fn acknowledge(&self, written: Lsn, flushed: Lsn) {
        let mut line = self.hold();
        let raised = line.raise(written, flushed);
        if raised && !line.tell_at_once() {
            drop(line);
            self.untold.notify_one();
        }
    }

    /// Keeps the server told while the pump is held up: it may share its thread with somebody who waits for a disk. To be
    /// run on another thread; returns when the stream ends.
    pub(crate) async fn stand_in(self) {
        loop {
            let next = {
                let mut line = self.hold();
                if line.is_over() {
                    return;
                }
                let now = Instant::now();
                if now >= line.overdue() && !line.tell_overdue(now) {
                    self.untold.notify_one();
                }
                line.overdue().max(now + line.options.status_interval / 2)
            };
            sleep_until(next).await;
        }
    }

    /// Returns when the pump is to look.
    pub(crate) async fn untold(&self) {
        self.untold.notified().await;
    }

    /// The socket, where the bytes come from it as they are. Only the line keeps it open.
    pub(crate) fn socket(&self) -> Weak<OwnedFd> {
        let mut line = self.hold();
        let socket = line.wire().and_then(|wire| wire.socket.as_ref());
        socket.map(Arc::downgrade).unwrap_or_default()
    }

    /// Takes what came in the place of the pump, unless `taken` says that the pump has taken what was before. Whether there may
    /// be more where the caller is.
    pub(crate) fn take_here(&self, taken: impl FnOnce() -> bool, events: &mut VecDeque<StreamEvent>) -> bool {
        let mut line = self.hold();
        // What the pump has in its hand it hands on while it holds the line.
        if taken() || !line.may_read_here() {
            return false;
        }
        let for_the_pump = line.take_here(events);
        drop(line);
        if for_the_pump {
            self.untold.notify_one();
        }
        !for_the_pump
    }
}

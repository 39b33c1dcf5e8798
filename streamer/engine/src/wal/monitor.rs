//! What a stream tells about itself while it runs.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hardstorage_report::{ErrorReport, Lsn, StreamPhase, StreamStatus};
use hardstorage_repository::wal::ServerTime;
use jiff::Timestamp;

/// How many positions of the server are remembered to tell since when the archive is behind.
const SAMPLES: usize = 256;

/// Keeps a [`StreamStatus`] true. Nobody is woken by a change, of which there are thousands a second: who wants to know looks.
#[derive(Debug)]
pub struct Monitor(Mutex<State>);

#[derive(Debug)]
struct State {
    status: StreamStatus,
    /// Where the server was, and when; oldest first. All lie behind what is durable.
    samples: VecDeque<(Lsn, Timestamp)>,
}

impl Monitor {
    /// Begins to watch.
    pub fn new(status: StreamStatus) -> Monitor {
        let samples = VecDeque::new();
        Monitor(Mutex::new(State { status, samples }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is true now.
    pub fn status(&self) -> StreamStatus {
        self.lock().status.clone()
    }

    /// Changes anything.
    pub fn update(&self, change: impl FnOnce(&mut StreamStatus)) {
        change(&mut self.lock().status);
    }

    /// The server was heard, and its WAL ended here.
    pub fn heard(&self, server_end: Lsn, received: Lsn, at: Timestamp) {
        let State { status, samples } = &mut *self.lock();
        let durable = status.durable_lsn.unwrap_or_default();
        if server_end > durable && samples.back().is_none_or(|(known, _)| *known < server_end) {
            if samples.len() == SAMPLES {
                // Every other one: the oldest stays, and with it the answer.
                let mut keep = false;
                samples.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
            samples.push_back((server_end, at));
        }
        status.server_lsn = Some(server_end);
        status.received_lsn = Some(received);
        status.heard_at = Some(at);
        status.lag_seconds = Some(lag(samples, at));
        status.lag_bytes = Some(durable.bytes_until(server_end));
        status.last_error = None;
    }

    /// This much is durable, and complete up to this clock of the server.
    pub fn durable(&self, durable: Lsn, up_to: Option<ServerTime>, segment: u64, at: Timestamp) {
        let State { status, samples } = &mut *self.lock();
        while samples.front().is_some_and(|(end, _)| *end <= durable) {
            samples.pop_front();
        }
        status.durable_lsn = Some(durable);
        status.lag_seconds = Some(lag(samples, at));
        status.lag_bytes = status.server_lsn.map(|end| durable.bytes_until(end));
        if let Some(time) = up_to.and_then(ServerTime::to_timestamp) {
            status.recoverable_to = status.recoverable_to.max(Some(time));
        }
        status.phase = match status.lag_bytes {
            Some(lag) if lag > segment => StreamPhase::CatchingUp,
            _ => StreamPhase::Streaming,
        };
    }

    /// Something failed.
    pub fn failed(&self, error: &hardstorage_report::Error) {
        self.update(|status| status.last_error = Some(ErrorReport::from(error)));
    }
}

fn lag(samples: &VecDeque<(Lsn, Timestamp)>, now: Timestamp) -> f64 {
    samples
        .front()
        .map_or(0.0, |(_, since)| now.duration_since(*since).as_secs_f64().max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_oldest_position_that_is_not_durable() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let monitor = Monitor::new(StreamStatus::new("db1".parse().unwrap(), at(0)));
        let durable = |lsn: u64, second: i64| monitor.durable(Lsn(lsn), None, 1 << 24, at(second));
        durable(100, 0);
        monitor.heard(Lsn(100), Lsn(100), at(1));
        assert_eq!(monitor.status().lag_seconds, Some(0.0));
        monitor.heard(Lsn(200), Lsn(100), at(2));
        monitor.heard(Lsn(300), Lsn(200), at(5));
        assert_eq!(
            (monitor.status().lag_seconds, monitor.status().lag_bytes),
            (Some(3.0), Some(200))
        );
        durable(200, 6);
        assert_eq!(
            (monitor.status().lag_seconds, monitor.status().lag_bytes),
            (Some(1.0), Some(100))
        );
        durable(300, 7);
        assert_eq!(
            (monitor.status().lag_seconds, monitor.status().lag_bytes),
            (Some(0.0), Some(0))
        );
        for position in 0..10_000 {
            monitor.heard(Lsn(1000 + position), Lsn(300), at(10 + position as i64));
        }
        assert_eq!(monitor.status().lag_seconds, Some(9_999.0), "thinning keeps the oldest");
    }
}

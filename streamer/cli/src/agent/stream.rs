//! The child that is always there: `wal stream` of one deployment. Started again after every end, with a pause that grows
//! from a second to a minute and is forgotten once it ran well. There is never a second one: the next is started when the
//! last was reaped, and where another process still holds the slot it waits (`--wait`).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hardstorage_report::{DeploymentName, ErrorReport};

use super::child::{Child, End};
use super::supervisor::is_refusal;

/// The first pause.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_mins(1);
/// A stream that lived so long was well.
const WELL: Duration = Duration::from_mins(1);

/// The command.
pub(crate) fn words(name: &DeploymentName) -> Vec<String> {
    [
        "wal",
        "stream",
        name.as_str(),
        "--wait",
        "--report-listen",
        "127.0.0.1:0",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Where it stands.
#[derive(Debug)]
enum State {
    /// Not started, from this moment on it may be.
    Waits(Instant),
    /// It runs since.
    Runs(Child, Instant),
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    state: State,
    pause: Duration,
    /// Starts after the first one.
    pub(crate) restarts: u64,
    /// Why it ended last.
    pub(crate) error: Option<ErrorReport>,
}

impl Stream {
    /// One that can be started now.
    pub(crate) fn new(now: Instant) -> Stream {
        Stream {
            state: State::Waits(now),
            pause: Duration::ZERO,
            restarts: 0,
            error: None,
        }
    }

    /// Whether it is to be started.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Waits(at) if at <= now)
    }

    /// When it is to be started.
    pub(crate) fn starts_at(&self) -> Option<Instant> {
        match self.state {
            State::Waits(at) => Some(at),
            State::Runs(..) => None,
        }
    }

    /// Its process.
    pub(crate) fn child(&self) -> Option<&Child> {
        match &self.state {
            State::Runs(child, _) => Some(child),
            State::Waits(_) => None,
        }
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.child().and_then(Child::address)
    }

    /// It was started.
    pub(crate) fn started(&mut self, child: Child, now: Instant) {
        self.state = State::Runs(child, now);
    }

    /// It has ended; the pause until it is started again.
    pub(crate) fn ended(&mut self, end: &End, now: Instant) -> Duration {
        let lived = match &self.state {
            State::Runs(_, since) => now.duration_since(*since),
            State::Waits(_) => Duration::ZERO,
        };
        self.pause = if end.told {
            // Because its configuration is another one: the new one is not kept waiting.
            Duration::ZERO
        } else if end.exit.is_some_and(is_refusal) {
            LONGEST
        } else if lived >= WELL {
            SHORTEST
        } else {
            (self.pause * 2).clamp(SHORTEST, LONGEST)
        };
        self.restarts += 1;
        self.error.clone_from(&end.error);
        self.state = State::Waits(now + self.pause);
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(exit: u8) -> End {
        End {
            exit: Some(exit),
            ..End::default()
        }
    }

    #[test]
    fn pauses_grow_and_are_forgotten() {
        let now = Instant::now();
        let mut stream = Stream::new(now);
        assert!(stream.is_due(now) && stream.child().is_none());
        let pauses: Vec<u64> = (0..8).map(|_| stream.ended(&end(1), now).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!stream.is_due(now) && stream.is_due(now + LONGEST));
        let mut told = end(0);
        told.told = true;
        assert_eq!(stream.ended(&told, now), Duration::ZERO);
        assert_eq!(stream.ended(&end(8), now), SHORTEST);
        // What only a person can cure is not asked for every second.
        assert_eq!(stream.ended(&end(7), now), LONGEST);
        assert_eq!(stream.restarts, 11);
    }
}

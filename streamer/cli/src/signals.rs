//! The first signal drains, the second kills.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How a command is told to stop. `kill` implies `drain`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// Finish what is under way, then end.
    pub(crate) drain: CancellationToken,
    /// End now.
    pub(crate) kill: CancellationToken,
}

impl Stop {
    /// Follows SIGINT and SIGTERM until the process ends.
    pub(crate) fn on_signals() -> std::io::Result<Stop> {
        let stop = Stop::default();
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let told = stop.clone();
        tokio::spawn(async move {
            for token in [&told.drain, &told.kill] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(stop)
    }
}

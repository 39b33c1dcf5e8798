//! The first signal drains, the second kills.

use hardstorage_report::{Error, Result, code};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
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

/// Has the kernel send SIGTERM when the parent ends, however it ends. `parent` is its id: it may have ended already.
pub(crate) fn exit_with(parent: u32) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Error::new(code::cli::INTERNAL, "follow the parent").source(std::io::Error::from(error)))?;
    let now = getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == parent {
        return Ok(());
    }
    Err(Error::new(
        code::cli::INTERRUPTED,
        format!("process {parent}, which started this one, has ended"),
    ))
}

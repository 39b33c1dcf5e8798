//! The end of a stream that was told to stop: what the server has committed until then is still taken.
//!
//! Only the server knows what that is, and a stream cannot be asked: so it is asked over a second, short connection.

use std::time::Duration;

use hardstorage_report::{Error, Lsn, Result, SystemId, Timeline, code};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::source::Source;

/// For so long at most a stream goes on receiving after it was told to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stop under way.
#[derive(Debug)]
pub(super) struct Drain {
    until: Instant,
    asked: Option<AbortOnDropHandle<Result<Lsn>>>,
    target: Option<Lsn>,
    given_up: bool,
}

impl Drain {
    /// Begins to ask how far the server is.
    pub(super) fn begin(source: Source, system_id: SystemId, timeline: Timeline) -> Drain {
        let task = tokio::spawn(async move { position(&source, system_id, timeline).await });
        Drain {
            until: Instant::now() + PATIENCE,
            asked: Some(AbortOnDropHandle::new(task)),
            target: None,
            given_up: false,
        }
    }

    /// Returns when the answer has come or the time is over. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let over = tokio::time::sleep_until(self.until);
        let Some(asked) = &mut self.asked else {
            over.await;
            self.given_up = true;
            return;
        };
        tokio::select! {
            answer = asked => {
                self.asked = None;
                match answer {
                    Ok(Ok(target)) => self.target = Some(target),
                    Ok(Err(error)) => self.give_up(&error),
                    Err(error) => self.give_up(&error),
                }
            }
            () = over => self.given_up = true,
        }
    }

    fn give_up(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "how far the server is cannot be asked: the stream ends with what it has received");
        self.given_up = true;
    }

    /// Whether nothing more is to be taken.
    pub(super) fn is_over(&self, received: Lsn) -> bool {
        self.given_up || self.target.is_some_and(|target| received >= target)
    }
}

async fn position(source: &Source, system_id: SystemId, timeline: Timeline) -> Result<Lsn> {
    let mut connection = source.connect().await?;
    let server = connection.identify().await?;
    connection.close().await;
    if server.system_id != system_id || server.timeline != timeline {
        return Err(Error::new(
            code::repository::SYSTEM_MISMATCH,
            format!(
                "the server is now the cluster {} on timeline {}",
                server.system_id, server.timeline
            ),
        ));
    }
    Ok(server.flush_lsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(answer: Option<Result<Lsn>>) -> Drain {
        let task = tokio::spawn(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        });
        Drain {
            until: Instant::now() + PATIENCE,
            asked: Some(AbortOnDropHandle::new(task)),
            target: None,
            given_up: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_had_is_waited_for_but_not_for_ever() {
        let mut known = drain(Some(Ok(Lsn(100))));
        assert!(!known.is_over(Lsn(1000)), "nothing is known yet");
        known.changed().await;
        assert!(!known.is_over(Lsn(99)) && known.is_over(Lsn(100)));
        let before = Instant::now();
        known.changed().await;
        assert!(known.is_over(Lsn(99)) && before.elapsed() >= PATIENCE);

        let mut refused = drain(Some(Err(Error::new(code::replication::UNREACHABLE, "no"))));
        refused.changed().await;
        assert!(refused.is_over(Lsn(0)));

        let mut silent = drain(None);
        silent.changed().await;
        assert!(silent.is_over(Lsn(0)));
    }
}

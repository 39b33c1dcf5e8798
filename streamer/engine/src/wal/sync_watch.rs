//! Whether commits still wait for a synchronous stream as they did: an administrator may change that at any time, and the
//! stream itself would never notice. Asked over a second, short connection, because a stream cannot be asked.

use std::time::Duration;

use hardstorage_report::Result;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::task::AbortOnDropHandle;

use crate::preflight::{Finding, synchronous_findings};
use crate::source::{Source, server_facts};

/// The server is asked so often.
const EVERY: Duration = Duration::from_secs(15);

/// Watches the settings of one connection's server.
#[derive(Debug)]
pub(super) struct SyncWatch {
    source: Source,
    tick: Interval,
    asked: Option<AbortOnDropHandle<Result<Vec<Finding>>>>,
    /// What was told last; nothing when the server was not asked yet.
    known: Option<Vec<Finding>>,
}

impl SyncWatch {
    pub(super) fn new(source: Source, known: Option<Vec<Finding>>) -> SyncWatch {
        let mut tick = interval_at(Instant::now() + EVERY, EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        SyncWatch {
            source,
            tick,
            asked: None,
            known,
        }
    }

    /// Returns with what is to be told now, when that changed. Cancel safe.
    pub(super) async fn changed(&mut self) -> Vec<Finding> {
        loop {
            let Some(asked) = &mut self.asked else {
                self.tick.tick().await;
                let source = self.source.clone();
                self.asked = Some(AbortOnDropHandle::new(tokio::spawn(async move { ask(&source).await })));
                continue;
            };
            let answer = asked.await;
            self.asked = None;
            match answer {
                Ok(Ok(found)) => {
                    let before = self.known.replace(found.clone());
                    if before.is_some_and(|before| before != found) {
                        return found;
                    }
                }
                // Asked again with the next tick; a server that is away ends the stream by itself.
                Ok(Err(error)) => tracing::debug!(%error, "whether commits wait cannot be asked"),
                Err(error) => tracing::debug!(%error, "whether commits wait cannot be asked"),
            }
        }
    }
}

async fn ask(source: &Source) -> Result<Vec<Finding>> {
    let mut connection = source.connect().await?;
    let facts = server_facts(&mut connection, source.application_name(), None).await?;
    connection.close().await;
    Ok(synchronous_findings(&facts.synchronous(true)))
}

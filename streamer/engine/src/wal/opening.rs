//! What a stream needs before its first connection: the repository, the keys, the deployment in it.
//!
//! Somebody who starts a stream by hand is told at once what is missing. Under a scheduler the parts come in any order,
//! the Secret after the pod that reads it: there the same patience holds as after a lost connection, and whoever asks the
//! stream reads what it waits for.

use std::sync::Arc;

use hardstorage_report::{Error, Event, EventSink, Result, Severity, StreamPhase};
use hardstorage_repository::Deployment;
use serde_json::json;

use super::monitor::Monitor;
use super::patience::{Backoff, never_heals};
use super::stream::{StopSignal, StreamPlan};

/// Opens the deployment, with `open` as often as it takes. `None` when it was told to stop while it waited.
pub(super) async fn opened(
    plan: &StreamPlan,
    mut open: impl AsyncFnMut() -> Result<Deployment>,
    stop: &StopSignal,
    sink: &Arc<dyn EventSink>,
    monitor: &Monitor,
) -> Result<Option<Deployment>> {
    let mut backoff = Backoff::new(plan.max_backoff);
    let mut attempt = 0u64;
    loop {
        attempt += 1;
        let outcome = tokio::select! {
            biased;
            outcome = open() => outcome,
            () = stop.drain.cancelled() => return Ok(None),
        };
        let error = match outcome {
            Ok(deployment) => return Ok(Some(deployment)),
            Err(error) => error,
        };
        monitor.failed(&error);
        if !plan.persistent || never_heals(&error) {
            return Err(error);
        }
        let wait = backoff.wait();
        monitor.update(|status| status.phase = StreamPhase::Reconnecting);
        sink.emit(waiting(plan, attempt, wait.as_secs(), &error));
        tokio::select! {
            () = stop.drain.cancelled() => return Ok(None),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn waiting(plan: &StreamPlan, attempt: u64, seconds: u64, error: &Error) -> Event {
    Event::new(Severity::Warning, "wal.stream.reconnecting")
        .deployment(&plan.deployment)
        .body(json!({
            "attempt": attempt,
            "backoff": format!("{seconds}s"),
            "reason": "setup_failure",
            "code": error.code().as_str(),
            "error": error.to_string(),
            "synced_lsn": null,
        }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::time::Duration;

    use hardstorage_replication::{ConnInfo, Environment};
    use hardstorage_report::{Code, NullSink, StreamStatus, code};
    use hardstorage_repository::Surroundings;

    use super::*;
    use crate::source::Source;

    fn plan(persistent: bool) -> StreamPlan {
        let conninfo = ConnInfo::parse("host=h user=u").unwrap();
        let short = Duration::from_millis(1);
        StreamPlan {
            deployment: "db1".parse().unwrap(),
            source: Source::new(conninfo, Environment::empty(), "x").unwrap(),
            slot: None,
            patroni: None,
            flush_interval: short,
            synchronous: false,
            status_interval: short,
            receive_timeout: short,
            max_backoff: short,
            reconnect: true,
            persistent,
            preflight: true,
            allow_standby: false,
            wait: false,
            accept_new_system: false,
            run_id: None,
            surroundings: Surroundings::default(),
        }
    }

    /// Opens what fails with these codes, one after the other, and is told to stop after the last; how often it tried, the
    /// code that ended it, and the one that is shown.
    async fn tried(persistent: bool, codes: &[Code]) -> (usize, Option<Code>, Option<String>) {
        let plan = plan(persistent);
        let stop = StopSignal::default();
        let sink: Arc<dyn EventSink> = Arc::new(NullSink);
        let monitor = Monitor::new(StreamStatus::new(plan.deployment.clone(), plan.surroundings.now()));
        let mut tries = 0;
        let open = async || {
            let code = codes[tries];
            tries += 1;
            if tries == codes.len() {
                stop.drain.cancel();
            }
            Err(Error::new(code, "not yet"))
        };
        let ended = opened(&plan, open, &stop, &sink, &monitor).await;
        let shown = monitor.status().last_error.map(|error| error.code);
        (tries, ended.err().map(|error| error.code()), shown)
    }

    #[tokio::test]
    async fn what_comes_late_is_waited_for_under_a_scheduler_alone() {
        let late = [
            code::storage::BUCKET,
            code::repository::KEY_MISSING,
            code::replication::AUTH,
        ];
        let shown = |code: Code| Some(code.as_str().to_owned());
        let (tries, ended, said) = tried(true, &late).await;
        assert_eq!((tries, ended, said), (3, None, shown(code::replication::AUTH)));
        let (tries, ended, said) = tried(false, &late).await;
        assert_eq!(
            (tries, ended, said),
            (1, Some(code::storage::BUCKET), shown(code::storage::BUCKET))
        );
    }

    #[tokio::test]
    async fn what_never_heals_ends_it() {
        for code in [
            code::repository::KEY_WRONG,
            code::usage::URL,
            code::repository::SYSTEM_MISMATCH,
        ] {
            let (tries, ended, _) = tried(true, &[code::storage::UNREACHABLE, code, code]).await;
            assert_eq!((tries, ended), (2, Some(code)));
        }
    }
}

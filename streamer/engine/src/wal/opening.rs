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

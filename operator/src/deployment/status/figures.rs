//! What of a status is worth a write: transitions at once, figures and sentences at most once a minute and only when they
//! have changed, so that a stream with nothing to do costs no writes, and an error that counts its seconds no more than one
//! a minute.

use hardstorage_crds::{DeploymentStatus, Recoverable, StreamStatus};
use jiff::Timestamp;

use crate::settings::Settings;

/// The status to write: the new one, or the old one where it says the same, or differs in figures and was written a moment
/// ago.
pub fn settle(
    before: &DeploymentStatus,
    after: DeploymentStatus,
    now: Timestamp,
    written: Option<Timestamp>,
) -> DeploymentStatus {
    let after = as_written(after);
    if without_figures(before) != without_figures(&after) {
        return after;
    }
    if without_moment(before) == without_moment(&after) {
        return before.clone();
    }
    let observed = before.stream.as_ref().and_then(|stream| stream.observed_time.as_ref());
    let last = written.max(observed.map(|time| time.0));
    let young = last.is_some_and(|last| {
        std::time::Duration::try_from(now.duration_since(last)).is_ok_and(|age| age < Settings::FIGURES_PERIOD)
    });
    if young { before.clone() } else { after }
}

/// As it comes back from the API server, which keeps whole seconds: a part of one more would be news at each look.
fn as_written(status: DeploymentStatus) -> DeploymentStatus {
    serde_json::to_value(&status)
        .and_then(serde_json::from_value)
        .unwrap_or(status)
}

/// Without the time of the look.
fn without_moment(status: &DeploymentStatus) -> DeploymentStatus {
    let mut rest = status.clone();
    if let Some(stream) = &mut rest.stream {
        stream.observed_time = None;
    }
    rest
}

/// Without what changes all the time.
fn without_figures(status: &DeploymentStatus) -> DeploymentStatus {
    let mut rest = status.clone();
    rest.stream = rest.stream.map(|stream| StreamStatus {
        archived_lsn: None,
        lag_bytes: None,
        lag_seconds: None,
        observed_time: None,
        ..stream
    });
    rest.recoverable = rest.recoverable.map(|recoverable| Recoverable {
        to: None,
        ..recoverable
    });
    for condition in &mut rest.conditions {
        condition.message.clear();
    }
    rest
}

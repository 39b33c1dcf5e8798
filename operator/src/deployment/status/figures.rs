//! What of a status is worth a write: transitions at once, figures at most once a minute and only when they have changed,
//! so that a stream with nothing to do costs no writes.

use hardstorage_crds::{DeploymentStatus, Recoverable, StreamStatus};
use jiff::Timestamp;

use crate::settings::Settings;

/// The status to write: the new one, or the old one where only figures differ and the old ones are young enough, or equal.
pub fn settle(before: &DeploymentStatus, after: DeploymentStatus, now: Timestamp) -> DeploymentStatus {
    if without_figures(before) != without_figures(&after) {
        return after;
    }
    if figures(before) == figures(&after) {
        return before.clone();
    }
    let observed = before.stream.as_ref().and_then(|stream| stream.observed_time.clone());
    let young = observed.is_some_and(|time| {
        std::time::Duration::try_from(now.duration_since(time.0)).is_ok_and(|age| age < Settings::FIGURES_PERIOD)
    });
    if young { before.clone() } else { after }
}

/// What changes all the time.
type Figures = (Option<String>, Option<i64>, Option<i64>, Option<jiff::Timestamp>);

fn figures(status: &DeploymentStatus) -> Figures {
    let stream = status.stream.clone().unwrap_or_default();
    let to = status
        .recoverable
        .as_ref()
        .and_then(|recoverable| recoverable.to.clone());
    (
        stream.archived_lsn,
        stream.lag_bytes,
        stream.lag_seconds,
        to.map(|time| time.0),
    )
}

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
    // "Not heard for 61 s" is no other state than "for 76 s": only the sentence moves on.
    for condition in &mut rest.conditions {
        if condition.reason == "NotHeard" {
            condition.message.clear();
        }
    }
    rest
}

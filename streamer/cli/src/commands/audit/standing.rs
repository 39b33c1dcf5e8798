//! How far the chain of a deployment is anchored, for `status` and `doctor`.

use hardstorage_repository::{AuditLog, Deployment};
use jiff::Timestamp;
use serde::Serialize;

use crate::commands::columns::age;

/// How the chain stands, or why that cannot be told.
#[derive(Debug, Default, Serialize)]
pub(crate) struct AuditLook {
    /// Records in the chain.
    pub(crate) events: u64,
    /// When the newest anchor was made, by its receipt.
    pub(crate) anchored_at: Option<Timestamp>,
    /// The record that it has seen.
    pub(crate) anchored_event: Option<u64>,
    /// Records that no anchor has seen.
    pub(crate) unanchored_events: u64,
    /// When the oldest of them was written.
    pub(crate) oldest_unanchored_at: Option<Timestamp>,
    /// Why nothing can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

impl AuditLook {
    /// Looks. What is wrong with the chain keeps nobody from seeing whether his data is protected.
    pub(crate) async fn of(deployment: &Deployment) -> AuditLook {
        match AuditLog::of(deployment).standing().await {
            Ok(found) => AuditLook {
                events: found.events,
                anchored_at: found.anchored.as_ref().map(|receipt| receipt.at),
                anchored_event: found.anchored.as_ref().map(|receipt| receipt.sequence),
                unanchored_events: found.unanchored,
                oldest_unanchored_at: found.oldest_unanchored,
                problem: None,
            },
            Err(error) => AuditLook {
                problem: Some(error.to_string()),
                ..AuditLook::default()
            },
        }
    }

    /// One line, without its end.
    pub(crate) fn line(&self, now: Timestamp) -> String {
        let events = self.unanchored_events;
        match (&self.problem, self.anchored_at) {
            (Some(problem), _) => format!("Audit anchor: ✗ {problem}"),
            (None, None) if self.events == 0 => "Audit anchor: no events yet".to_owned(),
            (None, None) => {
                format!("Audit anchor: ⚠ none ({events} event(s) un-anchored — run pg_hardstorage audit anchor)")
            }
            (None, Some(at)) if events == 0 => format!("Audit anchor: ✓ {} old, nothing since", age(now, at)),
            (None, Some(at)) => format!("Audit anchor: ✓ {} old ({events} event(s) since)", age(now, at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::time;

    #[test]
    fn one_line_for_each_standing() {
        let now = time("2026-11-22T08:15:00Z");
        let mut look = AuditLook::default();
        assert_eq!(look.line(now), "Audit anchor: no events yet");
        (look.events, look.unanchored_events) = (6, 6);
        assert_eq!(
            look.line(now),
            "Audit anchor: ⚠ none (6 event(s) un-anchored — run pg_hardstorage audit anchor)"
        );
        (look.anchored_at, look.unanchored_events) = (Some(time("2026-11-20T08:15:00Z")), 2);
        assert_eq!(look.line(now), "Audit anchor: ✓ 2d old (2 event(s) since)");
        look.unanchored_events = 0;
        assert_eq!(look.line(now), "Audit anchor: ✓ 2d old, nothing since");
        look.problem = Some("object x: damaged".to_owned());
        assert_eq!(look.line(now), "Audit anchor: ✗ object x: damaged");
    }
}

//! The whole configuration of the server that recovers, in a file outside of the data directory.
//!
//! No background worker runs, whatever a library asks for: a scheduler in the copy would do its origin's work a second
//! time as soon as the copy is promoted. Replay needs none, and without a hot standby nobody compares the limits of
//! `pg_control`; those that prepared transactions and locks need are at least the origin's all the same.

use super::preload::Kept;
use crate::postgres::Control;
use crate::restore::{RecoverySettings, line, recovery_lines};

/// How often the server tells how far it is. It writes a line each time.
const TELL: &str = "2s";
/// From this version on triggers of events can be kept quiet, the one of a login among them.
const EVENT_TRIGGERS: &str = "17";

/// The file. `kept` is what the restored configuration says of libraries and limits.
pub(super) fn text(settings: &RecoverySettings, control: &Control, mut kept: Kept, major: &str) -> String {
    let mut out = String::new();
    for (name, value) in control.limits() {
        let known = kept.remove(name);
        let larger = known.filter(|known| number(known) > number(&value));
        out.push_str(&line(name, larger.as_deref().unwrap_or(&value)));
    }
    for (name, value) in &kept {
        out.push_str(&line(name, value));
    }
    out.push_str(&line("max_worker_processes", "0"));
    out.push_str(&line("superuser_reserved_connections", "0"));
    // What it says is read: in one language, in one zone.
    out.push_str(&line("lc_messages", "C"));
    out.push_str(&line("log_timezone", "UTC"));
    out.push_str(&line("log_startup_progress_interval", TELL));
    if silences_event_triggers(major) {
        out.push_str(&line("event_triggers", "off"));
    }
    out.push_str(&recovery_lines(settings));
    out
}

/// Whether a server of this version knows the setting `event_triggers`; one that does not would not start with it.
pub(crate) fn silences_event_triggers(major: &str) -> bool {
    number(major) >= number(EVENT_TRIGGERS)
}

/// A limit; what is no number is less than any.
fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::{StopAt, TargetAction, TargetTimeline};
    use hardstorage_report::Timeline;

    #[test]
    fn limits_are_the_larger_ones_and_no_worker_runs() {
        let control = Control::of(
            "max_connections setting: 100\nmax_worker_processes setting: 8\nmax_prepared_xacts setting: 0\n\
             track_commit_timestamp setting: on\n",
        );
        let settings = RecoverySettings {
            stop: StopAt::Immediate,
            inclusive: true,
            action: TargetAction::Promote,
            timeline: TargetTimeline::Number(Timeline(3)),
            restore_command: "fetch".to_owned(),
            end_command: "true".to_owned(),
            read_ahead: true,
        };
        let mut kept = Kept::new();
        for (name, value) in [
            ("max_connections", "50"),
            ("max_prepared_transactions", "7"),
            ("x.y", "it's"),
        ] {
            kept.insert(name.to_owned(), value.to_owned());
        }
        let of = |major| text(&settings, &control, kept.clone(), major);
        let written = of("18");
        for wanted in [
            "max_connections = '100'\n",
            "max_prepared_transactions = '7'\n",
            "track_commit_timestamp = 'on'\n",
            "x.y = 'it''s'\n",
            "event_triggers = 'off'\n",
            "recovery_target = 'immediate'\n",
            "recovery_target_timeline = '3'\n",
        ] {
            assert!(written.contains(wanted), "{wanted}{written}");
        }
        let workers = written.lines().rfind(|line| line.starts_with("max_worker_processes"));
        assert_eq!(workers, Some("max_worker_processes = '0'"));
        assert!(!of("16").contains("event_triggers"));
    }
}

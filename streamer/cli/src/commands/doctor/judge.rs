//! What is wrong with a deployment, from what was found of its server and its repository.

use hardstorage_report::{ByteSize, Error, SegmentName, code};
use jiff::{SignedDuration, Timestamp};

use super::deployment::ServerLook;
use super::issue::Issue;
use crate::commands::columns::age;
use crate::commands::status::DeploymentStatus;

/// More WAL than this that is not in the repository is no pause between two segments any more.
const LAG: u64 = 64 << 20;
/// A commit that is older than this may be missing when nobody says how far the server is.
const SILENCE: SignedDuration = SignedDuration::from_hours(1);
/// Records of the audit chain that are older than this should be in an anchor.
const ANCHOR: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Clocks further apart than this make times of restores mean something else.
const CLOCK: SignedDuration = SignedDuration::from_secs(5);

/// How a stream is started.
pub(super) fn start(name: &str) -> String {
    format!("start the stream, and keep it running: pg_hardstorage wal stream {name}")
}

/// Whether somebody streams or archives from it, and whether its clock is right.
pub(super) fn judge_server(server: &ServerLook, subject: &str, issues: &mut Vec<Issue>) {
    let start = start(subject);
    let slot = &server.slot;
    match &server.slot_view {
        Some(view) if view.wal_status.as_deref() == Some("lost") => issues.push(Issue::error(
            code::replication::SLOT_UNUSABLE.as_str(),
            subject,
            format!("the slot {slot} is lost: the server has removed WAL that was not streamed yet"),
            format!("start the stream, which makes a new slot and records the gap: pg_hardstorage wal stream {subject}; then take a backup"),
        )),
        Some(view) if !view.active => issues.push(Issue::error(
            "stream.not_running",
            subject,
            match view.retained_bytes {
                Some(bytes) => format!(
                    "nobody streams from the slot {slot}, for which the server keeps {} of WAL",
                    ByteSize(bytes)
                ),
                None => format!("nobody streams from the slot {slot}"),
            },
            start,
        )),
        None if !server.slot_exists && !server.pushes => issues.push(Issue::error(
            "stream.never_ran",
            subject,
            format!("the server has no slot {slot}: no stream has run, or somebody has dropped it"),
            start,
        )),
        _ => {}
    }
    if let Some(archiver) = server.archiver.as_ref().filter(|archiver| archiver.fails) {
        let last = archiver
            .succeeded_before
            .map_or("it never succeeded".to_owned(), |ago| {
                format!("it last succeeded {ago} s ago")
            });
        issues.push(Issue::error(
            "archive.failing",
            subject,
            format!("the server's archive_command fails ({last}): its WAL stays on the server's disk"),
            "the server's log says why; pg_stat_archiver names the file that waits",
        ));
    }
    let apart = SignedDuration::from_millis(server.clock_ahead_ms.unwrap_or_default());
    if apart.abs() > CLOCK {
        let ahead = if apart.is_positive() { "ahead of" } else { "behind" };
        issues.push(Issue::warning(
            "clock.apart",
            subject,
            format!(
                "the server's clock is {} s {ahead} this machine's",
                apart.abs().as_secs()
            ),
            "let both follow the same time servers: the times of a restore are the server's",
        ));
    }
}

/// Whether what lies in the repository is young, whole and of this server.
pub(super) fn judge_status(
    status: &DeploymentStatus,
    server: Option<&ServerLook>,
    oldest: SignedDuration,
    now: Timestamp,
    issues: &mut Vec<Issue>,
) {
    let name = status.deployment.as_str();
    let take = format!("pg_hardstorage backup {name}");
    for problem in &status.problems {
        let hint = format!("{take}; for what is damaged: pg_hardstorage repo check --deployment {name}");
        issues.push(Issue::error("backup.problem", name, problem, hint));
    }
    if let Some(stopped) = status
        .latest_stopped_at
        .filter(|stopped| now.duration_since(*stopped) > oldest)
    {
        issues.push(Issue::warning(
            "backup.overdue",
            name,
            format!("the newest backup is {} old", age(now, stopped)),
            format!("{take}, and let a scheduler do so every night; --max-backup-age says what is too old"),
        ));
    }
    if let (Some(known), Some(server)) = (status.system_identifier, server)
        && known != server.identity.system_id
    {
        let found = server.identity.system_id;
        let error = Error::new(
            code::repository::SYSTEM_MISMATCH,
            format!("the backups are of the cluster {known}, and the server is {found}"),
        );
        issues.push(Issue::of(&error, name));
    }
    judge_audit(status, now, issues);
    if let Some(server) = server {
        judge_unmarked(status, server, issues);
    }
    let behind = match (status.wal_lag_bytes, status.rpo_seconds) {
        (Some(bytes), _) if bytes > LAG => Some(format!("{} of WAL are not in the repository yet", ByteSize(bytes))),
        (None, Some(seconds)) if server.is_none() && seconds > SILENCE.as_secs() => Some(format!(
            "the latest moment that can be restored is {seconds} s ago, and the server was not asked whether anything is missing"
        )),
        _ => None,
    };
    if let Some(message) = behind {
        if server.is_some_and(|server| server.pushes && !server.slot_exists) {
            let hint = "look at pg_stat_archiver and the server's log: its archive_command is what brings them";
            issues.push(Issue::warning("archive.behind", name, message, hint));
            return;
        }
        let hint = format!("look at the stream: pg_hardstorage wal stream {name}, its log, and the repository's speed");
        issues.push(Issue::warning("stream.behind", name, message, hint));
    }
}

/// What PostgreSQL never handed over is a hole, unless it came in another way.
fn judge_unmarked(status: &DeploymentStatus, server: &ServerLook, issues: &mut Vec<Issue>) {
    let size = server.identity.wal_segment_size;
    let is_there = |segment: &SegmentName| {
        let end = segment.next(size).start(size);
        status.durable_lsn.zip(end).is_some_and(|(durable, end)| end <= durable)
    };
    let archiver = server.archiver.as_ref();
    let Some(first) = archiver.and_then(|archiver| archiver.unmarked.iter().find(|segment| !is_there(segment))) else {
        return;
    };
    let name = status.deployment.as_str();
    let message = format!(
        "the server has not handed over the segment {first}: it crashed when the segment ended, and recovery cannot pass it"
    );
    let hint = format!("on the server, in its data directory: pg_hardstorage wal push {name} pg_wal/{first}");
    issues.push(Issue::error("archive.unmarked", name, message, hint));
}

/// An anchor now and then is enough: on the first days there is nothing to complain of.
fn judge_audit(status: &DeploymentStatus, now: Timestamp, issues: &mut Vec<Issue>) {
    let (name, audit) = (status.deployment.as_str(), &status.audit_anchor);
    if let Some(problem) = &audit.problem {
        let hint = format!("pg_hardstorage audit verify {name} tells which record is the first bad one");
        issues.push(Issue::error("audit.unreadable", name, problem, hint));
    }
    let Some(oldest) = audit.oldest_unanchored_at.filter(|at| now.duration_since(*at) > ANCHOR) else {
        return;
    };
    let message = format!(
        "{} event(s) of the audit chain, the oldest {} old, are in no anchor: nobody could tell if they were cut off",
        audit.unanchored_events,
        age(now, oldest)
    );
    let hint = format!("pg_hardstorage audit anchor {name} --to FILE, with FILE on another machine or disk");
    issues.push(Issue::warning("audit.anchor_missing", name, message, hint));
}

#[cfg(test)]
mod tests {
    use hardstorage_engine::inspect::{ArchiverView, SlotView};

    use super::*;
    use crate::commands::doctor::tests::server;
    use crate::commands::status::tests::protected as status;

    fn codes(judged: impl FnOnce(&mut Vec<Issue>)) -> Vec<String> {
        let mut issues = Vec::new();
        judged(&mut issues);
        assert!(issues.iter().all(|issue| !issue.hint.is_empty()), "{issues:?}");
        issues.into_iter().map(|issue| issue.code).collect()
    }

    #[test]
    fn a_server_is_judged_by_its_slot_and_its_clock() {
        let of = |change: &dyn Fn(&mut ServerLook)| {
            let mut server = server();
            change(&mut server);
            codes(|issues| judge_server(&server, "db1", issues))
        };
        let view = |active: bool, status: &str| SlotView {
            active,
            wal_status: Some(status.to_owned()),
            retained_bytes: Some(1 << 20),
        };
        assert!(of(&|_| {}).is_empty());
        assert_eq!(
            of(&|server| server.slot_view = Some(view(false, "reserved"))),
            ["stream.not_running"]
        );
        assert_eq!(
            of(&|server| server.slot_view = Some(view(false, "lost"))),
            ["conflict.slot_unusable"]
        );
        let gone = |server: &mut ServerLook| (server.slot_view, server.slot_exists) = (None, false);
        assert_eq!(of(&gone), ["stream.never_ran"]);
        let archives = |fails: bool| {
            move |server: &mut ServerLook| {
                gone(server);
                server.pushes = true;
                server.archiver = Some(ArchiverView {
                    succeeded_before: Some(7),
                    fails,
                    unmarked: Vec::new(),
                });
            }
        };
        assert!(of(&archives(false)).is_empty(), "an archive_command needs no slot");
        assert_eq!(of(&archives(true)), ["archive.failing"]);
        // A role for replication only: the slot is there, and that is all that can be known.
        assert!(of(&|server| server.slot_view = None).is_empty());
        for (millis, told) in [(5_000, false), (-6_000, true), (3_600_000, true)] {
            let apart = of(&|server| server.clock_ahead_ms = Some(millis));
            assert_eq!(apart == ["clock.apart"], told, "{millis}");
        }
    }

    #[test]
    fn a_status_is_judged_by_age_and_lag() {
        let now = status().latest_stopped_at.unwrap() + SignedDuration::from_hours(30);
        let of = |change: &dyn Fn(&mut DeploymentStatus), asked: bool, oldest: i64| {
            let mut status = status();
            change(&mut status);
            let server = asked.then(server);
            codes(|issues| {
                judge_status(
                    &status,
                    server.as_ref(),
                    SignedDuration::from_hours(oldest),
                    now,
                    issues,
                );
            })
        };
        assert!(of(&|_| {}, true, 36).is_empty());
        assert_eq!(of(&|_| {}, true, 24), ["backup.overdue"]);
        assert_eq!(
            of(&|status| status.wal_lag_bytes = Some(LAG + 1), true, 36),
            ["stream.behind"]
        );
        let unheard = |status: &mut DeploymentStatus| (status.wal_lag_bytes, status.rpo_seconds) = (None, Some(7200));
        assert_eq!(of(&unheard, false, 36), ["stream.behind"]);
        assert!(of(&unheard, true, 36).is_empty(), "a server at rest commits nothing");
        let anchor = |age: i64| {
            move |status: &mut DeploymentStatus| {
                status.audit_anchor.oldest_unanchored_at = Some(now - SignedDuration::from_hours(age));
            }
        };
        assert!(of(&anchor(30 * 24), true, 36).is_empty());
        assert_eq!(of(&anchor(30 * 24 + 1), true, 36), ["audit.anchor_missing"]);
        let unreadable = |status: &mut DeploymentStatus| status.audit_anchor.problem = Some("damaged".to_owned());
        assert_eq!(of(&unreadable, true, 36), ["audit.unreadable"]);
        let damaged = |status: &mut DeploymentStatus| status.problems = vec!["x is damaged".to_owned()];
        assert_eq!(of(&damaged, true, 36), ["backup.problem"]);
    }
}

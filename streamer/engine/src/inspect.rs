//! What a server tells by SQL of a slot, and of its clock. A role that can only replicate is often not let in: then nothing
//! of it is known, which is no fault of the server.

use std::time::Duration;

use hardstorage_replication::Connection;
use hardstorage_report::{Error, Result, SegmentName, code};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::source::Source;

/// How long the whole look may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A slot as the server keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotView {
    /// Whether somebody streams from it now.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of WAL that the server keeps for it.
    pub retained_bytes: Option<u64>,
}

/// How a server's archive_command fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiverView {
    /// Seconds since it last succeeded.
    pub succeeded_before: Option<u64>,
    /// Whether it has failed since.
    pub fails: bool,
    /// Finished segments that PostgreSQL has not handed over and will not hand over soon, oldest first; empty where this role
    /// may not look into `pg_wal`. A crash between the end of a segment and its `.ready` file leaves one: the file is made
    /// when the segment is to be removed, which a large `wal_keep_size` puts off.
    pub unmarked: Vec<SegmentName>,
}

/// What was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    /// The slot; none when there is no slot of this name.
    pub slot: Option<SlotView>,
    /// The archiver; none in a server that has not archived anything or tried to.
    pub archiver: Option<ArchiverView>,
    /// How far the server's clock is ahead of this machine's.
    pub clock_ahead: SignedDuration,
}

/// The slot's name holds nothing that would have to be quoted.
fn question(slot: &str) -> String {
    format!(
        "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::text, s.active::text, s.wal_status, \
         pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn() \
         ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn)::text, \
         floor(extract(epoch FROM pg_catalog.clock_timestamp() - a.last_archived_time))::bigint::text, \
         (a.last_failed_time > coalesce(a.last_archived_time, '-infinity'))::text \
         FROM pg_catalog.pg_stat_archiver a LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = '{slot}'"
    )
}

/// Between two that have a mark: what is older was there before archiving was on, what is younger is still written.
const UNMARKED: &str = "WITH marked AS (SELECT left(name, 24) AS name FROM pg_catalog.pg_ls_archive_statusdir()) \
     SELECT name FROM pg_catalog.pg_ls_waldir() AS file \
     WHERE name ~ '^[0-9A-F]{24}$' AND NOT EXISTS (SELECT FROM marked WHERE marked.name = file.name) \
     AND (SELECT count(DISTINCT marked.name < file.name) FROM marked WHERE left(marked.name, 8) = left(file.name, 8)) = 2 \
     ORDER BY 1";

async fn unmarked(connection: &mut Connection) -> Vec<SegmentName> {
    // A role without pg_monitor is refused, which says nothing of the server.
    let rows = connection.rows(UNMARKED).await.unwrap_or_default();
    let names = rows.into_iter().flatten().flatten();
    names
        .filter_map(|name| std::str::from_utf8(&name).ok()?.parse().ok())
        .collect()
}

/// Asks the server.
pub async fn inspect(source: &Source, slot: &str) -> Result<ServerView> {
    let asked = async {
        let mut connection = source.connect_sql().await?.with_reply_timeout(PATIENCE);
        let before = Timestamp::now();
        let rows = connection.rows(&question(slot)).await?;
        let after = Timestamp::now();
        let row = rows.into_iter().next().unwrap_or_default();
        let texts = row
            .into_iter()
            .map(|value| value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        let mut view = read(texts.collect(), before, after).ok_or_else(|| {
            Error::new(
                code::replication::PROTOCOL,
                "the server's answer about the slot has another shape",
            )
        })?;
        if let Some(archiver) = &mut view.archiver {
            archiver.unmarked = unmarked(&mut connection).await;
        }
        connection.close().await;
        Ok(view)
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(view) => view,
        Err(_) => Err(Error::new(
            code::replication::UNREACHABLE,
            format!("no answer within {} s", PATIENCE.as_secs()),
        )),
    }
}

fn is_true(text: &str) -> bool {
    text == "true" || text == "t"
}

fn read(row: Vec<Option<String>>, before: Timestamp, after: Timestamp) -> Option<ServerView> {
    let [clock, active, wal_status, retained, archived, fails] = <[Option<String>; 6]>::try_from(row).ok()?;
    let theirs: f64 = clock?.parse().ok()?;
    // Half of the way there and back.
    let ours = before
        .as_duration()
        .as_secs_f64()
        .midpoint(after.as_duration().as_secs_f64());
    let slot = active.map(|active| SlotView {
        active: is_true(&active),
        wal_status,
        retained_bytes: retained.and_then(|bytes| bytes.parse().ok()),
    });
    let archiver = (archived.is_some() || fails.is_some()).then(|| ArchiverView {
        succeeded_before: archived.and_then(|seconds| seconds.parse().ok()),
        fails: fails.is_some_and(|fails| is_true(&fails)),
        unmarked: Vec::new(),
    });
    Some(ServerView {
        slot,
        archiver,
        clock_ahead: SignedDuration::try_from_secs_f64(theirs - ours).ok()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn row(cells: [Option<&str>; 6]) -> Vec<Option<String>> {
        cells.into_iter().map(|cell| cell.map(str::to_owned)).collect()
    }

    #[test]
    fn a_slot_and_a_clock() {
        let (before, after) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:02Z"));
        let cells = [
            Some("1767225631.5"),
            Some("true"),
            Some("reserved"),
            Some("4096"),
            None,
            None,
        ];
        let view = read(row(cells), before, after).unwrap();
        assert_eq!(view.clock_ahead.as_millis(), 30_500);
        let slot = view.slot.unwrap();
        assert_eq!(
            (slot.active, slot.wal_status.as_deref(), slot.retained_bytes),
            (true, Some("reserved"), Some(4096))
        );
        let none = read(row([Some("1767225601"), None, None, None, None, None]), before, after).unwrap();
        assert_eq!(
            (none.slot, none.archiver, none.clock_ahead.as_millis()),
            (None, None, 0)
        );
        for (archived, fails, expected) in [
            (Some("12"), None, (Some(12), false)),
            (Some("12"), Some("false"), (Some(12), false)),
            (Some("12"), Some("true"), (Some(12), true)),
            (None, Some("true"), (None, true)),
        ] {
            let view = read(
                row([Some("1767225601"), None, None, None, archived, fails]),
                before,
                after,
            )
            .unwrap();
            let archiver = view.archiver.unwrap();
            assert_eq!((archiver.succeeded_before, archiver.fails), expected);
        }
        for odd in [
            vec![],
            row([None; 6]),
            row([Some("soon"), None, None, None, None, None]),
        ] {
            assert_eq!(read(odd, before, after), None);
        }
    }
}

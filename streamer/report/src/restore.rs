//! What a restore is going to do, what it did, and what could be reached instead: as a scheduler reads it.
//!
//! One shape for the preview and for the result, so that what was approved can be compared with what was done.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BackupId, DeploymentName, ErrorReport, Lsn, SegmentName, SystemId, Timeline};

/// Every moment from here to there can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachable {
    /// The earliest moment: the end of a backup, by the server's clock.
    pub from: Timestamp,
    /// The latest that is complete in the archive.
    pub to: Timestamp,
    /// The position of the earliest.
    pub from_lsn: Lsn,
    /// The end of the archive on that timeline, when it is whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to_lsn: Option<Lsn>,
    /// The timeline that leads there.
    pub timeline: Timeline,
    /// The backup that it begins with.
    pub backup_id: BackupId,
}

/// What a point of recovery is given by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointKind {
    /// The end of the backup.
    Immediate,
    /// The end of the archive.
    Latest,
    /// A time of the server's clock.
    Time,
    /// A WAL position.
    Lsn,
    /// A restore point.
    Name,
    /// A transaction.
    Xid,
    /// A word of another version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A point of recovery; of the members that name one the kind's own is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// What it is given by.
    pub kind: PointKind,
    /// The time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time: Option<Timestamp>,
    /// The position.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lsn: Option<Lsn>,
    /// The restore point.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The transaction.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xid: Option<u64>,
    /// With what lies exactly there.
    pub inclusive: bool,
}

impl RecoveryPoint {
    /// One of a kind that needs no more, or to which its member is added.
    pub fn new(kind: PointKind, inclusive: bool) -> RecoveryPoint {
        RecoveryPoint {
            kind,
            time: None,
            lsn: None,
            name: None,
            xid: None,
            inclusive,
        }
    }
}

/// The server that a backup was taken of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresVersion {
    /// For example 18.
    pub major: u32,
    /// For example 6.
    pub minor: u32,
}

/// A tablespace outside of the data directory, or in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespacePlace {
    /// Its oid.
    pub oid: u32,
    /// Where it lay on the server.
    pub location: String,
    /// Where it goes.
    pub path: PathBuf,
    /// Bytes in it.
    pub bytes: u64,
}

/// From which backup, along which WAL, to which moment: what plan and result have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreCourse {
    /// The backup.
    pub backup_id: BackupId,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The data directory.
    pub target_dir: PathBuf,
    /// The server's version, as it names itself.
    pub pg_version: String,
    /// The same in numbers.
    pub postgres: PostgresVersion,
    /// The cluster.
    pub system_identifier: SystemId,
    /// What was asked for; a relative time is resolved.
    pub target: RecoveryPoint,
    /// Where PostgreSQL is told to stop.
    pub stop_at: RecoveryPoint,
    /// What the server does then: `pause`, `promote` or `shutdown`.
    pub action: String,
    /// The timeline that recovery follows.
    pub target_timeline: Timeline,
    /// In words: the moment that is reached.
    pub reaches: String,
    /// That moment, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reaches_time: Option<Timestamp>,
    /// Its position, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reaches_lsn: Option<Lsn>,
    /// The backup's own timeline.
    pub timeline: Timeline,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// The first segment that it reads.
    pub start_segment: SegmentName,
    /// Where the backup is consistent.
    pub stop_lsn: Lsn,
    /// When the backup ended, by the server's clock.
    pub stopped_at: Timestamp,
    /// Every moment that this backup leads to.
    pub reachable: Reachable,
    /// Bytes of WAL that are replayed, at most.
    pub wal_bytes: u64,
    /// Where the tablespaces go.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tablespaces: Vec<TablespacePlace>,
    /// What is worth knowing.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// The result of `restore --preview`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlanReport {
    /// From where to where.
    #[serde(flatten)]
    pub course: RestoreCourse,
    /// Files, directories and links.
    pub file_count: u64,
    /// Bytes that will be written.
    pub total_bytes: u64,
    /// Everything that stands in the way; empty when the restore can run.
    #[serde(default)]
    pub problems: Vec<ErrorReport>,
    /// Whether nothing does.
    pub preflight_ok: bool,
    /// Where `pg_wal` goes, when not into the data directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wal_dir: Option<PathBuf>,
    /// The definition of the source that was kept with the backup; null without one.
    #[serde(default)]
    pub source_snapshot: Value,
}

/// Where recovery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// The end of the last record that was replayed: the first byte of the new timeline.
    pub lsn: Lsn,
    /// When the last transaction that is in the copy ended, by the origin's clock; none when none was replayed.
    #[serde(default)]
    pub time: Option<Timestamp>,
    /// The timeline that the copy begins.
    pub timeline: Timeline,
}

/// A subscription that was disabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisabledSubscription {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
}

/// A database whose collation is of another version here: its indexes on text may be in another order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollationChange {
    /// The database.
    pub database: String,
    /// The version that its indexes were made with.
    pub recorded: Option<String>,
    /// The version that this machine has.
    pub actual: Option<String>,
}

/// What became of the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// Where recovery ended.
    pub recovered: Recovered,
    /// Subscriptions that were disabled.
    #[serde(default)]
    pub disabled_subscriptions: Vec<DisabledSubscription>,
    /// Databases whose collation is of another version here.
    #[serde(default)]
    pub collation_changes: Vec<CollationChange>,
}

/// The result of `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// From where to where.
    #[serde(flatten)]
    pub course: RestoreCourse,
    /// Regular files written.
    pub file_count: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes of files that were there already and stayed.
    #[serde(default)]
    pub reused_bytes: u64,
    /// Bytes of files' content that were read from the repository, as they are stored.
    #[serde(default)]
    pub fetched_bytes: u64,
    /// Files that were equal to PostgreSQL's own manifest.
    pub files_checked: u64,
    /// Milliseconds.
    pub duration_ms: u64,
    /// Settings of the source that were neutralised.
    #[serde(default)]
    pub neutralised: Vec<String>,
    /// What PostgreSQL's own verifier said, when it was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verifybackup: Option<String>,
    /// What became of the copy, when it was recovered where it was restored.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub recovery: Option<RecoveryReport>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_of_the_next_version_is_read() {
        let plan = json!({"backup_id": "db1.full.20260625T083040Z.0001", "deployment": "db1", "target_dir": "/srv/db1",
            "pg_version": "19.1", "postgres": {"major": 19, "minor": 1, "vendor": "x"}, "system_identifier": "7",
            "target": {"kind": "epoch", "inclusive": true}, "stop_at": {"kind": "lsn", "lsn": "0/3000028", "inclusive": true},
            "action": "pause", "target_timeline": 1, "reaches": "x", "timeline": 1, "start_lsn": "0/2000028",
            "start_segment": "000000010000000000000002", "stop_lsn": "0/2000100", "stopped_at": "2026-06-25T08:30:40Z",
            "reachable": {"from": "2026-06-25T08:30:40Z", "to": "2026-06-25T09:30:40Z", "from_lsn": "0/2000100",
                "timeline": 1, "backup_id": "db1.full.20260625T083040Z.0001"},
            "wal_bytes": 5, "file_count": 2, "total_bytes": 3, "preflight_ok": true, "colour": "blue"});
        let read: RestorePlanReport = serde_json::from_value(plan).unwrap();
        assert_eq!(read.course.target.kind, PointKind::Unknown);
        assert_eq!(read.course.stop_at.lsn, Some(Lsn(0x300_0028)));
        assert_eq!(read.course.reachable.to_lsn, None);
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(serde_json::from_value::<RestorePlanReport>(written).unwrap(), read);
    }
}

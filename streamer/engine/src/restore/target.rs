//! Where recovery stops: the user's wish, and the settings of PostgreSQL that mean it.

use hardstorage_report::{Lsn, PointKind, RecoveryPoint, Timeline};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

/// The moment that was asked for. Relative times are resolved before they come here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryTarget {
    /// The end of the backup: consistent, nothing more.
    Immediate,
    /// All that is in the repository.
    Latest,
    /// A time of the server's clock.
    Time(Timestamp),
    /// A WAL position.
    Lsn(Lsn),
    /// A restore point made by `pg_create_restore_point`.
    Name(String),
    /// A transaction id.
    Xid(u64),
}

impl RecoveryTarget {
    /// The same as others read it.
    pub fn point(&self, inclusive: bool) -> RecoveryPoint {
        let point = |kind| RecoveryPoint::new(kind, inclusive);
        match self {
            RecoveryTarget::Immediate => point(PointKind::Immediate),
            RecoveryTarget::Latest => point(PointKind::Latest),
            RecoveryTarget::Time(time) => StopAt::Time(*time).point(inclusive),
            RecoveryTarget::Lsn(lsn) => StopAt::Lsn(*lsn).point(inclusive),
            RecoveryTarget::Name(name) => StopAt::Name(name.clone()).point(inclusive),
            RecoveryTarget::Xid(xid) => StopAt::Xid(*xid).point(inclusive),
        }
    }
}

/// What the server does when it has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum TargetAction {
    /// Waits, readable, for a decision.
    #[default]
    Pause,
    /// Becomes a primary on a new timeline.
    Promote,
    /// Stops.
    Shutdown,
}

impl TargetAction {
    /// PostgreSQL's word.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetAction::Pause => "pause",
            TargetAction::Promote => "promote",
            TargetAction::Shutdown => "shutdown",
        }
    }
}

/// Which branch of history recovery follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum TargetTimeline {
    /// The newest that the archive knows.
    #[default]
    Latest,
    /// This one.
    Number(Timeline),
}

impl std::fmt::Display for TargetTimeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TargetTimeline::Latest => f.write_str("latest"),
            TargetTimeline::Number(timeline) => timeline.fmt(f),
        }
    }
}

/// Where PostgreSQL itself is told to stop. Differs from the wish where PostgreSQL would end with
/// `recovery ended before configured recovery target was reached`: a covered time without a later commit becomes the
/// position of the last commit before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopAt {
    /// `recovery_target = 'immediate'`.
    Immediate,
    /// No target: to the end of the archive, then promote.
    EndOfArchive,
    /// `recovery_target_time`.
    Time(Timestamp),
    /// `recovery_target_lsn`.
    Lsn(Lsn),
    /// `recovery_target_name`.
    Name(String),
    /// `recovery_target_xid`.
    Xid(u64),
}

impl StopAt {
    /// The same as others read it.
    pub fn point(&self, inclusive: bool) -> RecoveryPoint {
        let mut point = RecoveryPoint::new(PointKind::Unknown, inclusive);
        point.kind = match self {
            StopAt::Immediate => PointKind::Immediate,
            StopAt::EndOfArchive => PointKind::Latest,
            StopAt::Time(time) => {
                point.time = Some(*time);
                PointKind::Time
            }
            StopAt::Lsn(lsn) => {
                point.lsn = Some(*lsn);
                PointKind::Lsn
            }
            StopAt::Name(name) => {
                point.name = Some(name.clone());
                PointKind::Name
            }
            StopAt::Xid(xid) => {
                point.xid = Some(*xid);
                PointKind::Xid
            }
        };
        point
    }

    /// The settings, name and value, unquoted.
    pub fn settings(&self, inclusive: bool, action: TargetAction) -> Vec<(&'static str, String)> {
        let mut settings = Vec::new();
        match self {
            StopAt::EndOfArchive => return settings,
            StopAt::Immediate => settings.push(("recovery_target", "immediate".to_owned())),
            StopAt::Time(time) => {
                let utc = time
                    .to_zoned(TimeZone::UTC)
                    .strftime("%Y-%m-%d %H:%M:%S%.6f+00")
                    .to_string();
                settings.push(("recovery_target_time", utc));
            }
            StopAt::Lsn(lsn) => settings.push(("recovery_target_lsn", lsn.to_string())),
            StopAt::Name(name) => settings.push(("recovery_target_name", name.clone())),
            StopAt::Xid(xid) => settings.push(("recovery_target_xid", xid.to_string())),
        }
        // A restore point and the end of the backup are always inclusive.
        if matches!(self, StopAt::Time(_) | StopAt::Lsn(_) | StopAt::Xid(_)) {
            settings.push((
                "recovery_target_inclusive",
                if inclusive { "on" } else { "off" }.to_owned(),
            ));
        }
        settings.push(("recovery_target_action", action.as_str().to_owned()));
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_in_postgresql_s_words() {
        let time = StopAt::Time("2026-11-22T08:15:00.25Z".parse().unwrap());
        assert_eq!(
            time.settings(false, TargetAction::Pause),
            [
                ("recovery_target_time", "2026-11-22 08:15:00.250000+00".to_owned()),
                ("recovery_target_inclusive", "off".to_owned()),
                ("recovery_target_action", "pause".to_owned()),
            ]
        );
        assert!(StopAt::EndOfArchive.settings(true, TargetAction::Promote).is_empty());
        let name = StopAt::Name("pre_release".into()).settings(true, TargetAction::Shutdown);
        assert_eq!(name.len(), 2);
    }
}

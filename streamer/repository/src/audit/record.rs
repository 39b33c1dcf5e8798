//! One record: what was done, by whom, and behind which record.

use std::fmt;

use hardstorage_report::{BackupId, DeploymentName};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::session::ProcessFacts;
use crate::text_number::{decimal, hex_bytes};

pub(super) const SCHEMA: &str = "hardstorage.audit.v1";

/// A reason longer than this is cut: a record is small, whatever somebody gives as his reason.
const REASON: usize = 1000;

/// What can be done. A record keeps the name alone, so that an older program shows what it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its name")]
pub enum AuditAction {
    DeploymentCreated,
    BackupCommitted,
    BackupHeld,
    BackupReleased,
    BackupDeleted,
    BackupUndeleted,
    BackupPurging,
    RestoreBegun,
    RestoreFinished,
    RestoreFailed,
    SystemAccepted,
    SlotDropped,
    GapRecorded,
    KekRotated,
    PolicyChanged,
    CreateOnlyBroken,
    ObjectsHealed,
}

impl AuditAction {
    /// The name in a record.
    pub fn name(self) -> &'static str {
        match self {
            AuditAction::DeploymentCreated => "deployment.created",
            AuditAction::BackupCommitted => "backup.committed",
            AuditAction::BackupHeld => "backup.held",
            AuditAction::BackupReleased => "backup.released",
            AuditAction::BackupDeleted => "backup.deleted",
            AuditAction::BackupUndeleted => "backup.undeleted",
            AuditAction::BackupPurging => "backup.purging",
            AuditAction::RestoreBegun => "restore.begun",
            AuditAction::RestoreFinished => "restore.finished",
            AuditAction::RestoreFailed => "restore.failed",
            AuditAction::SystemAccepted => "system.accepted",
            AuditAction::SlotDropped => "slot.dropped",
            AuditAction::GapRecorded => "wal.gap_recorded",
            AuditAction::KekRotated => "kek.rotated",
            AuditAction::PolicyChanged => "policy.changed",
            AuditAction::CreateOnlyBroken => "create_only.broken",
            AuditAction::ObjectsHealed => "objects.healed",
        }
    }
}

/// Who did it, as far as the process knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The operating system's user, and the host.
    pub who: String,
    /// The scheduler's id of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

impl Actor {
    /// This process.
    pub fn here(run_id: Option<String>) -> Actor {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let host = ProcessFacts::current().host;
        Actor {
            who: format!("{}@{host}", user(uid, &passwd)),
            run_id,
        }
    }
}

/// The name of a user; a container often has none.
fn user(uid: u32, passwd: &str) -> String {
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid {uid}"))
}

/// What is to be recorded.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    pub(super) action: AuditAction,
    pub(super) actor: Actor,
    pub(super) backup_id: Option<BackupId>,
    pub(super) reason: Option<String>,
    pub(super) body: Value,
}

impl AuditEvent {
    /// Done by this process.
    pub fn new(action: AuditAction, run_id: Option<String>) -> AuditEvent {
        AuditEvent {
            action,
            actor: Actor::here(run_id),
            backup_id: None,
            reason: None,
            body: Value::Null,
        }
    }

    /// Which backup.
    #[must_use]
    pub fn backup(mut self, id: &BackupId) -> AuditEvent {
        self.backup_id = Some(id.clone());
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> AuditEvent {
        self.reason = Some(reason.chars().take(REASON).collect());
        self
    }

    /// A few facts.
    #[must_use]
    pub fn body(mut self, body: Value) -> AuditEvent {
        self.body = body;
        self
    }
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub(super) schema: String,
    /// The deployment.
    pub deployment: DeploymentName,
    /// From 1, without a hole.
    #[serde(with = "decimal")]
    pub sequence: u64,
    /// The folder in which it lies.
    pub month: Month,
    /// When, by the clock of who did it.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: String,
    /// To which backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<BackupId>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A few facts.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
    /// The hash of the stored bytes of the record before it; zeros in the first.
    #[serde(with = "hex_bytes")]
    pub prev_hash: [u8; 32],
    /// Tells records of two that do the same at the same moment apart.
    #[serde(with = "hex_bytes")]
    pub nonce: [u8; 16],
}

/// A record of a listing, or why it cannot be read.
#[derive(Debug)]
pub struct Listed {
    /// Its number, by its name.
    pub sequence: u64,
    /// What it says.
    pub record: hardstorage_report::Result<AuditRecord>,
}

/// A month of the calendar: a folder of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(u32);

impl Month {
    /// The month of a moment, in UTC. No clock is before the first year.
    pub fn of(at: Timestamp) -> Month {
        let date = at.to_zoned(TimeZone::UTC);
        let year = u32::try_from(date.year()).unwrap_or(0);
        Month(year * 100 + u32::from(date.month().unsigned_abs()))
    }

    /// Reads six digits.
    pub fn parse(text: &str) -> Option<Month> {
        let digits = text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok())?.map(Month)
    }

    /// The month before.
    pub(super) fn before(self) -> Month {
        match self.0 % 100 {
            0 | 1 => Month((self.0 / 100).saturating_sub(1) * 100 + 12),
            _ => Month(self.0 - 1),
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl Serialize for Month {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Month {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Month::parse(&text).ok_or_else(|| serde::de::Error::custom("a month is written as yyyymm"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let month = |text: &str| Month::of(text.parse().unwrap());
        assert_eq!(month("2026-11-30T23:59:59.999Z").to_string(), "202611");
        assert_eq!(month("2026-12-01T00:00:00Z").before(), month("2026-11-01T00:00:00Z"));
        assert_eq!(month("2026-01-31T00:00:00Z").before().to_string(), "202512");
        assert_eq!(Month::parse("202611"), Some(month("2026-11-26T00:00:00Z")));
        for bad in ["20261", "2026110", "2026-1", "anchors", "+20261"] {
            assert_eq!(Month::parse(bad), None, "{bad}");
        }
        assert!(Month::of(Timestamp::MIN) < Month::of(Timestamp::UNIX_EPOCH));
        assert_eq!(Month::of(Timestamp::MAX).to_string().len(), 6);
    }

    #[test]
    fn a_user_is_named_where_the_machine_knows_him() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres:x:26:27::/var/lib:/bin/sh\nbroken\n";
        assert_eq!(user(26, passwd), "postgres");
        assert_eq!(user(7, passwd), "uid 7");
    }

    #[test]
    fn a_reason_is_cut_where_a_letter_ends() {
        let event = AuditEvent::new(AuditAction::BackupHeld, None).reason(&"ä".repeat(5000));
        assert_eq!(event.reason.unwrap().chars().count(), REASON);
    }
}

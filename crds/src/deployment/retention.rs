//! Which backups of a Deployment are kept. It stands here and not on the schedules: one set of backups, one policy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;

/// A backup is kept when any of these keeps it; the newest that can be restored is always kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retention {
    /// The newest so many backups, whatever their age; default 3.
    #[schemars(range(min = 0, max = 10000))]
    pub keep_last: i32,
    /// The newest backup of each of so many days (in UTC); default 7.
    #[schemars(range(min = 0, max = 10000))]
    pub keep_daily: i32,
    /// The newest backup of each of so many weeks; default 4.
    #[schemars(range(min = 0, max = 10000))]
    pub keep_weekly: i32,
    /// The newest backup of each of so many months; default 12.
    #[schemars(range(min = 0, max = 10000))]
    pub keep_monthly: i32,
    /// The newest backup of each of so many years; default 5.
    #[schemars(range(min = 0, max = 10000))]
    pub keep_yearly: i32,
    /// How far back any moment can be reached, for example 14d; older backups keep only the WAL that makes each of them
    /// consistent. Without it any moment since the oldest backup.
    #[serde(rename = "keepWAL", skip_serializing_if = "Option::is_none")]
    pub keep_wal: Option<Duration>,
    /// Whether to keep everything for now; default false.
    pub suspend: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            keep_last: 3,
            keep_daily: 7,
            keep_weekly: 4,
            keep_monthly: 12,
            keep_yearly: 5,
            keep_wal: None,
            suspend: false,
        }
    }
}

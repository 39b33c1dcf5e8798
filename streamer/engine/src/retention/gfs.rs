//! Which backups to keep: grandfather, father, son.
//!
//! Pure: a list of backups and a policy in, a decision for each out. Times are those of the signed manifests; which of two
//! backups is the newer one the catalogue's order says, because a clock can be set back. The newest restorable backup is
//! kept by every policy, and so is one that is held.

use std::collections::HashSet;

use hardstorage_report::BackupId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// How many to keep of each kind; 0 turns a kind off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GfsPolicy {
    /// The newest so many, whatever their age.
    pub keep_last: u32,
    /// The newest of each of so many UTC days that have one.
    pub keep_daily: u32,
    /// Of ISO weeks.
    pub keep_weekly: u32,
    /// Of months.
    pub keep_monthly: u32,
    /// Of years.
    pub keep_yearly: u32,
}

impl Default for GfsPolicy {
    fn default() -> Self {
        GfsPolicy {
            keep_last: 0,
            keep_daily: 7,
            keep_weekly: 4,
            keep_monthly: 12,
            keep_yearly: 5,
        }
    }
}

/// A backup as retention sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its id.
    pub backup_id: BackupId,
    /// When it ended, from the signed manifest.
    pub stopped_at: Timestamp,
    /// Whether a hold protects it.
    pub held: bool,
    /// Whether it can be restored by itself.
    pub restorable: bool,
}

/// What becomes of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It stays.
    Keep,
    /// It stays because of a hold alone.
    Held,
    /// It gets a tombstone.
    Delete,
}

/// A decision and why.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// Which backup.
    pub backup_id: BackupId,
    /// When it ended.
    pub stopped_at: Timestamp,
    /// What becomes of it.
    pub action: Action,
    /// `daily-1`, `weekly-2`, `newest` and so on.
    pub reasons: Vec<String>,
}

/// Names the bucket that a moment falls into.
type BucketOf = fn(Timestamp) -> (i16, i16);

/// Decides for every backup. They come in the order of the catalogue, oldest first; the decisions are newest first.
pub fn decide(mut backups: Vec<Candidate>, policy: &GfsPolicy) -> Vec<Decision> {
    backups.reverse();
    let mut reasons: Vec<Vec<String>> = vec![Vec::new(); backups.len()];
    for (index, slot) in reasons.iter_mut().enumerate().take(policy.keep_last as usize) {
        slot.push(format!("last-{}", index + 1));
    }
    let buckets: [(&str, u32, BucketOf); 4] = [
        ("daily", policy.keep_daily, |t| {
            let day = t.to_zoned(TimeZone::UTC).date();
            (day.year(), day.day_of_year())
        }),
        ("weekly", policy.keep_weekly, |t| {
            let week = t.to_zoned(TimeZone::UTC).date().iso_week_date();
            (week.year(), i16::from(week.week()))
        }),
        ("monthly", policy.keep_monthly, |t| {
            let day = t.to_zoned(TimeZone::UTC).date();
            (day.year(), i16::from(day.month()))
        }),
        ("yearly", policy.keep_yearly, |t| {
            (t.to_zoned(TimeZone::UTC).date().year(), 0)
        }),
    ];
    for (name, keep, bucket_of) in buckets {
        let mut seen = HashSet::new();
        for (index, backup) in backups.iter().enumerate().filter(|(_, backup)| backup.restorable) {
            if seen.len() == keep as usize {
                break;
            }
            if seen.insert(bucket_of(backup.stopped_at)) {
                reasons[index].push(format!("{name}-{}", seen.len()));
            }
        }
    }
    if let Some(newest) = backups.iter().position(|backup| backup.restorable)
        && reasons[newest].is_empty()
    {
        reasons[newest].push("newest".into());
    }
    // Nothing restorable: nothing is deleted, whatever the policy says.
    let nothing_restorable = backups.iter().all(|backup| !backup.restorable);
    backups
        .into_iter()
        .zip(reasons)
        .map(|(backup, mut reasons)| {
            if nothing_restorable && reasons.is_empty() {
                reasons.push("nothing-restorable".into());
            }
            let action = match (reasons.is_empty(), backup.held) {
                (false, _) => Action::Keep,
                (true, true) => Action::Held,
                (true, false) => Action::Delete,
            };
            Decision {
                backup_id: backup.backup_id,
                stopped_at: backup.stopped_at,
                action,
                reasons,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use hardstorage_report::DeploymentName;
    use proptest::prelude::*;

    fn backup(time: &str, held: bool, restorable: bool) -> Candidate {
        let stopped_at: Timestamp = time.parse().unwrap();
        let name: DeploymentName = "db1".parse().unwrap();
        let stamp = stopped_at
            .to_zoned(TimeZone::UTC)
            .strftime("%Y%m%dT%H%M%SZ")
            .to_string();
        Candidate {
            backup_id: BackupId::compose(&name, "full", &stamp, 1).unwrap(),
            stopped_at,
            held,
            restorable,
        }
    }

    fn summary(decisions: &[Decision]) -> Vec<(String, Action, String)> {
        decisions
            .iter()
            .map(|d| (d.stopped_at.to_string(), d.action, d.reasons.join(",")))
            .collect()
    }

    #[test]
    fn the_introduction_s_example() {
        let times = [
            "2026-06-25T08:31:07Z",
            "2026-06-25T08:48:57Z",
            "2026-06-25T09:25:02Z",
            "2026-06-25T09:45:08Z",
            "2026-06-26T07:17:46Z",
        ];
        let decisions = decide(
            times.iter().map(|t| backup(t, false, true)).collect(),
            &GfsPolicy::default(),
        );
        let found = summary(&decisions);
        assert_eq!(
            found[0],
            (
                times[4].into(),
                Action::Keep,
                "daily-1,weekly-1,monthly-1,yearly-1".into()
            )
        );
        assert_eq!(found[1], (times[3].into(), Action::Keep, "daily-2".into()));
        assert!(found[2..].iter().all(|(_, action, _)| *action == Action::Delete));
    }

    #[test]
    fn the_newest_restorable_and_the_held_stay() {
        let nothing = GfsPolicy {
            keep_last: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
        };
        let backups = vec![
            backup("2026-01-01T00:00:00Z", true, true),
            backup("2026-01-02T00:00:00Z", false, true),
            backup("2026-01-03T00:00:00Z", false, false),
        ];
        let actions: Vec<_> = decide(backups.clone(), &nothing).iter().map(|d| d.action).collect();
        assert_eq!(actions, [Action::Delete, Action::Keep, Action::Held]);
        let broken = backups
            .into_iter()
            .map(|b| Candidate { restorable: false, ..b })
            .collect();
        assert!(decide(broken, &nothing).iter().all(|d| d.action == Action::Keep));
    }

    /// The clock was a day behind when the last one was taken.
    #[test]
    fn the_newest_of_the_catalogue_stays_whatever_its_clock_said() {
        let last = GfsPolicy {
            keep_last: 1,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
        };
        let times = ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-02T12:00:00Z"];
        let found = summary(&decide(times.map(|time| backup(time, false, true)).into(), &last));
        let kept: Vec<_> = found.iter().filter(|(_, action, _)| *action == Action::Keep).collect();
        assert_eq!(kept, [&(times[2].to_owned(), Action::Keep, "last-1".to_owned())]);
        let daily = GfsPolicy {
            keep_last: 0,
            keep_daily: 1,
            ..last
        };
        let found = summary(&decide(times.map(|time| backup(time, false, true)).into(), &daily));
        assert_eq!(found[0], (times[2].to_owned(), Action::Keep, "daily-1".to_owned()));
    }

    proptest! {
        #[test]
        fn a_longer_policy_never_deletes_more(
            times in proptest::collection::vec(1_700_000_000i64..1_800_000_000, 1..60), daily in 0u32..10, weekly in 0u32..6,
        ) {
            let backups: Vec<_> = times.iter().map(|t| backup(&Timestamp::from_second(*t).unwrap().to_string(), false, true)).collect();
            let policy = GfsPolicy { keep_last: 0, keep_daily: daily, keep_weekly: weekly, keep_monthly: 2, keep_yearly: 1 };
            let more = GfsPolicy { keep_daily: daily + 1, ..policy };
            let kept = |p: &GfsPolicy| -> HashSet<BackupId> {
                decide(backups.clone(), p).into_iter().filter(|d| d.action == Action::Keep).map(|d| d.backup_id).collect()
            };
            prop_assert!(kept(&policy).is_subset(&kept(&more)));
            prop_assert!(!kept(&policy).is_empty());
        }
    }
}

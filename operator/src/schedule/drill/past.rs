//! The Restores of past drills: as many are kept as of the Jobs of past runs, and the last one always, because it is what the
//! schedule tells of. Pure.

use hardstorage_crds::{DrillResult, History, Restore};
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::restore::is_over;

/// When it was made, and its name.
pub fn age(restore: &Restore) -> (Option<Timestamp>, String) {
    let made = restore.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (made, restore.name_any())
}

/// What it has proven, once it is over.
pub fn result(restore: &Restore) -> Option<&DrillResult> {
    let status = restore.status.as_ref().filter(|status| is_over(status))?;
    status.drill.as_ref()?.result.as_ref()
}

/// Those that are not kept any more.
pub fn past<'a>(history: &History, all: &'a [Restore]) -> Vec<&'a Restore> {
    let mut ended: Vec<&Restore> = all
        .iter()
        .filter(|restore| result(restore).is_some() && restore.metadata.deletion_timestamp.is_none())
        .collect();
    ended.sort_by_key(|restore| std::cmp::Reverse(age(restore)));
    let (mut passed, mut failed) = (0, 0);
    let mut out = Vec::new();
    for (number, restore) in ended.into_iter().enumerate() {
        let (count, keep) = if result(restore) == Some(&DrillResult::Passed) {
            (&mut passed, history.successful)
        } else {
            (&mut failed, history.failed)
        };
        *count += 1;
        if number > 0 && *count > keep {
            out.push(restore);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_one_and_as_many_as_are_wanted_stay() {
        let restore = |day: u32, phase: &str, result: &str| -> Restore {
            serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Restore",
                "metadata": {"name": format!("d{day}"), "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")},
                "spec": {"source": {}, "destination": {}},
                "status": {"phase": phase, "drill": {"result": result}}}))
            .unwrap()
        };
        let all = vec![
            restore(1, "Completed", "Passed"),
            restore(2, "Failed", "Failed"),
            restore(3, "Completed", "Passed"),
            restore(4, "Refused", "NotRun"),
            restore(5, "Failed", "Failed"),
            restore(6, "Checking", ""),
        ];
        let gone = |successful: i32, failed: i32| -> Vec<String> {
            let history = History { successful, failed };
            past(&history, &all).iter().map(|restore| restore.name_any()).collect()
        };
        assert_eq!(gone(1, 3), ["d1"]);
        assert_eq!(gone(1, 1), ["d4", "d2", "d1"]);
        assert_eq!(gone(0, 0), ["d4", "d3", "d2", "d1"], "the last one tells");
        assert!(gone(9, 9).is_empty());
    }
}

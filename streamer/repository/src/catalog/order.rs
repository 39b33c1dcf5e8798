//! The order of backups: by time, and where a clock was set, by what no clock can turn around.
//!
//! Times are those of the servers, and a server's clock can be set back: the next backup then looks older than the one
//! before it, and retention would let go of the newest. Positions only rise. So within one life of a cluster a backup on
//! the same or an earlier timeline, at a position that is not behind, counts as older whatever its clock says: a backup
//! is taken to be at least as new as all of those. What positions cannot compare (two clusters, a branch that went on
//! beside another) the times do.

use std::collections::BTreeMap;

use hardstorage_report::{BackupId, Lsn, Timeline};
use jiff::Timestamp;

use crate::{Lineage, Manifest};

/// Compares as the order does; nothing for what has no manifest, which comes first.
pub(super) type Age<'a> = (Option<(Timestamp, Timeline, Lsn, Timestamp)>, &'a BackupId);

/// The ages of backups, in their order.
pub(super) fn ages<'a>(backups: &[(&'a BackupId, Option<&Manifest>)]) -> Vec<Age<'a>> {
    let mut by_position: Vec<(Lineage, Timeline, Lsn, Timestamp, usize)> = backups
        .iter()
        .enumerate()
        .filter_map(|(index, (_, manifest))| {
            let manifest = (*manifest)?;
            let (wal, stopped_at) = (&manifest.wal, manifest.times.stopped_at);
            Some((manifest.lineage, wal.timeline, wal.stop_lsn, stopped_at, index))
        })
        .collect();
    by_position.sort_unstable();
    let mut ages: Vec<Age<'a>> = backups.iter().map(|(id, _)| (None, *id)).collect();
    let mut life = None;
    // By position, the newest time of what lies at or before it; rising.
    let mut newest = BTreeMap::<Lsn, Timestamp>::new();
    for (lineage, timeline, stop, stopped_at, index) in by_position {
        if life.replace(lineage) != Some(lineage) {
            newest.clear();
        }
        let before = newest.range(..=stop).next_back().map(|(_, time)| *time);
        let at_least = before.map_or(stopped_at, |time| time.max(stopped_at));
        newest.retain(|lsn, time| *lsn < stop || *time > at_least);
        newest.insert(stop, at_least);
        if let Some(age) = ages.get_mut(index) {
            age.0 = Some((at_least, timeline, stop, stopped_at));
        }
    }
    ages
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hardstorage_codec::{Secret, SigningKey};
    use hardstorage_storage::MemoryStore;
    use proptest::prelude::*;

    use super::*;
    use crate::Deployment;
    use crate::manifest::samples;

    /// Incarnation, timeline, position and clock.
    type Told = (u16, u32, u64, i64);

    /// The numbers of the backups, oldest first.
    fn ordered(told: &[Told]) -> Vec<usize> {
        let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
        let key = SigningKey::new(&Secret::new([6; 32]));
        let manifests: Vec<Manifest> = told
            .iter()
            .enumerate()
            .map(|(number, (incarnation, timeline, stop, clock))| {
                let id = format!("db1.full.20260625T083040Z.{number:04x}");
                let mut manifest = samples::of(&deployment, &key, &id, 0);
                manifest.lineage.incarnation = *incarnation;
                (manifest.wal.timeline, manifest.wal.stop_lsn) = (Timeline(*timeline), Lsn(*stop));
                manifest.times.stopped_at = Timestamp::from_second(*clock).unwrap();
                manifest
            })
            .collect();
        let backups: Vec<_> = manifests
            .iter()
            .map(|manifest| (&manifest.backup_id, Some(manifest)))
            .collect();
        let ages = ages(&backups);
        let mut order: Vec<usize> = (0..told.len()).collect();
        order.sort_by(|one, other| ages[*one].cmp(&ages[*other]));
        order
    }

    #[test]
    fn a_clock_that_was_set_turns_no_positions_around() {
        // Set back by a day before the third.
        assert_eq!(
            ordered(&[(1, 1, 10, 100), (1, 1, 20, 200), (1, 1, 30, 90), (1, 1, 40, 95)]),
            [0, 1, 2, 3]
        );
        // Ahead at the second, and right again after it; the standby that took over has the right time.
        assert_eq!(
            ordered(&[(1, 1, 10, 100), (1, 1, 20, 900), (1, 1, 30, 110), (1, 2, 40, 120)]),
            [0, 1, 2, 3]
        );
        // The clock of the standby that took over is behind.
        assert_eq!(ordered(&[(1, 1, 10, 100), (1, 1, 20, 200), (1, 2, 30, 150)]), [0, 1, 2]);
    }

    #[test]
    fn what_positions_cannot_compare_the_times_do() {
        // A cluster that was set back to an earlier position goes on with a new timeline.
        assert_eq!(ordered(&[(1, 1, 50, 100), (1, 2, 30, 200), (1, 1, 60, 150)]), [0, 2, 1]);
        // Two lives.
        assert_eq!(ordered(&[(2, 1, 5, 300), (1, 1, 50, 100), (1, 1, 60, 400)]), [1, 0, 2]);
    }

    proptest! {
        #[test]
        fn positions_always_rise_and_true_clocks_alone_decide(
            mut told in proptest::collection::vec((1u16..3, 1u32..4, 0u64..30, 0i64..1000), 0..40),
        ) {
            let order = ordered(&told);
            for (at, one) in order.iter().enumerate() {
                for later in &order[at + 1..] {
                    let (one, later) = (told[*one], told[*later]);
                    let behind = one.0 == later.0 && later.1 <= one.1 && later.2 <= one.2;
                    prop_assert!(!behind || (later.1, later.2) == (one.1, one.2), "{one:?} before {later:?}");
                }
            }
            // Clocks that rise with the positions.
            for (incarnation, timeline, stop, clock) in &mut told {
                *clock = i64::from(*incarnation) * 10_000 + i64::from(*timeline) * 100 + *stop as i64;
            }
            let times: Vec<i64> = ordered(&told).into_iter().map(|number| told[number].3).collect();
            prop_assert!(times.is_sorted());
        }
    }
}

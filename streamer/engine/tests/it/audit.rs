//! The audit of an archive: a lost segment is told from WAL that was never meant to be continuous.

use hardstorage_engine::wal::{Continuity, audit};
use hardstorage_report::{BackupId, Lsn, SegmentName, Timeline};
use hardstorage_repository::wal::RecordFacts;
use hardstorage_repository::{WalRange, WriterId};

use crate::bench::{Bench, MIB, noise, segment, size};

/// A backup of the WAL in two segments, from the first's middle to the second's.
async fn back_up(bench: &Bench, first: u64) -> BackupId {
    let id = format!("db1.full.20260625T083040Z.{first:04}");
    let needed = WalRange {
        timeline: Timeline(1),
        from: Lsn(first * MIB + 0x28),
        to: Lsn((first + 1) * MIB + 0x100),
    };
    bench.back_up_over(&id, needed).await;
    id.parse().unwrap()
}

async fn look(bench: &Bench) -> Continuity {
    let catalog = bench.deployment.backups().await.unwrap();
    let stored = catalog.entries.iter().filter_map(|entry| entry.manifest());
    let backups: Vec<_> = stored.map(|stored| (&stored.manifest, true)).collect();
    audit(&bench.archive, &backups).await.unwrap()
}

fn in_mib(ranges: impl IntoIterator<Item = (Lsn, Lsn)>) -> Vec<(u64, u64)> {
    ranges
        .into_iter()
        .map(|(from, to)| (from.0 / MIB, to.0 / MIB))
        .collect()
}

fn holes(found: &Continuity) -> Vec<(u64, u64)> {
    in_mib(found.holes.iter().map(|hole| (hole.from, hole.to)))
}

fn between(found: &Continuity) -> Vec<(u64, u64)> {
    in_mib(found.between.iter().map(|range| (range.from, range.to)))
}

#[tokio::test]
async fn backups_without_a_stream_are_stretches_of_their_own() {
    let bench = Bench::new().await;
    let mut backups = Vec::new();
    for first in [2, 6, 12] {
        bench.store_wal(first..first + 2).await;
        backups.push(back_up(&bench, first).await);
    }
    let found = look(&bench).await;
    assert!(found.is_whole(), "{found:?}");
    assert_eq!(between(&found), [(4, 6), (8, 12)]);
    let stretches = in_mib(found.stretches.iter().map(|stretch| (stretch.from, stretch.to)));
    assert_eq!(stretches, [(2, 4), (6, 8), (12, 14)]);
    let held: Vec<_> = found
        .stretches
        .iter()
        .flat_map(|stretch| stretch.backups.clone())
        .collect();
    assert_eq!(held, backups);

    // A stream that begins later does not make what was before it a loss; what is missing behind its begin is one.
    bench.store_wal(14..20).await;
    assert!(look(&bench).await.is_whole());
    bench.store_wal(24..26).await;
    back_up(&bench, 24).await;
    let found = look(&bench).await;
    assert_eq!(holes(&found), [(20, 24)]);
    assert_eq!(between(&found), [(4, 6), (8, 12)]);
}

#[tokio::test]
async fn a_lost_segment_inside_a_stream_is_never_excused() {
    let cases = [
        (vec![8], vec![(8, 9)]),
        // Exactly what lies between two backups.
        (vec![5, 6, 7, 8, 9], vec![(5, 10)]),
        // Within a backup's own WAL, at its first segment and at its second.
        (vec![3], vec![(3, 4)]),
        (vec![4, 8], vec![(4, 5), (8, 9)]),
    ];
    for (lost, expected) in cases {
        let bench = Bench::new().await;
        bench.store_wal((2..16).filter(|number| !lost.contains(number))).await;
        back_up(&bench, 3).await;
        back_up(&bench, 10).await;
        let found = look(&bench).await;
        assert_eq!(holes(&found), expected, "{found:?}");
        assert!(found.between.is_empty() && found.holes.iter().all(|hole| !hole.recorded));
        let needed = found.holes.iter().filter(|hole| !hole.needed_by.is_empty()).count();
        assert_eq!(needed, lost.iter().filter(|number| [3, 4].contains(*number)).count());
    }
}

#[tokio::test]
async fn any_trace_of_a_stream_makes_the_hole_behind_it_one() {
    // Lone backups around 4 to 8, and what else may lie there.
    async fn lone() -> Bench {
        let bench = Bench::new().await;
        for first in [2, 8] {
            bench.store_wal(first..first + 2).await;
            back_up(&bench, first).await;
        }
        assert!(look(&bench).await.is_whole());
        bench
    }
    let tail = lone().await;
    let bytes = noise(7, 5000);
    let mut writer = tail.archive.tail_writer(segment(4), WriterId::new([9; 16])).unwrap();
    writer.put(Lsn(4 * MIB), &bytes, RecordFacts::default()).await.unwrap();
    assert_eq!(
        holes(&look(&tail).await).len(),
        1,
        "the tail of a stream that broke off"
    );

    let gap = lone().await;
    let lost = (Lsn(4 * MIB), Lsn(5 * MIB));
    let evidence = serde_json::json!({"slot": "lost"});
    gap.archive
        .put_gap(Timeline(1), lost, "the slot was invalidated", evidence)
        .await
        .unwrap();
    let found = look(&gap).await;
    assert_eq!(holes(&found), [(4, 8)]);
    assert!(found.holes[0].recorded);

    // What a backup records that finds nobody streaming explains the hole; one that finds a slot has found a stream, also
    // when the slot keeps nothing any more.
    for (slot, keeps_nothing, expected) in [
        (None, false, vec![]),
        (None, true, vec![(4, 8)]),
        (Some("0/400000"), false, vec![(4, 8)]),
    ] {
        let told = lone().await;
        let evidence = serde_json::json!({"backup_start_lsn": "0/800028", "slot_restart_lsn": slot, "slot_keeps_nothing": keeps_nothing});
        let range = (Lsn(4 * MIB), Lsn(8 * MIB));
        told.archive
            .put_gap(Timeline(1), range, "nobody streams", evidence)
            .await
            .unwrap();
        assert_eq!(holes(&look(&told).await), expected);
    }

    let one_more = lone().await;
    one_more.store_wal([1]).await;
    assert_eq!(
        holes(&look(&one_more).await),
        [(4, 8)],
        "a segment that no backup needs"
    );

    let no_backup = lone().await;
    no_backup.store_wal([7]).await;
    assert_eq!(
        holes(&look(&no_backup).await),
        [(4, 7)],
        "what follows does not begin with a backup"
    );
}

/// Recovery ends at a loss before anything behind it is stored, and a backup's record of a hole is one, whatever for.
#[tokio::test]
async fn what_is_recorded_is_told_as_that() {
    let bench = Bench::new().await;
    bench.store_wal(2..4).await;
    back_up(&bench, 2).await;
    let put = async |range: (u64, u64), evidence: serde_json::Value| {
        let range = (Lsn(range.0 * MIB), Lsn(range.1 * MIB));
        let stored = bench.archive.put_gap(Timeline(1), range, "found", evidence).await;
        stored.unwrap();
    };
    put((4, 5), serde_json::json!({"backup_start_lsn": "0/500028"})).await;
    assert!(look(&bench).await.is_whole(), "between backups, and nothing behind");
    put((4, 6), serde_json::json!({"answer": "removed"})).await;
    let found = look(&bench).await;
    assert_eq!(holes(&found), [(4, 6)]);
    assert!(found.holes[0].recorded);

    let bench = Bench::new().await;
    bench.store_wal(1..4).await;
    bench.store_wal(8..10).await;
    for first in [2, 8] {
        back_up(&bench, first).await;
    }
    assert!(!look(&bench).await.holes[0].recorded);
    let evidence = serde_json::json!({"backup_start_lsn": "0/800028", "slot_restart_lsn": null});
    let range = (Lsn(4 * MIB), Lsn(8 * MIB));
    bench
        .archive
        .put_gap(Timeline(1), range, "nobody streams", evidence)
        .await
        .unwrap();
    let found = look(&bench).await;
    assert_eq!(holes(&found), [(4, 8)], "a stream was there");
    assert!(found.holes[0].recorded);
}

#[tokio::test]
async fn what_a_backup_needs_is_missed_at_either_end_of_the_archive() {
    for (there, expected) in [(3, (2, 3)), (2, (3, 3))] {
        let bench = Bench::new().await;
        bench.store_wal([there]).await;
        let id = back_up(&bench, 2).await;
        let found = look(&bench).await;
        assert_eq!(holes(&found), [expected], "{found:?}");
        assert_eq!(found.holes[0].needed_by, [id]);
    }
}

#[tokio::test]
async fn every_timeline_is_followed_to_its_switch_point() {
    let on = |timeline: u32, number: u64| SegmentName::containing(Timeline(timeline), Lsn(number * MIB), size());
    let history = |switches: &[(u32, u64)]| {
        let lines = switches
            .iter()
            .map(|(timeline, at)| format!("{timeline}\t{}\tno recovery target\n", Lsn(*at)));
        lines.collect::<String>()
    };
    let switch = 5 * MIB + 500;
    // Without the new timeline's copy of the switch segment nobody gets across; without one before it, too.
    for (lost, expected) in [
        (None, vec![]),
        (Some((2, 5)), vec![(1, 5, 6)]),
        (Some((1, 3)), vec![(1, 3, 4)]),
    ] {
        let bench = Bench::new().await;
        bench
            .archive
            .put_history(Timeline(2), history(&[(1, switch)]).as_bytes())
            .await
            .unwrap();
        let segments = (2..=6)
            .map(|number| (1, number))
            .chain((5..9).map(|number| (2, number)));
        for (timeline, number) in segments.filter(|segment| Some(*segment) != lost) {
            let raw = noise(number, MIB as usize);
            let put = bench
                .archive
                .put_segment(on(timeline, number), &raw, RecordFacts::default());
            put.await.unwrap();
        }
        let found = look(&bench).await;
        let holes: Vec<_> = found
            .holes
            .iter()
            .map(|hole| (hole.timeline.0, hole.from.0 / MIB, hole.to.0 / MIB))
            .collect();
        assert_eq!(holes, expected, "{found:?}");

        // A timeline that nobody can find the way to.
        let raw = noise(9, MIB as usize);
        let put = bench.archive.put_segment(on(7, 9), &raw, RecordFacts::default());
        put.await.unwrap();
        assert_eq!(look(&bench).await.unknown, [Timeline(7)]);
    }
}

//! Where a stream goes on, over what is really stored; and which recorded gaps are still holes.

use super::*;
use hardstorage_report::{Error, code};
use hardstorage_repository::wal::{ArchiveEnd, LsnRange, Stored};
use hardstorage_storage::{Call, Fault};
use serde_json::json;

async fn tail(bench: &Bench, timeline: u32, number: u64, bytes: u64) {
    let size = bench.archive.segment_size();
    let from = Lsn(number * size.bytes());
    let mut tails = bench
        .archive
        .tail_writer(name(timeline, number, size), writer(1))
        .unwrap();
    tails
        .put(from, &wal(1, from, bytes), RecordFacts::default())
        .await
        .unwrap();
}

async fn gap(bench: &Bench, from: u64, to: u64, evidence: serde_json::Value) {
    let put = bench
        .archive
        .put_gap(Timeline(1), (Lsn(from), Lsn(to)), "a test", evidence);
    put.await.unwrap();
}

/// Position, end of the hole there, and the timeline before it.
async fn frontier(bench: &Bench, timeline: u32, slot: Option<u64>) -> Option<(u64, Option<u64>, u32)> {
    let found = bench.archive.frontier(Timeline(timeline), slot.map(Lsn), &[]);
    let found = found.await.unwrap()?;
    Some((found.at.0, found.ahead.map(|ahead| ahead.0), found.timeline.0))
}

#[tokio::test]
async fn segments_further_on_are_not_skipped_to() {
    let bench = bench(1);
    assert_eq!(frontier(&bench, 1, Some(9 * MIB)).await, None);
    for number in [3, 4, 20, 21] {
        bench.store(1, 1, number).await;
    }
    tail(&bench, 1, 5, 1000).await;
    let end = 5 * MIB + 1000;
    // The slot holds from the archive's end, or from a little before.
    assert_eq!(frontier(&bench, 1, Some(end)).await, Some((end, None, 1)));
    assert_eq!(frontier(&bench, 1, Some(4 * MIB + 7)).await, Some((end, None, 1)));
    // It holds less than that: the server is asked, and the hole ends where it holds or where something is stored.
    assert_eq!(
        frontier(&bench, 1, Some(9 * MIB + 7)).await,
        Some((end, Some(9 * MIB), 1))
    );
    assert_eq!(
        frontier(&bench, 1, Some(21 * MIB + 7)).await,
        Some((end, Some(20 * MIB), 1))
    );
    assert_eq!(frontier(&bench, 1, None).await, Some((end, Some(20 * MIB), 1)));
    assert_eq!(frontier(&bench, 1, Some(2 * MIB)).await, None);

    // A gap that no server was asked about is asked for all the same, one that was is passed.
    gap(&bench, end, 20 * MIB, json!({"slot": "none"})).await;
    assert_eq!(frontier(&bench, 1, None).await, Some((end, Some(20 * MIB), 1)));
    let asked = [LsnRange {
        from: Lsn(end),
        to: Lsn(20 * MIB),
    }];
    let found = bench
        .archive
        .frontier(Timeline(1), None, &asked)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.at, found.ahead), (Lsn(22 * MIB), None));
    assert_eq!(found.trusted.len(), 2);
    gap(&bench, end, 9 * MIB, json!({"answer": "it was removed"})).await;
    assert_eq!(frontier(&bench, 1, Some(9 * MIB + 7)).await, Some((9 * MIB, None, 1)));
}

#[tokio::test]
async fn a_hole_before_a_far_stretch_is_found() {
    let bench = bench(1);
    let far = 3 * (1u64 << 32);
    for number in [3, far / MIB, far / MIB + 1] {
        bench.store(1, 1, number).await;
    }
    assert_eq!(frontier(&bench, 1, Some(far + 5)).await, Some((4 * MIB, Some(far), 1)));
    assert_eq!(
        frontier(&bench, 1, Some(far - 5)).await,
        Some((4 * MIB, Some(far - MIB), 1))
    );
}

#[tokio::test]
async fn a_promotion_that_nobody_saw_is_streamed_from_the_old_timeline_on() {
    let bench = bench(1);
    let switch = Lsn(8 * MIB + 100);
    let history = format!("1\t{switch}\tx\n");
    bench
        .archive
        .put_history(Timeline(2), history.as_bytes())
        .await
        .unwrap();
    for number in [3, 4, 5] {
        bench.store(1, 1, number).await;
    }
    bench.store(1, 2, 20).await;
    let slot = Some(20 * MIB + 9);
    assert_eq!(frontier(&bench, 2, slot).await, Some((6 * MIB, Some(20 * MIB), 1)));
    // All of the old timeline, then the segment of the switch on the new one.
    bench.store(1, 1, 6).await;
    bench.store(1, 1, 7).await;
    tail(&bench, 1, 8, 100).await;
    assert_eq!(frontier(&bench, 2, slot).await, Some((switch.0, Some(20 * MIB), 1)));
    tail(&bench, 2, 8, 90).await;
    assert_eq!(frontier(&bench, 2, slot).await.unwrap().0, switch.0);
    for number in 8..20 {
        bench.store(1, 2, number).await;
    }
    assert_eq!(frontier(&bench, 2, slot).await, Some((21 * MIB, None, 2)));
}

#[tokio::test]
async fn a_dead_branch_counts_up_to_the_switch() {
    let bench = bench(1);
    let switch = Lsn(8 * MIB + 100);
    let history = format!("1\t{switch}\tx\n");
    bench
        .archive
        .put_history(Timeline(2), history.as_bytes())
        .await
        .unwrap();
    for number in 3..12 {
        bench.store(1, 1, number).await;
    }
    assert_eq!(frontier(&bench, 2, None).await, Some((switch.0, None, 1)));
    assert_eq!(frontier(&bench, 2, Some(4 * MIB)).await, Some((switch.0, None, 1)));
    assert_eq!(bench.archive.farthest(Timeline(1)).await.unwrap(), Some(Lsn(12 * MIB)));
    assert_eq!(bench.archive.farthest(Timeline(2)).await.unwrap(), None);
}

#[tokio::test]
async fn where_the_archive_ends_before_a_position() {
    let bench = bench(1);
    let before = async |position: u64| {
        let end = bench.archive.end_before(Timeline(1), Lsn(position)).await.unwrap();
        end.map(|ArchiveEnd { at, .. }| at.0)
    };
    assert_eq!(before(9 * MIB).await, None);
    for number in [3, 4, 20] {
        bench.store(1, 1, number).await;
    }
    tail(&bench, 1, 5, 1000).await;
    assert_eq!(bench.archive.farthest(Timeline(1)).await.unwrap(), Some(Lsn(21 * MIB)));
    assert_eq!(before(3 * MIB).await, None);
    assert_eq!(before(9 * MIB).await, Some(5 * MIB + 1000));
    assert_eq!(before(20 * MIB).await, Some(5 * MIB + 1000));
    assert_eq!(before(22 * MIB).await, Some(21 * MIB));
}

#[tokio::test]
async fn a_gap_that_was_filled_is_none() {
    let bench = bench(1);
    for number in [3, 6] {
        bench.store(1, 1, number).await;
    }
    tail(&bench, 1, 4, 1000).await;
    gap(&bench, 4 * MIB + 1000, 6 * MIB, json!({})).await;
    // Before everything that is still archived: nobody misses it.
    gap(&bench, MIB, 2 * MIB, json!({})).await;
    let open = async || {
        let coverage = bench.archive.coverage(Timeline(1), Lsn(0)).await.unwrap();
        bench.archive.open_gaps(&coverage).await.unwrap().len()
    };
    assert_eq!(open().await, 1);
    bench.store(1, 1, 4).await;
    assert_eq!(open().await, 1);
    bench.store(1, 1, 5).await;
    assert_eq!(open().await, 0);
}

#[tokio::test]
async fn what_was_found_is_confirmed_before_it_counts() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    bench.store(1, 1, 3).await;
    assert_eq!(bench.faults.count(Call::Confirm), 0);
    let again = || async {
        let raw = whole(1, 3, size);
        bench
            .archive
            .put_segment(name(1, 3, size), &raw, RecordFacts::default())
            .await
    };
    assert_eq!(again().await.unwrap(), Stored::AlreadyThere);
    assert_eq!(bench.faults.count(Call::Confirm), 1);
    let disk_failed = Fault::FailBefore(Error::new(code::storage::IO, "the disk failed"));
    bench.faults.on(Call::Confirm, 2, disk_failed);
    assert!(again().await.is_err(), "what the disk may not have was called stored");

    tail(&bench, 1, 4, 1000).await;
    let pieces = bench.archive.coverage(Timeline(1), Lsn(3 * MIB)).await.unwrap().pieces;
    bench.archive.confirm(&pieces).await.unwrap();
    let log = bench.faults.log();
    let (_, about) = log.iter().rfind(|(call, _)| *call == Call::Confirm).unwrap();
    assert!(about.contains("/segments/") && about.contains("/tails/"), "{about}");
}

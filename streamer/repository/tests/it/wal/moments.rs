//! Can recovery stop at this moment?

use super::*;
use hardstorage_repository::wal::{RestorePoint, TimeAnswer};
use hardstorage_storage::Call;

/// Commits (position, time) of a segment, and its clock.
type Told<'a> = (&'a [(u64, i64)], Option<i64>);

/// Segments 0, 1, 2, ... of timeline 1, each with its commits and clock.
async fn archived(segments: &[Told<'_>]) -> Bench {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let empty = vec![0; size.bytes() as usize];
    for (number, (commits, clock)) in segments.iter().enumerate() {
        let segment = name(1, number as u64, size);
        bench
            .archive
            .put_segment(segment, &empty, facts(commits, *clock))
            .await
            .unwrap();
    }
    bench
}

async fn ask(bench: &Bench, from: u64, moment: i64) -> TimeAnswer {
    bench
        .archive
        .time_covered(Timeline(1), Lsn(from), ServerTime(moment))
        .await
        .unwrap()
}

#[tokio::test]
async fn every_moment_is_answered_exactly() {
    let bench = archived(&[
        (&[(100, 10), (200, 20)], Some(25)),
        (&[], Some(40)),
        (&[(2 * MIB + 8, 50), (2 * MIB + 80, 60)], Some(70)),
    ])
    .await;
    let reached = |by: (u64, i64), before: Option<(u64, i64)>| TimeAnswer::Reached {
        by: commit(by.0, by.1),
        before: before.map(|(lsn, time)| commit(lsn, time)),
    };
    assert_eq!(ask(&bench, 0, 5).await, reached((100, 10), None));
    assert_eq!(ask(&bench, 0, 10).await, reached((200, 20), Some((100, 10))));
    assert_eq!(ask(&bench, 0, 20).await, reached((2 * MIB + 8, 50), Some((200, 20))));
    assert_eq!(ask(&bench, 0, 30).await, reached((2 * MIB + 8, 50), Some((200, 20))));
    assert_eq!(ask(&bench, 0, 45).await, reached((2 * MIB + 8, 50), None));
    assert_eq!(
        ask(&bench, 0, 55).await,
        reached((2 * MIB + 80, 60), Some((2 * MIB + 8, 50)))
    );
    let to_end = |last| TimeAnswer::CoveredToEnd {
        end: Lsn(3 * MIB),
        until: ServerTime(70),
        last,
    };
    assert_eq!(ask(&bench, 0, 60).await, to_end(Some(commit(2 * MIB + 80, 60))));
    assert_eq!(ask(&bench, 0, 70).await, to_end(Some(commit(2 * MIB + 80, 60))));
    let not_yet = TimeAnswer::NotYet {
        until: Some(ServerTime(70)),
        hole: None,
    };
    assert_eq!(ask(&bench, 0, 71).await, not_yet);
    // Asked from behind the commits of the first segment.
    assert_eq!(
        ask(&bench, 300, 15).await,
        TimeAnswer::Before {
            commit: commit(200, 20)
        }
    );
    assert_eq!(ask(&bench, 300, 22).await, reached((2 * MIB + 8, 50), Some((200, 20))));
    // Nothing is archived from there on.
    let nothing = TimeAnswer::NotYet {
        until: None,
        hole: None,
    };
    assert_eq!(ask(&bench, 9 * MIB, 1).await, nothing);
}

#[tokio::test]
async fn a_hole_ends_what_can_be_reached() {
    let bench = archived(&[(&[(100, 10)], Some(25))]).await;
    let size = bench.archive.segment_size();
    let empty = vec![0; size.bytes() as usize];
    let behind = facts(&[(2 * MIB + 8, 50)], Some(60));
    bench
        .archive
        .put_segment(name(1, 2, size), &empty, behind)
        .await
        .unwrap();
    let answer = ask(&bench, 0, 30).await;
    let TimeAnswer::NotYet { until, hole } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(until, Some(ServerTime(25)));
    assert_eq!(hole.map(|hole| (hole.from, hole.to)), Some((Lsn(MIB), Lsn(2 * MIB))));
}

#[tokio::test]
async fn commits_out_of_order_and_segments_without_a_clock() {
    let bench = archived(&[
        (&[(100, 10)], None),
        (&[], None),
        (&[], None),
        (&[(3 * MIB + 8, 40), (3 * MIB + 16, 38)], None),
        (&[(4 * MIB + 8, 39), (4 * MIB + 16, 55)], None),
    ])
    .await;
    let answer = ask(&bench, 0, 38).await;
    assert!(
        matches!(answer, TimeAnswer::Reached { by, .. } if by == commit(3 * MIB + 8, 40)),
        "{answer:?}"
    );
    let answer = ask(&bench, 0, 40).await;
    assert!(
        matches!(answer, TimeAnswer::Reached { by, .. } if by == commit(4 * MIB + 16, 55)),
        "{answer:?}"
    );
    // Nobody said how far the clock is complete: the last commit is all that is known.
    let answer = ask(&bench, 0, 56).await;
    assert!(
        matches!(
            answer,
            TimeAnswer::NotYet {
                until: Some(ServerTime(55)),
                ..
            }
        ),
        "{answer:?}"
    );
}

/// A bulk load fills many segments and commits nothing: the last commit lies far behind the end of the archive.
#[tokio::test]
async fn the_last_commit_is_found_behind_any_number_of_segments_without_one() {
    for silent in [0, 1, 2, 7, 8, 9, 40] {
        let first = [(100, 10), (200, 20)];
        let mut segments: Vec<Told<'_>> = vec![(&first, Some(25))];
        segments.extend((0..silent).map(|number| (&[][..], Some(30 + number))));
        let bench = archived(&segments).await;
        let before = bench.faults.count(Call::GetRange);
        let answer = ask(&bench, 0, 25).await;
        let read = bench.faults.count(Call::GetRange) - before;
        let TimeAnswer::CoveredToEnd { last, .. } = answer else {
            panic!("{silent}: {answer:?}");
        };
        assert_eq!(last, Some(commit(200, 20)), "{silent}");
        assert_eq!(read, segments.len() as u64, "{silent}: a segment is read once");
        // Behind the last commit there is really nothing.
        for from in [201, MIB] {
            let answer = ask(&bench, from, 25).await;
            assert!(
                matches!(answer, TimeAnswer::CoveredToEnd { last: None, .. })
                    || silent == 0 && matches!(answer, TimeAnswer::NotYet { .. }),
                "{silent} from {from}: {answer:?}"
            );
        }
    }
}

/// The old primary wrote on after the switch, and the new one has nothing in the archive yet: what the old one's tail
/// says of its clock says nothing of the branch that recovery follows.
#[tokio::test]
async fn the_clock_of_a_branch_that_is_left_counts_only_up_to_the_switch() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let mut tails = bench.archive.tail_writer(name(1, 0, size), writer(1)).unwrap();
    let told = facts(&[(8, 10)], Some(20));
    let at = tails.put(Lsn(0), &wal(1, Lsn(0), 1000), told).await.unwrap();
    let told = facts(&[(1008, 30), (2008, 50)], Some(60));
    tails.put(at, &wal(1, at, 2000), told).await.unwrap();
    let history = b"1\t0/7D0\tno recovery target specified\n";
    bench.archive.put_history(Timeline(2), history).await.unwrap();
    let ask = |moment| bench.archive.time_covered(Timeline(2), Lsn(0), ServerTime(moment));
    assert!(matches!(ask(29).await.unwrap(), TimeAnswer::Reached { .. }));
    let answer = ask(55).await.unwrap();
    assert!(
        matches!(
            answer,
            TimeAnswer::NotYet {
                until: Some(ServerTime(30)),
                ..
            }
        ),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_long_archive_is_halved() {
    let commits: Vec<[(u64, i64); 1]> = (0..64u64)
        .map(|number| [(number * MIB + 8, number as i64 * 10)])
        .collect();
    let borrowed: Vec<Told<'_>> = commits
        .iter()
        .map(|commits| (&commits[..], Some(commits[0].1 + 9)))
        .collect();
    let bench = archived(&borrowed).await;
    for moment in 0..630 {
        let before = bench.faults.count(Call::GetRange);
        let answer = ask(&bench, 0, moment).await;
        let expected = (moment / 10 + 1) as u64;
        let TimeAnswer::Reached { by, .. } = answer else {
            panic!("{moment}: {answer:?}");
        };
        assert_eq!(by, commit(expected * MIB + 8, expected as i64 * 10), "{moment}");
        let read = bench.faults.count(Call::GetRange) - before;
        assert!(read <= 7 + 8 + 2, "{read} reads");
    }
}

#[tokio::test]
async fn restore_points_by_name() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let empty = vec![0; size.bytes() as usize];
    let point = |name: &str, lsn: u64| RestorePoint {
        name: name.into(),
        lsn: Lsn(lsn),
        time: ServerTime(lsn as i64),
    };
    for (number, points) in [
        (0, vec![point("early", 100)]),
        (1, vec![]),
        (2, vec![point("twice", 2 * MIB + 8), point("twice", 2 * MIB + 800)]),
    ] {
        let said = RecordFacts {
            restore_points: points,
            ..RecordFacts::default()
        };
        bench
            .archive
            .put_segment(name(1, number, size), &empty, said)
            .await
            .unwrap();
    }
    let mut tails = bench.archive.tail_writer(name(1, 3, size), writer(1)).unwrap();
    let said = RecordFacts {
        restore_points: vec![point("late", 3 * MIB + 50)],
        ..RecordFacts::default()
    };
    tails.put(Lsn(3 * MIB), &[1; 100], said).await.unwrap();
    let find = |from: u64, wanted: &'static str| {
        let archive = bench.archive.clone();
        async move {
            let found = archive
                .find_restore_point(Timeline(1), Lsn(from), wanted)
                .await
                .unwrap();
            found.map(|point| point.lsn.0)
        }
    };
    assert_eq!(find(0, "early").await, Some(100));
    assert_eq!(find(101, "early").await, None);
    assert_eq!(find(0, "twice").await, Some(2 * MIB + 8));
    assert_eq!(find(2 * MIB + 9, "twice").await, Some(2 * MIB + 800));
    assert_eq!(find(0, "late").await, Some(3 * MIB + 50));
    assert_eq!(find(0, "never").await, None);
}

//! Coverage over what is really stored.

use super::*;
use hardstorage_repository::wal::LsnRange;

#[tokio::test]
async fn along_a_promotion() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let switch = Lsn(5 * MIB + 4000);
    for number in [3, 4, 5, 6] {
        bench.store(1, 9, number).await;
    }
    let history = format!("9\t{switch}\tx\n");
    bench
        .archive
        .put_history(Timeline(10), history.as_bytes())
        .await
        .unwrap();
    let until = |from: u64| {
        let archive = bench.archive.clone();
        async move { archive.recoverable_until(Timeline(10), Lsn(from)).await.unwrap() }
    };
    assert_eq!(until(3 * MIB + 17).await, Some(switch));
    // The new timeline has written: its own copy of the switch segment is needed now.
    bench.store(1, 10, 6).await;
    assert_eq!(until(3 * MIB + 17).await, Some(Lsn(5 * MIB)));
    let hole = bench.archive.first_hole(Timeline(10), Lsn(3 * MIB)).await.unwrap();
    assert_eq!(
        hole,
        Some(LsnRange {
            from: Lsn(5 * MIB),
            to: Lsn(6 * MIB)
        })
    );
    bench.store(1, 10, 5).await;
    assert_eq!(until(3 * MIB + 17).await, Some(Lsn(7 * MIB)));
    let mut tails = bench.archive.tail_writer(name(10, 7, size), writer(1)).unwrap();
    tails
        .put(Lsn(7 * MIB), &[1; 500], RecordFacts::default())
        .await
        .unwrap();
    assert_eq!(until(3 * MIB + 17).await, Some(Lsn(7 * MIB + 500)));
    assert!(
        bench
            .archive
            .is_covered(Timeline(10), Lsn(4 * MIB), Lsn(7 * MIB + 500))
            .await
            .unwrap()
    );
    assert!(
        !bench
            .archive
            .is_covered(Timeline(10), Lsn(4 * MIB), Lsn(7 * MIB + 501))
            .await
            .unwrap()
    );
    // The old timeline by itself.
    assert_eq!(
        bench
            .archive
            .recoverable_until(Timeline(9), Lsn(3 * MIB))
            .await
            .unwrap(),
        Some(Lsn(7 * MIB))
    );
    assert_eq!(until(2 * MIB).await, None);
}

#[tokio::test]
async fn only_names_behind_the_beginning_are_listed() {
    let bench = bench(1);
    for number in 0..30 {
        bench.store(1, 1, number).await;
    }
    let before = bench.faults.calls();
    let coverage = bench.archive.coverage(Timeline(1), Lsn(28 * MIB + 5)).await.unwrap();
    assert_eq!(coverage.pieces.len(), 2);
    // Three names on a page: thirty segments would take ten.
    assert!(bench.faults.calls() - before <= 4);
}

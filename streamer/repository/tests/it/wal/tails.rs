//! Tails: durable at once, compared, consolidated, assembled, removed.

use super::*;
use hardstorage_report::{Error, code};
use hardstorage_repository::wal::{LsnRange, Stored, TailWriter};
use hardstorage_storage::{Call, Fault};

async fn assembled(bench: &Bench, segment: SegmentName) -> hardstorage_report::Result<Option<(LsnRange, Vec<u8>)>> {
    let Some(mut tails) = bench.archive.assemble(segment).await? else {
        return Ok(None);
    };
    let mut out = Vec::new();
    while let Some(bytes) = tails.next().await? {
        out.extend_from_slice(&bytes);
    }
    Ok(Some((tails.range(), out)))
}

/// Writes tails of these lengths from `from` on.
async fn put(
    bench: &Bench,
    segment: SegmentName,
    streamer: u8,
    server: u8,
    from: Lsn,
    lengths: &[u64],
) -> hardstorage_report::Result<Lsn> {
    let mut tails = bench.archive.tail_writer(segment, writer(streamer))?;
    let mut at = from;
    for length in lengths {
        at = tails.put(at, &wal(server, at, *length), RecordFacts::default()).await?;
    }
    Ok(at)
}

#[tokio::test]
async fn tails_come_back_as_one_piece() {
    let bench = bench(16);
    let size = bench.archive.segment_size();
    let segment = name(1, 3, size);
    let start = segment.start(size).unwrap();
    assert!(assembled(&bench, segment).await.unwrap().is_none());
    let end = put(&bench, segment, 1, 1, start, &[1, 8191, 8192, 100, 3_000_000, 50])
        .await
        .unwrap();
    let (range, bytes) = assembled(&bench, segment).await.unwrap().unwrap();
    assert_eq!(range, LsnRange { from: start, to: end });
    assert!(bytes == wal(1, start, start.bytes_until(end)));
    assert_eq!(bench.archive.list_tails(segment).await.unwrap().len(), 6);
    assert_eq!(bench.archive.segments_with_tails(Timeline(1)).await.unwrap(), [segment]);
}

#[tokio::test]
async fn tails_must_follow_and_lie_in_their_segment() {
    let bench = bench(1);
    let segment = name(1, 3, bench.archive.segment_size());
    let start = Lsn(3 * MIB);
    let mut tails = bench.archive.tail_writer(segment, writer(1)).unwrap();
    for (from, length) in [(start.0 - 1, 10), (start.0, 0), (start.0 + MIB - 5, 6)] {
        let error = tails
            .put(Lsn(from), &vec![0; length], RecordFacts::default())
            .await
            .unwrap_err();
        assert!(error.is(code::engine::NOT_CONTIGUOUS), "{error}");
    }
    tails.put(start, &[0; 100], RecordFacts::default()).await.unwrap();
    assert_eq!(tails.durable(), Some(start.add(100)));
    assert!(
        tails
            .put(start.add(101), &[0; 100], RecordFacts::default())
            .await
            .is_err()
    );
    assert!(
        tails
            .put(start.add(50), &[0; 100], RecordFacts::default())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn two_streamers_with_equal_bytes_live_beside_each_other() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let segment = name(1, 3, size);
    let start = Lsn(3 * MIB);
    put(&bench, segment, 1, 1, start, &[5000, 9000, 20_000]).await.unwrap();
    let end = put(&bench, segment, 2, 1, start.add(4000), &[3000, 60_000])
        .await
        .unwrap();
    let (range, bytes) = assembled(&bench, segment).await.unwrap().unwrap();
    assert_eq!(range.to, end);
    assert!(bytes == wal(1, start, start.bytes_until(end)));
    // The finished segment agrees with both, and then the tails may go.
    let stored = bench
        .archive
        .put_segment(segment, &whole(1, 3, size), RecordFacts::default())
        .await;
    assert_eq!(stored.unwrap(), Stored::Stored);
    assert_eq!(bench.archive.drop_tails(segment, Some(writer(1))).await.unwrap(), 5);
    assert!(bench.archive.list_tails(segment).await.unwrap().is_empty());
}

#[tokio::test]
async fn diverging_tails_are_split_brain_wherever_they_differ() {
    // The first byte, one in a page that both hold whole, the last byte of a page that one holds a part of.
    for differs in [4000u64, 20_000, 33_999] {
        let bench = bench(1);
        let segment = name(1, 3, bench.archive.segment_size());
        let start = Lsn(3 * MIB);
        put(&bench, segment, 1, 1, start, &[5000, 29_000]).await.unwrap();
        let mut tails = bench.archive.tail_writer(segment, writer(2)).unwrap();
        let mut bytes = wal(1, start.add(4000), 40_000);
        bytes[differs as usize - 4000] ^= 1;
        let error = tails
            .put(start.add(4000), &bytes, RecordFacts::default())
            .await
            .unwrap_err();
        assert!(error.is(code::repository::SPLIT_BRAIN), "{differs}: {error}");
        assert!(error.to_string().contains(&segment.to_string()), "{error}");
        let error = assembled(&bench, segment).await.unwrap_err();
        assert!(error.is(code::repository::SPLIT_BRAIN), "{differs}: {error}");
    }
}

#[tokio::test]
async fn a_finished_segment_must_agree_with_the_tails_of_others() {
    let size = size(1);
    let segment = name(1, 3, size);
    let start = Lsn(3 * MIB);
    // In a whole page: refused before it appears. In the part of a page at the tail's end: refused all the same.
    for (differs, appears) in [(10_000usize, false), (20_000, true)] {
        let bench = bench(1);
        put(&bench, segment, 1, 1, start, &[20_001]).await.unwrap();
        let mut raw = whole(1, 3, size);
        raw[differs] ^= 1;
        // Also when it is tried again: an archiver does so until it is told that all is well.
        for _ in 0..3 {
            let put = bench.archive.put_segment(segment, &raw, RecordFacts::default());
            let error = put.await.unwrap_err();
            assert!(error.is(code::repository::SPLIT_BRAIN), "{error}");
            assert_eq!(bench.archive.has_segment(segment).await.unwrap(), appears);
        }
        // The tail stays as evidence.
        let dropped = bench.archive.drop_tails(segment, None).await;
        assert_eq!(dropped.is_err(), appears);
        assert_eq!(bench.archive.list_tails(segment).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_tail_must_agree_with_the_finished_segment() {
    let bench = bench(1);
    let segment = name(1, 3, bench.archive.segment_size());
    bench.store(1, 1, 3).await;
    put(&bench, segment, 1, 1, Lsn(3 * MIB + 100), &[50_000]).await.unwrap();
    let error = put(&bench, segment, 2, 2, Lsn(3 * MIB + 100), &[50_000])
        .await
        .unwrap_err();
    assert!(error.is(code::repository::SPLIT_BRAIN), "{error}");
}

async fn merge(tails: &mut TailWriter) -> hardstorage_report::Result<()> {
    if let Some(merge) = tails.merge() {
        tails.merged(merge.run().await?);
    }
    Ok(())
}

#[tokio::test]
async fn many_tails_become_few_and_keep_what_they_say() {
    let bench = bench(1);
    let segment = name(1, 3, bench.archive.segment_size());
    let start = Lsn(3 * MIB);
    let mut tails = bench.archive.tail_writer(segment, writer(1)).unwrap();
    let mut at = start;
    let mut merged = 0;
    for number in 0..300u64 {
        let said = facts(&[(at.0, number as i64)], Some(number as i64 + 1));
        at = tails.put(at, &wal(1, at, 1000), said).await.unwrap();
        if let Some(merge) = tails.merge() {
            // The writer does not wait for it, and goes on behind what is written together.
            let said = facts(&[(at.0, number as i64)], Some(number as i64 + 1));
            at = tails.put(at, &wal(1, at, 1000), said).await.unwrap();
            tails.merged(merge.run().await.unwrap());
            merged += 1;
            assert!(assembled(&bench, segment).await.unwrap().unwrap().1 == wal(1, start, start.bytes_until(at)));
        }
    }
    assert!((3..=5).contains(&merged), "{merged}");
    let (range, bytes) = assembled(&bench, segment).await.unwrap().unwrap();
    assert_eq!(range, LsnRange { from: start, to: at });
    assert!(bytes == wal(1, start, start.bytes_until(at)));

    let spans = bench.archive.list_tails(segment).await.unwrap();
    assert!(spans.len() <= 70, "{}", spans.len());
    assert!(assembled(&bench, segment).await.unwrap().unwrap().1 == bytes);
    let moment = bench
        .archive
        .time_covered(Timeline(1), start, ServerTime(150))
        .await
        .unwrap();
    assert!(
        matches!(moment, hardstorage_repository::wal::TimeAnswer::Reached { .. }),
        "{moment:?}"
    );
    let until = bench
        .archive
        .time_covered(Timeline(1), start, ServerTime(300))
        .await
        .unwrap();
    assert!(
        matches!(until, hardstorage_repository::wal::TimeAnswer::CoveredToEnd { .. }),
        "{until:?}"
    );
}

#[tokio::test]
async fn a_fault_at_every_call_of_a_consolidation_loses_nothing() {
    let mut number = 1;
    loop {
        let bench = bench(1);
        let segment = name(1, 3, bench.archive.segment_size());
        let start = Lsn(3 * MIB);
        let mut tails = bench.archive.tail_writer(segment, writer(1)).unwrap();
        let mut at = start;
        for _ in 0..66 {
            at = tails.put(at, &wal(1, at, 500), RecordFacts::default()).await.unwrap();
        }
        let calls = bench.faults.calls();
        bench.faults.at(
            calls + number,
            Fault::FailAfter(Error::new(code::storage::UNREACHABLE, "by script")),
        );
        let failed = merge(&mut tails).await.is_err();
        if !failed {
            // A run longer than the consolidation: every call had its fault.
            assert!(number > 66);
            break;
        }
        assert!(assembled(&bench, segment).await.unwrap().unwrap().1 == wal(1, start, 33_000));
        merge(&mut tails).await.unwrap();
        assert!(assembled(&bench, segment).await.unwrap().unwrap().1 == wal(1, start, 33_000));
        number += 13;
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_tail_is_found_out_by_the_retry() {
    let bench = bench(1);
    let segment = name(1, 3, bench.archive.segment_size());
    let start = Lsn(3 * MIB);
    let mut tails = bench.archive.tail_writer(segment, writer(1)).unwrap();
    bench.faults.on(
        Call::PutNew,
        1,
        Fault::FailAfter(Error::new(code::storage::UNREACHABLE, "lost")),
    );
    assert!(
        tails
            .put(start, &wal(1, start, 700), RecordFacts::default())
            .await
            .is_err()
    );
    assert_eq!(tails.durable(), None);
    assert_eq!(
        tails
            .put(start, &wal(1, start, 700), RecordFacts::default())
            .await
            .unwrap(),
        start.add(700)
    );
}

#[tokio::test]
async fn a_hole_between_tails_ends_what_is_assembled() {
    let bench = bench(1);
    let segment = name(1, 3, bench.archive.segment_size());
    let start = Lsn(3 * MIB);
    put(&bench, segment, 1, 1, start, &[5000]).await.unwrap();
    put(&bench, segment, 2, 1, start.add(5001), &[100]).await.unwrap();
    let tails = bench.archive.assemble(segment).await.unwrap().unwrap();
    assert_eq!(tails.range().to, start.add(5000));
    assert_eq!(tails.beyond_hole(), Some(start.add(5001)));
}

#[tokio::test]
async fn tails_stay_until_their_segment_is_there() {
    let bench = bench(1);
    let segment = name(1, 3, bench.archive.segment_size());
    put(&bench, segment, 1, 1, Lsn(3 * MIB), &[5000]).await.unwrap();
    assert_eq!(bench.archive.drop_tails(segment, Some(writer(1))).await.unwrap(), 0);
    assert_eq!(bench.archive.list_tails(segment).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_flipped_byte_in_a_tail_is_found() {
    let bench = bench(1);
    let segment = name(1, 3, bench.archive.segment_size());
    put(&bench, segment, 1, 1, Lsn(3 * MIB), &[12_000]).await.unwrap();
    let key = bench.keys().await.remove(0);
    let mut length = 0;
    bench.memory.corrupt(&key, |bytes| length = bytes.len());
    for at in (0..length).step_by(7) {
        bench.memory.corrupt(&key, |bytes| bytes[at] ^= 1);
        assert!(assembled(&bench, segment).await.is_err(), "{at}");
        bench.memory.corrupt(&key, |bytes| bytes[at] ^= 1);
    }
    assert!(assembled(&bench, segment).await.is_ok());
}

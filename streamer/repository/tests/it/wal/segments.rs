//! Finished segments: round trips, retries, split brain, damage.

use super::*;
use hardstorage_report::{Error, code};
use hardstorage_repository::wal::{RestorePoint, Stored};
use hardstorage_storage::{Call, Fault};

#[tokio::test]
async fn segments_of_every_size_come_back() {
    for (mib, sealing) in [(1, false), (1, true), (2, true), (16, true), (64, false), (64, true)] {
        let bench = bench_of(mib, sealing);
        let size = bench.archive.segment_size();
        // A timeline above 9, and a log number that is not zero.
        let segment = name(0x1F, (5 << 32) / size.bytes() + 3, size);
        assert!(segment.to_string().starts_with("0000001F00000005"));
        let start = segment.start(size).unwrap();
        let raw = wal(7, start, size.bytes());
        let mut builder = bench.archive.segment_builder(segment, Some(writer(1))).unwrap();
        let mut at = 0;
        // Pieces that know nothing of frames.
        for length in [1usize, 8191, 131_072, 1_000_003].iter().cycle() {
            let end = raw.len().min(at + length);
            builder.append(start.add(at as u64), &raw[at..end]).await.unwrap();
            at = end;
            if at == raw.len() {
                break;
            }
        }
        let mut said = facts(
            &[(start.0 + 8, 100), (start.0 + 80, 300), (start.0 + 160, 200)],
            Some(900),
        );
        said.records_end = Some(start.add(size.bytes()));
        said.restore_points.push(RestorePoint {
            name: "before_ünlucky".into(),
            lsn: start.add(40),
            time: ServerTime(150),
        });
        assert_eq!(builder.finish(said.clone()).await.unwrap(), Stored::Stored);

        assert!(bench.read(segment).await.unwrap().unwrap() == raw, "{mib} MiB");
        let metadata = bench.archive.segment_metadata(segment).await.unwrap().unwrap();
        assert_eq!(
            (metadata.timeline, metadata.start, metadata.length),
            (Timeline(0x1F), start, size.bytes())
        );
        assert_eq!(metadata.facts.latest_commit, Some(commit(start.0 + 80, 300)));
        assert_eq!(metadata.facts.last_commit, Some(commit(start.0 + 160, 200)));
        assert_eq!(metadata.facts.complete_up_to, Some(ServerTime(900)));
        assert_eq!(
            bench.archive.restore_points_in(segment).await.unwrap(),
            said.restore_points
        );
        assert_eq!(
            bench
                .archive
                .newest_segment(Timeline(0x1F), Lsn(u64::MAX))
                .await
                .unwrap(),
            segment.start(size)
        );
        assert!(bench.archive.has_segment(segment).await.unwrap());
        assert!(!bench.archive.has_segment(segment.next(size)).await.unwrap());
    }
}

#[tokio::test]
async fn a_mostly_empty_segment_is_small() {
    use hardstorage_storage::Store as _;
    let bench = bench(16);
    let size = bench.archive.segment_size();
    let mut raw = vec![0; size.bytes() as usize];
    raw[..5000].copy_from_slice(&wal(1, Lsn(8192), 5000));
    bench
        .archive
        .put_segment(name(1, 4, size), &raw, RecordFacts::default())
        .await
        .unwrap();
    let key = bench.keys().await.remove(0);
    let stored = bench.memory.head(&key).await.unwrap().unwrap().size;
    assert!(stored < 10_000, "{stored}");
    assert!(bench.read(name(1, 4, size)).await.unwrap().unwrap() == raw);
}

#[tokio::test]
async fn equal_bytes_are_a_retry_and_other_bytes_are_split_brain() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let segment = name(1, 3, size);
    let raw = whole(1, 3, size);
    let put = |raw: Vec<u8>| {
        let archive = bench.archive.clone();
        async move { archive.put_segment(segment, &raw, RecordFacts::default()).await }
    };
    assert_eq!(put(raw.clone()).await.unwrap(), Stored::Stored);
    assert_eq!(put(raw.clone()).await.unwrap(), Stored::AlreadyThere);
    let mut other = raw.clone();
    *other.last_mut().unwrap() ^= 1;
    let error = put(other).await.unwrap_err();
    assert!(error.is(code::repository::SPLIT_BRAIN), "{error}");
    assert!(bench.read(segment).await.unwrap().unwrap() == raw);
}

#[tokio::test]
async fn two_streamers_race_for_one_name() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let segment = name(1, 3, size);
    let (ours, theirs) = (whole(1, 3, size), whole(2, 3, size));
    let put = |raw: &[u8]| {
        let (archive, raw) = (bench.archive.clone(), raw.to_vec());
        tokio::spawn(async move { archive.put_segment(segment, &raw, RecordFacts::default()).await })
    };
    let (first, second) = tokio::join!(put(&ours), put(&theirs));
    let answers = [first.unwrap(), second.unwrap()];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let lost = answers.iter().find_map(|answer| answer.as_ref().err()).unwrap();
    assert!(lost.is(code::repository::SPLIT_BRAIN));
}

#[tokio::test]
async fn a_lost_answer_is_found_out_by_the_retry() {
    // Without a stream of its own a caller looks before it sends: an archiver tries again with what a stream has stored.
    for (mib, streamer, sent) in [
        (1, Some(writer(1)), 2),
        (64, Some(writer(1)), 2),
        (1, None, 1),
        (64, None, 1),
    ] {
        let bench = bench(mib);
        let size = bench.archive.segment_size();
        let segment = name(1, 3, size);
        // Noise: the large one goes up in parts.
        let mut raw = whole(1, 3, size);
        let mut state = 1u64;
        for byte in &mut raw {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let call = if mib == 1 { Call::PutNew } else { Call::UploadFinish };
        let lost = Error::new(code::storage::UNREACHABLE, "the answer was lost");
        bench.faults.on(call, 1, Fault::FailAfter(lost));
        let put = async || {
            let mut builder = bench.archive.segment_builder(segment, streamer).unwrap();
            builder.append(Lsn(3 * size.bytes()), &raw).await.unwrap();
            builder.finish(RecordFacts::default()).await
        };
        assert!(put().await.unwrap_err().is(code::storage::UNREACHABLE));
        assert_eq!(put().await.unwrap(), Stored::AlreadyThere);
        assert!(bench.read(segment).await.unwrap().unwrap() == raw);
        assert_eq!(bench.faults.count(call), sent, "{mib} MiB, {streamer:?}");
    }
}

#[tokio::test]
async fn a_fault_at_every_call_is_reported_and_a_second_run_converges() {
    let calls = {
        let bench = bench(1);
        bench.store(1, 1, 3).await;
        bench.faults.calls()
    };
    assert!(calls >= 3);
    for number in 1..=calls {
        for after in [false, true] {
            let bench = bench(1);
            let size = bench.archive.segment_size();
            let error = Error::new(code::storage::UNREACHABLE, "by script");
            let fault = if after {
                Fault::FailAfter(error)
            } else {
                Fault::FailBefore(error)
            };
            bench.faults.at(number, fault);
            let raw = whole(1, 3, size);
            let put = || {
                bench
                    .archive
                    .put_segment(name(1, 3, size), &raw, RecordFacts::default())
            };
            assert!(put().await.is_err(), "call {number}");
            put().await.unwrap();
            assert!(bench.read(name(1, 3, size)).await.unwrap().unwrap() == raw);
        }
    }
}

#[tokio::test]
async fn every_flipped_byte_is_found() {
    flip_every_byte(bench_of(1, true)).await;
    flip_every_byte(bench_of(1, false)).await;
}

async fn flip_every_byte(bench: Bench) {
    let size = bench.archive.segment_size();
    let segment = name(1, 3, size);
    let mut raw = vec![0; size.bytes() as usize];
    raw[..20_000].copy_from_slice(&wal(1, Lsn(8192), 20_000));
    let put = bench.archive.put_segment(segment, &raw, facts(&[(5, 5)], Some(9)));
    put.await.unwrap();
    let key = bench.keys().await.remove(0);
    let mut length = 0;
    assert!(bench.memory.corrupt(&key, |bytes| length = bytes.len()));
    // Header, directory, metadata and footer byte by byte, the frame here and there.
    let frame = 80..length - 1000;
    for at in (0..length).filter(|at| !frame.contains(at) || at % 97 == 0) {
        bench.memory.corrupt(&key, |bytes| bytes[at] ^= 0x10);
        let error = bench.read(segment).await.unwrap_err();
        assert_ne!(error.kind(), hardstorage_report::Kind::NotFound, "{at}: {error}");
        assert!(error.to_string().contains(key.as_str()), "{error}");
        bench.memory.corrupt(&key, |bytes| bytes[at] ^= 0x10);
    }
    // What the metadata alone tells is protected too: an error, or the truth where the flip lies in what it does not
    // need (number of frames, digest).
    let truth = bench.archive.segment_metadata(segment).await.unwrap();
    for at in length - 400..length {
        bench.memory.corrupt(&key, |bytes| bytes[at] ^= 1);
        match bench.archive.segment_metadata(segment).await {
            Ok(told) => assert!(told == truth && at >= length - 44, "{at}"),
            Err(error) => assert!(error.to_string().contains(key.as_str()), "{error}"),
        }
        bench.memory.corrupt(&key, |bytes| bytes[at] ^= 1);
    }
    for cut in [0, 100, length / 2, length - 1] {
        let mut held = Vec::new();
        bench.memory.corrupt(&key, |bytes| {
            held.clone_from(bytes);
            bytes.truncate(cut);
        });
        assert!(bench.read(segment).await.is_err(), "{cut}");
        bench.memory.corrupt(&key, |bytes| bytes.clone_from(&held));
    }
    assert!(bench.read(segment).await.unwrap().unwrap() == raw);
}

#[tokio::test]
async fn an_object_under_another_name_is_refused() {
    use hardstorage_storage::Store as _;
    let bench = bench(1);
    let size = bench.archive.segment_size();
    bench.store(1, 1, 3).await;
    let key = bench.keys().await.remove(0);
    let bytes = bench.memory.get(&key).await.unwrap().unwrap();
    let moved = Key::new(key.as_str().replace("000000000003", "000000000004")).unwrap();
    bench.memory.put_new(&moved, bytes).await.unwrap();
    let error = bench.read(name(1, 4, size)).await.unwrap_err();
    assert!(error.is(code::repository::OBJECT_CORRUPT), "{error}");
    assert!(bench.archive.segment_metadata(name(1, 4, size)).await.is_err());
}

#[tokio::test]
async fn what_does_not_follow_is_refused() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let start = Lsn(3 * MIB);
    let mut builder = bench.archive.segment_builder(name(1, 3, size), None).unwrap();
    builder.append(start, &[1; 100]).await.unwrap();
    for at in [start, start.add(99), start.add(101)] {
        let error = builder.append(at, &[1; 10]).await.unwrap_err();
        assert!(error.is(code::engine::NOT_CONTIGUOUS), "{error}");
    }
    let too_much = vec![0; size.bytes() as usize];
    assert!(builder.append(start.add(100), &too_much).await.is_err());
    assert!(!builder.is_full());
    assert!(builder.finish(RecordFacts::default()).await.is_err());
    assert!(bench.keys().await.is_empty());
}

#[tokio::test]
async fn the_newest_segment_is_found_without_listing_the_timeline() {
    let bench = bench(64);
    let size = bench.archive.segment_size();
    let per_log = (1u64 << 32) / size.bytes();
    let empty = vec![0; size.bytes() as usize];
    for log in 0..7u64 {
        for number in [0, 1, per_log - 1] {
            let segment = name(11, log * per_log + number, size);
            bench
                .archive
                .put_segment(segment, &empty, RecordFacts::default())
                .await
                .unwrap();
        }
    }
    let before = bench.faults.log().len();
    let newest = bench.archive.newest_segment(Timeline(11), Lsn(u64::MAX)).await.unwrap();
    assert_eq!(newest, name(11, 7 * per_log - 1, size).start(size));
    // Three names on a page: seven log folders and the three segments of the last, against twenty-one objects.
    let calls = bench.faults.log().len() - before;
    assert!(calls <= 5, "{calls} calls");
    for (before, newest) in [
        (Lsn(7 * per_log - 1), Some(6 * per_log + 1)),
        (Lsn(6 * per_log), Some(6 * per_log - 1)),
        (Lsn(6 * per_log + 1), Some(6 * per_log)),
        (Lsn(0), None),
    ] {
        let found = bench.archive.newest_segment(Timeline(11), Lsn(before.0 * size.bytes()));
        assert_eq!(found.await.unwrap(), newest.map(|number| Lsn(number * size.bytes())));
    }
    let nothing = bench.archive.newest_segment(Timeline(1), Lsn(u64::MAX));
    assert_eq!(nothing.await.unwrap(), None);
    let behind = bench
        .archive
        .list_segments(Timeline(11), Some(name(11, 6 * per_log, size)))
        .await
        .unwrap();
    assert_eq!(
        behind,
        [name(11, 6 * per_log + 1, size), name(11, 7 * per_log - 1, size)]
    );
    assert_eq!(bench.archive.timelines().await.unwrap(), [Timeline(11)]);
}

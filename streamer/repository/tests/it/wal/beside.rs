//! A streamer that finishes a segment and removes its tails while somebody reads them, held still at any of its calls.

use hardstorage_repository::wal::Fetched;
use hardstorage_storage::{Fault, Gate};
use tokio::task::JoinHandle;

use super::fetch::tail;
use super::*;

/// Whether a task is held at the gate; otherwise it has ended, and its result is gone.
async fn held<T>(gate: &Gate, task: &mut JoinHandle<T>) -> bool {
    tokio::select! {
        () = gate.reached() => true,
        _ = task => false,
    }
}

/// The streamer finishes the segment, and the next one, and removes the tails, while the fetch stands still at any of
/// its calls: it must find the segment or what the tails held, never "absent", and never fewer bytes than were durable
/// when it began.
#[tokio::test]
async fn a_streamer_that_goes_on_during_the_fetch_is_seen() {
    let mut assembled = 0;
    let mut found = 0;
    for number in 1.. {
        let bench = bench(1);
        let size = bench.archive.segment_size();
        let segment = name(1, 3, size);
        tail(&bench, segment, Lsn(3 * MIB), 40_000).await;
        let gate = Gate::new();
        let calls = bench.faults.calls();
        bench.faults.at(calls + number, Fault::HoldBefore(gate.clone()));
        let archive = bench.archive.clone();
        let mut fetch = tokio::spawn(async move { archive.fetch(&segment.to_string(), None).await });
        if !held(&gate, &mut fetch).await {
            assert!(number > 4, "a fetch from tails takes more calls than {number}");
            break;
        }
        bench.faults.clear();
        bench.store(1, 1, 3).await;
        bench.store(1, 1, 4).await;
        bench.archive.drop_tails(segment, Some(writer(9))).await.unwrap();
        gate.open();
        let Fetched::Found(file) = fetch.await.unwrap().unwrap() else {
            panic!("call {number}: it was there all the time");
        };
        let from_tails = file.is_assembled();
        let mut out = Vec::new();
        file.copy_to(&mut out, |error| panic!("{error}")).await.unwrap();
        if from_tails {
            assembled += 1;
            assert!(out[..40_000] == whole(1, 3, size)[..40_000]);
        } else {
            found += 1;
            assert!(out == whole(1, 3, size), "call {number}");
        }
    }
    assert!(found >= 3, "{found} found, {assembled} assembled");
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A writer without a stream, a backup, finishes the same segment. The tail is so large that it is read in parts, and begins
/// and ends within a page: it is opened and read before the segment appears and after.
#[tokio::test]
async fn a_streamer_that_goes_on_while_its_tails_are_compared_is_no_error() {
    let size = size(4);
    let segment = name(1, 3, size);
    let from = segment.start(size).unwrap().add(100);
    let raw = noise(size.bytes() as usize);
    for number in 1.. {
        let bench = bench(4);
        let mut tails = bench.archive.tail_writer(segment, writer(9)).unwrap();
        let part = &raw[100..3_000_000];
        tails.put(from, part, RecordFacts::default()).await.unwrap();
        let gate = Gate::new();
        let calls = bench.faults.calls();
        bench.faults.at(calls + number, Fault::HoldBefore(gate.clone()));
        let (archive, bytes) = (bench.archive.clone(), raw.clone());
        let mut other = tokio::spawn(async move { archive.put_segment(segment, &bytes, RecordFacts::default()).await });
        if !held(&gate, &mut other).await {
            assert!(number > 10, "to compare takes more calls than {number}");
            break;
        }
        bench.faults.clear();
        let finished = bench.archive.put_segment(segment, &raw, RecordFacts::default());
        finished.await.unwrap();
        bench.archive.drop_tails(segment, Some(writer(9))).await.unwrap();
        gate.open();
        let stored = other.await.unwrap();
        assert!(stored.is_ok(), "call {number}: {stored:?}");
        assert!(bench.read(segment).await.unwrap().unwrap() == raw);
    }
}

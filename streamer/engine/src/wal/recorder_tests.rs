//! What one connection makes durable, and what the next makes of it.

use std::sync::Arc;

use hardstorage_report::SystemId;
use hardstorage_repository::wal::{CommitAt, Fetched};
use hardstorage_repository::{Deployment, Lineage};
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, FileStore, Gate, MemoryStore};

use super::*;
use crate::records::tests::crossing_commit;

const MIB: u64 = 1 << 20;

fn archive() -> WalArchive {
    archive_on(Arc::new(MemoryStore::new()))
}

fn archive_on(store: DynStore) -> WalArchive {
    let deployment = Deployment::for_tests(store, "db1");
    let lineage = Lineage {
        system_id: SystemId(7),
        incarnation: 1,
    };
    WalArchive::new(deployment, lineage, SegmentSize::new(MIB).unwrap())
}

fn wal(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 100) as u8).collect()
}

/// A connection that is on the third segment.
async fn connected(archive: &WalArchive, own: &OwnTails) -> Recorder {
    let recorder = Recorder::begin(archive.clone(), own.clone(), Timeline(1), Lsn(3 * MIB));
    recorder.await.unwrap()
}

async fn receive(recorder: &mut Recorder, bytes: &[u8], clock: i64) {
    let (from, end) = (recorder.received(), recorder.received().add(bytes.len() as u64));
    let bytes = Bytes::copy_from_slice(bytes);
    recorder.push(from, bytes, end, ServerTime(clock)).await.unwrap();
}

async fn finish_work(recorder: &mut Recorder) {
    while recorder.has_work() {
        recorder.advanced().await.unwrap();
    }
}

fn third(archive: &WalArchive) -> SegmentName {
    SegmentName::containing(Timeline(1), Lsn(3 * MIB), archive.segment_size())
}

#[tokio::test]
async fn what_is_resumed_counts_only_after_it_was_compared() {
    let archive = archive();
    let bytes = wal(100_000);
    let mut first = connected(&archive, &OwnTails::default()).await;
    assert!(!first.is_behind());
    receive(&mut first, &bytes, 1).await;
    assert_eq!(first.durable(), Lsn(3 * MIB));
    first.flush().await.unwrap();
    assert_eq!(first.durable(), Lsn(3 * MIB + 100_000));

    // Nothing is known to be durable by a new connection until it has stored and compared it.
    let mut equal = connected(&archive, &OwnTails::default()).await;
    assert_eq!(equal.durable(), Lsn(3 * MIB));
    receive(&mut equal, &bytes[..50_000], 2).await;
    assert!(equal.is_behind());
    equal.flush().await.unwrap();
    assert_eq!(equal.durable(), Lsn(3 * MIB + 50_000));

    // Another server under the same name, with other bytes in the first part or in the second.
    for (differs, durable) in [(20_000, 0), (70_000, 50_000)] {
        let own = OwnTails::default();
        let mut other = connected(&archive, &own).await;
        let mut bytes = bytes.clone();
        bytes[differs] ^= 1;
        let mut failed = false;
        for part in bytes.chunks(50_000) {
            receive(&mut other, part, 3).await;
            match other.flush().await {
                Ok(()) => assert!(!failed),
                Err(error) => {
                    assert!(error.is(code::repository::SPLIT_BRAIN), "{error}");
                    failed = true;
                    break;
                }
            }
        }
        assert!(failed);
        assert_eq!(other.durable(), Lsn(3 * MIB + durable));
        // What it stored is evidence; for the next case it is out of the way.
        for span in archive.list_tails(third(&archive)).await.unwrap() {
            if span.streamer == other.streamer {
                archive.drop_tail(third(&archive), span).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_again_and_again_leaves_one_tail() {
    let archive = archive();
    let stranger = OwnTails::default();
    let mut other = connected(&archive, &stranger).await;
    receive(&mut other, &wal(30_000), 1).await;
    other.flush().await.unwrap();

    let own = OwnTails::default();
    for attempt in 1..6 {
        let mut recorder = connected(&archive, &own).await;
        receive(&mut recorder, &wal(10_000 * attempt), attempt as i64).await;
        recorder.flush().await.unwrap();
        let before = archive.list_tails(third(&archive)).await.unwrap();
        assert!(before.len() <= 3, "{before:?}");
        recorder.begin_tidy(true);
        finish_work(&mut recorder).await;
    }
    let left = archive.list_tails(third(&archive)).await.unwrap();
    let reach: Vec<u64> = left.iter().map(|span| span.to.0 - 3 * MIB).collect();
    assert_eq!(reach, [30_000, 50_000], "the last of ours, and the stranger's");

    // One that has come less far leaves what reaches farther.
    let mut behind = connected(&archive, &own).await;
    receive(&mut behind, &wal(40_000), 9).await;
    behind.flush().await.unwrap();
    behind.begin_tidy(true);
    finish_work(&mut behind).await;
    let left = archive.list_tails(third(&archive)).await.unwrap();
    assert!(left.iter().any(|span| span.to == Lsn(3 * MIB + 50_000)));
}

#[tokio::test]
async fn a_mark_goes_only_when_a_tail_says_as_much() {
    let archive = archive();
    let own = OwnTails::default();
    let mut idle = connected(&archive, &own).await;
    receive(&mut idle, &wal(10_000), 100).await;
    idle.flush().await.unwrap();
    idle.heard(idle.received(), ServerTime(900));
    assert!(idle.mark_idle().await.unwrap());
    let said = async || {
        let coverage = archive.coverage(Timeline(1), Lsn(3 * MIB)).await.unwrap();
        archive.complete_up_to(&coverage, Lsn(3 * MIB)).await.unwrap()
    };
    assert_eq!(said().await, Some(ServerTime(900)));
    for (clock, tails) in [(500, 2), (950, 1)] {
        let mut again = connected(&archive, &own).await;
        receive(&mut again, &wal(10_000), clock).await;
        again.flush().await.unwrap();
        again.begin_tidy(true);
        finish_work(&mut again).await;
        assert_eq!(archive.list_tails(third(&archive)).await.unwrap().len(), tails);
        assert_eq!(said().await, Some(ServerTime(clock.max(900))));
    }
}

#[tokio::test]
async fn a_commit_that_crosses_into_the_first_segment_is_told_there() {
    let archive = archive();
    let (bytes, commit) = crossing_commit(Lsn(3 * MIB), 77);
    let mut first = connected(&archive, &OwnTails::default()).await;
    receive(&mut first, &bytes[..MIB as usize], 1).await;
    first.flush().await.unwrap();

    let fourth = third(&archive).next(archive.segment_size());
    let resumed = Recorder::begin(archive.clone(), OwnTails::default(), Timeline(1), Lsn(4 * MIB));
    let mut resumed = resumed.await.unwrap();
    receive(&mut resumed, &bytes[MIB as usize..], 2).await;
    resumed.flush().await.unwrap();
    let facts = archive.segment_metadata(fourth).await.unwrap().unwrap().facts;
    let wanted = CommitAt {
        lsn: commit,
        time: ServerTime(77),
    };
    assert_eq!((facts.first_commit, facts.last_commit), (Some(wanted), Some(wanted)));
}

/// A store that removes nothing, or not for a long time, holds up nothing.
#[tokio::test]
async fn what_is_durable_never_waits_for_a_removal() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()) as DynStore));
    let gate = Gate::new();
    let held = gate.clone();
    store.every(Call::Delete, move || Fault::HoldBefore(held.clone()));
    let archive = archive_on(store.clone());
    let mut recorder = connected(&archive, &OwnTails::default()).await;
    let bytes = wal(2 * MIB as usize + 100_000);
    let (first, rest) = bytes.split_at(100_000);
    receive(&mut recorder, first, 1).await;
    recorder.flush().await.unwrap();
    assert_eq!(archive.list_tails(third(&archive)).await.unwrap().len(), 1);
    receive(&mut recorder, rest, 2).await;
    recorder.flush().await.unwrap();
    assert_eq!(recorder.durable(), Lsn(5 * MIB + 100_000));
    assert_eq!(recorder.stored().segments, 2);

    // Once it does, the finished segments have no tails.
    gate.open();
    store.clear();
    while !archive.list_tails(third(&archive)).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

/// An archive in a directory, behind a script of faults.
async fn on_disk(directory: &std::path::Path) -> (WalArchive, Arc<FaultStore>) {
    let store = FileStore::open(directory, false).await.unwrap();
    let faults = Arc::new(FaultStore::new(Arc::new(store)));
    (archive_on(faults.clone()), faults)
}

/// Everything that the archive gives back of a segment.
async fn given_back(archive: &WalArchive, segment: SegmentName) -> Vec<u8> {
    let Fetched::Found(file) = archive.fetch(&segment.to_string(), None).await.unwrap() else {
        panic!("{segment} is not there")
    };
    let mut out = Vec::new();
    file.copy_to(&mut out, |error| panic!("{error}")).await.unwrap();
    out
}

#[tokio::test]
async fn what_lies_in_a_journal_does_not_wait_for_its_segment() {
    let directory = tempfile::tempdir().unwrap();
    let (archive, faults) = on_disk(directory.path()).await;
    let mut recorder = connected(&archive, &OwnTails::default()).await.waited_for();
    let bytes = wal(2 * MIB as usize + 5000);
    let gate = Gate::new();
    let held = gate.clone();
    faults.every(Call::PutNew, move || Fault::HoldBefore(held.clone()));
    // The first segment, and with it the second, wait for the store.
    for part in bytes[..2 * MIB as usize].chunks(300_000) {
        receive(&mut recorder, part, 1).await;
        recorder.flush_received().await.unwrap();
        assert_eq!(recorder.durable(), recorder.received());
    }
    receive(&mut recorder, &bytes[2 * MIB as usize..], 2).await;
    recorder.flush_received().await.unwrap();
    assert_eq!(recorder.durable(), Lsn(5 * MIB + 5000));
    assert_eq!(recorder.stored(), Stored::default());
    gate.reached().await;

    // It dies: nothing of what was said to be durable is lost, and what is left behind is finished.
    drop(recorder);
    let frontier = archive.frontier(Timeline(1), None, &[]).await.unwrap().unwrap();
    assert_eq!(frontier.at, Lsn(5 * MIB + 5000));
    faults.clear();
    for number in 3..5 {
        let segment = SegmentName::containing(Timeline(1), Lsn(number * MIB), archive.segment_size());
        let wanted = &bytes[(number as usize - 3) * MIB as usize..][..MIB as usize];
        assert!(given_back(&archive, segment).await == wanted, "{number}");
        archive.finish_from_tails(segment).await.unwrap();
        assert!(archive.has_segment(segment).await.unwrap());
        assert!(given_back(&archive, segment).await == wanted, "{number}");
    }
}

#[tokio::test]
async fn a_connection_that_begins_again_repeats_and_compares_the_journal_before() {
    let directory = tempfile::tempdir().unwrap();
    let (archive, _) = on_disk(directory.path()).await;
    let own = OwnTails::default();
    let bytes = wal(MIB as usize);
    let mut first = connected(&archive, &own).await.waited_for();
    for part in bytes[..600_000].chunks(90_000) {
        receive(&mut first, part, 1).await;
        first.flush_received().await.unwrap();
    }
    drop(first);

    let mut wrong = bytes.clone();
    wrong[550_000] ^= 1;
    let mut other = connected(&archive, &OwnTails::default()).await.waited_for();
    receive(&mut other, &wrong[..500_000], 2).await;
    other.flush_received().await.unwrap();
    receive(&mut other, &wrong[500_000..600_000], 2).await;
    let error = other.flush_received().await.unwrap_err();
    assert!(error.is(code::repository::SPLIT_BRAIN), "{error}");
    assert_eq!(other.durable(), Lsn(3 * MIB + 500_000));
    for span in archive.list_tails(third(&archive)).await.unwrap() {
        if span.streamer == other.streamer {
            archive.drop_tail(third(&archive), span).await.unwrap();
        }
    }

    let mut again = connected(&archive, &own).await.waited_for();
    for part in bytes[..700_000].chunks(70_000) {
        receive(&mut again, part, 3).await;
        again.flush_received().await.unwrap();
    }
    again.begin_tidy(true);
    finish_work(&mut again).await;
    let left = archive.list_tails(third(&archive)).await.unwrap();
    assert_eq!(left.len(), 1, "what is repeated is not kept: {left:?}");
    assert!(left[0].journal && left[0].to == again.durable());
    receive(&mut again, &bytes[700_000..], 4).await;
    assert_eq!(again.durable(), Lsn(4 * MIB));
    again.flush().await.unwrap();
    assert!(given_back(&archive, third(&archive)).await == bytes);
}

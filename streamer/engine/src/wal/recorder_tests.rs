//! What one connection makes durable, and what the next makes of it.

use std::sync::Arc;

use hardstorage_report::SystemId;
use hardstorage_repository::wal::CommitAt;
use hardstorage_repository::{Deployment, Lineage};
use hardstorage_storage::{DynStore, MemoryStore};

use super::*;
use crate::records::tests::crossing_commit;

const MIB: u64 = 1 << 20;

fn archive() -> WalArchive {
    let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()) as DynStore, "db1");
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
        recorder.tidy().await.unwrap();
    }
    let left = archive.list_tails(third(&archive)).await.unwrap();
    let reach: Vec<u64> = left.iter().map(|span| span.to.0 - 3 * MIB).collect();
    assert_eq!(reach, [30_000, 50_000], "the last of ours, and the stranger's");

    // One that has come less far leaves what reaches farther.
    let mut behind = connected(&archive, &own).await;
    receive(&mut behind, &wal(40_000), 9).await;
    behind.flush().await.unwrap();
    behind.tidy().await.unwrap();
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
        again.tidy().await.unwrap();
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

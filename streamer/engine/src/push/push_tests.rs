//! What becomes of a file that was pushed: stored, already there, or refused.

use std::sync::{Arc, Mutex};

use hardstorage_report::{Lsn, SystemId};
use hardstorage_repository::wal::{HistoryFile, ServerTime};
use hardstorage_repository::{Lineage, WriterId};
use hardstorage_storage::{DynStore, MemoryStore};

use super::*;
use crate::records::tests::crossing_commit;

const MIB: usize = 1 << 20;
const START: Lsn = Lsn(5 << 20);
/// Of `crossing_commit`: the cluster 42, timeline 7, segments of 1 MiB.
const FIRST: &str = "000000070000000000000005";
const SECOND: &str = "000000070000000000000006";

#[derive(Default)]
struct Names(Mutex<Vec<String>>);

impl EventSink for Names {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event.name);
    }
}

struct Bench {
    place: tempfile::TempDir,
    deployment: Deployment,
    told: Names,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            place: tempfile::tempdir().unwrap(),
            deployment: Deployment::for_tests(Arc::new(MemoryStore::new()) as DynStore, "db1"),
            told: Names::default(),
        }
    }

    fn archive(&self) -> WalArchive {
        let lineage = Lineage {
            system_id: SystemId(42),
            incarnation: 1,
        };
        WalArchive::new(self.deployment.clone(), lineage, SegmentSize::new(1 << 20).unwrap())
    }

    async fn push(&self, name: &str, bytes: &[u8]) -> Result<PushResult> {
        let path = self.place.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        store(&self.deployment, WalFile::look(&path)?, &self.told).await
    }

    async fn facts(&self, name: &str) -> RecordFacts {
        let metadata = self.archive().segment_metadata(name.parse().unwrap()).await.unwrap();
        metadata.unwrap().facts
    }
}

/// The first two whole segments of a server; the only commit goes over the border between them.
fn segments(time: i64) -> [Vec<u8>; 2] {
    let bytes = crossing_commit(START, time).0;
    [bytes[..MIB].to_vec(), bytes[MIB..2 * MIB].to_vec()]
}

#[tokio::test]
async fn what_is_known_comes_from_the_commits_alone() {
    let bench = Bench::new();
    let [first, second] = segments(777);
    assert!(bench.push(FIRST, &first).await.unwrap().stored);
    let facts = bench.facts(FIRST).await;
    assert_eq!((facts.latest_commit, facts.complete_up_to), (None, None));
    assert!(bench.push(SECOND, &second).await.unwrap().stored);
    let facts = bench.facts(SECOND).await;
    let commit = facts.latest_commit.unwrap();
    assert_eq!(commit.lsn, crossing_commit(START, 777).1);
    assert_eq!(facts.complete_up_to, Some(ServerTime(777)));
    let again = bench.push(SECOND, &second).await.unwrap();
    assert!(!again.stored);
    assert_eq!(again.lineage, bench.archive().lineage().to_string());
    assert!(bench.told.0.lock().unwrap().is_empty());
}

/// Without the segment before, the record that began there is not known. That claims less, never more.
#[tokio::test]
async fn a_segment_whose_beginning_is_missing_is_stored() {
    let bench = Bench::new();
    let [first, second] = segments(777);
    assert!(bench.push(SECOND, &second).await.unwrap().stored);
    let facts = bench.facts(SECOND).await;
    assert_eq!((facts.latest_commit, facts.complete_up_to), (None, None));
    assert!(bench.push(FIRST, &first).await.unwrap().stored);
}

/// The stream removes its tails when the segment is there: what they have said must not be lost with them.
#[tokio::test]
async fn what_a_stream_has_said_of_the_clock_is_kept() {
    let bench = Bench::new();
    let [first, _] = segments(777);
    let writer = WriterId::new([1; 16]);
    let mut tail = bench.archive().tail_writer(FIRST.parse().unwrap(), writer).unwrap();
    let mut facts = RecordFacts::default();
    facts.note_complete(ServerTime(9000));
    tail.put(START, &first[..50_000], facts).await.unwrap();
    bench.push(FIRST, &first).await.unwrap();
    assert_eq!(bench.facts(FIRST).await.complete_up_to, Some(ServerTime(9000)));
}

#[tokio::test]
async fn other_bytes_and_other_clusters_are_refused() {
    let bench = Bench::new();
    let [first, _] = segments(777);
    let writer = WriterId::new([1; 16]);
    let mut tail = bench.archive().tail_writer(FIRST.parse().unwrap(), writer).unwrap();
    let mut other = first.clone();
    other[20_000] ^= 1;
    tail.put(START, &other[..50_000], RecordFacts::default()).await.unwrap();
    let refused = bench.push(FIRST, &first).await.unwrap_err();
    assert!(refused.is(code::repository::SPLIT_BRAIN), "{refused}");
    assert!(!bench.archive().has_segment(FIRST.parse().unwrap()).await.unwrap());

    let mut foreign = first.clone();
    foreign[24] ^= 1;
    let refused = bench.push(FIRST, &foreign).await.unwrap_err();
    assert!(refused.is(code::repository::SYSTEM_MISMATCH), "{refused}");
    assert!(refused.hint_text().contains("backup"), "{}", refused.hint_text());
}

/// When archiving is switched on after a promotion, PostgreSQL never hands the history over.
#[tokio::test]
async fn a_history_that_only_the_server_has_comes_with_its_segment() {
    let bench = Bench::new();
    let [first, _] = segments(777);
    // Timeline 7 goes on from 3, which came from 1.
    let (third, seventh) = ("1\t0/80000\tx\n", "1\t0/80000\tx\n3\t0/480000\ty\n");
    std::fs::write(bench.place.path().join("00000003.history"), third).unwrap();
    std::fs::write(bench.place.path().join("00000007.history"), seventh).unwrap();
    bench.push(FIRST, &first).await.unwrap();
    let ancestry = bench.archive().ancestry().await.unwrap();
    assert!(ancestry.knows(Timeline(3)) && ancestry.knows(Timeline(7)));
    assert_eq!(ancestry.chain(Timeline(7)).unwrap().len(), 3);
    let known = bench.archive().history(Timeline(7)).await.unwrap().unwrap();
    assert_eq!(known, seventh);
}

/// A primary that has missed a promotion loses nothing, and is told.
#[tokio::test]
async fn a_timeline_that_was_left_is_told() {
    let bench = Bench::new();
    let [first, second] = segments(777);
    bench
        .archive()
        .put_history(Timeline(8), b"7\t0/580000\tx\n")
        .await
        .unwrap();
    bench.push(FIRST, &first).await.unwrap();
    assert!(bench.told.0.lock().unwrap().is_empty());
    assert!(bench.push(SECOND, &second).await.unwrap().stored);
    assert_eq!(*bench.told.0.lock().unwrap(), ["wal.push.timeline_left"]);
}

#[test]
fn which_segments_lie_on_the_way_to_the_newest_timeline() {
    let files = [(8, "7\t0/580000\tx\n"), (9, "7\t0/580000\tx\n8\t0/700000\ty\n")];
    let histories = files.map(|(timeline, text)| HistoryFile::parse(Timeline(timeline), text.as_bytes()).unwrap());
    let ancestry = Ancestry::new(histories);
    let left = |timeline: u32, number: u64| {
        let size = SegmentSize::new(1 << 20).unwrap();
        let start = Lsn(number << 20);
        let header = SegmentHeader {
            system_id: SystemId(42),
            timeline: Timeline(timeline),
            start,
            size,
        };
        left_for(
            &ancestry,
            SegmentName::containing(Timeline(timeline), start, size),
            &header,
        )
    };
    for (timeline, number) in [(7, 4), (7, 5), (8, 5), (8, 6), (9, 7), (9, 99), (10, 3)] {
        assert_eq!(left(timeline, number), None, "{timeline} {number}");
    }
    for (timeline, number) in [(7, 6), (8, 7), (8, 4), (6, 5)] {
        assert_eq!(left(timeline, number), Some(Timeline(9)), "{timeline} {number}");
    }
}

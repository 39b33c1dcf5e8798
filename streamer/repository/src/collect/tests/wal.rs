//! What WAL stays.

use std::time::Duration;

use hardstorage_codec::{Secret, SigningKey};
use hardstorage_report::{Lsn, SegmentName, SegmentSize, Timeline};
use hardstorage_storage::Store as _;
use jiff::Timestamp;

use super::world::{DAY, World, id, options, write_packs};
use crate::collect::{CollectOptions, Collection, collect};
use crate::manifest::samples;
use crate::wal::{LsnRange, RecordFacts, WalArchive};
use crate::{Lineage, Purpose, WriterId};

const MIB: u64 = 1 << 20;
const NOW: i64 = 1_780_100_000;

struct Wal {
    world: World,
    archive: WalArchive,
}

fn size() -> SegmentSize {
    SegmentSize::new(MIB).unwrap()
}

fn name(timeline: u32, number: u64) -> SegmentName {
    SegmentName::containing(Timeline(timeline), Lsn(number * MIB), size())
}

impl Wal {
    async fn new() -> Wal {
        let world = World::new().await;
        let lineage = samples::of(
            &world.deployment,
            &SigningKey::new(&Secret::new([6; 32])),
            id(1).as_str(),
            0,
        )
        .lineage;
        Wal {
            archive: WalArchive::new(world.deployment.clone(), lineage, size()),
            world,
        }
    }

    async fn store(&self, timeline: u32, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            let raw = vec![timeline as u8; MIB as usize];
            let put = self
                .archive
                .put_segment(name(timeline, number), &raw, RecordFacts::default());
            put.await.unwrap();
        }
    }

    /// A backup so many days ago that needs this segment of WAL, from its middle to shortly before its end.
    async fn backup(&self, number: u16, days_ago: i64, lineage: Lineage, timeline: u32, segment: u64) {
        let deployment = &self.world.deployment;
        let session = self.world.open(Purpose::Backup { backup_id: id(number) }, &[]).await;
        let (root, packs) = write_packs(deployment, session.writer(), &[]).await.unwrap();
        let signer = SigningKey::new(&Secret::new([6; 32]));
        let mut manifest = samples::of(deployment, &signer, id(number).as_str(), 0);
        let stopped_at = Timestamp::from_second(NOW - days_ago * DAY).unwrap();
        (manifest.times.started_at, manifest.times.stopped_at) = (stopped_at, stopped_at);
        manifest.lineage = lineage;
        manifest.server.wal_segment_size = size();
        manifest.writer.id = session.writer();
        (manifest.pack_list, manifest.file_table) = (root.clone(), root);
        let wal = &mut manifest.wal;
        (wal.start_timeline, wal.timeline) = (Timeline(timeline), Timeline(timeline));
        (wal.start_lsn, wal.stop_lsn) = (Lsn(segment * MIB + 40), Lsn(segment * MIB + 4000));
        manifest.commit(deployment, &signer, packs).await.unwrap();
        session.close().await.unwrap();
    }

    async fn ours(&self, number: u16, days_ago: i64, timeline: u32, segment: u64) {
        self.backup(number, days_ago, self.archive.lineage(), timeline, segment)
            .await;
    }

    async fn collect(&self, keep_wal_days: Option<u64>, apply: bool) -> Collection {
        let options = CollectOptions {
            keep_wal: keep_wal_days.map(|days| Duration::from_hours(24 * days)),
            apply,
            reader_grace: Duration::ZERO,
            ..options()
        };
        collect(&self.world.deployment, &options).await.unwrap()
    }

    /// The numbers of the segments that are there.
    async fn left(&self, timeline: u32) -> Vec<u64> {
        let found = self.archive.list_segments(Timeline(timeline), None).await.unwrap();
        found.iter().map(|name| name.start(size()).unwrap().0 / MIB).collect()
    }

    async fn tail(&self, timeline: u32, number: u64, streamer: u8) {
        let mut tails = self
            .archive
            .tail_writer(name(timeline, number), WriterId::new([streamer; 16]))
            .unwrap();
        let raw = [timeline as u8; 9000];
        tails
            .put(Lsn(number * MIB), &raw, RecordFacts::default())
            .await
            .unwrap();
    }

    async fn tails(&self, timeline: u32) -> usize {
        self.archive
            .segments_with_tails(Timeline(timeline))
            .await
            .unwrap()
            .len()
    }
}

#[tokio::test]
async fn wal_before_the_oldest_backup_goes_and_is_no_loss() {
    let wal = Wal::new().await;
    wal.store(1, 1..=9).await;
    wal.tail(1, 10, 1).await;
    // Without a backup nobody knows what will be needed.
    assert!(wal.collect(None, true).await.wal.is_empty());
    wal.ours(1, 3, 1, 4).await;
    wal.ours(2, 1, 1, 7).await;
    wal.tail(1, 2, 1).await;
    wal.archive
        .put_backup_history(&format!("{}.00000028.backup", name(1, 2)), b"x")
        .await
        .unwrap();
    wal.archive
        .put_backup_history(&format!("{}.00000028.backup", name(1, 4)), b"x")
        .await
        .unwrap();
    let gap = wal.archive.put_gap(
        Timeline(1),
        (Lsn(10), Lsn(MIB)),
        "a loss of long ago",
        serde_json::json!({}),
    );
    gap.await.unwrap();

    let told = wal.collect(None, false).await;
    let expired = told.wal.values().next().unwrap();
    assert_eq!(
        (expired.segments.objects, expired.tails.objects, expired.small),
        (3, 1, 2)
    );
    assert_eq!(wal.left(1).await.len(), 9);
    assert_eq!(wal.collect(None, true).await.wal, told.wal);
    assert_eq!(wal.left(1).await, [4, 5, 6, 7, 8, 9]);
    assert_eq!(wal.tails(1).await, 1);
    let coverage = wal.archive.coverage(Timeline(1), Lsn(0)).await.unwrap();
    assert!(coverage.is_covered(Lsn(4 * MIB), Lsn(10 * MIB + 9000)));
    assert!(wal.archive.open_gaps(&coverage).await.unwrap().is_empty());
    assert_eq!(wal.collect(None, true).await.wal.len(), 0);

    // The range grows as backups go, and one record tells it.
    wal.world.mark_deleted(1).await;
    wal.collect(None, true).await;
    wal.collect(None, true).await;
    assert_eq!(wal.left(1).await, [7, 8, 9]);
    let records = wal.archive.gaps().await.unwrap().records;
    let ranges: Vec<LsnRange> = records.iter().map(crate::wal::GapRecord::range).collect();
    assert_eq!(
        ranges,
        [LsnRange {
            from: Lsn(MIB),
            to: Lsn(7 * MIB)
        }]
    );
}

/// It is told, what it was about is still no loss, and it goes with the next range that holds it.
#[tokio::test]
async fn a_damaged_record_of_a_gap_keeps_no_wal_from_going() {
    let wal = Wal::new().await;
    wal.store(1, 1..=9).await;
    wal.ours(1, 3, 1, 4).await;
    wal.ours(2, 1, 1, 7).await;
    wal.collect(None, true).await;
    assert_eq!(wal.left(1).await, [4, 5, 6, 7, 8, 9]);
    let deployment = &wal.world.deployment;
    let broken = crate::layout::gap(
        deployment.name(),
        wal.archive.lineage(),
        Timeline(1),
        Lsn(MIB),
        Lsn(4 * MIB),
    );
    wal.world.memory.corrupt(&broken, |bytes| bytes[100] ^= 1);

    let told = wal.collect(None, true).await;
    let named = |done: &Collection| done.problems.iter().any(|problem| problem.contains(broken.as_str()));
    assert!(named(&told), "{:?}", told.problems);
    assert!(
        deployment.store().head(&broken).await.unwrap().is_some(),
        "it holds nothing that anybody knows"
    );
    wal.world.mark_deleted(1).await;
    wal.collect(None, true).await;
    assert!(!named(&wal.collect(None, true).await));
    assert_eq!(wal.left(1).await, [7, 8, 9]);
    let gaps = wal.archive.gaps().await.unwrap();
    let ranges: Vec<(u64, u64)> = gaps
        .records
        .iter()
        .map(|gap| (gap.from.0 / MIB, gap.to.0 / MIB))
        .collect();
    assert_eq!((ranges, gaps.damaged.len()), (vec![(1, 7)], 0));
}

#[tokio::test]
async fn outside_of_the_window_each_backup_keeps_what_makes_it_consistent() {
    let wal = Wal::new().await;
    wal.store(1, 1..=30).await;
    for (number, days_ago, segment) in [(1, 20, 3), (2, 12, 9), (3, 8, 15), (4, 2, 25)] {
        wal.ours(number, days_ago, 1, segment).await;
    }
    wal.tail(1, 31, 1).await;
    wal.collect(Some(10), true).await;
    // The newest backup before the window is where its first moment is recovered from.
    let expected: Vec<u64> = [3].into_iter().chain(9..=30).collect();
    assert_eq!(wal.left(1).await, expected);
    wal.collect(Some(5), true).await;
    let expected: Vec<u64> = [3, 9].into_iter().chain(15..=30).collect();
    assert_eq!(wal.left(1).await, expected);
    // A stream goes on at the end, and no server is asked for what was let go.
    for held in [None, Some(Lsn(31 * MIB + 9000))] {
        let frontier = wal.archive.frontier(Timeline(1), held, &[]).await.unwrap().unwrap();
        assert_eq!((frontier.at, frontier.ahead), (Lsn(31 * MIB + 9000), None), "{held:?}");
    }
    // Without a backup before the window every one is needed with all that follows it.
    wal.collect(Some(100), true).await;
    assert_eq!(wal.left(1).await, expected);
}

#[tokio::test]
async fn a_newer_timeline_with_low_positions_stays() {
    let wal = Wal::new().await;
    wal.store(1, 1..=20).await;
    wal.ours(1, 5, 1, 15).await;
    // The cluster was set back to segment 8: its new timeline has low positions, and no backup yet.
    let history = format!("1\t0/{:X}\tset back\n", 8 * MIB);
    let put = wal.archive.put_history(Timeline(2), history.as_bytes());
    put.await.unwrap();
    wal.store(2, 8..=12).await;
    wal.collect(None, true).await;
    assert_eq!(wal.left(1).await, (15..=20).collect::<Vec<_>>());
    assert_eq!(wal.left(2).await, [8, 9, 10, 11, 12]);
    wal.ours(2, 1, 2, 11).await;
    wal.world.mark_deleted(1).await;
    wal.collect(None, true).await;
    wal.collect(None, true).await;
    assert_eq!(wal.left(2).await, [11, 12]);
    assert_eq!(
        wal.left(1).await,
        (15..=20).collect::<Vec<_>>(),
        "the dead branch goes when positions have passed it"
    );
}

#[tokio::test]
async fn tails_that_a_dead_streamer_left_go_with_their_segment_and_a_difference_stays() {
    let wal = Wal::new().await;
    wal.ours(1, 1, 1, 1).await;
    for number in 1..=4 {
        wal.tail(1, number, 1).await;
    }
    wal.store(1, 1..=3).await;
    let done = wal.collect(None, true).await;
    assert_eq!(done.wal.values().next().unwrap().tails.objects, 2);
    // The newest finished segment is still its streamer's, and the unfinished one stays.
    assert_eq!(wal.tails(1).await, 2);
    let other = SegmentName::containing(Timeline(1), Lsn(2 * MIB), size());
    let mut tails = wal.archive.tail_writer(other, WriterId::new([9; 16])).unwrap();
    tails
        .put(Lsn(2 * MIB), &[77; 9000], RecordFacts::default())
        .await
        .unwrap_err();
    let done = wal.collect(None, true).await;
    assert_eq!(done.problems.len(), 1, "{done:?}");
    assert_eq!(wal.tails(1).await, 3, "evidence is never removed");
}

#[tokio::test]
async fn a_former_life_goes_with_its_last_backup_and_not_before_the_new_one_is_safe() {
    let wal = Wal::new().await;
    let (old, mut new) = (wal.archive.lineage(), wal.archive.lineage());
    new.incarnation += 1;
    let archive = WalArchive::new(wal.world.deployment.clone(), new, size());
    wal.store(1, 1..=5).await;
    wal.ours(1, 5, 1, 2).await;
    wal.ours(3, 6, 1, 1).await;
    wal.world.mark_deleted(1).await;
    wal.world.mark_deleted(3).await;
    wal.collect(None, true).await;
    assert_eq!(wal.left(1).await.len(), 5, "the last whole one");
    wal.backup(2, 1, new, 1, 3).await;
    wal.collect(None, true).await;
    assert_eq!(wal.left(1).await.len(), 5, "the new one has no WAL");
    let raw = vec![1; MIB as usize];
    archive
        .put_segment(name(1, 3), &raw, RecordFacts::default())
        .await
        .unwrap();
    for _ in 0..2 {
        wal.collect(None, true).await;
    }
    assert!(wal.world.keys(&format!("wal/db1/{old}/")).await.is_empty());
    assert!(archive.has_segment(name(1, 3)).await.unwrap());
    assert!(
        wal.world
            .memory
            .list(&hardstorage_storage::ListRequest::under("wal/db1/"))
            .await
            .unwrap()
            .objects
            .len()
            == 1
    );
}

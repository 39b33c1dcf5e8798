//! Journals: WAL that is waited for, in an object that grows. Over a real directory, because only that can let one grow.

use super::*;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use hardstorage_repository::wal::{Fetched, Stored, TailSpan, TailWriter, TimeAnswer};

use hardstorage_storage::{Call, Fault, FileStore, Gate};

/// An archive in a directory.
struct Room {
    _directory: tempfile::TempDir,
    store: DynStore,
    faults: Arc<FaultStore>,
    archive: WalArchive,
}

async fn room(mib: u64) -> Room {
    let directory = tempfile::tempdir().unwrap();
    let store: DynStore = Arc::new(FileStore::open(directory.path(), false).await.unwrap());
    let faults = Arc::new(FaultStore::new(store.clone()));
    let deployment = Deployment::for_tests(faults.clone() as DynStore, "db1");
    Room {
        _directory: directory,
        store,
        faults,
        archive: WalArchive::new(deployment, LINEAGE, size(mib)),
    }
}

impl Room {
    fn writer(&self, streamer: u8, number: u64) -> TailWriter {
        let segment = name(1, number, self.archive.segment_size());
        self.archive.tail_writer(segment, writer(streamer)).unwrap()
    }

    async fn spans(&self, number: u64) -> Vec<TailSpan> {
        let segment = name(1, number, self.archive.segment_size());
        self.archive.list_tails(segment).await.unwrap()
    }

    async fn assembled(&self, number: u64) -> Result<Vec<u8>> {
        let segment = name(1, number, self.archive.segment_size());
        let mut tails = self.archive.assemble(segment).await?.unwrap();
        let mut out = Vec::new();
        while let Some(bytes) = tails.next().await? {
            out.extend_from_slice(&bytes);
        }
        Ok(out)
    }

    async fn fetched(&self, number: u64) -> Result<Option<Vec<u8>>> {
        let segment = name(1, number, self.archive.segment_size());
        let Fetched::Found(file) = self.archive.fetch(&segment.to_string(), None).await? else {
            return Ok(None);
        };
        let mut out = Vec::new();
        file.copy_to(&mut out, |error| panic!("{error}")).await?;
        Ok(Some(out))
    }

    async fn store_segment(&self, server: u8, number: u64) -> Result<Stored> {
        let size = self.archive.segment_size();
        let raw = whole(server, number, size);
        let segment = name(1, number, size);
        self.archive.put_segment(segment, &raw, RecordFacts::default()).await
    }
}

/// Writes what a server has from `from` on, in batches of these lengths; where it ended.
async fn grow(journal: &mut TailWriter, server: u8, from: Lsn, lengths: &[u64]) -> Result<Lsn> {
    let mut at = from;
    for length in lengths {
        let bytes = wal(server, at, *length);
        // As they come: in pieces.
        let parts: Vec<Bytes> = bytes.chunks(5000).map(Bytes::copy_from_slice).collect();
        let facts = facts(&[(at.0, at.0 as i64)], Some(at.0 as i64 + 1));
        at = journal.append_parts(at, &parts, facts).await?;
    }
    Ok(at)
}

#[tokio::test]
async fn one_object_says_what_many_tails_would() {
    let room = room(16).await;
    let start = Lsn(3 * 16 * MIB);
    let lengths = [1, 8191, 8192, 100, 3_000_000, 50, 200_000];
    let mut journal = room.writer(1, 3);
    let end = grow(&mut journal, 1, start, &lengths).await.unwrap();
    assert!(journal.has_journal());
    assert_eq!(journal.durable(), Some(end));
    let span = TailSpan {
        from: start,
        to: end,
        streamer: writer(1),
        journal: true,
    };
    assert_eq!(room.spans(3).await, [span]);
    let bytes = wal(1, start, start.bytes_until(end));
    assert!(room.assembled(3).await.unwrap() == bytes);
    let mut filled = bytes;
    filled.resize(16 * MIB as usize, 0);
    assert!(room.fetched(3).await.unwrap().unwrap() == filled);

    // What its records say, as far as somebody looks.
    let coverage = room.archive.coverage(Timeline(1), start).await.unwrap();
    assert_eq!(coverage.recoverable_until(start), Some(end));
    let asked = |moment: u64| {
        room.archive
            .time_covered_in(&coverage, start, ServerTime(moment as i64))
    };
    let last = end.0 - 200_000;
    let TimeAnswer::Reached { by, before } = asked(last - 1).await.unwrap() else {
        panic!("not reached")
    };
    assert_eq!((by.lsn.0, before.map(|commit| commit.lsn)), (last, Some(start)));
    assert!(matches!(
        asked(last + 1).await.unwrap(),
        TimeAnswer::CoveredToEnd { .. }
    ));
    assert!(matches!(asked(last + 2).await.unwrap(), TimeAnswer::NotYet { .. }));
    // What comes afterwards takes nothing away from an answer about what was there.
    grow(&mut journal, 1, end, &[70_000]).await.unwrap();
    assert!(matches!(
        asked(last + 1).await.unwrap(),
        TimeAnswer::CoveredToEnd { .. }
    ));

    let mut points = RecordFacts::default();
    for number in 0..3000u64 {
        points.restore_points.push(hardstorage_repository::wal::RestorePoint {
            name: format!("point {number}"),
            lsn: journal.durable().unwrap().add(number * 700),
            time: ServerTime(5),
        });
    }
    let from = journal.durable().unwrap();
    let bytes = wal(1, from, 2_200_000);
    journal.append_parts(from, &[bytes.into()], points).await.unwrap();
    let found = room.archive.find_restore_point(Timeline(1), start, "point 2999").await;
    assert_eq!(found.unwrap().unwrap().lsn, from.add(2999 * 700));
}

#[tokio::test]
async fn a_store_that_cannot_gets_tails() {
    let bench = bench(1);
    let segment = name(1, 3, bench.archive.segment_size());
    let mut tails = bench.archive.tail_writer(segment, writer(1)).unwrap();
    let end = grow(&mut tails, 1, Lsn(3 * MIB), &[100, 9000]).await.unwrap();
    assert!(!tails.has_journal());
    let spans = bench.archive.list_tails(segment).await.unwrap();
    assert_eq!(spans.len(), 2);
    assert!(spans.iter().all(|span| !span.journal) && spans[1].to == end);
}

#[tokio::test]
async fn others_with_equal_bytes_live_beside_it() {
    let room = room(1).await;
    let start = Lsn(3 * MIB);
    let mut first = room.writer(1, 3);
    grow(&mut first, 1, start, &[5000, 9000, 20_000]).await.unwrap();
    // In turns, one behind the other and then before it.
    let mut second = room.writer(2, 3);
    let mut at = grow(&mut second, 1, start, &[3000, 30_000]).await.unwrap();
    let mut tail = room.writer(3, 3);
    tail.put(start.add(100), &wal(1, start.add(100), 60_000), RecordFacts::default())
        .await
        .unwrap();
    for _ in 0..5 {
        let durable = first.durable().unwrap();
        grow(&mut first, 1, durable, &[6000]).await.unwrap();
        at = grow(&mut second, 1, at, &[7000]).await.unwrap();
    }
    assert!(room.assembled(3).await.unwrap() == wal(1, start, start.bytes_until(at)));
    assert_eq!(room.store_segment(1, 3).await.unwrap(), Stored::Stored);
    let segment = name(1, 3, room.archive.segment_size());
    // The finished segment agrees with all. What another may still lengthen stays, and says so when it is gone.
    assert_eq!(room.archive.drop_tails(segment, Some(writer(1))).await.unwrap(), 2);
    assert_eq!(room.spans(3).await.len(), 1);
    let at = grow(&mut second, 1, at, &[10]).await.unwrap();
    assert_eq!(room.archive.drop_left_behind(segment).await.unwrap(), 1);
    let error = grow(&mut second, 1, at, &[10]).await.unwrap_err();
    assert!(error.is(code::storage::OBJECT), "{error}");
    assert_eq!(second.durable(), Some(at));
    assert!(room.fetched(3).await.unwrap().unwrap() == whole(1, 3, room.archive.segment_size()));
}

#[tokio::test]
async fn diverging_bytes_are_split_brain_whoever_has_them() {
    let start = Lsn(3 * MIB);
    for differs in [10u64, 20_000, 33_000] {
        let mut other = wal(1, start, 60_000);
        other[differs as usize] ^= 1;
        // Against a journal, a tail, and a segment.
        for against in 0..3 {
            let room = room(1).await;
            match against {
                0 => drop(grow(&mut room.writer(1, 3), 1, start, &[25_000, 15_000]).await.unwrap()),
                1 => {
                    let bytes = wal(1, start, 40_000);
                    let mut tail = room.writer(1, 3);
                    tail.put(start, &bytes, RecordFacts::default()).await.unwrap();
                }
                _ => drop(room.store_segment(1, 3).await.unwrap()),
            }
            let mut journal = room.writer(2, 3);
            let mut at = start;
            let mut outcome = Ok(at);
            for part in other.chunks(30_000) {
                outcome = journal
                    .append_parts(at, &[Bytes::copy_from_slice(part)], RecordFacts::default())
                    .await;
                if outcome.is_err() {
                    break;
                }
                at = at.add(part.len() as u64);
            }
            let error = outcome.unwrap_err();
            assert!(error.is(code::repository::SPLIT_BRAIN), "{differs}, {against}: {error}");
            assert_eq!(at, start.add(if differs < 30_000 { 0 } else { 30_000 }));
            if against < 2 {
                let error = room.assembled(3).await.unwrap_err();
                assert!(error.is(code::repository::SPLIT_BRAIN), "{differs}, {against}: {error}");
            }
        }
        // A tail, and a segment, against a journal.
        let room = room(1).await;
        grow(&mut room.writer(1, 3), 1, start, &[25_000, 15_000]).await.unwrap();
        let put = room.writer(2, 3).put(start, &other, RecordFacts::default()).await;
        assert!(put.unwrap_err().is(code::repository::SPLIT_BRAIN), "{differs}");
        let mut raw = whole(1, 3, room.archive.segment_size());
        raw[differs as usize] ^= 1;
        let segment = name(1, 3, room.archive.segment_size());
        let put = room.archive.put_segment(segment, &raw, RecordFacts::default()).await;
        assert!(put.unwrap_err().is(code::repository::SPLIT_BRAIN), "{differs}");
        for dropped in [
            room.archive.drop_tails(segment, None).await,
            room.archive.drop_left_behind(segment).await,
        ] {
            // The last page that the journal has a part of is compared with the segment that is there.
            assert!(differs < 33_000 && dropped.is_ok() || dropped.is_err(), "{differs}");
        }
    }
}

#[tokio::test]
async fn a_failure_ends_it_and_another_begins() {
    for after in [false, true] {
        let room = room(1).await;
        let start = Lsn(3 * MIB);
        let full = || Error::new(code::storage::FULL, "no space");
        let fault = if after {
            Fault::FailAfter(full())
        } else {
            Fault::FailBefore(full())
        };
        room.faults.on(Call::Append, 2, fault);
        let mut journal = room.writer(1, 3);
        let at = grow(&mut journal, 1, start, &[100, 200]).await.unwrap();
        let error = grow(&mut journal, 1, at, &[300]).await.unwrap_err();
        assert!(error.is(code::storage::FULL), "{error}");
        assert_eq!(journal.durable(), Some(at));
        assert!(grow(&mut journal, 1, at, &[300]).await.is_err(), "its number is used");
        // What was not acknowledged may be there or not.
        let there = start.add(if after { 600 } else { 300 });
        assert_eq!(room.spans(3).await[0].to, there);
        let mut next = room.writer(2, 3);
        let end = grow(&mut next, 1, start, &[300, 400]).await.unwrap();
        assert!(room.assembled(3).await.unwrap() == wal(1, start, start.bytes_until(end)));
    }
}

#[tokio::test]
async fn a_segment_that_nobody_finished_is_finished() {
    let room = room(1).await;
    let size = room.archive.segment_size();
    let (start, segment) = (Lsn(3 * MIB), name(1, 3, size));
    let mut journal = room.writer(1, 3);
    let at = grow(&mut journal, 1, start, &[1000, 500_000]).await.unwrap();
    assert_eq!(room.archive.finish_from_tails(segment).await.unwrap(), None);
    let rest = MIB - 501_000;
    grow(&mut journal, 1, at, &[rest]).await.unwrap();
    grow(&mut room.writer(1, 4), 1, Lsn(4 * MIB), &[2000]).await.unwrap();
    assert!(room.fetched(3).await.unwrap().unwrap() == whole(1, 3, size));
    let coverage = room.archive.coverage(Timeline(1), start).await.unwrap();
    assert_eq!(coverage.recoverable_until(start), Some(Lsn(4 * MIB + 2000)));

    let stored = room.archive.finish_from_tails(segment).await.unwrap();
    assert_eq!(stored, Some(Stored::Stored));
    assert!(room.spans(3).await.is_empty());
    assert!(room.fetched(3).await.unwrap().unwrap() == whole(1, 3, size));
    let metadata = room.archive.segment_metadata(segment).await.unwrap().unwrap();
    assert_eq!(metadata.facts.first_commit, Some(commit(start.0, start.0 as i64)));
    assert_eq!(metadata.facts.last_commit, Some(commit(at.0, at.0 as i64)));
    assert_eq!(room.archive.finish_from_tails(segment).await.unwrap(), None);
}

/// A streamer completes a segment in its journal and begins the next one while a restore looks for it.
#[tokio::test]
async fn a_segment_that_becomes_whole_while_it_is_looked_for_is_no_gap() {
    let room = Arc::new(room(1).await);
    let start = Lsn(3 * MIB);
    let mut journal = room.writer(1, 3);
    let at = grow(&mut journal, 1, start, &[1000]).await.unwrap();
    let gate = Gate::new();
    // The first listing is of the tails, the second of what is later.
    let next = room.faults.count(Call::List) + 2;
    room.faults.on(Call::List, next, Fault::HoldBefore(gate.clone()));
    let looking = tokio::spawn({
        let room = room.clone();
        async move { room.fetched(3).await }
    });
    gate.reached().await;
    grow(&mut journal, 1, at, &[MIB - 1000]).await.unwrap();
    let segment = name(1, 4, room.archive.segment_size());
    let later = hardstorage_repository::layout::journal(
        room.archive.deployment().name(),
        LINEAGE,
        segment,
        Lsn(4 * MIB),
        &writer(1),
    );
    // Its bytes do not matter here, only its name.
    room.store.put_new(&later, "x".into()).await.unwrap();
    gate.open();
    let found = looking.await.unwrap().unwrap().unwrap();
    assert!(found == whole(1, 3, room.archive.segment_size()));
}

/// Reads are no snapshots: whoever reads beside the writer never sees damage, and never less than before.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_reader_beside_the_writer_sees_it_grow() {
    let room = Arc::new(room(16).await);
    let start = Lsn(3 * 16 * MIB);
    let mut journal = room.writer(1, 3);
    let mut end = grow(&mut journal, 1, start, &[100]).await.unwrap();
    let writing = tokio::spawn(async move {
        for number in 0..400u64 {
            end = grow(&mut journal, 1, end, &[number * 37 % 9000 + 1]).await.unwrap();
        }
        end
    });
    let mut seen = start;
    while !writing.is_finished() {
        let bytes = room.assembled(3).await.unwrap();
        let to = start.add(bytes.len() as u64);
        assert!(to >= seen && bytes == wal(1, start, bytes.len() as u64));
        seen = to;
    }
    let end = writing.await.unwrap();
    assert_eq!(room.spans(3).await[0].to, end);
}

//! Every way in which a journal can end, be damaged or be put together by somebody else.
use std::sync::Arc;

use bytes::Bytes;
use hardstorage_codec::Secret;
use hardstorage_report::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};
use hardstorage_storage::{DynStore, Key, MemoryStore, Store as _};
use proptest::prelude::*;

use super::super::{CommitAt, NamedWal, RestorePoint, ServerTime, TailSpan, WalArchive, check_bytes, check_sealed};
use super::*;
use crate::{Deployment, Lineage, RepoConfig, Surroundings, WriterId, layout};

const MIB: u64 = 1 << 20;
const START: Lsn = Lsn(3 * MIB);

/// An archive in memory, into which journals are put byte by byte.
struct Bench {
    memory: Arc<MemoryStore>,
    archive: WalArchive,
    segment: SegmentName,
    key: Key,
}

/// The bytes of a journal: its head and its records.
#[derive(Clone)]
struct Made {
    head: Vec<u8>,
    records: Vec<Vec<u8>>,
}

impl Made {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        bytes.extend(self.records.concat());
        bytes
    }

    /// With zeros behind, as a journal has that is not at the end of a step.
    fn padded(&self) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.resize(bytes.len() + 8 * BLOCK, 0);
        bytes
    }
}

const LENGTHS: [u64; 4] = [100, 700, 9000, 333];

fn end_of(records: usize) -> Lsn {
    START.add(LENGTHS[..records].iter().sum())
}

fn wal(from: Lsn, length: u64) -> Vec<u8> {
    (from.0..from.0 + length).map(|at| (at ^ (at >> 7)) as u8).collect()
}

fn facts(at: Lsn) -> RecordFacts {
    let mut facts = RecordFacts::default();
    facts.note_commit(CommitAt {
        lsn: at,
        time: ServerTime(at.0 as i64),
    });
    facts
}

impl Bench {
    fn new(sealing: bool) -> Bench {
        let memory = Arc::new(MemoryStore::new());
        let deployment = Deployment::for_tests_with(
            memory.clone() as DynStore,
            "db1",
            Surroundings::default(),
            DataKey::new(Secret::new([3; 32]), [4; 16], 1, sealing),
            RepoConfig::default(),
        );
        let lineage = Lineage {
            system_id: SystemId(7),
            incarnation: 1,
        };
        let size = SegmentSize::new(MIB).unwrap();
        let archive = WalArchive::new(deployment, lineage, size);
        let segment = SegmentName::containing(Timeline(1), START, size);
        let writer = WriterId::new([1; 16]);
        let key = layout::journal(archive.deployment().name(), lineage, segment, START, &writer);
        Bench {
            memory,
            archive,
            segment,
            key,
        }
    }

    fn make(&self, salt: u8, start: Lsn, lengths: &[u64]) -> Made {
        let header = Header {
            kind: WalKind::Journal,
            sealed: self.archive.deployment().key().seals(),
            key_id: *self.archive.deployment().key().id(),
            salt: [salt; 16],
            segment_size: self.archive.segment_size(),
        };
        let seal = ObjectSeal::new(self.archive.deployment().key(), &header).unwrap();
        let metadata = WalMetadata {
            lineage: self.archive.lineage(),
            timeline: Timeline(1),
            start,
            segment_size: self.archive.segment_size(),
            length: 0,
            hash: [0; 32],
            facts: RecordFacts::default(),
            restore_points: 0,
        };
        let head = Head::encode(&header, &seal, &metadata);
        let mut encoder = RecordEncoder::new(&header, seal, 3);
        let mut at = start;
        let records = lengths.iter().map(|length| {
            let mut out = vec![7; LEAD];
            encoder.encode(&[&wal(at, *length)], &facts(at), &mut out).unwrap();
            at = at.add(*length);
            assert_eq!(out[..LEAD], [7; LEAD], "what lies before it is not touched");
            out.split_off(LEAD)
        });
        Made {
            records: records.collect(),
            head,
        }
    }

    fn usual(&self) -> Made {
        self.make(9, START, &LENGTHS)
    }

    /// Puts these bytes in the place of what was there.
    async fn put(&self, bytes: Vec<u8>) {
        self.memory.delete(&self.key).await.unwrap();
        self.memory.put_new(&self.key, Bytes::from(bytes)).await.unwrap();
    }

    async fn spans(&self) -> Vec<TailSpan> {
        self.archive.list_tails(self.segment).await.unwrap()
    }

    /// Everything that it holds, as a restore reads it.
    async fn read(&self) -> Result<Vec<u8>> {
        let mut tails = self.archive.assemble(self.segment).await?.unwrap();
        let mut out = Vec::new();
        while let Some(bytes) = tails.next().await? {
            out.extend_from_slice(&bytes);
        }
        Ok(out)
    }

    /// What a scrub says, with the key and without.
    async fn scrubbed(&self) -> [Result<()>; 2] {
        let name = self.archive.deployment().name();
        let named = NamedWal::of(name, &self.key).unwrap();
        let length = self.memory.head(&self.key).await.unwrap().unwrap().size;
        let store: DynStore = self.memory.clone();
        [
            check_sealed(self.archive.deployment(), &self.key, length, &named).await,
            check_bytes(&store, &self.key, length, &named).await,
        ]
    }

    /// It ends, soundly, behind so many records.
    async fn ends_behind(&self, records: usize, case: &str) {
        let spans = self.spans().await;
        assert_eq!(spans.len(), 1, "{case}");
        assert_eq!((spans[0].from, spans[0].to), (START, end_of(records)), "{case}");
        let length = START.bytes_until(end_of(records));
        assert!(self.read().await.unwrap() == wal(START, length), "{case}");
        for scrubbed in self.scrubbed().await {
            scrubbed.unwrap_or_else(|error| panic!("{case}: {error}"));
        }
    }

    /// It is damaged, which nobody who reads it can miss; without the key, where `keyless` says so. The listing promises
    /// no more than `records`.
    async fn is_damaged(&self, records: usize, keyless: bool, case: &str) {
        for span in self.spans().await {
            assert!(span.to <= end_of(records), "{case}: {span:?}");
        }
        let error = self.read().await.expect_err(case);
        assert_eq!(
            error.code().as_str(),
            code::repository::OBJECT_CORRUPT.as_str(),
            "{case}: {error}"
        );
        let [sealed, bytes] = self.scrubbed().await;
        assert!(sealed.unwrap_err().is(code::repository::OBJECT_CORRUPT), "{case}");
        assert_eq!(bytes.is_err(), keyless, "{case}");
    }
}

#[tokio::test]
async fn what_was_torn_was_never_there() {
    for sealing in [true, false] {
        let bench = Bench::new(sealing);
        let made = bench.usual();
        let whole = made.padded();
        bench.put(whole.clone()).await;
        bench.ends_behind(4, "whole").await;
        // Cut short, with nothing behind.
        bench.put(made.bytes()).await;
        bench.ends_behind(4, "without zeros").await;
        let last: usize = made.head.len() + made.records[..3].concat().len();
        let end = last + made.records[3].len();
        // Every byte; without the seal, which changes nothing here, every fifth.
        for at in (last..end).step_by(if sealing { 1 } else { 5 }) {
            let mut torn = whole.clone();
            torn[at..].fill(0);
            let kept = if torn == whole { 4 } else { 3 };
            bench.put(torn).await;
            bench.ends_behind(kept, &format!("the beginning up to {at}")).await;
            let mut torn = whole.clone();
            torn[last..=at].fill(0);
            bench.put(torn).await;
            bench.ends_behind(3, &format!("the end from {at}")).await;
            bench.put(whole[..at].to_vec()).await;
            bench.ends_behind(3, &format!("the file up to {at}")).await;
        }
        // Sectors of it in any order.
        let blocks = (end - last) / BLOCK;
        for kept in 0..(1 << blocks) - 1 {
            let mut torn = whole.clone();
            for block in (0..blocks).filter(|block| kept >> block & 1 == 0) {
                torn[last + block * BLOCK..last + (block + 1) * BLOCK].fill(0);
            }
            bench.put(torn).await;
            bench.ends_behind(3, &format!("sectors {kept:b}")).await;
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_is_found_wherever_something_follows() {
    for sealing in [true, false] {
        let bench = Bench::new(sealing);
        let made = bench.usual();
        let whole = made.padded();
        let mut begin = made.head.len();
        for at in 0..begin {
            let mut bad = whole.clone();
            bad[at] ^= 1 << (at % 8);
            bench.put(bad).await;
            bench.is_damaged(0, true, &format!("head, {at}")).await;
        }
        for (number, record) in made.records.iter().enumerate() {
            let end = begin + record.len();
            for at in (begin..end).filter(|at| *at < begin + 64 || *at + 64 > end || at % 13 == 0) {
                let mut bad = whole.clone();
                bad[at] ^= 1 << (at % 8);
                let case = format!("record {number}, {at}");
                let padding = record[at - begin..].iter().all(|byte| *byte == 0);
                bench.put(bad).await;
                // Of the last one nobody can tell rot from a crash, but for what a crash cannot leave.
                if number + 1 == made.records.len() && !padding {
                    bench.ends_behind(number, &case).await;
                } else {
                    bench.is_damaged(number, true, &case).await;
                }
            }
            begin = end;
        }
    }
}

#[tokio::test]
async fn nothing_can_be_moved_left_out_or_brought_from_elsewhere() {
    for sealing in [true, false] {
        let bench = Bench::new(sealing);
        let made = bench.usual();
        let with = |change: &dyn Fn(&mut Made)| {
            let mut other = made.clone();
            change(&mut other);
            other.padded()
        };
        let stranger = bench.make(8, START, &LENGTHS);
        for (case, bytes, records) in [
            ("two change places", with(&|made| made.records.swap(1, 2)), 1),
            ("one is left out", with(&|made| drop(made.records.remove(1))), 1),
            ("the first is left out", with(&|made| drop(made.records.remove(0))), 0),
            ("one is zero", with(&|made| made.records[2].fill(0)), 2),
            (
                "one is another journal's",
                with(&|made| made.records[1] = stranger.records[1].clone()),
                1,
            ),
            (
                "the head is another's",
                with(&|made| made.head.clone_from(&stranger.head)),
                0,
            ),
            ("nothing but a head", made.head.clone(), 0),
            ("less than a head", made.head[..300].to_vec(), 0),
            ("empty", Vec::new(), 0),
            ("zeros", vec![0; 4096], 0),
        ] {
            bench.put(bytes).await;
            bench.is_damaged(records, true, case).await;
        }
        // One journal behind another is the first one: the records of the second are nothing of it.
        bench.put([made.bytes(), stranger.bytes()].concat()).await;
        bench.ends_behind(4, "one behind the other").await;
        // What is cut off at the end of a record, like a tail that is removed, leaves no trace.
        bench.put(with(&|made| made.records.truncate(2))).await;
        bench.ends_behind(2, "cut off").await;
        // Of another place under this name.
        bench.put(bench.make(7, START.add(8), &LENGTHS).padded()).await;
        let error = bench.read().await.unwrap_err();
        assert!(error.is(code::repository::OBJECT_CORRUPT), "{error}");
        // Beyond the end of the segment.
        bench.put(bench.make(6, START, &[MIB - 10, 11]).padded()).await;
        let error = bench.read().await.unwrap_err();
        assert!(error.is(code::repository::OBJECT_CORRUPT), "{error}");
    }
}

/// Somebody who has no key but knows the format makes the hash right: as the last record too it is no end.
#[tokio::test]
async fn a_record_that_was_forged_is_no_end() {
    for sealing in [true, false] {
        let bench = Bench::new(sealing);
        let mut made = bench.usual();
        let last = made.records.last_mut().unwrap();
        let part = PartHeader::decode(Part::Record, &last[..FRAME_HEADER_LEN]).unwrap();
        let stored = RECORD_HEAD..RECORD_HEAD + part.stored_len as usize;
        last[stored.start + 5] ^= 1;
        let header: [u8; HEADER_LEN] = made.head[..HEADER_LEN].try_into().unwrap();
        let digest = digest_of(&header, &last[..FRAME_HEADER_LEN], &last[stored]);
        last[FRAME_HEADER_LEN..RECORD_HEAD].copy_from_slice(&digest);
        bench.put(made.padded()).await;
        bench.is_damaged(3, false, "forged").await;
    }
}

fn some_facts() -> impl Strategy<Value = RecordFacts> {
    let commit = || {
        proptest::option::of((any::<u64>(), any::<i64>()).prop_map(|(lsn, time)| CommitAt {
            lsn: Lsn(lsn),
            time: ServerTime(time),
        }))
    };
    let point = ("[a-zä]{0,63}", any::<u64>(), any::<i64>()).prop_map(|(name, lsn, time)| RestorePoint {
        name,
        lsn: Lsn(lsn),
        time: ServerTime(time),
    });
    let clocks = (proptest::option::of(any::<i64>()), proptest::option::of(any::<u64>()));
    let points = proptest::collection::vec(point, 0..5);
    (commit(), commit(), commit(), clocks, points).prop_map(
        |(first_commit, last_commit, latest_commit, (clock, end), restore_points)| RecordFacts {
            first_commit,
            last_commit,
            latest_commit,
            restore_points,
            complete_up_to: clock.map(ServerTime).max(latest_commit.map(|commit| commit.time)),
            records_end: end.map(Lsn),
        },
    )
}

proptest! {
    #[test]
    fn records_round_trip(
        sealing in any::<bool>(), facts in some_facts(), zeros in any::<bool>(),
        raw in proptest::collection::vec(any::<u8>(), 1..3000), copies in 1usize..40, cut in any::<prop::sample::Index>(),
    ) {
        let bench = Bench::new(sealing);
        let made = bench.make(1, START, &[]);
        let header = Head::decode(&made.head).unwrap();
        let (header, seal, _) = header.open(bench.archive.deployment().key()).unwrap();
        let raw = if zeros { vec![0; raw.len()] } else { raw.repeat(copies) };
        let mut encoder = RecordEncoder::new(&header, seal.clone(), 3);
        let mut out = vec![7; LEAD];
        let (first, second) = raw.split_at(cut.index(raw.len()));
        encoder.encode(&[first, second], &facts, &mut out).unwrap();
        let out = out.split_off(LEAD);
        let Look::Record(record) = Record::look(&header.encode(), &out) else { panic!("it is not there") };
        prop_assert_eq!(record.length(), out.len());
        let mut again = Vec::new();
        prop_assert_eq!(record.open(&seal, Some(&mut again)).unwrap(), facts);
        prop_assert!(again == raw);
    }

    #[test]
    fn foreign_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let looked = Record::look(&[0; HEADER_LEN], &bytes);
        prop_assert!(!matches!(looked, Look::Record(_)));
        prop_assert!(Head::decode(&bytes).is_err());
        let _ = decode_facts(&bytes);
    }
}

//! Histories, aux files and gap records: create-only envelopes.

use super::*;
use hardstorage_report::{Error, code};
use hardstorage_repository::wal::{LsnRange, Stored};
use hardstorage_storage::{Call, Fault, Store as _};

#[tokio::test]
async fn a_history_is_written_once() {
    let bench = bench(1);
    let (ours, theirs) = (b"1\t0/3000158\tx\n", b"1\t0/3000160\tx\n");
    let put = |bytes: &'static [u8]| bench.archive.put_history(Timeline(0xA), bytes);
    assert_eq!(put(ours).await.unwrap(), Stored::Stored);
    assert_eq!(put(ours).await.unwrap(), Stored::AlreadyThere);
    let error = put(theirs).await.unwrap_err();
    assert!(error.is(code::repository::SPLIT_BRAIN), "{error}");
    assert!(error.to_string().contains("0000000A.history"), "{error}");
    assert_eq!(bench.archive.history(Timeline(0xA)).await.unwrap().unwrap(), &ours[..]);
    assert_eq!(bench.archive.list_histories().await.unwrap(), [Timeline(10)]);
    let ancestry = bench.archive.ancestry().await.unwrap();
    assert_eq!(ancestry.chain(Timeline(10)).unwrap().len(), 2);
}

#[tokio::test]
async fn a_lost_answer_and_a_damaged_history() {
    let bench = bench(1);
    bench.faults.on(
        Call::PutNew,
        1,
        Fault::FailAfter(Error::new(code::storage::UNREACHABLE, "lost")),
    );
    assert!(bench.archive.put_history(Timeline(2), b"1\t0/1\tx\n").await.is_err());
    assert_eq!(
        bench.archive.put_history(Timeline(2), b"1\t0/1\tx\n").await.unwrap(),
        Stored::AlreadyThere
    );
    let key = bench.keys().await.remove(0);
    bench.memory.corrupt(&key, |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert!(
        bench
            .archive
            .history(Timeline(2))
            .await
            .unwrap_err()
            .is(code::repository::OBJECT_CORRUPT)
    );
    assert!(bench.archive.coverage(Timeline(2), Lsn(0)).await.is_err());
}

#[tokio::test]
async fn backup_histories_keep_their_names_and_bytes() {
    let bench = bench(1);
    let backup = "0000000A0000000000000003.00000028.backup";
    let put = |bytes: &'static [u8]| bench.archive.put_backup_history(backup, bytes);
    assert_eq!(put(b"START WAL").await.unwrap(), Stored::Stored);
    assert_eq!(put(b"START WAL").await.unwrap(), Stored::AlreadyThere);
    assert!(put(b"other").await.unwrap_err().is(code::repository::SPLIT_BRAIN));
    let there = bench.archive.backup_history(backup).await.unwrap();
    assert_eq!(there.unwrap(), &b"START WAL"[..]);
    for bad in ["x.backup", "0000000A0000000000000003.partial"] {
        let refused = bench.archive.put_backup_history(bad, b"").await.unwrap_err();
        assert!(refused.is(code::usage::INVALID), "{bad}: {refused}");
    }
}

/// It holds rows, so it is sealed; and it is no segment, whatever name it is given.
#[tokio::test]
async fn a_partial_segment_is_sealed_and_never_a_whole_one() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let segment = name(1, 3, size);
    let mut raw = whole(1, 3, size);
    let put = async |raw: &[u8]| {
        let mut builder = bench.archive.partial_builder(segment).unwrap();
        builder.append(Lsn(3 * MIB), raw).await.unwrap();
        builder.finish(RecordFacts::default()).await
    };
    // The old primary's tails may go further than the timeline does.
    let mut tail = bench.archive.tail_writer(segment, writer(1)).unwrap();
    tail.put(Lsn(3 * MIB), &whole(2, 3, size)[..40_000], RecordFacts::default())
        .await
        .unwrap();
    assert_eq!(put(&raw).await.unwrap(), Stored::Stored);
    assert_eq!(put(&raw).await.unwrap(), Stored::AlreadyThere);
    let key = bench
        .keys()
        .await
        .into_iter()
        .find(|key| key.as_str().contains("/aux/"));
    let key = key.unwrap();
    let stored = bench.memory.get(&key).await.unwrap().unwrap();
    let seen = stored.windows(64).any(|window| window == &raw[8192..8256]);
    assert!(!seen, "the WAL of a partial segment lies there in clear");

    assert!(!bench.archive.has_segment(segment).await.unwrap());
    let forged = hardstorage_repository::layout::segment(bench.archive.deployment().name(), LINEAGE, segment);
    bench.memory.put_new(&forged, stored).await.unwrap();
    let refused = bench.read(segment).await.unwrap_err();
    assert!(refused.is(code::repository::OBJECT_CORRUPT), "{refused}");

    raw[9000] ^= 1;
    let refused = put(&raw).await.unwrap_err();
    assert!(refused.is(code::repository::SPLIT_BRAIN), "{refused}");
    assert!(refused.to_string().contains(".partial"), "{refused}");
}

/// A finished segment may say what its tails have said, and nothing of other segments.
#[tokio::test]
async fn what_tails_say_of_the_clock() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    assert_eq!(
        bench.archive.tails_complete_up_to(name(1, 3, size)).await.unwrap(),
        None
    );
    for (number, at, clock) in [
        (1, 3 * MIB, Some(70)),
        (2, 3 * MIB, Some(90)),
        (3, 3 * MIB, None),
        (4, 4 * MIB, Some(99)),
    ] {
        let segment = name(1, at / MIB, size);
        let mut tail = bench.archive.tail_writer(segment, writer(number)).unwrap();
        tail.put(Lsn(at), &wal(1, Lsn(at), 100), facts(&[], clock))
            .await
            .unwrap();
    }
    let said = bench.archive.tails_complete_up_to(name(1, 3, size)).await.unwrap();
    assert_eq!(said, Some(ServerTime(90)));
}

#[tokio::test]
async fn gaps_are_recorded_with_their_evidence() {
    let bench = bench(1);
    let evidence = serde_json::json!({"slot": "hardstorage_db1", "restart_lsn": "0/5000000"});
    let put = |reason: &'static str| {
        bench.archive.put_gap(
            Timeline(1),
            (Lsn(0x300_0000), Lsn(0x500_0000)),
            reason,
            evidence.clone(),
        )
    };
    assert_eq!(put("the slot was gone").await.unwrap(), Stored::Stored);
    assert_eq!(put("again").await.unwrap(), Stored::AlreadyThere);
    let gaps = bench.archive.gaps().await.unwrap().records;
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        (gaps[0].from, gaps[0].to, gaps[0].timeline),
        (Lsn(0x300_0000), Lsn(0x500_0000), Timeline(1))
    );
    assert_eq!(gaps[0].reason, "the slot was gone");
    assert_eq!(gaps[0].evidence, evidence);
    let none = bench
        .archive
        .put_gap(Timeline(1), (Lsn(5), Lsn(5)), "x", evidence.clone())
        .await;
    assert!(none.unwrap_err().is(code::usage::INVALID));
}

/// Nobody can tell what it said: a hole is assumed where its name says, nothing is skipped or ended because of it, and the
/// others answer.
#[tokio::test]
async fn a_damaged_gap_record_is_named_and_keeps_nobody_from_the_rest() {
    let bench = bench(1);
    for number in [3, 6, 9] {
        bench.store(1, 1, number).await;
    }
    let asked = serde_json::json!({"answer": "it is gone"});
    for (from, to) in [(4, 6), (7, 9)] {
        let range = (Lsn(from * MIB), Lsn(to * MIB));
        let put = bench.archive.put_gap(Timeline(1), range, "lost", asked.clone());
        put.await.unwrap();
    }
    let slot = Some(Lsn(9 * MIB + 5));
    let goes_on = async || {
        bench
            .archive
            .frontier(Timeline(1), slot, &[])
            .await
            .unwrap()
            .unwrap()
            .at
    };
    let open = async || {
        let coverage = bench.archive.coverage(Timeline(1), Lsn(0)).await.unwrap();
        bench.archive.open_gaps(&coverage).await.unwrap().len()
    };
    assert_eq!((goes_on().await, open().await), (Lsn(10 * MIB), 2));

    let keys = bench.keys().await;
    let broken = keys.iter().find(|key| key.as_str().contains("/gaps/")).unwrap().clone();
    bench.memory.corrupt(&broken, |bytes| bytes[100] ^= 1);
    let gaps = bench.archive.gaps().await.unwrap();
    assert_eq!(gaps.records.len(), 1);
    let [damaged] = &gaps.damaged[..] else {
        panic!("{gaps:?}")
    };
    let range = LsnRange {
        from: Lsn(4 * MIB),
        to: Lsn(6 * MIB),
    };
    assert_eq!(damaged.named, Some((Timeline(1), range)));
    assert_eq!(
        (damaged.object.as_str(), damaged.code),
        (broken.as_str(), "verify.object_corrupt")
    );
    assert_eq!(open().await, 2, "what it recorded still counts as lost");
    assert_eq!(goes_on().await, Lsn(4 * MIB), "the server is asked for it again");

    // One whose name says nothing is named all the same.
    let strange = Key::new(broken.as_str().replace(".json", "x.json")).unwrap();
    bench
        .memory
        .put_new(&strange, bytes::Bytes::from_static(b"?"))
        .await
        .unwrap();
    let gaps = bench.archive.gaps().await.unwrap();
    let named: Vec<_> = gaps.damaged.iter().map(|gap| gap.named.is_some()).collect();
    assert_eq!(named, [true, false]);
    assert_eq!(open().await, 2);
}

//! Histories, aux files and gap records: create-only envelopes.

use super::*;
use hardstorage_report::{Error, code};
use hardstorage_repository::wal::Stored;
use hardstorage_storage::{Call, Fault};

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
async fn aux_files_keep_their_names_and_bytes() {
    let bench = bench(1);
    let backup = "0000000A0000000000000003.00000028.backup";
    assert_eq!(
        bench.archive.put_aux(backup, b"START WAL").await.unwrap(),
        Stored::Stored
    );
    assert_eq!(
        bench.archive.put_aux(backup, b"START WAL").await.unwrap(),
        Stored::AlreadyThere
    );
    assert!(
        bench
            .archive
            .put_aux(backup, b"other")
            .await
            .unwrap_err()
            .is(code::repository::SPLIT_BRAIN)
    );
    assert_eq!(bench.archive.aux(backup).await.unwrap().unwrap(), &b"START WAL"[..]);
    assert!(
        bench
            .archive
            .put_aux("x.backup", b"")
            .await
            .unwrap_err()
            .is(code::usage::INVALID)
    );
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
    let gaps = bench.archive.gaps().await.unwrap();
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

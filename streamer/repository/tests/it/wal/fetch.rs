//! `restore_command`: found, proven absent, or an error; never a guess.

use super::*;
use hardstorage_report::{Error, code};
use hardstorage_repository::wal::Fetched;
use hardstorage_storage::{Call, Fault};

async fn fetched(bench: &Bench, name: &str, follow: Option<u32>) -> hardstorage_report::Result<Option<Vec<u8>>> {
    match bench.archive.fetch(name, follow.map(Timeline)).await? {
        Fetched::Found(file) => {
            let mut out = Vec::new();
            let length = file.length();
            assert_eq!(file.copy_to(&mut out, |error| panic!("{error}")).await?, length);
            assert_eq!(out.len() as u64, length);
            Ok(Some(out))
        }
        Fetched::Absent(proof) => {
            assert_eq!(proof.name(), name);
            Ok(None)
        }
    }
}

async fn refused(bench: &Bench, name: &str) -> Error {
    fetched(bench, name, None).await.unwrap_err()
}

pub async fn tail(bench: &Bench, segment: SegmentName, from: Lsn, length: u64) {
    let mut tails = bench.archive.tail_writer(segment, writer(9)).unwrap();
    tails
        .put(from, &wal(1, from, length), RecordFacts::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_finished_segment_and_the_end_of_the_archive() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    bench.store(1, 1, 3).await;
    let there = fetched(&bench, &name(1, 3, size).to_string(), None).await.unwrap();
    assert!(there.unwrap() == whole(1, 3, size));
    assert!(
        fetched(&bench, &name(1, 4, size).to_string(), None)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        fetched(&bench, &name(2, 4, size).to_string(), None)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_hole_is_never_the_end() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    bench.store(1, 1, 5).await;
    let error = refused(&bench, &name(1, 4, size).to_string()).await;
    assert!(error.is(code::repository::WAL_GAP), "{error}");
    // A later segment of which only tails are there is later, too.
    tail(&bench, name(1, 8, size), Lsn(8 * MIB), 100).await;
    for number in [6, 7] {
        let error = refused(&bench, &name(1, number, size).to_string()).await;
        assert!(error.is(code::repository::WAL_GAP), "{error}");
    }
    assert!(
        fetched(&bench, &name(1, 9, size).to_string(), None)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn the_last_segment_is_assembled_and_filled_with_zeros() {
    for mib in [1, 16] {
        let bench = bench(mib);
        let size = bench.archive.segment_size();
        let segment = name(12, 3, size);
        let start = segment.start(size).unwrap();
        bench.store(1, 12, 2).await;
        tail(&bench, segment, start, 70_001).await;
        let Fetched::Found(file) = bench.archive.fetch(&segment.to_string(), None).await.unwrap() else {
            panic!("it is there");
        };
        assert!(file.is_assembled());
        let mut out = Vec::new();
        file.copy_to(&mut out, |error| panic!("{error}")).await.unwrap();
        let mut expected = wal(1, start, 70_001);
        expected.resize(size.bytes() as usize, 0);
        assert!(out == expected, "{mib} MiB");
    }
}

#[tokio::test]
async fn tails_before_something_later_count_only_when_they_are_whole() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    bench.store(1, 1, 4).await;
    tail(&bench, name(1, 3, size), Lsn(3 * MIB), MIB - 1).await;
    let error = refused(&bench, &name(1, 3, size).to_string()).await;
    assert!(error.is(code::repository::WAL_GAP), "{error}");
    let mut last = bench.archive.tail_writer(name(1, 3, size), writer(3)).unwrap();
    let at = Lsn(4 * MIB - 10);
    last.put(at, &wal(1, at, 10), RecordFacts::default()).await.unwrap();
    let whole_now = fetched(&bench, &name(1, 3, size).to_string(), None).await.unwrap();
    assert!(whole_now.unwrap() == whole(1, 3, size));
}

#[tokio::test]
async fn tails_that_begin_late_or_have_a_hole_are_an_error() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    tail(&bench, name(1, 3, size), Lsn(3 * MIB + 8), 100).await;
    assert!(
        refused(&bench, &name(1, 3, size).to_string())
            .await
            .is(code::repository::WAL_GAP)
    );
    tail(&bench, name(2, 3, size), Lsn(3 * MIB), 100).await;
    let mut other = bench.archive.tail_writer(name(2, 3, size), writer(2)).unwrap();
    other
        .put(Lsn(3 * MIB + 101), &[1; 10], RecordFacts::default())
        .await
        .unwrap();
    assert!(
        refused(&bench, &name(2, 3, size).to_string())
            .await
            .is(code::repository::WAL_GAP)
    );
}

#[tokio::test]
async fn every_failed_call_is_an_error_and_never_absent() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let calls = {
        let before = bench.faults.calls();
        assert!(
            fetched(&bench, &name(1, 3, size).to_string(), Some(2))
                .await
                .unwrap()
                .is_none()
        );
        bench.faults.calls() - before
    };
    for asked in [
        name(1, 3, size).to_string(),
        "00000002.history".into(),
        format!("{}.partial", name(1, 3, size)),
    ] {
        for number in 1..=calls {
            let before = bench.faults.calls();
            bench.faults.at(
                before + number,
                Fault::FailBefore(Error::new(code::storage::UNREACHABLE, "by script")),
            );
            let answer = fetched(&bench, &asked, Some(2)).await;
            let was_called = bench.faults.calls() - before >= number;
            assert_eq!(answer.is_err(), was_called, "{asked}, call {number}");
            bench.faults.clear();
        }
    }
}

#[tokio::test]
async fn damage_is_an_error() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    bench.store(1, 1, 3).await;
    bench.faults.every(Call::Get, || Fault::FlipByte(5000));
    let error = refused(&bench, &name(1, 3, size).to_string()).await;
    assert!(error.is(code::repository::OBJECT_CORRUPT), "{error}");
}

#[tokio::test]
async fn a_dead_branch_is_never_given() {
    let bench = bench(1);
    let size = bench.archive.segment_size();
    let switch = 5 * MIB + 4000;
    for number in 3..=6 {
        bench.store(1, 1, number).await;
    }
    bench.promoted_at(Lsn(switch)).await;
    let asked = |number| name(1, number, size).to_string();
    // Before the switch nothing changes; its segment ends at the switch; behind it there is nothing.
    let before = fetched(&bench, &asked(4), Some(2)).await.unwrap().unwrap();
    assert!(before == whole(1, 4, size));
    let at = fetched(&bench, &asked(5), Some(2)).await.unwrap().unwrap();
    let mut expected = whole(1, 5, size);
    expected[4000..].fill(0);
    assert!(at == expected);
    assert!(fetched(&bench, &asked(6), Some(2)).await.unwrap().is_none());
    // Recovery along timeline 1 itself gets all of it.
    assert!(fetched(&bench, &asked(5), Some(1)).await.unwrap().unwrap() == whole(1, 5, size));
    assert!(fetched(&bench, &asked(6), None).await.unwrap().unwrap() == whole(1, 6, size));
    // The new timeline's copy of the switch segment is missing and a later one is there: a gap, not an end.
    bench.store(1, 2, 6).await;
    let error = refused(&bench, &name(2, 5, size).to_string()).await;
    assert!(error.is(code::repository::WAL_GAP), "{error}");
}

/// A stream that follows a promotion copies the segment of the switch, and can end in the middle of that.
#[tokio::test]
async fn a_copy_that_ends_before_the_switch_takes_nothing_of_the_ancestor() {
    let (switch, copied) = (5 * MIB + 9000, 4000);
    let begun = |finished: bool, ancestor: u64| async move {
        let bench = bench(1);
        let size = bench.archive.segment_size();
        bench.promoted_at(Lsn(switch)).await;
        if finished {
            bench.store(1, 1, 5).await;
        } else {
            tail(&bench, name(1, 5, size), Lsn(5 * MIB), ancestor).await;
        }
        tail(&bench, name(2, 5, size), Lsn(5 * MIB), copied).await;
        bench
    };
    let up_to = |size, length: u64| {
        let mut expected = whole(1, 5, size);
        expected[length as usize..].fill(0);
        expected
    };
    // The ancestor's tails reach the switch, or not quite, or beyond it; or its segment is finished. Or they end before the
    // copy does.
    for (finished, ancestor, expected) in [
        (false, 9000, 9000),
        (false, 7000, 7000),
        (false, 20_000, 9000),
        (true, 0, 9000),
        (false, 3000, copied),
    ] {
        let bench = begun(finished, ancestor).await;
        let size = bench.archive.segment_size();
        for follow in [None, Some(2)] {
            let found = fetched(&bench, &name(2, 5, size).to_string(), follow).await.unwrap();
            assert!(
                found.unwrap() == up_to(size, expected),
                "{finished} {ancestor} {follow:?}"
            );
        }
        let Fetched::Found(file) = bench.archive.fetch(&name(2, 5, size).to_string(), None).await.unwrap() else {
            panic!("it was there a moment ago");
        };
        assert!(file.is_assembled(), "it must not be kept");
    }
    // A third timeline that began in the same segment, of which nothing was copied behind the first bytes.
    let bench = begun(false, 9000).await;
    let size = bench.archive.segment_size();
    let history = format!(
        "1\t{}\tno recovery target specified\n\n2\t{}\tno recovery target specified\n",
        Lsn(switch),
        Lsn(switch + 5000)
    );
    bench
        .archive
        .put_history(Timeline(3), history.as_bytes())
        .await
        .unwrap();
    tail(&bench, name(3, 5, size), Lsn(5 * MIB), 100).await;
    let found = fetched(&bench, &name(3, 5, size).to_string(), Some(3)).await.unwrap();
    assert!(found.unwrap() == up_to(size, 9000));
}

#[tokio::test]
async fn a_history_is_absent_only_when_nothing_speaks_of_the_timeline() {
    let bench = bench(1);
    bench
        .archive
        .put_history(Timeline(2), b"1\t0/3000158\tx\n")
        .await
        .unwrap();
    assert_eq!(
        fetched(&bench, "00000002.history", None).await.unwrap().unwrap(),
        b"1\t0/3000158\tx\n"
    );
    assert!(fetched(&bench, "00000003.history", None).await.unwrap().is_none());
    assert!(fetched(&bench, "00000001.history", None).await.unwrap().is_none());
    // WAL of the timeline without its history.
    bench.store(1, 3, 4).await;
    assert!(refused(&bench, "00000003.history").await.is(code::repository::WAL_GAP));
    // A later history: PostgreSQL's search for the newest timeline would end too early.
    let history = b"1\t0/3000158\tx\n2\t0/4000158\ty\n";
    bench.archive.put_history(Timeline(0xB), history).await.unwrap();
    assert!(refused(&bench, "0000000A.history").await.is(code::repository::WAL_GAP));
    assert!(fetched(&bench, "0000000C.history", None).await.unwrap().is_none());
    assert!(fetched(&bench, "00000001.history", None).await.unwrap().is_none());
}

#[tokio::test]
async fn other_files_and_other_names() {
    let bench = bench(1);
    let partial = "000000010000000000000003.partial";
    assert!(fetched(&bench, partial, None).await.unwrap().is_none());
    let size = bench.archive.segment_size();
    let raw = whole(1, 3, size);
    let mut builder = bench.archive.partial_builder(name(1, 3, size)).unwrap();
    builder.append(Lsn(3 * MIB), &raw).await.unwrap();
    builder.finish(RecordFacts::default()).await.unwrap();
    assert_eq!(fetched(&bench, partial, None).await.unwrap().unwrap(), raw);
    let backup = "000000010000000000000003.00000028.backup";
    assert!(fetched(&bench, backup, None).await.unwrap().is_none());
    bench.archive.put_backup_history(backup, b"some lines").await.unwrap();
    assert_eq!(fetched(&bench, backup, None).await.unwrap().unwrap(), b"some lines");
    for bad in [
        "",
        "x",
        "../000000010000000000000003",
        "000000010000000000000003.tmp",
        "RECOVERYXLOG",
    ] {
        assert!(refused(&bench, bad).await.is(code::usage::INVALID), "{bad}");
    }
    // A name that this segment size cannot have.
    assert!(
        refused(&bench, "00000001000000000FFFFFFF")
            .await
            .is(code::usage::INVALID)
    );
}

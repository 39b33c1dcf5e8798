//! What a file must be to be pushed: whole, of the cluster and the place that its name says.

use std::path::PathBuf;

use hardstorage_report::Lsn;
use tempfile::TempDir;

use super::*;
use crate::records::tests::crossing_commit;

const MIB: usize = 1 << 20;
/// Of `crossing_commit`: the cluster 42, timeline 7.
const NAME: &str = "000000070000000000000005";

/// The whole first segment of a server.
fn wal() -> Vec<u8> {
    crossing_commit(Lsn(5 << 20), 1).0[..MIB].to_vec()
}

/// A data directory of the cluster 42.
fn data() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    for folder in ["pg_wal", "global"] {
        std::fs::create_dir(data.path().join(folder)).unwrap();
    }
    let control = [&42u64.to_le_bytes()[..], &1800u32.to_le_bytes()].concat();
    std::fs::write(data.path().join("global/pg_control"), control).unwrap();
    data
}

fn put(data: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = data.path().join("pg_wal").join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[track_caller]
fn refused(name: &str, bytes: &[u8]) -> Error {
    let data = data();
    WalFile::look(&put(&data, name, bytes)).unwrap_err()
}

#[test]
fn a_segment_is_what_its_header_says() {
    let data = data();
    for name in [NAME.to_owned(), format!("{NAME}.partial")] {
        let file = WalFile::look(&put(&data, &name, &wal())).unwrap();
        assert_eq!((file.system_id(), file.name.to_string()), (SystemId(42), name));
    }
    // The segment in which timeline 9 begins has its first page from timeline 7.
    WalFile::look(&put(&data, "000000090000000000000005", &wal())).unwrap();
    for other in [
        "000000060000000000000005",
        "000000070000000000000006",
        "00000007000000FF00000005",
    ] {
        let error = refused(other, &wal());
        assert!(error.is(code::engine::WAL_FILE), "{other}: {error}");
    }
    let mut garbage = wal();
    garbage[..40].fill(0x55);
    assert!(refused(NAME, &garbage).is(code::engine::WAL_FILE));
    assert!(refused(NAME, &vec![0; MIB]).is(code::engine::WAL_FILE));
}

#[test]
fn a_file_that_is_too_short_may_be_whole_later() {
    for length in [0, 39, 40, 8192, MIB - 1] {
        let error = refused(NAME, &wal()[..length]);
        assert!(error.is(code::engine::WAL_UNFINISHED), "{length}: {error}");
        assert_eq!(error.retry_advice(), Retry::Later);
    }
    let mut long = wal();
    long.push(0);
    assert!(refused(NAME, &long).is(code::engine::WAL_FILE));
}

/// The file of a segment that is still written has its full length, and what it was used for before behind its end.
#[test]
fn a_segment_whose_wal_ends_before_it_is_not_taken() {
    let earlier = crossing_commit(Lsn(3 << 20), 1).0;
    for end in [50, 8192, 8192 * 3 + 400, MIB - 8192] {
        for behind in [&earlier[..MIB], &vec![0; MIB]] {
            let mut bytes = wal();
            bytes[end..].copy_from_slice(&behind[end..]);
            let error = refused(NAME, &bytes);
            assert!(error.is(code::engine::WAL_UNFINISHED), "{end}: {error}");
        }
    }
    // Of a partial one nobody expects that it is whole.
    let mut bytes = wal();
    bytes[9000..].fill(0);
    WalFile::look(&put(&data(), &format!("{NAME}.partial"), &bytes)).unwrap();
}

/// Archiving was off at the promotion and was switched on then: PostgreSQL hands over what is left of the old timeline.
#[test]
fn the_rest_of_a_timeline_that_was_left_is_partial() {
    let mut bytes = wal();
    bytes[9000..].fill(0);
    for (history, partial) in [
        ("7\t0/502300\tx\n", true),
        ("7\t0/600000\tx\n", false),
        ("6\t0/502300\tx\n", false),
    ] {
        let data = data();
        put(&data, "00000009.history", history.as_bytes());
        put(&data, "00000007.history", b"1\t0/400000\tx\n");
        let looked = WalFile::look(&put(&data, NAME, &bytes));
        match looked {
            Ok(file) if partial => assert_eq!(file.name.to_string(), format!("{NAME}.partial")),
            Err(error) if !partial => assert!(error.is(code::engine::WAL_UNFINISHED), "{error}"),
            other => panic!("{history}: {other:?}"),
        }
        // What is whole stays what it is.
        let whole = WalFile::look(&put(&data, NAME, &wal())).unwrap();
        assert_eq!(whole.name.to_string(), NAME);
    }
}

#[test]
fn what_is_no_file_is_not_read() {
    let data = data();
    let folder = data.path().join("pg_wal").join(NAME);
    let missing = WalFile::look(&folder).unwrap_err();
    assert!(missing.is(code::cli::IO), "{missing}");
    std::fs::create_dir(&folder).unwrap();
    let error = WalFile::look(&folder).unwrap_err();
    assert!(error.is(code::engine::WAL_FILE), "{error}");
}

#[test]
fn histories_must_tell_a_history() {
    let good = b"1\t0/3000158\tno recovery target specified\n";
    let data = data();
    let file = WalFile::look(&put(&data, "00000002.history", good)).unwrap();
    assert_eq!(file.system_id(), SystemId(42));
    for bad in [
        &b""[..],
        b"# nothing\n",
        b"2\t0/3000158\tx\n",
        b"\x00\x01garbage\n",
        &vec![b'#'; 2 * MIB],
    ] {
        let error = refused("00000002.history", bad);
        assert!(error.is(code::engine::WAL_FILE), "{error}");
    }
    std::fs::remove_file(data.path().join("global/pg_control")).unwrap();
    let error = WalFile::look(&put(&data, "00000002.history", good)).unwrap_err();
    assert!(error.is(code::engine::WAL_OWNER), "{error}");
}

#[test]
fn a_backup_history_must_tell_of_its_own_start() {
    let text =
        |position: &str, file: &str| format!("START WAL LOCATION: {position} (file {file})\nSTOP WAL LOCATION: x\n");
    let (name, file) = ("000000010000000A00000004.00000028.backup", "000000010000000A00000004");
    let data = data();
    for position in ["A/4000028", "A/400028", "A/10000028"] {
        // With segments of 16 MiB, 1 MiB, 64 MiB.
        WalFile::look(&put(&data, name, text(position, file).as_bytes())).unwrap();
    }
    for bad in [
        text("A/4000029", file),
        text("B/4000028", file),
        text("A/4000028", "000000020000000A00000004"),
        "START WAL LOCATION: A/4000028\n".to_owned(),
        String::new(),
    ] {
        let error = refused(name, bad.as_bytes());
        assert!(error.is(code::engine::WAL_FILE), "{bad}: {error}");
    }
}

#[test]
fn the_first_page_follows_from_the_history() {
    let header = |timeline| SegmentHeader {
        system_id: SystemId(42),
        timeline: Timeline(timeline),
        start: Lsn(5 << 20),
        size: SegmentSize::new(1 << 20).unwrap(),
    };
    let history = HistoryFile::parse(Timeline(9), b"1\t0/480000\tx\n7\t0/580000\ty\n").unwrap();
    let known = Ancestry::new([history]);
    let judge = |name: &str, of: u32, ancestry: &Ancestry| {
        let segment: SegmentName = name.parse().unwrap();
        let header = SegmentHeader {
            start: segment.start(header(of).size).unwrap(),
            ..header(of)
        };
        judge_timeline(&FileName::Segment(segment), segment, &header, ancestry)
    };
    let begins = "000000090000000000000005";
    judge(begins, 7, &known).unwrap();
    for (name, of) in [
        (begins, 1),
        ("000000090000000000000006", 7),
        ("000000090000000000000004", 1),
    ] {
        let error = judge(name, of, &known).unwrap_err();
        assert!(error.is(code::engine::WAL_FILE), "{name} {of}: {error}");
    }
    judge("000000090000000000000006", 9, &known).unwrap();
    // Without the history nothing can be said, and an archiver that is refused stops.
    judge(begins, 3, &Ancestry::new([])).unwrap();
}

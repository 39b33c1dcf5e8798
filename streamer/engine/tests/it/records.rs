//! What the scanner reads out of real WAL of every supported version, against what `pg_waldump` prints of the same files.

use std::path::{Path, PathBuf};

use hardstorage_e2e::Cluster;
use hardstorage_engine::records::{Found, FoundKind, Scanner};
use hardstorage_report::{Lsn, SegmentName, SegmentSize};
use hardstorage_repository::wal::ServerTime;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Transactions of every sort that a scanner must tell apart.
fn work(cluster: &Cluster) {
    cluster.sql("create table t (id int generated always as identity, payload text)");
    for round in 0..3 {
        cluster.sql("insert into t (payload) select repeat(md5(i::text), 30) from generate_series(1, 400) i");
        cluster.sql("begin; insert into t (payload) values ('gone'); rollback");
        // Subtransactions make commit records long.
        cluster.sql(
            "do $$ begin for i in 1..300 loop begin insert into t (payload) values ('s'); \
             exception when others then null; end; end loop; end $$",
        );
        cluster.sql(&format!(
            "begin; insert into t (payload) values ('two'); prepare transaction 'p{round}'"
        ));
        cluster.sql(&format!("commit prepared 'p{round}'"));
        cluster.sql(&format!(
            "begin; insert into t (payload) values ('two'); prepare transaction 'q{round}'"
        ));
        cluster.sql(&format!("rollback prepared 'q{round}'"));
        cluster.sql(&format!("select pg_create_restore_point('point {round}')"));
        cluster.sql("truncate t; drop table if exists gone; create table gone (); checkpoint");
        if round == 1 {
            cluster.sql("select pg_switch_wal()");
        }
    }
}

/// Segments of a data directory in order.
fn segments(data: &Path) -> Vec<(SegmentName, PathBuf)> {
    let mut found: Vec<(SegmentName, PathBuf)> = std::fs::read_dir(data.join("pg_wal"))
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().parse().ok()?;
            Some((name, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// The lines of `pg_waldump` that are of interest, as the scanner would tell them. The end of a record is not printed.
fn told_by_waldump(cluster: &Cluster, first: &Path, last: &Path) -> Vec<(Lsn, FoundKind)> {
    let mut command = cluster.tool_command("pg_waldump");
    command.env("TZ", "UTC").arg(first).arg(last);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(read_line).collect()
}

fn read_line(line: &str) -> Option<(Lsn, FoundKind)> {
    let (head, description) = line.split_once(", desc: ")?;
    let field = |name: &str| {
        let (_, rest) = head.split_once(name)?;
        rest.split([',', ' ']).find(|word| !word.is_empty())
    };
    let lsn: Lsn = field("lsn:")?.parse().unwrap();
    let (word, rest) = description.split_once(' ').unwrap_or((description, ""));
    let kind = match (field("rmgr:")?, word) {
        ("Transaction", "COMMIT" | "COMMIT_PREPARED") => FoundKind::Commit(time(rest)),
        ("Transaction", "ABORT" | "ABORT_PREPARED") => FoundKind::Abort(time(rest)),
        ("XLOG", "RESTORE_POINT") => FoundKind::RestorePoint {
            name: rest.to_owned(),
            time: ServerTime(0),
        },
        ("XLOG", "SWITCH") => FoundKind::Switch,
        ("XLOG", "CHECKPOINT_SHUTDOWN" | "CHECKPOINT_ONLINE") => FoundKind::Checkpoint {
            shutdown: word == "CHECKPOINT_SHUTDOWN",
            redo: rest.split([' ', ';']).nth(1)?.parse().unwrap(),
        },
        _ => return None,
    };
    Some((lsn, kind))
}

/// `2026-11-22 08:15:00.123456 UTC; ...`, behind `1234: ` in a prepared transaction's line.
fn time(text: &str) -> ServerTime {
    let stamp = text.split(';').next().unwrap();
    let stamp = stamp.rsplit_once(": ").map_or(stamp, |(_, rest)| rest);
    let stamp = stamp.trim().trim_end_matches(" UTC").replace(' ', "T");
    let local: DateTime = stamp.parse().unwrap();
    ServerTime::from_timestamp(TimeZone::UTC.to_timestamp(local).unwrap())
}

/// `pg_waldump` does not print the time of a restore point.
fn comparable(found: &Found) -> (Lsn, FoundKind) {
    let kind = match &found.kind {
        FoundKind::RestorePoint { name, time } => {
            assert!(time.0 > 0);
            FoundKind::RestorePoint {
                name: name.clone(),
                time: ServerTime(0),
            }
        }
        other => other.clone(),
    };
    (found.lsn, kind)
}

fn scan(files: &[(SegmentName, PathBuf)], size: SegmentSize, piece: usize) -> (Vec<Found>, Scanner) {
    let mut scanner = Scanner::new(files[0].0.start(size).unwrap(), size);
    let mut found = Vec::new();
    for (name, path) in files {
        assert_eq!(scanner.position(), name.start(size).unwrap());
        for bytes in std::fs::read(path).unwrap().chunks(piece) {
            scanner.push(bytes, &mut |one| found.push(one));
        }
    }
    (found, scanner)
}

fn agrees_with_waldump(major: u16, mib: u32) {
    let size = SegmentSize::new(u64::from(mib) << 20).unwrap();
    let mut cluster = Cluster::builder(major)
        .wal_segment_size(mib)
        .set("max_prepared_transactions", "5")
        .set("wal_keep_size", "512MB")
        .start();
    work(&cluster);
    cluster.stop();

    let all = segments(cluster.data());
    // Files that were made ahead hold no WAL yet: pg_waldump ends where the records do.
    let (_, scanner) = scan(&all, size, 1 << 20);
    let end = scanner.records_end().unwrap();
    let used: Vec<_> = all
        .into_iter()
        .filter(|(name, _)| name.start(size).unwrap() < end)
        .collect();
    assert!(used.len() > 2, "PostgreSQL {major}: {} segments", used.len());

    let told = told_by_waldump(&cluster, &used[0].1, &used[used.len() - 1].1);
    let (found, scanner) = scan(&used, size, 7001);
    let ours: Vec<_> = found.iter().map(comparable).collect();
    assert_eq!(ours, told, "PostgreSQL {major}");
    assert_eq!(scanner.refused(), 0);
    let count = |wanted: fn(&FoundKind) -> bool| found.iter().filter(|one| wanted(&one.kind)).count();
    assert!(count(|kind| matches!(kind, FoundKind::Commit(_))) > 20);
    assert!(count(|kind| matches!(kind, FoundKind::Abort(_))) >= 6);
    assert_eq!(count(|kind| matches!(kind, FoundKind::RestorePoint { .. })), 3);
    assert!(count(|kind| matches!(kind, FoundKind::Switch)) >= 1);
    // A clean stop ends with its checkpoint.
    let last = found.last().unwrap();
    assert!(
        matches!(last.kind, FoundKind::Checkpoint { shutdown: true, .. }),
        "{last:?}"
    );
    assert_eq!(Some(last.end), scanner.records_end());

    // Beginning with the second segment, in the middle of whatever crosses its boundary.
    let (later, _) = scan(&used[1..], size, 100_000);
    let from = used[1].0.start(size).unwrap();
    let expected: Vec<Found> = found.into_iter().filter(|one| one.lsn >= from).collect();
    assert_eq!(later, expected, "PostgreSQL {major}");
}

#[test]
fn postgresql_15() {
    agrees_with_waldump(15, 1);
}

#[test]
fn postgresql_16() {
    agrees_with_waldump(16, 1);
}

#[test]
fn postgresql_17() {
    agrees_with_waldump(17, 1);
}

#[test]
fn postgresql_18() {
    agrees_with_waldump(18, 1);
}

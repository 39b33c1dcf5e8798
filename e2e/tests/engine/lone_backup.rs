//! A backup while the stream is down: it stores its own WAL behind an unfinished segment that the stream has left. What was
//! acknowledged in that segment must stay in reach, also when the server never comes back.

use std::process::Command;

use hardstorage_e2e::{Cluster, Ledger, run, until};

use crate::site::{PATIENCE, Site, fill_segment, id, lsn, step};

const SLOT: &str = "pg_hardstorage_db1";

/// What the stream has left: a backup, the rows of the last acknowledged moment, and where that is.
struct Left {
    backup: String,
    rows: Ledger,
    acknowledged: String,
}

/// A stream with a tail that ends within a segment; it is stopped, or killed.
fn streamed(site: &Site, source: &Cluster, more: &[&str], killed: bool) -> Left {
    let mut stream = site.stream("stream", &source.connection(), more);
    let backup = id(&site.backup(source));
    fill_segment(source, "before");
    let rows = Ledger::add(source, "acknowledged", 20);
    let acknowledged = source.value("SELECT pg_current_wal_flush_lsn()");
    stream.until_durable(source);
    if killed {
        drop(stream);
    } else {
        stream.stop();
    }
    Left {
        backup,
        rows,
        acknowledged,
    }
}

fn start(segments: u32) -> Cluster {
    let source = Cluster::builder(18).wal_segment_size(segments).start();
    Ledger::create(&source);
    source
}

/// The segment of a position is archived, byte by byte as the server has written it.
#[track_caller]
fn holds(site: &Site, source: &Cluster, position: &str) {
    let name = source.value(&format!("SELECT pg_walfile_name('{position}')"));
    let to = site.place("fetched");
    let args = ["wal", "fetch", "db1", &name, to.to_str().unwrap(), "--prefetch", "0"];
    site.run(&args).ok();
    let wanted = std::fs::read(source.data().join("pg_wal").join(&name)).unwrap();
    assert!(
        std::fs::read(&to).unwrap() == wanted,
        "{name} is not what the server wrote"
    );
    std::fs::remove_file(&to).unwrap();
}

fn acknowledged_is_reached(more: &[&str], killed: bool) {
    let source = start(1);
    let site = Site::new();
    let left = streamed(&site, &source, more, killed);
    step("what is written now nobody streams, and a backup is taken");
    for _ in 0..3 {
        fill_segment(&source, "streamed by nobody");
    }
    let taken = site
        .run(&["backup", "db1", "--pg-connection", &source.connection()])
        .ok();
    assert!(
        !taken.to_string().contains("wal_gap"),
        "the stream will bring it\n{taken}"
    );
    let lone = site.backups().remove(0);
    let at_lone = Ledger::read(&source);
    holds(&site, &source, &left.acknowledged);

    step("the server burns");
    drop(source);
    let words = [left.backup.as_str(), "--to-lsn", &left.acknowledged];
    assert_eq!(site.paused("acknowledged", &words), left.rows);
    let refused = site.refused("beyond", &[&left.backup, "--to-latest"], 9, "verify.wal_gap");
    let said = refused.to_string();
    assert!(said.contains("hint: "), "{said}");
    assert_eq!(site.latest("latest"), at_lone);
    site.run(&["verify", "db1", &lone]).ok();
    let audit = site.run(&["wal", "audit", "db1"]).exits(9);
    assert!(audit.stdout.contains("(not recorded)"), "{audit}");
}

#[test]
fn what_a_stopped_stream_acknowledged_is_reached() {
    acknowledged_is_reached(&[], false);
}

#[test]
fn what_a_killed_stream_acknowledged_is_reached() {
    acknowledged_is_reached(&["--synchronous"], true);
}

/// The stream comes back beside the backup, and both bring the segment: equal bytes are no conflict.
#[test]
fn the_stream_comes_back_beside_the_backup() {
    let source = start(1);
    let site = Site::new();
    let left = streamed(&site, &source, &[], true);
    for _ in 0..3 {
        fill_segment(&source, "streamed late");
    }
    let mut stream = site.start_stream("again", &source.connection(), &[]);
    site.backup(&source);
    let everything = Ledger::add(&source, "streamed", 20);
    stream.until_durable(&source);
    stream.stop();
    site.run(&["wal", "audit", "db1"]).ok();
    site.run(&["repo", "check", "--read-data"]).ok();
    let words = [left.backup.as_str(), "--to-lsn", &left.acknowledged];
    assert_eq!(site.paused("acknowledged", &words), left.rows);
    let words = [left.backup.as_str(), "--to-latest"];
    assert_eq!(site.all("all", &words), everything);
}

/// The server has removed the segment: the record of the gap keeps its tails in reach.
#[test]
fn a_segment_that_is_gone_from_the_server_is_a_recorded_gap() {
    let source = start(1);
    let site = Site::new();
    let left = streamed(&site, &source, &[], false);
    source.sql(&format!("SELECT pg_drop_replication_slot('{SLOT}')"));
    let needed = source.value(&format!("SELECT pg_walfile_name('{}')", left.acknowledged));
    until("the segment is gone from the server", PATIENCE, || {
        fill_segment(&source, "lost");
        source.sql("CHECKPOINT");
        let there = source.value(&format!("SELECT count(*) FROM pg_ls_waldir() WHERE name = '{needed}'"));
        (there == "0").then_some(())
    });
    let taken = site
        .run(&["backup", "db1", "--pg-connection", &source.connection()])
        .ok();
    assert!(taken.to_string().contains("backup.wal_gap"), "{taken}");
    drop(source);
    let words = [left.backup.as_str(), "--to-lsn", &left.acknowledged];
    assert_eq!(site.paused("acknowledged", &words), left.rows);
    site.refused("beyond", &[&left.backup, "--to-latest"], 9, "verify.wal_gap");
    let audit = site.run(&["wal", "audit", "db1"]).exits(9);
    assert!(audit.stdout.contains("(recorded)"), "{audit}");
}

/// Nothing holds the segment, and the server has it all the same: it is whole, and the gap begins behind it.
#[test]
fn a_segment_that_no_slot_holds_is_asked_for() {
    let source = Cluster::builder(18)
        .wal_segment_size(1)
        .set("wal_keep_size", "64MB")
        .start();
    Ledger::create(&source);
    let site = Site::new();
    let left = streamed(&site, &source, &[], false);
    source.sql(&format!("SELECT pg_drop_replication_slot('{SLOT}')"));
    let reachable = Ledger::add(&source, "in the same segment", 20);
    let end = source.value("SELECT pg_current_wal_flush_lsn()");
    let segment = |position: &str| lsn(position) >> 20;
    assert_eq!(segment(&end), segment(&left.acknowledged));
    for _ in 0..3 {
        fill_segment(&source, "in no archive");
    }
    site.backup(&source);
    holds(&site, &source, &left.acknowledged);
    drop(source);
    let words = [left.backup.as_str(), "--to-lsn", &left.acknowledged];
    assert_eq!(site.paused("acknowledged", &words), left.rows);
    let words = [left.backup.as_str(), "--to-lsn", &end];
    assert_eq!(site.paused("all of it", &words), reachable);
}

/// A copy of the server that went another way from within that segment: its backup would stand behind WAL of another life.
#[test]
fn a_server_that_went_another_way_is_found_out() {
    let mut source = start(1);
    let site = Site::new();
    source.stop();
    let place = site.place("copy");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(source.data()).arg(&place);
    run(copy, PATIENCE).ok();
    source.start();
    let left = streamed(&site, &source, &[], false);
    source.stop();
    let other = Cluster::builder(18).over(&place).start();
    let end = lsn(&left.acknowledged) + (2 << 20);
    until("its backup begins behind that segment", PATIENCE, || {
        fill_segment(&other, "another way");
        (lsn(&other.value("SELECT pg_current_wal_flush_lsn()")) >= end).then_some(())
    });
    let before = site.backups();
    let answer = site.run(&["backup", "db1", "--pg-connection", &other.connection()]);
    assert_eq!(answer.code, Some(7), "{answer}");
    assert!(answer.stderr.contains("ERROR conflict.split_brain: "), "{answer}");
    assert_eq!(site.backups(), before);
    let words = [left.backup.as_str(), "--to-lsn", &left.acknowledged];
    assert_eq!(site.paused("acknowledged", &words), left.rows);
}

//! Promotions that are special: exactly between two segments, of two nodes at once, above timeline 9, and all behind one
//! address that leads elsewhere afterwards, as the name of a service does.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use hardstorage_e2e::{Cluster, Ledger, lsn_text, until};
use rustix::process::Signal;

use crate::line::Line;
use crate::site::{PATIENCE, Site, Stream, fill_segment, lsn, step};

const MIB: u64 = 1 << 20;

fn position(cluster: &Cluster, function: &str) -> u64 {
    lsn(&cluster.value(&format!("SELECT {function}()")))
}

#[track_caller]
fn until_replayed(standby: &mut Cluster, wanted: &Ledger) {
    standby.until("the standby has replayed the rows", |standby| {
        let there = standby.try_value("SELECT count(*) FROM ledger").ok()?;
        (there == wanted.rows().to_string()).then_some(())
    });
}

/// Freezes a primary at an instant at which all that it has sent ends with a segment; where that is.
#[track_caller]
fn frozen_at_a_boundary(primary: &Cluster, standby: &Cluster) -> u64 {
    until("the standby stands at a boundary", PATIENCE, || {
        let end = lsn(&primary.value("SELECT pg_switch_wal()")).next_multiple_of(MIB);
        let stands = |function| position(standby, function) == end;
        until("the segment's end is replayed", PATIENCE, || {
            (position(standby, "pg_last_wal_replay_lsn") >= end).then_some(())
        });
        primary.signal_all(Signal::STOP);
        if stands("pg_last_wal_replay_lsn") && stands("pg_last_wal_receive_lsn") {
            return Some(end);
        }
        // The server has written a record of its own meanwhile.
        primary.signal_all(Signal::CONT);
        Ledger::add(primary, "once more", 10);
        None
    })
}

/// The stored copy of the segment that begins here.
fn segment(site: &Site, timeline: u32, start: u64) -> PathBuf {
    let name = format!("{timeline:08X}{:08X}{:08X}", start >> 32, (start & 0xffff_ffff) / MIB);
    let found = site.content().into_keys().find(|path| path.ends_with(&name));
    found.unwrap_or_else(|| panic!("segment {name} is not stored"))
}

/// A switch between two segments: no segment holds it, the last of the old timeline is whole, and the first of the new one
/// begins with it. Restores to before, to and behind it, and along each timeline, give what was there.
#[test]
fn exactly_at_a_segments_boundary() {
    let mut old = Cluster::builder(18)
        .wal_segment_size(1)
        .set("wal_keep_size", "512MB")
        .start();
    let mut new = old.standby();
    let site = Site::new();
    let both = format!(
        "postgres://pgbackup:pgbackup@{},{}/postgres?target_session_attrs=primary",
        old.address(),
        new.address()
    );
    let mut stream = site.stream("stream", &both, &[]);
    Ledger::create(&old);
    site.backup(&old);
    let early = Ledger::add(&old, "early", 300);
    let moment = old.now();
    Ledger::add(&old, "before the switch", 300);
    let switch = frozen_at_a_boundary(&old, &new);
    new.promote();
    old.cut();
    let history = new.value("SELECT pg_read_file('pg_wal/00000002.history')");
    assert!(
        history.contains(&lsn_text(switch)),
        "the switch is not at {switch:X}: {history}"
    );

    let before = Ledger::read(&new);
    let after = Ledger::add(&new, "after the switch", 300);
    let later = new.now();
    fill_segment(&new, "later");
    let everything = Ledger::add(&new, "in the next segment", 300);
    stream.until_durable(&new);
    assert_eq!(stream.events_named("wal.gap").len(), 0, "{}", stream.process.answer());
    stream.stop();
    site.run(&["wal", "audit", "db1"]).ok();

    step("before, at, behind the switch, and along each timeline");
    assert_eq!(site.paused("early", &["--to", &moment]), early);
    assert_eq!(site.paused("switch", &["--to-lsn", &lsn_text(switch)]), before);
    assert_eq!(site.paused("later", &["--to", &later]), after);
    assert_eq!(site.all("old", &["--to-latest", "--to-timeline", "1"]), before);
    assert_eq!(site.all("new", &["--to-latest", "--to-timeline", "2"]), everything);

    step("a hole on either side of it is found");
    for lost in [segment(&site, 1, switch - MIB), segment(&site, 2, switch)] {
        let bytes = fs::read(&lost).unwrap();
        fs::remove_file(&lost).unwrap();
        let audit = site.run(&["wal", "audit", "db1"]);
        assert_eq!(audit.code, Some(9), "{audit}\n{lost:?}\n{:#?}", site.content());
        assert!(audit.stdout.contains("(not recorded)"), "{audit}");
        site.refused("across", &["--to-latest"], 9, "verify.wal_gap");
        fs::write(&lost, bytes).unwrap();
    }
    site.run(&["wal", "audit", "db1"]).ok();
}

/// Nothing of this server is taken, by a stream or by a backup, and it is left as it is.
#[track_caller]
fn refused(site: &Site, server: &Cluster, name: &str) {
    let before = archived(site);
    let streamed = site.start_stream(name, &server.connection(), &[]);
    let mut process = streamed.process;
    let stream = process.wait(PATIENCE).exits(7);
    let backup = site
        .run(&["backup", "db1", "--pg-connection", &server.connection()])
        .exits(7);
    for said in [&stream, &backup] {
        assert!(said.to_string().contains("conflict.split_brain"), "{name}\n{said}");
    }
    assert_eq!(archived(site), before, "{name} left something");
}

/// What there is of WAL, of backups' data and of backups.
fn archived(site: &Site) -> (BTreeMap<PathBuf, u64>, Vec<String>) {
    let mut found = site.content();
    let root = site.repository();
    found.retain(|path, _| path.starts_with(root.join("wal")) || path.starts_with(root.join("packs")));
    (found, site.backups())
}

fn slots(server: &Cluster) -> String {
    server.value("SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'pg_hardstorage%'")
}

/// Two standbys are promoted to the same timeline, and a third one from another position. The first that is archived is the
/// branch that lives; the others are refused, whichever address leads to them, and leave nothing.
#[test]
fn two_nodes_of_one_timeline() {
    let mut old = Cluster::builder(18)
        .wal_segment_size(1)
        .set("wal_keep_size", "512MB")
        .start();
    let (mut first, mut second, mut earlier) = (old.standby(), old.standby(), old.standby());
    let site = Site::new();
    let line = Line::to(old.address().into());
    let by_name = format!(
        "postgres://pgbackup:pgbackup@{}/postgres?sslmode=disable",
        line.address()
    );
    let mut stream = site.stream("stream", &by_name, &[]);
    Ledger::create(&old);
    site.backup(&old);
    let shared = Ledger::add(&old, "on all", 100);
    until_replayed(&mut earlier, &shared);
    earlier.stop();
    earlier.set("primary_conninfo", "host=127.0.0.1 port=1");
    earlier.start();
    let shared = Ledger::add(&old, "on two", 100);
    until_replayed(&mut first, &shared);
    until_replayed(&mut second, &shared);
    stream.until_durable(&old);
    old.stop();
    for node in [&mut first, &mut second, &mut earlier] {
        node.promote();
    }

    step("the name leads to the first of them");
    line.leads_to(first.address().into());
    for _ in 0..3 {
        fill_segment(&first, "the branch that lives");
    }
    let living = Ledger::add(&first, "its end", 100);
    stream.until_durable(&first);
    let archived = position(&first, "pg_current_wal_flush_lsn");

    step("the same history, and less than is archived");
    Ledger::add(&second, "another branch", 100);
    refused(&site, &second, "behind");
    step("another switch");
    refused(&site, &earlier, "another history");
    step("the primary of before, which was started again");
    old.start();
    Ledger::add(&old, "yet another branch", 100);
    refused(&site, &old, "demoted");
    assert_eq!((slots(&second), slots(&earlier)), ("0".to_owned(), "0".to_owned()));

    step("the name leads to the second of them, which has more than is archived");
    while position(&second, "pg_current_wal_flush_lsn") < archived + MIB {
        fill_segment(&second, "another branch");
    }
    line.leads_to(second.address().into());
    first.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active");
    let Stream { mut process, .. } = stream;
    let said = process.wait(PATIENCE).exits(7);
    assert!(said.to_string().contains("conflict.split_brain"), "{said}");
    assert_eq!(site.latest("latest"), living);
    site.run(&["wal", "audit", "db1"]).ok();
}

/// A server that was promoted eight times before we knew it. In hexadecimal the order of timelines is that of their names.
#[test]
fn above_timeline_nine() {
    let mut source = Cluster::builder(18).set("wal_keep_size", "512MB").make();
    let data = source.data().to_str().unwrap().to_owned();
    source
        .tool("pg_resetwal", &["-l", "000000090000000000000010", &data])
        .ok();
    let ancestors: Vec<String> = (1..9)
        .map(|timeline| format!("{timeline}\t{}\tpromoted\n", lsn_text((timeline + 2) * 16 * MIB)))
        .collect();
    fs::write(source.data().join("pg_wal/00000009.history"), ancestors.concat()).unwrap();
    source.start();
    let mut tenth = source.standby();
    let mut eleventh = tenth.standby();
    let site = Site::new();
    let mut stream = site.stream("ninth", &source.connection(), &[]);
    Ledger::create(&source);
    site.backup(&source);
    let nine = Ledger::add(&source, "on timeline 9", 100);
    stream.until_durable(&source);
    stream.stop();
    until_replayed(&mut eleventh, &nine);
    source.stop();
    tenth.promote();
    let mut stream = site.stream("tenth", &tenth.connection(), &[]);
    let ten = fill_segment(&tenth, "on timeline 10");
    stream.until_durable(&tenth);
    stream.stop();
    let unseen = Ledger::add(&tenth, "on timeline 10, unseen", 100);
    until_replayed(&mut eleventh, &unseen);
    tenth.stop();
    eleventh.promote();
    let everything = fill_segment(&eleventh, "on timeline 11");
    let mut stream = site.stream("eleventh", &eleventh.connection(), &[]);
    stream.until_durable(&eleventh);
    assert_eq!(stream.events_named("wal.gap").len(), 0);
    stream.stop();
    let stored = site.content();
    for name in ["timelines/0000000A.history", "timelines/0000000B.history"] {
        assert!(stored.keys().any(|path| path.ends_with(name)), "no {name}");
    }
    site.run(&["wal", "audit", "db1"]).ok();
    assert_eq!(site.latest("latest"), everything);
    assert_ne!(ten, unseen);
    assert_eq!(site.all("ten", &["--to-latest", "--to-timeline", "10"]), unseen);
}

//! Slots that the server has given up, that somebody has dropped, that keep too little. Each is told by its own name; the
//! stream makes a new one, and nothing is lost but what the server itself has removed, which is a gap.

use std::time::{Duration, Instant};

use hardstorage_e2e::{Cluster, Ledger, ObjectStore, get, until};
use rustix::process::Signal;

use crate::line::Line;
use crate::site::{PATIENCE, Site, Stream, fill_segment, step};

const SLOT: &str = "pg_hardstorage_db1";

fn told_of(cluster: &Cluster, column: &str) -> Option<String> {
    let sql = format!("SELECT {column} FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    cluster.try_value(&sql).ok()
}

#[track_caller]
fn metric(stream: &Stream, line: &str) {
    // A server that has just given up a slot may do so with the next connection too.
    until(&format!("the metrics say {line}"), PATIENCE, || {
        let (_, text) = get(stream.address(), "/metrics").ok()?;
        text.contains(line).then_some(())
    });
}

/// Writes until the server has invalidated the slot.
#[track_caller]
fn invalidate(source: &Cluster) {
    until("the slot is lost", PATIENCE, || {
        for _ in 0..3 {
            fill_segment(source, "lost");
        }
        source.sql("CHECKPOINT");
        (told_of(source, "wal_status")? == "lost").then_some(())
    });
}

/// The stream has made a new slot, says what became of the old one, and what is lost.
#[track_caller]
fn goes_on_behind_a_gap(site: &Site, source: &Cluster, stream: &mut Stream) {
    stream.until("the gap is counted and the stream is back", |status| {
        status["gaps"] == 1 && status["slots_lost"] == 1 && status["slot_health"] == "active"
    });
    let lost = stream.events_named("wal.slot.lost");
    assert_eq!((lost.len(), &lost[0]["severity"]), (1, &"warning".into()), "{lost:?}");
    assert!(
        lost[0]["body"]["hint"].to_string().contains("max_slot_wal_keep_size"),
        "{lost:?}"
    );
    assert_eq!(stream.events_named("wal.gap").len(), 1);
    metric(stream, "pg_hardstorage_wal_slots_lost_total{deployment=\"db1\"} 1");
    metric(
        stream,
        "pg_hardstorage_slot_health{deployment=\"db1\",health=\"active\"} 1",
    );
    until("the new slot keeps what is needed", PATIENCE, || {
        (told_of(source, "active AND wal_status = 'reserved'")? == "t").then_some(())
    });
    Ledger::add(source, "behind the gap", 100);
    stream.until_durable(source);
    site.refused("across", &["--to-latest"], 9, "verify.wal_gap");
    site.backup(source);
    let everything = Ledger::add(source, "protected again", 100);
    stream.until_durable(source);
    let mut restored = site.restore(source.major(), "latest", &["--to-latest"]);
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), everything);
}

fn bounded(major: u16) -> Cluster {
    Cluster::builder(major)
        .wal_segment_size(1)
        .set("max_slot_wal_keep_size", "2MB")
        .start()
}

#[test]
fn one_that_was_invalidated_while_nobody_streamed_is_made_anew_on_15() {
    let source = bounded(15);
    let site = Site::streamed_once(&source);
    invalidate(&source);
    let mut stream = site.stream("after", &source.connection(), &[]);
    goes_on_behind_a_gap(&site, &source, &mut stream);
    stream.stop();
}

/// The same process goes on: nobody is there to drop a slot at night.
#[test]
fn one_that_was_invalidated_under_a_stream_is_made_anew_on_18() {
    let source = bounded(18);
    let site = Site::new();
    Ledger::create(&source);
    let line = Line::to(source.address().into());
    let connection = format!("postgres://pgbackup:pgbackup@{}/postgres", line.address());
    let mut stream = site.stream("stream", &connection, &["--max-reconnect-backoff", "1s"]);
    site.backup(&source);
    stream.until_durable(&source);
    line.cut();
    source.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active");
    invalidate(&source);
    line.mend();
    goes_on_behind_a_gap(&site, &source, &mut stream);
    stream.stop();
}

/// A backup finds the loss before the stream does, and records it. The stream rings all the same.
#[test]
fn one_whose_loss_a_backup_has_recorded_is_told_by_the_stream() {
    let source = bounded(18);
    let site = Site::streamed_once(&source);
    invalidate(&source);
    let taken = site
        .run(&["backup", "db1", "--pg-connection", &source.connection()])
        .ok();
    assert!(taken.stderr.contains("the slot of the stream keeps nothing"), "{taken}");
    let audit = site.run(&["wal", "audit", "db1"]).exits(9);
    assert!(audit.stdout.contains("(recorded)"), "{audit}");
    let mut stream = site.stream("after", &source.connection(), &[]);
    stream.until("the gap is counted", |status| status["gaps"] == 1);
    let everything = Ledger::add(&source, "behind the gap", 100);
    stream.until_durable(&source);
    assert_eq!(stream.events_named("wal.gap").len(), 1);
    stream.stop();
    assert_eq!(site.latest("latest"), everything);
}

/// The server still has the WAL that the slots kept: the new ones keep less, and what lies between is asked for.
#[test]
fn one_that_timed_out_and_one_that_was_dropped_cost_nothing() {
    let mut source = Cluster::builder(18)
        .wal_segment_size(1)
        .set("wal_keep_size", "256MB")
        .start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("before", &source.connection(), &[]);
    site.backup(&source);
    stream.until_durable(&source);

    step("the slot is dropped below a stream that stands still");
    stream.process.signal(Signal::STOP);
    until("the slot is dropped", PATIENCE, || {
        source.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active");
        source
            .try_rows(&format!("SELECT pg_drop_replication_slot('{SLOT}')"))
            .ok()
    });
    for _ in 0..3 {
        fill_segment(&source, "held by no slot");
    }
    source.sql("CHECKPOINT");
    stream.process.signal(Signal::CONT);
    stream.until("the stream is back", |status| {
        status["connections"].as_u64() > Some(1) && status["slot_health"] == "active"
    });
    stream.until_durable(&source);
    let made = stream.events_named("wal.slot.created");
    assert!(
        made.last().unwrap()["body"]["message"].to_string().contains("dropped"),
        "{made:?}"
    );
    assert_eq!(
        stream.events_named("wal.slot.ahead").len(),
        1,
        "{}",
        stream.process.answer()
    );
    assert_eq!(
        stream.events_named("wal.slot.lost").len() + stream.events_named("wal.gap").len(),
        0
    );
    stream.stop();

    step("the slot times out");
    source.set("idle_replication_slot_timeout", "1s");
    source.restart();
    until("the slot has timed out", PATIENCE, || {
        fill_segment(&source, "held by no slot either");
        source.sql("CHECKPOINT");
        (told_of(&source, "invalidation_reason")? == "idle_timeout").then_some(())
    });
    let mut stream = site.stream("after", &source.connection(), &[]);
    let everything = Ledger::add(&source, "streamed again", 100);
    stream.until_durable(&source);
    assert_eq!(
        stream.events_named("wal.slot.lost").len(),
        1,
        "{}",
        stream.process.answer()
    );
    assert_eq!(stream.events_named("wal.gap").len(), 0);
    assert_eq!(stream.status().unwrap()["slots_lost"], 1);
    stream.stop();
    site.run(&["wal", "audit", "db1"]).ok();
    assert_eq!(site.latest("latest"), everything);
}

/// As CloudNativePG sets it. While the store takes nothing, the server still hears from the stream.
#[test]
fn a_short_wal_sender_timeout_is_survived_while_the_store_stands_still() {
    let store = ObjectStore::minio();
    store.bucket("backups");
    let site = Site::on(&store.url("backups"), &store.credentials());
    let source = Cluster::builder(18).set("wal_sender_timeout", "5s").start();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    store.signal(Signal::STOP);
    let begun = Instant::now();
    until("it has stood still for twice as long", PATIENCE, || {
        fill_segment(&source, "while the store stands still");
        std::thread::sleep(Duration::from_millis(500));
        (begun.elapsed() >= Duration::from_secs(10)).then_some(())
    });
    store.signal(Signal::CONT);
    Ledger::add(&source, "afterwards", 10);
    stream.until_durable(&source);
    stream.never_broke();
    stream.stop();
}

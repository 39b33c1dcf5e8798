//! No acknowledged WAL is ever missing: streams that are down, behind or stopped while backups store their own WAL
//! further on, backups without any stream, and servers that are not what was archived. The proof is a restore.

use hardstorage_e2e::{Cluster, Ledger, run, unprivileged, until};
use rustix::process::Signal;

use crate::site::{PATIENCE, Site, Stream, fill_segment, id, lsn, step};

/// More segments of 1 MiB than the buffers of a connection can hold.
const MORE_THAN_BUFFERS: u32 = 24;

fn small_segments() -> Cluster {
    Cluster::builder(18).wal_segment_size(1).start()
}

/// Everything from the first backup on, in one stretch.
#[track_caller]
fn whole_from(site: &Site, first: &str, name: &str) -> Ledger {
    site.run(&["wal", "audit", "db1"]).ok();
    site.all(name, &[first, "--to-latest"])
}

/// Writes more than a stream that stands still can take in.
fn outrun(cluster: &Cluster, chapter: &str) {
    for _ in 0..MORE_THAN_BUFFERS {
        fill_segment(cluster, chapter);
    }
}

#[test]
fn stream_that_was_down_goes_on_where_it_ended_although_backups_stored_more() {
    let source = small_segments();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("before", &source.connection(), &[]);
    let first = id(&site.backup(&source));
    Ledger::add(&source, "streamed", 100);
    stream.until_durable(&source);
    stream.stop();

    step("segments that only the slot holds, then two nightly backups");
    for _ in 0..2 {
        for _ in 0..5 {
            fill_segment(&source, "while no stream runs");
        }
        site.backup(&source);
    }
    let mut stream = site.stream("after", &source.connection(), &[]);
    let everything = Ledger::add(&source, "streamed again", 100);
    stream.until_durable(&source);
    assert_eq!(stream.events_named("wal.gap").len(), 0, "{}", stream.process.answer());
    stream.stop();
    assert_eq!(whole_from(&site, &first, "whole"), everything);
}

#[test]
fn stream_that_was_behind_goes_on_where_it_was_after_its_connection_broke() {
    let source = small_segments();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    let first = id(&site.backup(&source));
    stream.until_durable(&source);

    step("the stream stands still, a backup overtakes it, the connection breaks");
    stream.process.signal(Signal::STOP);
    outrun(&source, "while the stream is behind");
    site.backup(&source);
    source.sql(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'pg_hardstorage_db1'",
    );
    stream.process.signal(Signal::CONT);
    stream.until("the stream is back", |status| {
        status["connections"]
            .as_u64()
            .is_some_and(|connections| connections > 1)
            && status["phase"] == "streaming"
    });
    let everything = Ledger::add(&source, "after the break", 100);
    stream.until_durable(&source);
    assert_eq!(stream.events_named("wal.gap").len(), 0, "{}", stream.process.answer());
    stream.stop();
    assert_eq!(whole_from(&site, &first, "whole"), everything);
}

#[test]
fn promotion_while_the_stream_is_down_and_a_backup_before_it_is_back() {
    let mut old = Cluster::builder(18)
        .wal_segment_size(1)
        .set("wal_keep_size", "512MB")
        .start();
    let mut new = old.standby();
    let site = Site::new();
    let mut stream = site.stream("before", &old.connection(), &[]);
    Ledger::create(&old);
    let first = id(&site.backup(&old));
    Ledger::add(&old, "streamed", 100);
    stream.until_durable(&old);
    stream.stop();

    step("unseen WAL on both sides of a promotion, then a backup of the new primary");
    for _ in 0..3 {
        fill_segment(&old, "unseen on timeline 1");
    }
    let last = Ledger::add(&old, "the end of timeline 1", 10);
    new.until("the standby has replayed the rows", |standby| {
        (Ledger::read(standby) == last).then_some(())
    });
    old.stop();
    new.promote();
    for _ in 0..3 {
        fill_segment(&new, "unseen on timeline 2");
    }
    site.backup(&new);

    step("the stream comes back on the new primary, with a new slot");
    let mut stream = site.start_stream("after", &new.connection(), &[]);
    let everything = Ledger::add(&new, "streamed again", 100);
    stream.until_durable(&new);
    assert_eq!(stream.events_named("wal.gap").len(), 0, "{}", stream.process.answer());
    stream.stop();
    assert_eq!(whole_from(&site, &first, "whole"), everything);
}

/// A copy of a stopped server's data directory, as storage that was set back would show it.
#[track_caller]
fn copy_of(site: &Site, cluster: &Cluster, name: &str) -> Cluster {
    let target = site.place(name);
    let mut copy = unprivileged("cp");
    copy.arg("-a").arg(cluster.data()).arg(&target);
    run(copy, PATIENCE).ok();
    Cluster::builder(18).over(&target).make()
}

#[track_caller]
fn refuses(site: &Site, cluster: &Cluster, name: &str) {
    let stream: Stream = site.start_stream(name, &cluster.connection(), &[]);
    let mut process = stream.process;
    let refused = process.wait(PATIENCE).exits(7);
    assert!(refused.to_string().contains("conflict.split_brain"), "{refused}");
}

#[test]
fn server_that_was_set_back_is_refused_before_anything_is_acknowledged() {
    let mut source = small_segments();
    let site = Site::new();
    Ledger::create(&source);
    Ledger::add(&source, "on both", 100);
    source.stop();
    let mut copy = copy_of(&site, &source, "copy");
    source.start();
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    for _ in 0..3 {
        fill_segment(&source, "archived");
    }
    let everything = Ledger::add(&source, "archived last", 100);
    stream.until_durable(&source);
    let archived = lsn(stream.stop()["synced_lsn"].as_str().unwrap());
    source.stop();

    step("the copy is behind the archive");
    copy.start();
    refuses(&site, &copy, "behind");

    step("the copy has gone past the archive's end, with other rows");
    while lsn(&copy.value("SELECT pg_current_wal_flush_lsn()")) < archived + (1 << 20) {
        fill_segment(&copy, "another history");
    }
    refuses(&site, &copy, "past");
    let restart =
        "SELECT coalesce(max(restart_lsn), '0/0') FROM pg_replication_slots WHERE slot_name = 'pg_hardstorage_db1'";
    assert!(
        lsn(&copy.value(restart)) <= archived,
        "WAL of another history was acknowledged"
    );
    assert_eq!(site.latest("archived"), everything);
}

/// The last segment of a standby's backup stays unfinished. The next backup must not make that look like a loss.
#[test]
fn backups_of_a_standby_without_a_stream_are_restorable_side_by_side() {
    let source = small_segments();
    let mut standby = source.standby();
    let site = Site::new();
    Ledger::create(&source);
    let mut taken = Vec::new();
    for round in 0..3 {
        for _ in 0..3 {
            fill_segment(&source, "between the backups");
        }
        let held = Ledger::add(&source, &format!("round {round}"), 100);
        source.sql("CHECKPOINT");
        standby.until("the standby has replayed the rows", |standby| {
            let rows = standby.try_value("SELECT count(*) FROM ledger").ok()?;
            (rows == held.rows().to_string()).then_some(())
        });
        standby.sql("CHECKPOINT");
        taken.push((id(&site.backup(&standby)), held));
    }
    for (round, (backup, held)) in taken.iter().enumerate() {
        assert_eq!(&site.all(&format!("round-{round}"), &[backup]), held);
    }
}

#[test]
fn backups_without_a_stream_are_stretches_and_a_stream_begins_the_next() {
    let source = small_segments();
    let site = Site::new();
    Ledger::create(&source);
    let mut taken = Vec::new();
    for round in 0..3 {
        for _ in 0..3 {
            fill_segment(&source, "between the backups");
        }
        let held = Ledger::add(&source, &format!("round {round}"), 100);
        taken.push((id(&site.backup(&source)), held));
    }
    step("what the server still has is asked for before the stream begins its own stretch");
    for _ in 0..3 {
        fill_segment(&source, "after the last backup");
    }
    let mut stream = site.stream("stream", &source.connection(), &[]);
    let everything = Ledger::add(&source, "streamed", 100);
    stream.until_durable(&source);
    stream.stop();
    for (round, (backup, held)) in taken.iter().enumerate() {
        assert_eq!(&site.all(&format!("round-{round}"), &[backup]), held);
    }
    let list = site.ask(&["wal", "list", "db1"]);
    let timelines = list["lineages"][0]["timelines"].as_array().unwrap();
    let stretches = timelines[0]["ranges"].as_array().unwrap().len();
    let status = site.ask(&["status", "db1"]);
    let gaps = status["deployments"][0]["gaps"].as_u64();
    // What is behind the newest backup is in one stretch with it, or told.
    assert_eq!(gaps, Some(0), "{status}\n{list}");
    assert!((1..=3).contains(&stretches), "{list}");
    assert_eq!(site.latest("latest"), everything);
}

/// Without a slot the server may remove what was not streamed yet. That is told once, and the stream goes on behind it.
#[test]
fn stream_without_a_slot_passes_what_is_gone_once() {
    let source = Cluster::builder(18)
        .wal_segment_size(1)
        .set("wal_keep_size", "0")
        .start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("before", &source.connection(), &["--no-slot"]);
    site.backup(&source);
    stream.until_durable(&source);
    stream.stop();
    let needed = source.value("SELECT pg_walfile_name(pg_current_wal_flush_lsn())");
    until("the segment is gone from the server", PATIENCE, || {
        fill_segment(&source, "lost");
        source.sql("CHECKPOINT");
        let there = source.value(&format!("SELECT count(*) FROM pg_ls_waldir() WHERE name = '{needed}'"));
        (there == "0").then_some(())
    });
    let mut stream = site.stream("after", &source.connection(), &["--no-slot"]);
    Ledger::add(&source, "behind the gap", 100);
    stream.until_durable(&source);
    assert_eq!(stream.events_named("wal.gap").len(), 1, "{}", stream.process.answer());
    site.backup(&source);
    let everything = Ledger::add(&source, "behind the new backup", 100);
    stream.until_durable(&source);
    stream.stop();
    assert_eq!(site.latest("latest"), everything);
}

/// Everything that was committed before the signal is taken, although it had not arrived yet.
#[test]
fn graceful_stop_takes_what_the_server_had_committed() {
    let source = small_segments();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &["--flush-interval", "1h"]);
    site.backup(&source);
    stream.process.signal(Signal::STOP);
    outrun(&source, "not yet received");
    let everything = Ledger::add(&source, "committed before the signal", 100);
    let wanted = source.value("SELECT pg_current_wal_flush_lsn()");
    stream.process.signal(Signal::TERM);
    stream.process.signal(Signal::CONT);
    let said = stream.process.wait(PATIENCE).ok();
    let result = said.result();
    assert_eq!(result["clean_stop"], true, "{said}");
    assert!(lsn(result["synced_lsn"].as_str().unwrap()) >= lsn(&wanted), "{result}");
    assert_eq!(site.latest("latest"), everything);
}

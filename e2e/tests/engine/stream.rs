//! The stream through kills, stops and gaps, and with other segment sizes.

use std::time::Duration;

use hardstorage_e2e::{Cluster, Ledger, until};

use crate::site::{PATIENCE, Site, fill_segment, id, lsn, step};

/// Everything that was written before, between and after the kills is there.
#[test]
fn killed_stream_resumes_without_loss() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &["--flush-interval", "100ms"]);
    site.backup(&source);
    for round in 0..4 {
        step(&format!("kill {round} while rows arrive"));
        let before = stream.status().unwrap()["received_lsn"].as_str().map_or(0, lsn);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for chapter in 0..20 {
                    Ledger::add(&source, &format!("kill {round}.{chapter}"), 2000);
                }
            });
            // In the middle of a segment, and one time across its end.
            let far = before + (round + 1) * (1 << 20);
            stream.until("some rows were received", |status| {
                status["received_lsn"]
                    .as_str()
                    .is_some_and(|received| lsn(received) >= far)
            });
            stream.process.kill();
            writer.join().unwrap();
        });
        stream = site.stream("stream", &source.connection(), &["--flush-interval", "100ms"]);
    }
    let everything = Ledger::read(&source);
    assert_eq!(everything.rows(), 4 * 20 * 2000);
    stream.until_durable(&source);
    assert_eq!(stream.events_named("wal.gap").len(), 0);
    stream.stop();
    site.run(&["wal", "audit", "db1"]).ok();
    assert_eq!(site.latest("latest"), everything);
}

/// No segment ended and no flush was due: only the stop itself can have made the rows durable.
#[test]
fn graceful_stop_makes_the_tail_durable() {
    let mut source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    site.backup(&source);
    let mut stream = site.stream("stream", &source.connection(), &["--flush-interval", "1h"]);
    source.sql("SELECT pg_switch_wal()");
    let everything = Ledger::add(&source, "never flushed", 100);
    let wanted = source.value("SELECT pg_current_wal_flush_lsn()");
    stream.until("the rows were received", |status| {
        status["received_lsn"]
            .as_str()
            .is_some_and(|received| lsn(received) >= lsn(&wanted))
    });
    let status = stream.status().unwrap();
    assert!(
        status["durable_lsn"]
            .as_str()
            .is_none_or(|durable| lsn(durable) < lsn(&wanted)),
        "{status}"
    );
    let result = stream.stop();
    assert!(lsn(result["synced_lsn"].as_str().unwrap()) >= lsn(&wanted), "{result}");
    assert_eq!(site.latest("latest"), everything);

    step("a server that stops is not kept waiting, and the stream waits for it to come back");
    let mut stream = site.stream("again", &source.connection(), &["--flush-interval", "1h"]);
    let everything = Ledger::add(&source, "before the server stops", 100);
    source.stop();
    stream.until("the stream waits", |status| status["phase"] == "reconnecting");
    assert_eq!(site.latest("stopped"), everything);
    source.start();
    stream.until("the stream is back", |status| status["phase"] == "streaming");
    stream.stop();
}

/// Lost WAL is told loudly, recorded, and never passed in silence.
#[test]
fn gap_is_recorded_and_never_passed() {
    let source = Cluster::builder(18).set("wal_keep_size", "0").start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("before", &source.connection(), &[]);
    let early = id(&site.backup(&source));
    fill_segment(&source, "before the gap");
    let reachable = Ledger::add(&source, "in the last segment before the gap", 100);
    stream.until_durable(&source);
    stream.stop();
    let needed = source.value("SELECT pg_walfile_name(pg_current_wal_flush_lsn())");

    step("the slot is dropped and the server removes what nobody holds");
    source.sql("SELECT pg_drop_replication_slot('pg_hardstorage_db1')");
    until("the segment is gone from the server", PATIENCE, || {
        fill_segment(&source, "lost");
        source.sql("CHECKPOINT");
        let there = source.value(&format!("SELECT count(*) FROM pg_ls_waldir() WHERE name = '{needed}'"));
        (there == "0").then_some(())
    });

    step("the stream comes back");
    let mut stream = site.stream("after", &source.connection(), &[]);
    let status = stream.until("the gap is counted", |status| status["gaps"] == 1);
    let gaps = stream.events_named("wal.gap");
    assert!(
        gaps.len() == 1 && gaps[0]["severity"] == "critical",
        "{status}\n{}",
        stream.process.answer()
    );
    Ledger::add(&source, "behind the gap", 100);
    stream.until_durable(&source);

    step("recovery from before the gap is refused before it begins, and the hint holds");
    let refused = site.refused("across", &["--to-latest"], 9, "verify.wal_gap");
    let hint = refused
        .stderr
        .lines()
        .find_map(|line| line.trim().strip_prefix("hint: "));
    let words: Vec<&str> = hint.unwrap_or_default().split_whitespace().collect();
    let flag = words.windows(2).find(|pair| pair[0].starts_with("--to"));
    let flag = flag.unwrap_or_else(|| panic!("the hint names no way\n{refused}"));
    assert_eq!(
        site.paused("reachable", &[flag[0], flag[1].trim_matches('"')]),
        reachable
    );
    let beyond = site
        .run(&["restore", "db1", "--target", "/nowhere", "--to", "2100-01-01T00:00:00Z"])
        .exits(7);
    assert!(beyond.stderr.contains("behind a hole"), "{beyond}");
    let audit = site.run(&["wal", "audit", "db1"]).exits(9);
    assert!(audit.stdout.contains("(recorded)"), "{audit}");

    step("a new backup protects again");
    let newer = id(&site.backup(&source));
    assert_ne!(early, newer);
    let everything = Ledger::add(&source, "protected again", 100);
    stream.until_durable(&source);
    assert_eq!(site.latest("latest"), everything);
    site.refused("early", &[&early, "--to-latest"], 9, "verify.wal_gap");
    stream.stop();
}

#[test]
fn small_segments() {
    with_segments(1, 12_000);
}

#[test]
fn large_segments() {
    with_segments(64, 1000);
}

fn with_segments(mib: u32, rows: u32) {
    let source = Cluster::builder(18).wal_segment_size(mib).start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    let wanted = Ledger::add(&source, "before the moment", rows);
    source.sql("SELECT pg_create_restore_point('here')");
    for _ in 0..3 {
        Ledger::add(&source, "more", rows);
        source.sql("SELECT pg_switch_wal()");
    }
    let everything = Ledger::add(&source, "a tail", 10);
    stream.until_durable(&source);
    assert_eq!(site.latest("latest"), everything);
    assert_eq!(site.paused("here", &["--to-name", "here"]), wanted);
    let status = stream.until_within("segments are counted", Duration::from_secs(10), |status| {
        status["segments"].as_u64().is_some_and(|segments| segments >= 3)
    });
    assert_eq!(status["gaps"], 0, "{status}");
    stream.stop();
    site.run(&["wal", "audit", "db1"]).ok();
}

/// Backups that nobody streams between are separate by nature; a segment that one of them needs is not.
#[test]
fn an_audit_tells_lone_backups_from_a_loss() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let first = id(&site.backup(&source));
    fill_segment(&source, "never archived");
    fill_segment(&source, "nor this");
    let second = site.backup(&source);
    let audit = site.ask(&["wal", "audit", "db1"]);
    assert_eq!(audit["ok"], true, "{audit}");
    let lineage = &audit["lineages"][0];
    assert_eq!(lineage["between"].as_array().unwrap().len(), 1, "{audit}");
    assert_eq!(lineage["stretches"][1]["backups"][0], id(&second), "{audit}");
    let said = site.run(&["wal", "audit", "db1"]).ok();
    assert!(said.stdout.contains("no continuous archive"), "{said}");
    let said = site.run(&["verify", "db1", &first]).ok();
    assert!(said.stdout.contains("continuous to"), "{said}");

    step("the first segment that the second backup needs is lost");
    let start = lsn(second["start_lsn"].as_str().unwrap()) >> 24;
    let lost = format!("00000001{:08X}{:08X}", start >> 8, start & 0xff);
    let segment = site.content().into_keys().find(|path| path.ends_with(&lost));
    std::fs::remove_file(segment.unwrap()).unwrap();
    let said = site.run(&["wal", "audit", "db1"]).exits(9);
    assert!(said.stdout.contains(&id(&second)), "{said}");
}

//! The archive_command: a server that has nothing else, one that is promoted, and one beside a stream.

use std::fs;

use hardstorage_e2e::{Builder, Cluster, Ledger, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::site::{PATIENCE, Site, fill_segment, id, lsn, step};

/// The archive_command, with all that it needs in its words: a server's environment has no HOME.
pub fn command(site: &Site) -> String {
    format!(
        "'{}' wal push db1 %p --repo '{}' --keyring '{}'",
        site.product.binary().display(),
        site.repo,
        site.product.config().join("keyring").display()
    )
}

/// A server that archives to the site.
pub fn archiving(major: u16, site: &Site) -> Builder {
    Cluster::builder(major)
        .set("archive_mode", "on")
        .set("archive_command", &command(site))
        .set("wal_keep_size", "512MB")
}

/// Ends the segment.
#[track_caller]
pub fn end_segment(cluster: &Cluster) {
    cluster.sql("SELECT pg_switch_wal()");
}

/// Waits until the archiver has nothing left to do.
#[track_caller]
pub fn until_archived(cluster: &mut Cluster) {
    let waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'";
    cluster.until("everything is archived", |c| {
        (c.try_value(waiting).ok()? == "0").then_some(())
    });
}

/// How often the archive_command has failed.
#[track_caller]
pub fn failures(cluster: &Cluster) -> u64 {
    cluster
        .value("SELECT failed_count FROM pg_stat_archiver")
        .parse()
        .unwrap()
}

/// The names of what was archived of a kind: `segments`, `aux`, `timelines`.
fn archived(site: &Site, kind: &str) -> Vec<String> {
    let under = site.repository().join("wal/db1");
    let names = site.content().into_keys().filter_map(|path| {
        let mut parts = path.strip_prefix(&under).ok()?.components();
        let found = parts.nth(1)?.as_os_str() == kind;
        found.then(|| path.file_name().unwrap().to_str().unwrap().to_owned())
    });
    names.collect()
}

#[test]
fn alone_with_the_oldest() {
    alone(15);
}

#[test]
fn alone_with_the_newest() {
    alone(18);
}

/// No stream ever ran, and the data directory is lost: everything whose segment was ended is there.
fn alone(major: u16) {
    let site = Site::new();
    let mut source = archiving(major, &site).start();
    Ledger::create(&source);
    site.backup(&source);
    let wanted = Ledger::add(&source, "before the moment", 300);
    source.sql("SELECT pg_create_restore_point('here')");
    let moment = source.now();
    for chapter in 0..3 {
        fill_segment(&source, &format!("segment {chapter}"));
    }
    let everything = Ledger::add(&source, "the end", 300);
    end_segment(&source);
    until_archived(&mut source);
    Ledger::add(&source, "in a segment that never ended", 10);
    let later = source.now();
    assert_eq!(failures(&source), 0, "{}", source.log());
    let histories = archived(&site, "aux");
    assert!(
        histories.len() == 1 && histories[0].ends_with(".00000028.backup"),
        "{histories:?}"
    );
    drop(source);

    let read = |name: &str, args: &[&str], paused: bool| {
        let mut restored = site.restore(major, name, args);
        if paused {
            restored.until_paused();
        } else {
            restored.until_promoted();
        }
        Ledger::read(&restored)
    };
    assert_eq!(read("latest", &["--to-latest"], false), everything);
    assert_eq!(read("moment", &["--to", &moment], true), wanted);
    assert_eq!(read("name", &["--to-name", "here"], true), wanted);
    site.run(&["wal", "audit", "db1"]).ok();
    step("nothing that was archived says what happened after its last commit");
    site.refused("later", &["--to", &later], 7, "conflict.target_unreachable");
}

/// The standby archives from its promotion on: the history, the old timeline's last segment, and its own. The old primary
/// comes back as if nothing had happened: what it writes is kept, and it is told.
#[test]
fn a_promotion_is_archived() {
    let site = Site::new();
    let mut old = archiving(18, &site).start();
    let mut new = old.standby();
    Ledger::create(&old);
    let first = id(&site.backup(&old));
    fill_segment(&old, "archived by the old primary");
    let shared = Ledger::add(&old, "in the segment of the switch", 300);
    new.until("the standby has replayed the rows", |c| {
        let there = c.try_value("SELECT count(*) FROM ledger").ok()?;
        (there == shared.rows().to_string()).then_some(())
    });
    until_archived(&mut old);
    step("the standby loses its primary, which goes on in the same segment");
    new.stop();
    new.set("primary_conninfo", "host=127.0.0.1 port=1");
    new.start();
    let dead = Ledger::add(&old, "lost with the old primary", 100);
    old.kill();
    new.promote();
    until_archived(&mut new);
    let partial = archived(&site, "aux")
        .into_iter()
        .find(|name| name.ends_with(".partial"));
    let partial = partial.unwrap_or_else(|| panic!("no partial segment\n{}", new.log()));
    assert_eq!(archived(&site, "timelines"), ["00000002.history"]);
    let original = fs::read(new.data().join("pg_wal").join(&partial)).unwrap();
    let fetched = site.place("partial");
    site.run(&["wal", "fetch", "db1", &partial, fetched.to_str().unwrap()])
        .ok();
    assert!(
        fs::read(&fetched).unwrap() == original,
        "{partial} came back with other bytes"
    );

    let surviving = Ledger::add(&new, "on the living branch", 200);
    assert_eq!(surviving.rows(), shared.rows() + 200);
    end_segment(&new);
    until_archived(&mut new);
    assert_eq!(failures(&new), 0, "{}", new.log());
    assert_eq!(site.latest("latest"), surviving);
    site.run(&["wal", "audit", "db1"]).ok();

    step("the old primary is started again, and archives what nobody follows");
    old.start();
    end_segment(&old);
    let further = fill_segment(&old, "further on the dead branch");
    until_archived(&mut old);
    assert_eq!(failures(&old), 0, "{}", old.log());
    assert!(old.log().contains("wal.push.timeline_left"), "{}", old.log());
    assert_eq!(further.rows(), dead.rows() + 500);
    assert_eq!(site.latest("still"), surviving);
    assert_eq!(
        site.all("dead", &[&first, "--to-latest", "--to-timeline", "1"]),
        further
    );
}

/// Whoever comes second finds the same bytes there.
#[test]
fn beside_a_stream() {
    let site = Site::new();
    let mut source = archiving(18, &site).start();
    let mut stream = site.stream("stream", &source.connection(), &[]);
    Ledger::create(&source);
    site.backup(&source);
    for chapter in 0..4 {
        fill_segment(&source, &format!("segment {chapter}"));
    }
    until_archived(&mut source);
    let everything = Ledger::add(&source, "in a segment that has not ended", 100);
    let moment = source.now();
    stream.until_durable(&source);
    assert_eq!(failures(&source), 0, "{}", source.log());
    assert_eq!(stream.events_named("wal.stream.reconnecting").len(), 0);

    step("again by hand: stored already, and nothing changes");
    let before = archived(&site, "segments");
    let done = source.sql("SELECT name FROM pg_ls_archive_statusdir() WHERE name LIKE '%.done'");
    let names = done.into_iter().flatten().flatten();
    let names: Vec<String> = names.map(|name| name.trim_end_matches(".done").to_owned()).collect();
    assert!(names.len() > 4, "{names:?}");
    for name in names {
        let path = source.data().join("pg_wal").join(name);
        let result = site.ask(&["wal", "push", "db1", path.to_str().unwrap()]);
        assert_eq!(result["stored"], Value::Bool(false), "{result}");
    }
    assert_eq!(archived(&site, "segments"), before);

    step("the stream is behind: the archiver stores first what it then sends");
    stream.stop();
    for chapter in 4..7 {
        fill_segment(&source, &format!("segment {chapter}"));
    }
    until_archived(&mut source);
    let mut stream = site.stream("again", &source.connection(), &[]);
    assert_eq!(site.paused("moment", &["--to", &moment]), everything);
    let everything = Ledger::add(&source, "the end", 100);
    stream.until_durable(&source);
    stream.stop();
    site.run(&["wal", "audit", "db1"]).ok();
    assert_eq!(site.latest("latest"), everything);
}

/// The archiver was off for a while: later segments are stored all the same, and the hole is told.
#[test]
fn a_hole_in_front_is_no_error_and_is_seen() {
    let site = Site::new();
    let mut source = archiving(18, &site).start();
    Ledger::create(&source);
    site.backup(&source);
    fill_segment(&source, "archived");
    until_archived(&mut source);
    site.run(&["wal", "audit", "db1"]).ok();
    step("a command that throws away");
    source.stop();
    source.set("archive_command", "true");
    source.start();
    fill_segment(&source, "thrown away");
    until_archived(&mut source);
    source.stop();
    source.set("archive_command", &command(&site));
    source.start();
    fill_segment(&source, "archived again");
    until_archived(&mut source);
    assert_eq!(failures(&source), 0, "{}", source.log());
    let audit = site.run(&["wal", "audit", "db1"]).exits(9);
    assert!(audit.stdout.contains("(not recorded)"), "{audit}");
    site.refused("across", &["--to-latest"], 9, "verify.wal_gap");
    step("a new backup begins anew");
    site.backup(&source);
    let everything = fill_segment(&source, "protected again");
    until_archived(&mut source);
    assert_eq!(site.latest("latest"), everything);
}

/// Crashes leave records that were cut off and written over: such segments are whole all the same.
#[test]
fn a_server_that_crashes_again_and_again() {
    let site = Site::new();
    // A crash between the end of a segment and its `.ready` file leaves a segment that PostgreSQL hands over when it is to
    // be removed: with nothing kept, that is when it has recovered.
    let mut source = archiving(18, &site).set("wal_keep_size", "0").start();
    Ledger::create(&source);
    site.backup(&source);
    source.sql("CREATE TABLE filler (note text)");
    for round in 0..6 {
        Ledger::add(&source, &format!("round {round}"), 200);
        let begin = lsn(&source.insert_lsn());
        std::thread::scope(|scope| {
            let server = &source;
            let load = "INSERT INTO filler SELECT repeat(md5(n::text), 45) FROM generate_series(1, 200000) n";
            let writer = scope.spawn(move || server.try_rows(load));
            // Somewhere in the second segment from here.
            let far = begin + (16 << 20) + round * (2 << 20) + 5000;
            until("some WAL was written", PATIENCE, || {
                (lsn(&server.try_value("SELECT pg_current_wal_lsn()").ok()?) >= far).then_some(())
            });
            let postmaster = Pid::from_raw(server.postmaster().try_into().unwrap());
            kill_process(postmaster.unwrap(), Signal::QUIT).unwrap();
            assert!(writer.join().unwrap().is_err(), "the load ended before the crash");
        });
        source.kill();
        source.start();
    }
    let everything = Ledger::add(&source, "the end", 100);
    end_segment(&source);
    until_archived(&mut source);
    assert!(!source.log().contains("archive command failed"), "{}", source.log());
    assert_eq!(site.latest("latest"), everything);
    site.run(&["wal", "audit", "db1"]).ok();
}

/// Archiving is switched on after a promotion: PostgreSQL never hands over the history, and recovery needs it.
#[test]
fn archiving_begins_after_a_promotion() {
    let site = Site::new();
    let mut old = archiving(18, &site).set("wal_keep_size", "0").start();
    let mut new = old.standby();
    Ledger::create(&old);
    site.backup(&old);
    let shared = fill_segment(&old, "archived by the old primary");
    until_archived(&mut old);
    new.stop();
    new.set("archive_mode", "off");
    new.start();
    new.until("the standby has replayed the rows", |c| {
        let there = c.try_value("SELECT count(*) FROM ledger").ok()?;
        (there == shared.rows().to_string()).then_some(())
    });
    old.stop();
    new.promote();
    Ledger::add(&new, "before archiving is on", 100);
    new.stop();
    new.set("archive_mode", "on");
    new.start();
    for chapter in 0..4 {
        fill_segment(&new, &format!("archived by the new primary {chapter}"));
        new.sql("CHECKPOINT");
    }
    until_archived(&mut new);
    let everything = Ledger::read(&new);
    assert_eq!(failures(&new), 0, "{}", new.log());
    assert_eq!(archived(&site, "timelines"), ["00000002.history"]);
    step("the rest of the old timeline is no whole segment, whatever name PostgreSQL gives it");
    let partial = archived(&site, "aux")
        .into_iter()
        .find(|name| name.ends_with(".partial"));
    let whole = partial.map(|name| name.trim_end_matches(".partial").to_owned());
    let segments = archived(&site, "segments");
    assert!(whole.is_none_or(|whole| !segments.contains(&whole)), "{segments:?}");
    site.run(&["wal", "audit", "db1"]).ok();
    assert_eq!(site.latest("latest"), everything);
}

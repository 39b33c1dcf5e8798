//! Promotions, with the archive level with, ahead of and behind the new primary.

use hardstorage_e2e::{Cluster, Ledger};

use crate::site::{PATIENCE, Site, fill_segment, id, step};

fn either(first: &Cluster, second: &Cluster) -> String {
    format!(
        "postgres://pgbackup:pgbackup@{},{}/postgres?target_session_attrs=primary",
        first.address(),
        second.address()
    )
}

fn primary() -> Cluster {
    // A promoted standby still has what the archive may lack.
    Cluster::builder(18).set("wal_keep_size", "512MB").start()
}

/// Waits until the standby has replayed exactly this.
#[track_caller]
fn until_replayed(standby: &mut Cluster, wanted: &Ledger) {
    standby.until("the standby has replayed the rows", |standby| {
        let there = standby.try_value("SELECT count(*) FROM ledger").ok()?;
        (there == wanted.rows().to_string()).then_some(())
    });
    assert_eq!(&Ledger::read(standby), wanted);
}

#[test]
fn stream_follows_a_promotion() {
    let mut old = primary();
    let mut new = old.standby();
    let site = Site::new();
    let mut stream = site.stream("stream", &either(&old, &new), &[]);
    Ledger::create(&old);
    site.backup(&old);
    let wanted = Ledger::add(&old, "before the moment", 300);
    let moment = old.now();
    Ledger::add(&old, "before the switch", 300);
    stream.until_durable(&old);

    step("the old primary stops, the standby takes over");
    old.stop();
    new.promote();
    stream.until("the stream is on timeline 2", |status| {
        status["timeline"] == 2 && status["phase"] == "streaming"
    });
    let everything = Ledger::add(&new, "on the new timeline", 300);
    assert_eq!(everything.rows(), 900);
    stream.until_durable(&new);

    step("restore the end, and a moment before the switch");
    assert_eq!(site.latest("latest"), everything);
    assert_eq!(site.paused("moment", &["--to", &moment]), wanted);
    site.run(&["wal", "audit", "db1"]).ok();

    step("a backup of the new primary leads on from there");
    site.backup(&new);
    let more = fill_segment(&new, "after the new backup");
    stream.until_durable(&new);
    assert_eq!(site.latest("newer"), more);
    stream.stop();
}

/// The old primary went on alone and its WAL was archived: that branch is dead. Recovery must read the segment of the
/// switch from the new timeline.
#[test]
fn archive_is_ahead_of_the_new_primary() {
    let mut old = primary();
    let mut new = old.standby();
    let site = Site::new();
    let mut stream = site.stream("stream", &either(&old, &new), &[]);
    Ledger::create(&old);
    site.backup(&old);
    let shared = Ledger::add(&old, "on both", 300);
    until_replayed(&mut new, &shared);

    step("the standby loses its primary, which writes three segments more");
    new.stop();
    new.set("primary_conninfo", "host=127.0.0.1 port=1");
    new.start();
    for _ in 0..3 {
        fill_segment(&old, "on the dead branch");
    }
    let dead = Ledger::add(&old, "the end of the dead branch", 10);
    // It is not known yet that this leads nowhere.
    let in_vain = id(&site.backup(&old));
    stream.until_durable(&old);
    old.kill();
    new.promote();

    step("the stream goes back to the switch");
    stream.until("the stream is on timeline 2", |status| {
        status["timeline"] == 2 && status["phase"] == "streaming"
    });
    let surviving = Ledger::add(&new, "on the living branch", 200);
    assert_eq!(surviving.rows(), 500);
    stream.until_durable(&new);
    assert_eq!(site.latest("living"), surviving);
    let plan = site.ask(&["restore", "db1", "--target", "/nowhere/at/all", "--preview"]);
    assert!(plan["warnings"].to_string().contains(&in_vain), "{plan}");
    site.refused("in-vain", &[&in_vain, "--to-latest"], 7, "conflict.target_unreachable");
    assert_eq!(site.all("dead", &["--to-latest", "--to-timeline", "1"]), dead);

    step("beyond the end of the dead branch");
    for _ in 0..4 {
        fill_segment(&new, "on the living branch, further");
    }
    let surviving = Ledger::read(&new);
    stream.until_durable(&new);
    assert_eq!(site.latest("further"), surviving);
    stream.stop();
}

/// The stream was away during the promotion: what it lacks of the old timeline is asked for first, on that timeline.
#[test]
fn archive_is_behind_the_new_primary() {
    let mut old = primary();
    let mut new = old.standby();
    let site = Site::new();
    let mut stream = site.stream("before", &old.connection(), &[]);
    Ledger::create(&old);
    site.backup(&old);
    let early = Ledger::add(&old, "streamed", 300);
    let moment = old.now();
    stream.until_durable(&old);
    stream.stop();

    step("segments on both sides of a promotion, unseen");
    for _ in 0..3 {
        fill_segment(&old, "unseen on timeline 1");
    }
    let last = Ledger::add(&old, "the end of timeline 1", 10);
    let switch = old.now();
    until_replayed(&mut new, &last);
    old.stop();
    new.promote();
    for _ in 0..3 {
        fill_segment(&new, "unseen on timeline 2");
    }
    let unseen = Ledger::read(&new);

    step("a stream from the new primary, which knows nothing of a slot");
    let mut stream = site.start_stream("after", &new.connection(), &[]);
    stream.until_durable(&new);
    let resumed = stream.events_named("wal.stream.starting");
    assert!(
        resumed
            .first()
            .is_some_and(|event| event.to_string().contains("resume-across-timelines")),
        "{}",
        stream.process.answer()
    );
    assert_eq!(stream.events_named("wal.gap").len(), 0);
    assert_eq!(site.latest("latest"), unseen);
    assert_eq!(site.paused("early", &["--to", &moment]), early);
    assert_eq!(site.paused("switch", &["--to", &switch]), last);
    site.run(&["wal", "audit", "db1"]).ok();

    step("two promotions at once, the stream away again");
    let mut third = new.standby();
    let mut fourth = third.standby();
    stream.until_durable(&new);
    stream.stop();
    let before = fill_segment(&new, "unseen on timeline 2 again");
    until_replayed(&mut fourth, &before);
    new.stop();
    third.promote();
    let written = fill_segment(&third, "unseen on timeline 3");
    until_replayed(&mut fourth, &written);
    third.stop();
    fourth.promote();
    let everything = fill_segment(&fourth, "on timeline 4");
    let mut stream = site.start_stream("again", &fourth.connection(), &[]);
    stream.until_durable(&fourth);
    assert_eq!(site.latest("fourth"), everything);
    site.run(&["wal", "audit", "db1"]).ok();
    stream.stop();
}

/// A standby is no source, and a demoted primary that comes back must not be streamed from.
#[test]
fn stale_nodes_are_refused() {
    let mut old = primary();
    let mut new = old.standby();
    let site = Site::new();
    Ledger::create(&old);
    let preflight = site
        .start_stream("standby", &new.connection(), &["--no-reconnect"])
        .process
        .wait(PATIENCE);
    let preflight = preflight.exits(4);
    assert!(
        preflight.to_string().contains("preflight.source_is_standby"),
        "{preflight}"
    );

    let mut stream = site.stream("stream", &old.connection(), &[]);
    stream.until_durable(&old);
    stream.stop();
    old.stop();
    new.promote();
    let mut stream = site.start_stream("new", &new.connection(), &[]);
    stream.until_durable(&new);
    stream.stop();
    step("the old primary is started again");
    old.start();
    Ledger::add(&old, "split brain", 10);
    let refused = site
        .start_stream("stale", &old.connection(), &[])
        .process
        .wait(PATIENCE)
        .exits(7);
    assert!(refused.to_string().contains("conflict.split_brain"), "{refused}");
}

#[test]
fn an_old_primary_that_is_named_first_is_passed_by() {
    let (old, site) = (primary(), Site::new());
    let mut new = old.standby();
    Ledger::create(&old);
    site.backup(&old);
    let mut stream = site.stream("stream", &old.connection(), &[]);
    until_replayed(&mut new, &Ledger::add(&old, "before", 100));
    stream.until_durable(&old);
    stream.stop();
    new.promote();
    let mut stream = site.stream("new", &new.connection(), &[]);
    Ledger::add(&new, "behind the promotion", 100);
    stream.until_durable(&new);
    stream.stop();
    step("both believe to be the primary");
    Ledger::add(&old, "of a branch that died", 100);
    let wanted = Ledger::add(&new, "alive", 100);
    let mut stream = site.start_stream("both", &either(&old, &new), &[]);
    stream.until_durable(&new);
    let told = stream.process.answer().stderr;
    assert!(
        told.contains("the server is on timeline 1, the archive has timeline 2 already"),
        "{told}"
    );
    stream.stop();
    step("with no other server that runs, one who looks is told, and a service waits for it");
    new.stop();
    let servers = either(&old, &new);
    let refused = site
        .run(&["wal", "stream", "db1", "--pg-connection", &servers])
        .exits(7);
    assert!(refused.to_string().contains("conflict.split_brain"), "{refused}");
    let mut stream = site.start_stream("waits", &servers, &[]);
    stream.until("it asked in vain", |status| status["phase"] == "reconnecting");
    new.start();
    stream.until_durable(&new);
    stream.stop();
    assert_eq!(site.latest("latest"), wanted);
}

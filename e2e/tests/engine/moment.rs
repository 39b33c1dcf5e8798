//! Moments at the very end of what is archived, where PostgreSQL itself would find nothing to stop at; on the oldest and
//! the newest version of PostgreSQL, because the plan relies on what they mean by "inclusive".

use hardstorage_e2e::{Cluster, Ledger};

use crate::site::{Site, Stream, lsn, step};

/// The time of the newest row's commit, and the microsecond behind it.
fn last_commit(source: &Cluster) -> (String, String) {
    let at = |more: &str| {
        source.value(&format!(
            r#"SELECT to_char((pg_xact_commit_timestamp(xmin) + interval '{more} us') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
               FROM ledger ORDER BY id DESC LIMIT 1"#
        ))
    };
    (at("0"), at("1"))
}

/// Waits until the archive is complete up to a time of the server's clock.
fn until_covered(stream: &mut Stream, moment: &str) {
    // The digits of a time in UTC order as the time does, once a fraction of fewer digits is filled up.
    let digits = |text: &str| -> String {
        text.trim_end_matches('Z')
            .chars()
            .filter(char::is_ascii_digit)
            .collect()
    };
    let wanted = format!("{:0<20}", digits(moment));
    stream.until_within(
        &format!("{moment} is covered"),
        std::time::Duration::from_secs(100),
        |status| {
            let until = status["recoverable_to"].as_str();
            until.is_some_and(|until| format!("{:0<20}", digits(until)) >= wanted)
        },
    );
}

/// A load that fills many segments and commits nothing, as COPY and CREATE INDEX do until they end.
#[test]
fn commits_before_a_bulk_load_are_not_lost() {
    let source = Cluster::builder(18)
        .wal_segment_size(1)
        .set("autovacuum", "off")
        .start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    let wanted = Ledger::add(&source, "before the load", 100);
    let moment = source.now();
    step("20 MB of WAL without a commit");
    let load = "DO $$ BEGIN INSERT INTO ledger (note) SELECT repeat('x', 500) FROM generate_series(1, 35000); \
                RAISE EXCEPTION 'given up'; END $$";
    assert!(source.try_rows(load).is_err());
    stream.until_durable(&source);
    until_covered(&mut stream, &moment);
    stream.stop();
    assert_eq!(site.paused("before", &["--to", &moment]), wanted);
    assert_eq!(site.paused("excluded", &["--to", &moment, "--to-exclusive"]), wanted);
}

/// What `status` and the stream's own `/status` call the earliest and the latest moment, they are.
#[test]
fn the_window_is_shown_and_each_end_of_it_holds() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let first = Ledger::add(&source, "in the backup", 100);
    site.backup(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    let everything = Ledger::add(&source, "behind it", 100);
    let moment = source.now();
    Ledger::add(&source, "so that a later moment is told", 1);
    stream.until_durable(&source);
    until_covered(&mut stream, &moment);
    let told = stream.until("the beginning is computed", |status| {
        status["recoverable_from"].is_string()
    });
    stream.stop();
    let status = site.ask(&["status", "db1"]);
    let window = &status["deployments"][0]["recoverable"];
    assert_eq!(window["from"], told["recoverable_from"], "{status}");
    let (from, to) = (window["from"].as_str().unwrap(), window["to"].as_str().unwrap());
    assert_eq!(site.paused("earliest", &["--to", from]), first);
    let latest = site.paused("latest", &["--to", to]);
    assert!(latest.rows() >= everything.rows(), "{to}");
    let before = "2001-01-01T00:00:00Z";
    let earlier = site.refused("earlier", &["--to", before], 6, "notfound.backup_before_target");
    assert!(
        earlier.stderr.contains(from),
        "it does not say what can be reached\n{earlier}"
    );
}

#[test]
fn the_last_commit_can_be_kept_and_undone_15() {
    kept_and_undone(15);
}

#[test]
fn the_last_commit_can_be_kept_and_undone_18() {
    kept_and_undone(18);
}

fn kept_and_undone(major: u16) {
    let mut source = Cluster::builder(major)
        .set("autovacuum", "off")
        .set("track_commit_timestamp", "on")
        .start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    let backup = site.backup(&source);
    let kept = Ledger::add(&source, "kept", 100);
    let between = source.insert_lsn();
    let mistake = Ledger::add(&source, "the mistake", 10);
    let xid = source.value("SELECT xmin FROM ledger ORDER BY id DESC LIMIT 1");
    let (exactly, behind) = last_commit(&source);
    stream.until_durable(&source);
    until_covered(&mut stream, &behind);

    step("the server stops: nothing is ever committed after it");
    source.stop();
    let control = source.tool("pg_controldata", &[source.data().to_str().unwrap()]).ok();
    let line = control
        .stdout
        .lines()
        .find(|line| line.starts_with("Latest checkpoint location:"));
    let last_record = line.and_then(|line| line.split_whitespace().last()).unwrap().to_owned();
    let status = stream.until("the last record is durable", |status| {
        status["durable_lsn"]
            .as_str()
            .is_some_and(|durable| lsn(durable) > lsn(&last_record))
    });
    let end = status["durable_lsn"].as_str().unwrap();
    drop(stream);

    let start = backup["stop_lsn"].as_str().unwrap();
    let before = Ledger::read(&{
        let mut restored = site.restore(major, "end", &["--to-lsn", start, "--to-exclusive"]);
        restored.until_paused();
        restored
    });
    assert_eq!(before.rows(), 0);
    for (name, target, exclusive, expected) in [
        ("exactly", ["--to", &exactly], false, &mistake),
        ("before", ["--to", &exactly], true, &kept),
        ("behind", ["--to", &behind], false, &mistake),
        ("not-behind", ["--to", &behind], true, &mistake),
        ("xid", ["--to-xid", &xid], false, &mistake),
        ("not-xid", ["--to-xid", &xid], true, &kept),
        ("lsn", ["--to-lsn", &between], false, &kept),
        ("not-lsn", ["--to-lsn", &between], true, &kept),
        ("last", ["--to-lsn", &last_record], false, &mistake),
        ("not-last", ["--to-lsn", &last_record], true, &mistake),
        ("archive", ["--to-lsn", end], false, &mistake),
        ("not-archive", ["--to-lsn", end], true, &mistake),
    ] {
        step(&format!("{name}: {} {}", target[0], target[1]));
        let words = if exclusive { &["--to-exclusive"][..] } else { &[] };
        let mut restored = site.restore(major, name, &[&target[..], words].concat());
        restored.until_paused();
        assert_eq!(&Ledger::read(&restored), expected, "{name}");
    }

    step("within the last record, where no other begins, and behind the end");
    let behind = |position: &str| {
        let (high, low) = position.split_once('/').unwrap();
        format!("{high}/{:X}", u64::from_str_radix(low, 16).unwrap() + 8)
    };
    for (name, target, why) in [
        ("within", behind(&last_record), "no record begins"),
        ("beyond", behind(end), "is not in the archive"),
    ] {
        let refused = site.refused(name, &["--to-lsn", &target], 7, "conflict.target_unreachable");
        assert!(refused.stderr.contains(why), "{refused}");
        assert!(refused.stderr.contains(&format!("({end}) on timeline")), "{refused}");
    }
}

//! Copies that bring along all WAL that their recovery needs, and no more: they start when the repository is gone.

use hardstorage_e2e::{Cluster, Ledger};

use crate::recover::{files, move_away};
use crate::site::{Site, fill_segment, step};

#[test]
fn wal_in_the_target_is_all_that_recovery_needs_15() {
    wal_in_the_target(15);
}

#[test]
fn wal_in_the_target_is_all_that_recovery_needs_18() {
    wal_in_the_target(18);
}

fn wal_in_the_target(major: u16) {
    let source = Cluster::builder(major)
        .wal_segment_size(1)
        .set("autovacuum", "off")
        .start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    let none = Ledger::read(&source);
    for _ in 0..3 {
        fill_segment(&source, "before the moment");
    }
    let wanted = Ledger::add(&source, "the last ones", 10);
    let (moment, position) = (source.now(), source.insert_lsn());
    source.sql("SELECT pg_create_restore_point('here')");
    for _ in 0..20 {
        fill_segment(&source, "behind the moment");
    }
    let everything = Ledger::read(&source);
    stream.until_durable(&source);
    let mut copies = Vec::new();
    for (name, goal, rows, segments) in [
        ("time", &["--to", &moment][..], &wanted, 8),
        ("lsn", &["--to-lsn", &position], &wanted, 8),
        ("name", &["--to-name", "here"], &wanted, 8),
        ("end", &[], &none, 4),
        ("latest", &["--to-latest"], &everything, 100),
    ] {
        step(name);
        let more = [goal, &["--wal-in-target", "--to-action", "promote"]].concat();
        let (answer, data) = site.restore_files(name, &more);
        let there = files(&data.join("pg_hardstorage_wal"));
        assert!((1..=segments).contains(&there.len()), "{there:?}\n{answer}");
        copies.push((data, rows));
    }
    let most = files(&copies.last().unwrap().0.join("pg_hardstorage_wal")).len();
    assert!(most > 20, "{most}");
    let both = ["--wal-in-target", "--recover"];
    site.refused("both", &both, 2, "usage.invalid");
    stream.stop();

    step("the repository is gone");
    move_away(&site);
    for (data, rows) in copies {
        let mut copy = Cluster::builder(major).over(&data).start();
        copy.until_promoted();
        assert_eq!(&Ledger::read(&copy), rows, "{}", data.display());
        copy.until("what was brought along is removed", |_| {
            (!data.join("pg_hardstorage_wal").exists()).then_some(())
        });
    }
}

//! What a synchronous stream does while its store answers nothing: commits wait, nothing breaks, and all goes on.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use hardstorage_e2e::{Ledger, ObjectStore, until};
use rustix::process::Signal;

use crate::site::{PATIENCE, Site};
use crate::synchronous::{OURS, SYNCHRONOUS, a_commit_waits, recipe, until_named, waiting};

/// A store that stands still for ten seconds: commits wait as long, and nothing is lost.
#[test]
fn a_store_that_stands_still_is_waited_for() {
    let store = ObjectStore::minio();
    store.bucket("backups");
    let site = Site::on(&store.url("backups"), &store.credentials());
    let (source, stream) = waiting(&site, 18, OURS);
    site.backup(&source);
    store.signal(Signal::STOP);
    let begun = Instant::now();
    a_commit_waits(&source, "while the store stands still", |answered| {
        until("ten seconds are over", PATIENCE, || {
            (begun.elapsed() >= Duration::from_secs(10)).then_some(())
        });
        assert!(!answered(), "answered without the store");
        store.signal(Signal::CONT);
    });
    let everything = Ledger::add(&source, "afterwards", 10);
    drop((source, stream));
    let mut restored = site.restore(18, "latest", &["--to-latest"]);
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), everything);
}

/// The thread that reads the stream is the one that waits for the disk: the server hears from the stream all the same.
#[test]
fn a_disk_that_hangs_is_waited_for() {
    let mut site = Site::new();
    let held = site.place("held");
    fs::write(&held, "").unwrap();
    site.product
        .set("HARDSTORAGE_HOLD_AT", "fdatasync before wal/*/*/tails/*/*/.tmp 9");
    site.product.set("HARDSTORAGE_HOLD_FILE", held.to_str().unwrap());
    let timeout = Duration::from_secs(2);
    let source = recipe(18, OURS).set("wal_sender_timeout", "2s").start();
    let mut stream = site.stream("stream", &source.connection(), SYNCHRONOUS);
    until_named(&mut stream, &source);
    let writer = || {
        Ledger::create(&source);
        for _ in 0..20 {
            Ledger::add(&source, "while the disk hangs", 1);
        }
    };
    thread::scope(|scope| {
        let writer = scope.spawn(writer);
        let begun = until("a commit waits for long", PATIENCE, || {
            let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND now() - state_change > '500ms'";
            source.try_value(sql).is_ok_and(|one| one == "1").then(Instant::now)
        });
        until("the server would have given up twice", PATIENCE, || {
            (begun.elapsed() >= timeout * 2).then_some(())
        });
        assert!(!writer.is_finished(), "answered without the disk");
        fs::remove_file(&held).unwrap();
    });
    stream.never_broke();
    stream.stop();
    site.run(&["wal", "audit", "db1"]).ok();
}

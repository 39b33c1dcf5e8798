//! Two of a kind on one deployment, and a server that is not the one it was.

use hardstorage_e2e::{Cluster, Ledger};

use crate::site::{PATIENCE, Site, step};

#[test]
fn second_stream_is_refused_while_the_first_goes_on() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let mut first = site.stream("first", &source.connection(), &[]);
    let walsender = source.value("SELECT active_pid FROM pg_replication_slots");
    let second = site
        .start_stream("second", &source.connection(), &[])
        .process
        .wait(PATIENCE)
        .exits(7);
    assert!(second.to_string().contains("conflict.slot_in_use"), "{second}");
    assert!(
        second.to_string().contains(&walsender),
        "no process id {walsender}\n{second}"
    );

    step("one that waits takes over");
    let mut waiting = site.start_stream("waiting", &source.connection(), &["--wait"]);
    waiting.until("it waits", |status| {
        status["phase"] == "reconnecting" && status["slot_health"] == "held_by_other"
    });
    Ledger::add(&source, "rows", 100);
    first.until_durable(&source);
    assert_eq!(first.status().unwrap()["connections"], 1);
    first.stop();
    waiting.until("it streams", |status| status["phase"] == "streaming");
    Ledger::add(&source, "rows", 100);
    waiting.until_durable(&source);
    waiting.stop();
}

/// The address of a deployment now leads to another cluster.
#[test]
fn another_cluster_is_not_mixed_in() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let wanted = Ledger::add(&source, "ours", 100);
    site.backup(&source);
    let stream = site.stream("stream", &source.connection(), &[]);
    stream.stop();
    let other = Cluster::builder(18).own_identity().start();
    let connection = other.connection();
    let before = site.content();
    for command in [&["backup", "db1"][..], &["wal", "stream", "db1"]] {
        let refused = site
            .run(&[command, &["--pg-connection", &connection]].concat())
            .exits(7);
        assert!(
            refused.stderr.contains("ERROR conflict.system_identifier: "),
            "{refused}"
        );
        assert!(refused.stderr.contains("--accept-new-system"), "{refused}");
    }
    assert_eq!(site.content(), before);

    step("after pg_upgrade or initdb it is meant");
    site.run(&["backup", "db1", "--pg-connection", &connection, "--accept-new-system"])
        .ok();
    let listed = site.backups();
    assert_eq!(listed.len(), 2);
    assert_eq!(site.all("ours", &[&listed[1]]), wanted);
    let theirs = site.restore(18, "theirs", &["latest"]);
    assert!(theirs.try_value("SELECT count(*) FROM ledger").is_err());
}

//! The network between us and PostgreSQL breaks at any byte: connections end or fall silent, on the way there and back. A
//! stream goes on where it was, and a backup is whole or was never taken.

use hardstorage_e2e::torture::Dice;
use hardstorage_e2e::{Break, Cluster, Ledger, Way, Wire, until};

use crate::site::{PATIENCE, Site, id, step};

fn by(wire: &Wire) -> String {
    format!("postgres://pgbackup:pgbackup@{}/postgres", wire.address())
}

#[test]
fn under_a_stream() {
    let source = Cluster::builder(18).wal_segment_size(1).start();
    let site = Site::new();
    Ledger::create(&source);
    let wire = Wire::before(source.address().into());
    let mut dice = Dice::new(5);
    let quick = [
        "--flush-interval",
        "100ms",
        "--receive-timeout",
        "2s",
        "--max-reconnect-backoff",
        "1s",
    ];
    let mut stream = site.stream("stream", &by(&wire), &quick);
    site.backup(&source);
    for round in 0..10 {
        let how = if round % 5 == 4 { Break::Silence } else { Break::Cut };
        // Answers are few and small: the status messages of a stream, and what a new connection sends.
        let (way, bytes) = if round % 3 == 1 {
            (Way::There, dice.number(1..=300))
        } else {
            (Way::Back, dice.number(1..=400_000))
        };
        step(&format!("round {round}: {how:?} after {bytes} bytes {way:?}"));
        wire.break_after(how, way, bytes as usize);
        until("the network breaks", PATIENCE, || {
            Ledger::add(&source, &format!("round {round}"), 300);
            (wire.broken() > round).then_some(())
        });
        if how == Break::Silence {
            stream.until("the stream gives the silent one up", |status| {
                status["phase"] == "reconnecting"
            });
        }
        wire.heal();
        stream.until_durable(&source);
    }
    assert_eq!(stream.events_named("wal.gap").len(), 0);
    let rows = Ledger::read(&source);
    stream.until_durable(&source);
    stream.stop();
    site.run(&["wal", "audit", "db1"]).ok();
    assert_eq!(site.latest("latest"), rows);
}

#[test]
fn under_a_backup() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let rows = Ledger::add(&source, "rows", 1000);
    let wire = Wire::before(source.address().into());
    let connection = by(&wire);
    let backup = ["backup", "db1", "--pg-connection", connection.as_str()];
    let mut dice = Dice::new(6);
    // A database of 22 MB: in the login, in the files, and at the end of them.
    for (round, far) in [2_000, 200_000, 20_000_000, 22_000_000].into_iter().enumerate() {
        let bytes = dice.number(1..=far);
        step(&format!("cut after {bytes} bytes"));
        wire.break_after(Break::Cut, Way::Back, bytes as usize);
        let answer = site.run(&backup);
        assert_eq!(wire.broken(), round + 1, "{answer}");
        assert_eq!(answer.code, Some(8), "{answer}");
        assert!(answer.stderr.contains("ERROR unreachable.postgres"), "{answer}");
        let listed = site.run(&["list", "db1", "-o", "json"]);
        assert!(!listed.stdout.contains("backup_id"), "{listed}");
    }
    let done = site.ask(&backup);
    assert_eq!(site.backups(), [id(&done)]);
    site.run(&["verify", "db1"]).ok();
    site.run(&["repo", "check", "--read-data"]).ok();
    assert_eq!(site.all("restored", &[]), rows);
}

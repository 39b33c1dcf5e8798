//! What is done to make each golden repository. A recipe may be changed when a new golden is wanted; the old ones stay.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use hardstorage_e2e::golden::{DEPLOYMENT, Golden, ROWS, files};
use hardstorage_e2e::{Cluster, Hardstorage, until};
use serde_json::json;

use crate::keep::Made;
use crate::small;
use crate::stream::Stream;

const PATIENCE: Duration = Duration::from_mins(1);

/// What makes one.
type Recipe = fn() -> Made;

/// Name and recipe.
pub const ALL: [(&str, Recipe); 6] = [
    ("plain", plain),
    ("lineage", lineage),
    ("timelines", timelines),
    ("tails", tails),
    ("journals", journals),
    ("records", records),
];

/// A server whose WAL stays, and a stream of it.
fn source(golden: &Golden, flush: &str) -> (Cluster, Stream) {
    let cluster = small::start(Cluster::builder(18).set("wal_keep_size", "256MB"));
    let stream = Stream::start(golden, "stream", &cluster.connection(), &["--flush-interval", flush]);
    (cluster, stream)
}

fn table(cluster: &Cluster) {
    cluster.sql("CREATE TABLE ledger (id int PRIMARY KEY, note text)");
}

fn add(cluster: &Cluster, from: u32, to: u32, note: &str) {
    cluster.sql(&format!(
        "INSERT INTO ledger SELECT g, '{note}' FROM generate_series({from}, {to}) g"
    ));
}

fn rows(cluster: &Cluster) -> String {
    cluster.value(ROWS)
}

fn backup(golden: &Golden, cluster: &Cluster, more: &[&str]) -> String {
    let connection = cluster.connection();
    let words = ["backup", DEPLOYMENT, "--pg-connection", &connection];
    let (code, result) = golden.ask(&[&words[..], more].concat());
    assert_eq!(code, 0, "{result}");
    result["backup_id"].as_str().unwrap().to_owned()
}

/// Ends the stream when everything is durable, and compares what it stored; where that ends.
fn ended(golden: &Golden, cluster: &Cluster, mut stream: Stream) -> String {
    stream.until_durable(cluster);
    let end = cluster.value("SELECT pg_current_wal_flush_lsn()");
    stream.stop();
    compare(golden, cluster, &end);
    end
}

/// The archive's files of WAL as far as the server has them itself: byte for byte.
fn compare(golden: &Golden, cluster: &Cluster, until: &str) {
    let end = hardstorage_e2e::lsn(until);
    let mut compared = 0;
    for name in golden.wal_names().iter().filter(|name| name.len() == 24) {
        let Ok(own) = fs::read(cluster.data().join("pg_wal").join(name)) else {
            continue;
        };
        let target = golden.place("compared");
        let timeline = u32::from_str_radix(&name[..8], 16).unwrap().to_string();
        golden.fetch(name, &timeline, &target).ok();
        let number = u64::from_str_radix(&name[16..], 16).unwrap();
        let used = usize::try_from(end.saturating_sub(number << 20).min(1 << 20)).unwrap();
        assert!(
            fs::read(&target).unwrap()[..used] == own[..used],
            "{name} is not the server's"
        );
        fs::remove_file(&target).unwrap();
        compared += 1;
    }
    assert!(compared > 0, "nothing was compared");
}

/// One full backup in the clear, and the WAL behind it, with a restore point and a moment.
fn plain() -> Made {
    let golden = Golden::create(false);
    let (mut cluster, stream) = source(&golden, "1s");
    table(&cluster);
    add(&cluster, 1, 300, "before the backup");
    let words = ["--label", "the only one", "--annotation", "kind=golden"];
    let id = backup(&golden, &cluster, &words);
    add(&cluster, 301, 400, "before the name");
    let named = rows(&cluster);
    cluster.sql("SELECT pg_create_restore_point('here')");
    cluster.sql("SELECT pg_switch_wal()");
    add(&cluster, 401, 500, "at the end");
    let all = rows(&cluster);
    ended(&golden, &cluster, stream);
    cluster.stop();
    Made {
        golden,
        notes: json!({"backup": id, "rows": all, "rows_at_name": named, "name": "here"}),
    }
}

/// Many backups of one life, sealed: a relation large enough for a map of its own that changes a little each time, shrinks
/// and grows again, one that is dropped, one in a tablespace inside of the data directory; layers pile up and are merged.
fn lineage() -> Made {
    let golden = Golden::create(true);
    let (mut cluster, stream) = source(&golden, "1s");
    table(&cluster);
    cluster.sql("CREATE TABLE large (id int, filling text)");
    cluster.sql("INSERT INTO large SELECT g, repeat('x', 900) FROM generate_series(1, 1500) g");
    cluster.sql("CREATE TABLE dropped AS SELECT g FROM generate_series(1, 200) g");
    let mut ids = vec![backup(&golden, &cluster, &[])];
    let mut held = vec![String::new()];
    for round in 1..9 {
        add(&cluster, round * 10, round * 10 + 5, "a round");
        let from = round * 150;
        cluster.sql(&format!(
            "UPDATE large SET filling = 'round {round}' WHERE id BETWEEN {from} AND {from} + 3"
        ));
        match round {
            3 => drop(cluster.sql("DROP TABLE dropped")),
            4 => {
                cluster.sql("DELETE FROM large WHERE id > 1200");
                cluster.sql("VACUUM large");
            }
            6 => drop(cluster.sql("INSERT INTO large SELECT g, repeat('y', 900) FROM generate_series(2000, 2300) g")),
            _ => {}
        }
        ids.push(backup(&golden, &cluster, &[]));
        held.push(rows(&cluster));
    }
    ended(&golden, &cluster, stream);
    cluster.stop();
    Made {
        golden,
        notes: json!({"backups": ids, "rows": held.last()}),
    }
}

/// A promotion, segments and a backup on both timelines, a gap, and what an archiver hands over besides.
fn timelines() -> Made {
    let golden = Golden::create(true);
    let mut old = small::start(Cluster::builder(18).set("wal_keep_size", "0"));
    let mut stream = Stream::start(&golden, "old", &old.connection(), &["--flush-interval", "1s"]);
    table(&old);
    add(&old, 1, 100, "on the first timeline");
    let first = backup(&golden, &old, &[]);
    old.sql("SELECT pg_switch_wal()");
    add(&old, 101, 200, "in the segment of the switch");
    let mut new = old.standby();
    stream.until_durable(&old);
    let shared = rows(&old);
    new.until("the standby has replayed the rows", |new| {
        (new.try_value("SELECT count(*) FROM ledger").ok()? == "200").then_some(())
    });
    old.stop();
    stream.stop();
    new.promote();
    let stream = Stream::start(&golden, "new", &new.connection(), &["--flush-interval", "1s"]);
    add(&new, 201, 300, "on the second timeline");
    new.sql("SELECT pg_switch_wal()");
    add(&new, 301, 310, "at the end before the gap");
    let before = rows(&new);
    let end = ended(&golden, &new, stream);

    // A gap: the server removes what nobody holds.
    let needed = new.value("SELECT pg_walfile_name(pg_current_wal_flush_lsn())");
    new.sql("SELECT pg_drop_replication_slot('pg_hardstorage_db1')");
    until("the segment is gone from the server", PATIENCE, || {
        new.sql("UPDATE ledger SET note = 'lost' WHERE id = 1");
        new.sql("SELECT pg_switch_wal()");
        new.sql("CHECKPOINT");
        (!new.data().join("pg_wal").join(&needed).exists()).then_some(())
    });
    let mut stream = Stream::start(&golden, "behind", &new.connection(), &["--flush-interval", "1s"]);
    stream.until("the gap is counted", |status| status["gaps"] == 1);
    add(&new, 311, 320, "behind the gap");
    let second = backup(&golden, &new, &[]);
    add(&new, 321, 330, "behind the second backup");
    let all = rows(&new);
    stream.until_durable(&new);
    stream.stop();
    let wal = new.data().join("pg_wal");
    let last = new.value("SELECT pg_walfile_name(pg_current_wal_flush_lsn())");
    let partial = wal.join(format!("{last}.partial"));
    fs::copy(wal.join(&last), &partial).unwrap();
    let label = wal.join(format!("{last}.00000028.backup"));
    let number = u64::from_str_radix(&last[16..], 16).unwrap() << 20;
    let text = format!(
        "START WAL LOCATION: 0/{:X} (file {last})\nLABEL: by hand\n",
        number + 0x28
    );
    fs::write(&label, text).unwrap();
    for path in [partial, label] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        golden.run(&["wal", "push", DEPLOYMENT, path.to_str().unwrap()]).ok();
    }
    new.stop();
    let notes = json!({
        "first": first, "second": second, "rows_of_first": shared, "rows_before_gap": before, "end_before_gap": end,
        "rows": all,
    });
    Made { golden, notes }
}

/// No backup, and WAL whose end is not finished: enough tails for one that replaces them, more tails, and the mark of an idle
/// server.
fn tails() -> Made {
    let golden = Golden::create(true);
    let (mut cluster, mut stream) = source(&golden, "20ms");
    table(&cluster);
    add(&cluster, 1, 100, "in a finished segment");
    cluster.sql("SELECT pg_switch_wal()");
    let tails = golden.repository().join("wal").join(DEPLOYMENT);
    for row in 0..90 {
        add(&cluster, 200 + row, 200 + row, "a tail each");
        stream.until_durable(&cluster);
    }
    let marks = |path: &Path| {
        files(path)
            .iter()
            .filter(|path| path.to_str().unwrap().contains("/tails/"))
            .count()
    };
    let before = marks(&tails);
    assert!(before < 64, "{before} tails were not made one");
    stream.until("the idle server is marked", |status| {
        status["recoverable_to"].is_string()
    });
    until("the mark is there", Duration::from_mins(2), || {
        (marks(&tails) > before).then_some(())
    });
    let end = cluster.value("SELECT pg_current_wal_flush_lsn()");
    stream.stop();
    compare(&golden, &cluster, &end);
    cluster.stop();
    Made {
        golden,
        notes: json!({"end": end}),
    }
}

/// No backup; a segment that was finished out of a journal, and one that is not finished: the journal of a stream that
/// was killed, and behind it that of the next one, which repeats what the first one had.
fn journals() -> Made {
    let golden = Golden::create(true);
    let mut cluster = small::start(Cluster::builder(18).set("wal_keep_size", "256MB"));
    let connection = cluster.connection();
    table(&cluster);
    let mut stream = Stream::start(&golden, "first", &connection, &["--synchronous"]);
    add(&cluster, 1, 100, "in a finished segment");
    cluster.sql("SELECT pg_switch_wal()");
    for row in 0..20 {
        add(&cluster, 200 + row * 10, 205 + row * 10, "a record each");
        stream.until_durable(&cluster);
    }
    stream.kill();
    let mut stream = Stream::start(&golden, "second", &connection, &["--synchronous"]);
    for row in 0..20 {
        add(&cluster, 500 + row * 100, 590 + row * 100, "a longer record each");
        stream.until_durable(&cluster);
    }
    let end = cluster.value("SELECT pg_current_wal_flush_lsn()");
    stream.kill();
    compare(&golden, &cluster, &end);
    cluster.stop();
    let stored = files(&golden.repository().join("wal").join(DEPLOYMENT));
    let journals = stored
        .iter()
        .filter(|path| path.to_str().unwrap().contains("-journal-"));
    assert_eq!(journals.count(), 2, "{stored:?}");
    Made {
        golden,
        notes: json!({"end": end}),
    }
}

/// What is done to backups in a long life: held, released, deleted, taken back, purged, voided, damaged, scrubbed, audited,
/// anchored.
fn records() -> Made {
    let golden = Golden::create(true);
    let (mut cluster, mut stream) = source(&golden, "1s");
    table(&cluster);
    let words = |args: &[&str]| drop(golden.run(args).ok());
    let mut ids = Vec::new();
    for round in 0..5 {
        add(&cluster, round * 1000, round * 1000 + 400, "a chapter");
        cluster.sql("SELECT pg_switch_wal()");
        ids.push(backup(&golden, &cluster, &[]));
    }
    stream.until_durable(&cluster);
    words(&["hold", DEPLOYMENT, &ids[1], "--reason", "for the auditors"]);
    words(&["hold", DEPLOYMENT, &ids[2], "--reason", "for a day"]);
    words(&["hold", DEPLOYMENT, &ids[2], "--release"]);
    words(&[
        "backup",
        "delete",
        DEPLOYMENT,
        &ids[2],
        "--yes",
        "--reason",
        "by mistake",
    ]);
    words(&["backup", "undelete", DEPLOYMENT, &ids[2]]);
    words(&["backup", "delete", DEPLOYMENT, &ids[0], "--yes"]);

    // One that dies: the first collection forbids it, the second leaves the marker of it and of the deleted one.
    killed(&golden, &cluster);
    let collect = ["repo", "gc", "--apply", "--grace", "0s", "--reader-grace", "0s"];
    words(&collect);
    words(&collect);
    // One that dies again, and stays forbidden; one that is deleted, and one that is purged and waits.
    killed(&golden, &cluster);
    words(&[
        "backup",
        "delete",
        DEPLOYMENT,
        &ids[3],
        "--yes",
        "--reason",
        "to be purged",
    ]);
    words(&["repo", "gc", "--apply", "--grace", "0s"]);

    // What the last backup alone has is damaged; a scrub finds it, and the next backup stores it anew.
    let packs = files(&golden.repository().join("packs"));
    let data = packs.iter().filter(|path| fs::read(path).unwrap()[10] == 1);
    let newest = data
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap())
        .unwrap();
    let mut bytes = fs::read(newest).unwrap();
    bytes[100] ^= 1;
    fs::set_permissions(newest, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(newest, bytes).unwrap();
    golden.run(&["repo", "scrub", "--all", "--max-rate", "0"]).exits(9);
    ids.push(backup(&golden, &cluster, &[]));
    golden.run(&["repo", "scrub", "--all", "--max-rate", "0"]).ok();

    // Anchored there, and the anchor of another repository kept here.
    let other = Hardstorage::new();
    let elsewhere = golden.place("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o777)).unwrap();
    let url = format!("file://{}", elsewhere.display());
    other.run(&["repo", "init", &url]).ok();
    let connection = cluster.connection();
    other
        .run(&["backup", DEPLOYMENT, "--pg-connection", &connection, "--repo", &url])
        .ok();
    words(&["audit", "anchor", DEPLOYMENT, "--to-repo", &url]);
    fs::set_permissions(golden.repository(), fs::Permissions::from_mode(0o777)).unwrap();
    other
        .run(&["audit", "anchor", DEPLOYMENT, "--to-repo", &golden.url, "--repo", &url])
        .ok();
    stream.until_durable(&cluster);
    let all = rows(&cluster);
    stream.stop();
    cluster.stop();
    Made {
        golden,
        notes: json!({"backups": ids, "rows": all}),
    }
}

/// A backup whose process is killed before it ends.
fn killed(golden: &Golden, cluster: &Cluster) {
    let sessions = golden.repository().join("sessions").join(DEPLOYMENT);
    let count = || files(&sessions).len();
    let before = count();
    let connection = cluster.connection();
    let words = [
        "backup",
        DEPLOYMENT,
        "--pg-connection",
        &connection,
        "--repo",
        &golden.url,
        "--max-rate",
        "32kB",
    ];
    let name = format!("killed-{before}");
    let mut process = golden.product.start(&name, &words);
    process.until("it has opened its session", PATIENCE, || {
        (count() > before).then_some(())
    });
    process.kill();
}

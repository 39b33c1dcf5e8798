//! Copies that are recovered where they are restored: what is handed over starts with PostgreSQL alone, on a timeline of
//! its own, and what cannot be recovered leaves nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Answer, Cluster, Ledger, postgres_program};
use serde_json::Value;

use crate::site::{Site, fill_segment, lsn, step};

pub const MARKER: &str = ".pg_hardstorage.restore";

/// The directory of PostgreSQL's programs.
pub fn programs(major: u16) -> PathBuf {
    postgres_program(major, "postgres").parent().unwrap().to_owned()
}

/// The words of a restore that recovers.
pub fn words<'a>(target: &'a Path, bin: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let (target, bin) = (target.to_str().unwrap(), bin.to_str().unwrap());
    let fixed = ["restore", "db1", "--target", target, "--recover", "--pg-bin", bin];
    [&fixed[..], more].concat()
}

/// Restores `db1` and recovers it; the result, and where the files are.
#[track_caller]
pub fn recover(site: &Site, major: u16, name: &str, more: &[&str]) -> (Value, PathBuf) {
    let target = site.place(name);
    let result = site.ask(&words(&target, &programs(major), more));
    (result, target)
}

/// Nobody can ask us any more.
pub fn move_away(site: &Site) {
    let repository = site.repository();
    fs::rename(&repository, repository.with_file_name("moved-away")).unwrap();
}

#[track_caller]
pub fn in_database(cluster: &Cluster, database: &str, sql: &str) -> String {
    let answer = cluster.tool("psql", &["-X", "-A", "-t", "-q", "-d", database, "-c", sql]);
    answer.ok().text().to_owned()
}

/// A subscription that is enabled and has nobody to ask.
fn subscribe(cluster: &Cluster, database: &str) {
    in_database(
        cluster,
        database,
        "CREATE SUBSCRIPTION orders CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)",
    );
    in_database(cluster, database, "ALTER SUBSCRIPTION orders ENABLE");
}

pub fn files(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[track_caller]
pub fn nothing_tells_of_the_recovery(data: &Path) {
    for name in [
        MARKER,
        "recovery.signal",
        "standby.signal",
        "postmaster.pid",
        "postmaster.opts",
    ] {
        assert!(!data.join(name).exists(), "{name}");
    }
    let settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    assert!(
        !settings.contains("restore_command") && !settings.contains("recovery_"),
        "{settings}"
    );
    assert_eq!(mode(data), 0o700);
}

#[test]
fn a_moment_is_recovered_and_handed_over_15() {
    recovered_and_handed_over(15);
}

#[test]
fn a_moment_is_recovered_and_handed_over_18() {
    recovered_and_handed_over(18);
}

fn recovered_and_handed_over(major: u16) {
    let quiet = |builder: hardstorage_e2e::Builder| {
        builder
            .set("max_logical_replication_workers", "0")
            .set("max_prepared_transactions", "5")
    };
    let mut source = quiet(Cluster::builder(major)).start();
    source.sql("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'");
    source.restart();
    source.sql("ALTER SYSTEM SET pg_stat_statements.max = 200");
    let site = Site::new();
    Ledger::create(&source);
    source.sql("CREATE DATABASE closed");
    subscribe(&source, "postgres");
    subscribe(&source, "closed");
    source.sql("ALTER DATABASE closed ALLOW_CONNECTIONS false");
    let mut stream = site.stream("stream", &source.connection(), &[]);
    let backup = site.backup(&source);
    source.sql("CREATE TABLE held (n int)");
    source.sql("BEGIN; INSERT INTO held VALUES (1); PREPARE TRANSACTION 'held'");
    let wanted = Ledger::add(&source, "wanted", 300);
    let moment = source.now();
    let everything = Ledger::add(&source, "the mistake", 20);
    let identity = source.value("SELECT system_identifier FROM pg_control_system()");
    stream.until_durable(&source);

    step("a moment between two writes, for anybody");
    let (result, data) = recover(&site, major, "copy", &["--to", &moment]);
    let recovered = &result["recovered"];
    assert_eq!(recovered["timeline"], 2, "{result}");
    assert!(lsn(recovered["lsn"].as_str().unwrap()) > lsn(backup["stop_lsn"].as_str().unwrap()));
    let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    let time = recovered["time"].as_str().unwrap();
    assert!(digits(time) <= digits(&moment), "{time} {moment}");
    let disabled = result["disabled_subscriptions"].to_string();
    for database in ["closed", "postgres"] {
        let named = format!(r#"{{"database":"{database}","name":"orders"}}"#);
        assert!(disabled.contains(&named), "{disabled}");
    }
    assert!(result["verifybackup"].is_string(), "{result}");
    nothing_tells_of_the_recovery(&data);
    let settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    assert!(settings.contains("archive_mode = 'off'"), "{settings}");

    step("the end of the archive, for CloudNativePG, in the origin's place");
    let more = ["--to-latest", "--hand-over", "cnpg", "--subscriptions", "keep"];
    let (result, adopted) = recover(&site, major, "adopted", &more);
    assert_eq!(result["disabled_subscriptions"], Value::Array(Vec::new()), "{result}");
    nothing_tells_of_the_recovery(&adopted);
    assert_eq!(
        (
            mode(&adopted.join("override.conf")),
            fs::read(adopted.join("override.conf")).unwrap()
        ),
        (0o600, Vec::new())
    );
    let settings = fs::read_to_string(adopted.join("postgresql.auto.conf")).unwrap();
    assert!(
        settings.contains("pg_stat_statements") && !settings.contains("archive_mode"),
        "{settings}"
    );

    step("both start without us");
    drop(stream);
    source.stop();
    move_away(&site);
    for (data, rows, enabled) in [(&data, &wanted, "f"), (&adopted, &everything, "t")] {
        let copy = quiet(Cluster::builder(major).over(data)).start();
        assert_eq!(copy.value("SELECT pg_is_in_recovery()"), "f");
        assert_eq!(&Ledger::read(&copy), rows);
        assert_eq!(copy.value("SELECT count(*) FROM pg_prepared_xacts"), "1");
        assert_eq!(
            copy.value("SELECT system_identifier FROM pg_control_system()"),
            identity
        );
        assert_eq!(copy.value("SELECT timeline_id FROM pg_control_checkpoint()"), "2");
        let each = copy.sql("SELECT subenabled FROM pg_subscription");
        assert_eq!(each, vec![vec![Some(enabled.to_owned())]; 2]);
        assert_eq!(copy.value("SHOW pg_stat_statements.max"), "200");
        Ledger::add(&copy, "it takes writes", 10);
    }
}

/// Whoever made the cluster chose another name for its superuser.
#[test]
fn a_copy_without_the_usual_superuser() {
    let source = Cluster::builder(18).start();
    source.sql("CREATE ROLE other SUPERUSER LOGIN");
    let rename = [
        "-U",
        "other",
        "-d",
        "postgres",
        "-X",
        "-c",
        "ALTER ROLE postgres RENAME TO boss",
    ];
    source.tool("psql", &rename).ok();
    let site = Site::new();
    site.backup(&source);
    let (result, data) = recover(&site, 18, "copy", &[]);
    assert_eq!(result["recovered"]["timeline"], 2, "{result}");
    nothing_tells_of_the_recovery(&data);
}

/// PostgreSQL finds out that its target does not come, or is of another version: nothing half done is left.
#[test]
fn what_cannot_be_recovered_leaves_nothing() {
    let source = Cluster::builder(18).start();
    let mut site = Site::new();
    let temporary = site.dir("t");
    site.product.set("TMPDIR", temporary.to_str().unwrap());
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    Ledger::add(&source, "rows", 100);
    stream.until_durable(&source);

    step("a transaction that never was");
    let target = site.place("copy");
    let fails = |bin: &Path, more: &[&str], exit: i32, code: &str| -> Answer {
        let answer = site.run(&words(&target, bin, more)).exits(exit);
        assert!(answer.stderr.contains(&format!("ERROR {code}: ")), "{answer}");
        assert!(!target.exists(), "{answer}");
        assert_eq!(files(&temporary), [""; 0], "{answer}");
        answer
    };
    let never = ["--to-xid", "4000000000"];
    fails(&programs(18), &never, 7, "conflict.target_not_reached");

    step("programs of another version, and none");
    let absent = "notfound.postgres_programs";
    let other = fails(&programs(15), &[], 6, absent);
    assert!(other.stderr.contains("15") && other.stderr.contains("18"), "{other}");
    // PostgreSQL 18 is on no PATH here and in no packaged place, or this test could not tell.
    fails(Path::new("auto"), &[], 6, absent);
    fails(&programs(18), &["--to-action", "pause"], 2, "usage.invalid");

    step("a library that is not here");
    source.sql("ALTER SYSTEM SET shared_preload_libraries = 'nowhere_to_be_found'");
    site.backup(&source);
    let refused = fails(&programs(18), &[], 1, "restore.recovery_failed");
    assert!(refused.stderr.contains("nowhere_to_be_found"), "{refused}");
    stream.stop();
}

/// The archive knows timeline 2: whoever leaves timeline 1 once more takes another number.
#[test]
fn a_timeline_that_is_in_use_is_not_taken() {
    let mut old = Cluster::builder(18).set("wal_keep_size", "512MB").start();
    let mut new = old.standby();
    let site = Site::new();
    let mut stream = site.stream("old", &old.connection(), &[]);
    Ledger::create(&old);
    site.backup(&old);
    let before = Ledger::add(&old, "on timeline 1", 300);
    stream.until_durable(&old);
    old.stop();
    stream.stop();
    new.promote();
    let mut stream = site.start_stream("new", &new.connection(), &[]);
    let after = fill_segment(&new, "on timeline 2");
    stream.until_durable(&new);
    stream.stop();

    let first = ["--to-latest", "--to-timeline", "1"];
    let mut copies = Vec::new();
    for (name, more, rows) in [("one", &first[..], &before), ("two", &["--to-latest"], &after)] {
        step(&format!("recovered here, {name}"));
        let (result, data) = recover(&site, 18, name, more);
        assert_eq!(result["recovered"]["timeline"], 3, "{result}");
        copies.push((data, rows));
        step(&format!("with its WAL, {name}"));
        let more = [more, &["--wal-in-target"]].concat();
        let (_, data) = site.restore_files(&format!("{name}-later"), &more);
        assert!(data.join("pg_hardstorage_wal/00000002.history").exists());
        copies.push((data, rows));
    }
    move_away(&site);
    for (data, rows) in copies {
        step(&format!("{} starts", data.display()));
        let mut copy = Cluster::builder(18).over(&data).start();
        copy.until_promoted();
        assert_eq!(&Ledger::read(&copy), rows);
        copy.sql("CHECKPOINT");
        assert_eq!(copy.value("SELECT timeline_id FROM pg_control_checkpoint()"), "3");
    }
}

#[test]
fn wal_and_tablespaces_in_places_of_their_own() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let origin = site.dir("origin");
    source.sql(&format!("CREATE TABLESPACE more LOCATION '{}'", origin.display()));
    source.sql("ALTER TABLE ledger SET TABLESPACE more");
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    let wanted = Ledger::add(&source, "rows", 500);
    stream.until_durable(&source);
    site.dir("volume");
    let (wal, space) = (site.dir("volume/pg_wal"), site.place("space"));
    let mapping = format!("{}={}", origin.display(), space.display());
    let places = ["--wal-dir", wal.to_str().unwrap(), "--tablespace-mapping", &mapping];

    step("the place of the WAL is in use");
    fs::write(wal.join("keep"), "me").unwrap();
    let more = [&places[..], &["--to-latest"]].concat();
    site.refused("refused", &more, 7, "conflict.target_not_empty");
    assert_eq!(files(&wal), ["keep"]);
    fs::remove_file(wal.join("keep")).unwrap();

    step("recovered");
    let (result, data) = recover(&site, 18, "copy", &[&more[..], &["--hand-over", "cnpg"]].concat());
    assert_eq!(result["recovered"]["timeline"], 2);
    assert_eq!(fs::read_link(data.join("pg_wal")).unwrap(), wal);
    assert!(
        files(&wal).contains(&"00000002.history".to_owned()),
        "{:?}",
        files(&wal)
    );
    for place in [&data, &wal, &space] {
        assert!(!place.join(MARKER).exists(), "{}", place.display());
        assert_eq!(mode(place), 0o700);
    }
    assert_eq!(data.metadata().unwrap().uid(), wal.metadata().unwrap().uid());
    stream.stop();
    move_away(&site);
    let copy = Cluster::builder(18).over(&data).start();
    assert_eq!(Ledger::read(&copy), wanted);
    let link = copy.value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'more'");
    assert_eq!(Path::new(&link), space);
}

//! `doctor`: silent when all is well, and each thing that is wrong is named with what to do about it.

use std::fs;

use hardstorage_e2e::{Answer, Cluster, Hardstorage, Ledger};
use serde_json::Value;

use crate::push::{archiving, command, end_segment, until_archived};
use crate::site::{Site, fill_segment, step};

/// The codes of what is wrong; each has a hint, and a monitor hears of it by the exit code.
#[track_caller]
fn codes(ask: impl Fn(&[&str]) -> Answer) -> Vec<String> {
    let told = ask(&["-o", "json"]).ok().result();
    let issues = told["issues"].as_array().unwrap_or_else(|| panic!("{told:#}"));
    for issue in issues {
        let hint = issue["hint"].as_str().unwrap_or_default();
        assert!(!hint.is_empty(), "{issue:#}");
    }
    ask(&["--exit-on-issues"]).exits(if issues.is_empty() { 0 } else { 10 });
    let code = |issue: &Value| issue["code"].as_str().unwrap().to_owned();
    // How full the disk of the machine is that runs this says nothing about the product.
    issues.iter().map(code).filter(|code| code != "space.low").collect()
}

/// A connection of a role that may ask by SQL.
fn by_sql(source: &Cluster) -> String {
    let (sockets, port) = (source.sockets(), source.address().port());
    format!("host={} port={port} user=postgres dbname=postgres", sockets.display())
}

/// A key that lies only here would be an issue.
fn export_key(site: &Site) {
    let copy = site.place("copy");
    site.product.run(&["keyring", "export", copy.to_str().unwrap()]).ok();
}

#[test]
fn a_machine_without_anything_is_told_where_to_begin() {
    let product = Hardstorage::new();
    let found = codes(|more| product.run(&[&["doctor"], more].concat()));
    assert_eq!(found, ["config.no_repository"]);
    let text = product.run(&["doctor"]).ok().stdout;
    assert!(
        text.contains("Status: not configured") && text.contains("pg_hardstorage init"),
        "{text}"
    );
}

#[test]
fn each_thing_that_is_wrong_is_named() {
    let site = Site::new();
    let mut source = Cluster::builder(18).start();
    let connection = source.connection();
    let stream = site.stream("stream", &connection, &[]);
    site.backup(&source);
    let narrow = |more: &[&str]| site.run(&[&["doctor", "db1", "--pg-connection", &connection], more].concat());
    let wide = by_sql(&source);
    let doctor = |more: &[&str]| site.run(&[&["doctor", "db1", "--pg-connection", &wide], more].concat());

    step("a key that lies only here");
    assert_eq!(codes(doctor), ["key.not_exported"]);
    export_key(&site);
    assert_eq!(codes(doctor), [""; 0]);
    let text = doctor(&[]).ok().stdout;
    for word in ["slot pg_hardstorage_db1 (in use)", "✓ the key is at hand", "✓ none"] {
        assert!(text.contains(word), "{word}: {text}");
    }

    let text = narrow(&[]).ok().stdout;
    assert!(
        text.contains("takes a role that may ask by SQL") && text.contains("✓ none"),
        "{text}"
    );

    step("a backup that is too old");
    assert_eq!(
        codes(|more| doctor(&[&["--max-backup-age", "1ms"], more].concat())),
        ["backup.overdue"]
    );

    step("nobody streams, then there is no slot");
    drop(stream);
    source.sql("CREATE TABLE unseen AS SELECT 1 AS n; SELECT pg_switch_wal()");
    source.until("nobody holds the slot", |cluster| {
        let free = "SELECT 1 FROM pg_replication_slots WHERE NOT active";
        cluster.try_value(free).ok()
    });
    assert_eq!(codes(doctor), ["stream.not_running"]);
    let text = narrow(&["--exit-on-issues"]).exits(10).stdout;
    assert!(text.contains("none of it has arrived"), "{text}");
    source.sql("SELECT pg_drop_replication_slot('pg_hardstorage_db1')");
    assert_eq!(codes(doctor), ["stream.never_ran"]);

    step("another server");
    let other = Cluster::builder(15).start();
    let at_other = other.connection();
    let elsewhere = |more: &[&str]| site.run(&[&["doctor", "db1", "--pg-connection", &at_other], more].concat());
    assert!(codes(elsewhere).contains(&"conflict.system_identifier".to_owned()));

    step("no server: what lies in the repository is told all the same");
    source.stop();
    assert_eq!(codes(doctor), ["unreachable.postgres"]);
    let told = doctor(&["-o", "json"]).ok().result();
    assert_eq!(told["deployments"][0]["status"]["backup_count"], 1, "{told:#}");

    step("no key, and no repository");
    let kek = site.product.config().join("keyring/kek.bin");
    let aside = kek.with_extension("aside");
    fs::rename(&kek, &aside).unwrap();
    assert!(codes(doctor).contains(&"auth.key_missing".to_owned()));
    fs::rename(&aside, &kek).unwrap();
    fs::rename(site.repository(), site.place("moved")).unwrap();
    let without = codes(doctor);
    assert!(
        without
            .iter()
            .any(|code| code.starts_with("unreachable.") || code == "notfound.repo"),
        "{without:?}"
    );
}

/// Where the server's archive_command is all there is, nobody asks for a stream, and what it does wrong is told.
#[test]
fn an_archive_command_needs_no_stream() {
    let site = Site::new();
    export_key(&site);
    let mut source = archiving(18, &site).start();
    site.backup(&source);
    source.sql("CREATE TABLE kept AS SELECT 1 AS n");
    end_segment(&source);
    until_archived(&mut source);
    let wide = by_sql(&source);
    let narrow = source.connection();
    let ask =
        |connection: &str, more: &[&str]| site.run(&[&["doctor", "db1", "--pg-connection", connection], more].concat());
    for connection in [&wide, &narrow] {
        assert_eq!(codes(|more| ask(connection, more)), [""; 0]);
        let text = ask(connection, &[]).ok().stdout;
        assert!(text.contains("none is needed: archive_command is wal push"), "{text}");
        assert!(text.contains("the newest WAL came "), "{text}");
    }
    let status = site.run(&["status", "db1"]).ok().stdout;
    assert!(status.contains("the newest WAL, up to 0/"), "{status}");

    step("it fails");
    source.set("archive_command", "exit 1 # wal push");
    source.restart();
    let before = site.ask(&["status", "db1"])["deployments"][0].clone();
    source.sql("CREATE TABLE not_kept AS SELECT 1 AS n");
    end_segment(&source);
    source.until("the archiver has failed", |source| {
        let failed = source.value("SELECT failed_count FROM pg_stat_archiver");
        (failed != "0").then_some(())
    });
    assert_eq!(codes(|more| ask(&wide, more)), ["archive.failing"]);
    let after = site.ask(&["status", "db1"])["deployments"][0].clone();
    for what in ["durable_lsn", "wal_arrived_at"] {
        assert!(
            before[what].is_string() && before[what] == after[what],
            "{before:#} {after:#}"
        );
    }

    step("an archive_command for others is no reason to do without");
    source.set("archive_command", "true");
    source.restart();
    assert_eq!(codes(|more| ask(&wide, more)), ["stream.never_ran"]);
}

/// A crash came between a segment and its mark for the archiver, and `wal_keep_size` keeps PostgreSQL from looking again.
#[test]
fn a_segment_that_was_never_handed_over_is_named() {
    let site = Site::new();
    export_key(&site);
    let mut source = archiving(18, &site).start();
    Ledger::create(&source);
    site.backup(&source);
    fill_segment(&source, "archived");
    until_archived(&mut source);
    step("what is left by such a crash: the segment without a mark, and others behind it");
    source.stop();
    source.set("archive_command", "true # wal push");
    source.start();
    let forgotten = source.value("SELECT pg_walfile_name(pg_current_wal_lsn())");
    fill_segment(&source, "forgotten");
    until_archived(&mut source);
    source.stop();
    fs::remove_file(source.data().join(format!("pg_wal/archive_status/{forgotten}.done"))).unwrap();
    source.set("archive_command", &command(&site));
    source.start();
    let everything = fill_segment(&source, "archived again");
    until_archived(&mut source);

    let wide = by_sql(&source);
    let doctor = |more: &[&str]| site.run(&[&["doctor", "db1", "--pg-connection", &wide], more].concat());
    let found = codes(doctor);
    assert!(found.contains(&"archive.unmarked".to_owned()), "{found:?}");
    let text = doctor(&[]).ok().stdout;
    let told = format!("pg_hardstorage wal push db1 pg_wal/{forgotten}");
    assert!(text.contains(&told), "{text}");
    site.refused("across", &["--to-latest"], 9, "verify.wal_gap");

    step("as it says");
    let path = source.data().join("pg_wal").join(&forgotten);
    site.run(&["wal", "push", "db1", path.to_str().unwrap()]).ok();
    assert_eq!(codes(doctor), [""; 0]);
    assert_eq!(site.latest("latest"), everything);
}

//! Space comes back, and every backup that stays is restored afterwards.

use std::path::Path;

use hardstorage_e2e::{Cluster, Ledger, Point, run};
use serde_json::{Value, json};

use crate::site::{PATIENCE, Site, fill_segment, id, step};
use crate::uncommitted::Uncommitted;

const AT_ONCE: [&str; 4] = ["--grace", "0s", "--reader-grace", "0s"];

/// A large part of the table gets other values, so that the backups have packs of their own.
fn change_much(cluster: &Cluster, chapter: &str) -> Ledger {
    Ledger::add(cluster, chapter, 20_000)
}

fn bytes_under(site: &Site, folder: &str) -> u64 {
    let folder = site.repository().join(folder);
    let content = site.content();
    content
        .iter()
        .filter(|(path, _)| path.starts_with(&folder))
        .map(|(_, bytes)| bytes)
        .sum()
}

fn gc(site: &Site, more: &[&str]) -> Value {
    site.ask(&[&["repo", "gc"][..], &AT_ONCE, more].concat())
}

#[test]
fn what_stays_is_restored_after_a_collection_beside_a_stream() {
    let source = Cluster::builder(18).wal_segment_size(1).start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    let mut backups = Vec::new();
    let mut held = Vec::new();
    for number in 0..4 {
        held.push(change_much(&source, &format!("chapter {number}")));
        fill_segment(&source, "between");
        backups.push(id(&site.backup(&source)));
    }
    stream.until_durable(&source);

    step("a deletion can be taken back, and nothing is removed by telling");
    site.run(&["backup", "delete", "db1", &backups[0], "--yes"]).ok();
    site.run(&["backup", "delete", "db1", &backups[1], "--yes"]).ok();
    let careful = site.ask(&["repo", "gc", "--apply"]);
    assert_eq!(
        careful["deployments"][0]["waiting"][&backups[0]], "undelete",
        "{careful}"
    );
    site.run(&["backup", "undelete", "db1", &backups[0]]).ok();
    let before = site.stored();
    let told = gc(&site, &[]);
    assert_eq!(told["dry_run"], true);
    assert_eq!(
        told["deployments"][0]["purged"],
        serde_json::json!([backups[1]]),
        "{told}"
    );
    assert!(told["later_bytes"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(site.stored(), before);

    step("the oldest stays: WAL from it on stays, the deleted one's packs go");
    let packs = bytes_under(&site, "packs");
    gc(&site, &["--apply"]);
    let done = gc(&site, &["--apply"]);
    assert!(bytes_under(&site, "packs") < packs, "{done}");
    assert!(!site.backups().contains(&backups[1]));
    let late = site.run(&["backup", "undelete", "db1", &backups[1]]).exits(6);
    assert!(late.stderr.contains("notfound.backup"), "{late}");
    for number in [0, 2, 3] {
        let rows = site.all(
            &format!("first {number}"),
            &[&backups[number], "--to-action", "promote"],
        );
        assert!(rows.rows() >= held[number].rows());
    }

    step("the oldest goes too: WAL before the third backup expires");
    site.run(&["backup", "delete", "db1", &backups[0], "--yes"]).ok();
    let wal = bytes_under(&site, "wal");
    gc(&site, &["--apply"]);
    gc(&site, &["--apply"]);
    assert!(bytes_under(&site, "wal") < wal);
    site.run(&["wal", "audit", "db1"]).ok();
    site.run(&["repo", "check", "--read-data"]).ok();
    assert_eq!(site.backups().len(), 2);

    step("stream, backups and restores go on");
    let moment = source.now();
    let everything = change_much(&source, "afterwards");
    stream.until_durable(&source);
    stream.stop();
    let mut stream = site.stream("again", &source.connection(), &[]);
    let newest = id(&site.backup(&source));
    let last = Ledger::add(&source, "the last", 10);
    stream.until_durable(&source);
    stream.stop();
    assert_eq!(site.all("third", &[&backups[2], "--to-latest"]), last);
    assert_eq!(site.latest("latest"), last);
    assert!(site.paused("moment", &["--to", &moment]).rows() < everything.rows());
    let idle = gc(&site, &["--apply"]);
    assert_eq!(
        (idle["freed_bytes"].as_u64(), site.backups().len()),
        (Some(0), 3),
        "{newest} {idle}"
    );
}

#[test]
fn a_window_of_wal_leaves_each_older_backup_restorable_to_its_end() {
    let source = Cluster::builder(18).wal_segment_size(1).start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    let mut backups = Vec::new();
    for number in 0..3 {
        Ledger::add(&source, &format!("chapter {number}"), 500);
        backups.push(id(&site.backup(&source)));
        for _ in 0..3 {
            fill_segment(&source, "between");
        }
    }
    let everything = Ledger::read(&source);
    stream.until_durable(&source);
    let wal = bytes_under(&site, "wal");
    let done = gc(&site, &["--apply", "--keep-wal", "0s"]);
    assert!(bytes_under(&site, "wal") < wal, "{done}");

    step("no gap is told: nothing was lost");
    let audit = site.run(&["wal", "audit", "db1"]).ok();
    assert!(audit.stdout.contains("retention let go"), "{audit}");
    let status = site.ask(&["status", "db1"]);
    assert_eq!(status["deployments"][0]["healthy"], true, "{status}");
    site.run(&["repo", "check", "--read-data"]).ok();

    step("each backup is restored to its own end, and what lies between is refused");
    for backup in &backups {
        let rows = site.all(backup, &[backup, "--to-action", "promote"]);
        assert!(rows.rows() > 0);
    }
    site.refused("across", &[&backups[0], "--to-latest"], 9, "verify.wal_gap");
    assert_eq!(site.latest("latest"), everything);

    step("a stream that comes back asks for nothing that was let go");
    stream.stop();
    let mut stream = site.stream("again", &source.connection(), &[]);
    let more = Ledger::add(&source, "more", 10);
    stream.until_durable(&source);
    assert!(stream.events_named("wal.gap").is_empty());
    stream.stop();
    assert_eq!(site.latest("more"), more);
}

/// A server that has changed much since its only backup, and what the packs of that take.
fn changed_since_a_backup() -> (Cluster, Site, u64) {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    change_much(&source, "rows");
    site.backup(&source);
    let whole = bytes_under(&site, "packs");
    change_much(&source, "more rows");
    (source, site, whole)
}

#[test]
fn a_backup_that_was_killed_gives_its_space_back() {
    let (source, site, whole) = changed_since_a_backup();
    let mut killed = Uncommitted::start(&site, &source, "killed", &[]);
    killed.until_packs();
    killed.kill();
    let packs = site.repository().join("packs/db1");
    assert_eq!(writers(&packs), 2);

    step("its process is proven to be dead here, so nobody has to wait");
    let told = gc(&site, &[]);
    assert_eq!(told["deployments"][0]["voided"].as_array().unwrap().len(), 1, "{told}");
    gc(&site, &["--apply"]);
    assert_eq!((bytes_under(&site, "packs"), writers(&packs)), (whole, 1));
    site.run(&["repo", "check", "--read-data"]).ok();
    site.backup(&source);
    assert_eq!(site.latest("latest"), Ledger::read(&source));
}

/// Files without an object's name, and their bytes. Those below `wal` stay for a month.
fn temporary(site: &Site, folder: &str) -> (usize, u64) {
    let (folder, wal) = (site.repository().join(folder), site.repository().join("wal"));
    let mut content = site.content();
    content.retain(|path, _| {
        let name = path.file_name().unwrap().to_string_lossy();
        path.starts_with(&folder) && !path.starts_with(&wal) && name.starts_with(".tmp-")
    });
    (content.len(), content.values().sum())
}

#[test]
fn half_a_pack_of_a_killed_backup_comes_back_too() {
    let (source, site, whole) = changed_since_a_backup();
    let mut killed = site.product.command(&[
        "backup",
        "db1",
        "--pg-connection",
        &source.connection(),
        "--repo",
        &site.repo,
    ]);
    killed.env(Point::VARIABLE, "link before packs/*/*/* 1");
    let killed = run(killed, PATIENCE);
    assert_eq!(killed.code, None, "{killed}");
    let left = temporary(&site, "packs");
    assert!(left.0 > 0 && left.1 > 0, "{left:?}");
    assert!(bytes_under(&site, "packs") > whole);

    step("a writer might only pause: it stays for a day");
    let young = site.ask(&["repo", "gc", "--apply"]);
    assert_eq!(young["leftovers"], json!({"objects": 0, "bytes": 0}), "{young}");
    assert_eq!(temporary(&site, "packs"), left);

    step("beside a backup it stays for a day whatever the grace is");
    let mut running = Uncommitted::start(&site, &source, "running", &[]);
    running.until_packs();
    let beside = gc(&site, &["--apply"]);
    assert_eq!(beside["leftovers"], json!({"objects": 0, "bytes": 0}), "{beside}");
    assert_eq!(temporary(&site, "packs"), left);
    running.kill();

    step("nobody writes any more: it is told, and goes");
    let left = temporary(&site, "");
    let wanted = json!({"objects": left.0, "bytes": left.1});
    let told = gc(&site, &[]);
    assert_eq!(told["leftovers"], wanted, "{told}");
    assert_eq!(temporary(&site, ""), left);
    let done = gc(&site, &["--apply"]);
    assert_eq!(done["leftovers"], wanted, "{done}");
    assert!(done["freed_bytes"].as_u64().unwrap() >= left.1, "{done}");
    assert_eq!((temporary(&site, ""), bytes_under(&site, "packs")), ((0, 0), whole));
    site.run(&["repo", "check", "--read-data"]).ok();
    site.backup(&source);
    assert_eq!(site.latest("latest"), Ledger::read(&source));
}

fn writers(packs: &Path) -> usize {
    let folders = std::fs::read_dir(packs).unwrap();
    folders
        .filter(|folder| std::fs::read_dir(folder.as_ref().unwrap().path()).unwrap().count() > 0)
        .count()
}

#[test]
fn only_telling_needs_no_right_to_write_and_bad_words_are_refused() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    site.backup(&source);
    site.run(&["repo", "gc", "--deployment", "nobody"]).exits(6);
    let bad = site.run(&["repo", "gc", "--grace", "soon"]).exits(2);
    assert!(bad.stderr.contains("is not a duration"), "{bad}");
    site.run(&["repo", "gc"]).ok();
}

/// As the page about space says it: what belongs to a deployment lies under its name alone.
#[test]
fn a_deployment_goes_by_hand_and_every_other_is_as_it_was() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let wanted = Ledger::add(&source, "rows", 100);
    let last = id(&site.backup(&source));
    let connection = source.connection();
    let second = || site.run(&["backup", "db2", "--pg-connection", &connection]);
    second().ok();
    let refused = site.run(&["backup", "delete", "db1", &last, "--yes"]).exits(7);
    assert!(refused.stderr.contains("conflict.held"), "{refused}");

    for folder in [
        "keys",
        "signers",
        "manifests",
        "wal",
        "packs",
        "sessions",
        "damage",
        "audit",
        "scrub",
    ] {
        let folder = site.repository().join(folder).join("db2");
        if folder.exists() {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
    let left = |name: &str| {
        site.content()
            .into_keys()
            .filter(|path| path.components().any(|part| part.as_os_str() == name))
            .count()
    };
    assert_eq!(left("db2"), 0);
    let listed = site.run(&["list"]).ok();
    assert!(
        listed.stdout.contains("db1") && !listed.stdout.contains("db2"),
        "{listed}"
    );
    site.run(&["repo", "check"]).ok();
    site.run(&["verify", "db1"]).ok();
    assert_eq!(site.all("other", &[]), wanted);
    second().ok();
}

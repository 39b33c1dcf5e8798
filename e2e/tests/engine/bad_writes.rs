//! A repository that may only be read: whatever writes is refused and changes nothing, and whatever reads does its work.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Cluster, Ledger};

use crate::site::{Site, id, step};
use crate::verdict::{Cases, all_refused};

/// The folders below a path, and itself.
fn folders(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(folders(&entry.path()));
        }
    }
    found
}

#[test]
fn a_repository_that_may_only_be_read() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let older = id(&site.backup(&source));
    site.backup(&source);
    let newer = id(&site.backup(&source));
    let wanted = Ledger::add(&source, "rows", 100);
    let wal = source.data().join("pg_wal");
    let switch = || wal.join(source.value("SELECT pg_walfile_name(pg_switch_wal())"));
    let stored = switch();
    site.run(&["wal", "push", "db1", stored.to_str().unwrap()]).ok();
    site.run(&["backup", "delete", "db1", &older, "--yes"]).ok();
    Ledger::add(&source, "in a segment that is not stored", 10);
    let (following, connection) = (switch(), source.connection());
    let inside = format!("{}/inside", site.repo);
    let set = |mode: u32| {
        // From the inside to the outside: what is closed cannot be walked, except by root.
        for folder in folders(&site.repository()).into_iter().rev() {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o555);
    let before = site.content();
    let mut cases = Cases::new();
    for words in [
        &["backup", "db1", "--pg-connection", &connection][..],
        &["backup", "db2", "--pg-connection", &connection],
        &["wal", "stream", "db1", "--pg-connection", &connection, "--no-reconnect"],
        &["wal", "stream", "db2", "--pg-connection", &connection, "--no-reconnect"],
        &["wal", "push", "db1", following.to_str().unwrap()],
        &["hold", "db1", &newer],
        &["backup", "delete", "db1", &newer, "--yes"],
        &["backup", "undelete", "db1", &older],
        &["rotate", "db1", "--apply", "--keep-last", "1"],
        &["repo", "gc", "--apply"],
    ] {
        let what = format!("read-only: {}", words[..3].join(" "));
        cases.push((what, site.run(words), 3, "auth.store_denied"));
    }
    cases.push((
        "read-only: repo init".to_owned(),
        site.product.run(&["repo", "init", &inside]),
        3,
        "auth.store_denied",
    ));
    let read = |name: &str| {
        for words in [
            &["list", "db1"][..],
            &["show", "db1", "latest"],
            &["verify", "db1"],
            &["status", "db1"],
            &["wal", "list", "db1"],
            &["wal", "audit", "db1"],
            &["audit", "verify", "db1"],
            &["repo", "check", "--read-data"],
            &["repo", "usage"],
            &["rotate", "db1", "--keep-last", "1"],
        ] {
            site.run(words).ok();
        }
        assert_eq!(site.latest(name), wanted);
    };
    step("whatever reads does its work");
    read("restored");
    let after = site.content();
    set(0o755);
    all_refused(&cases);
    assert_eq!(after, before, "something was changed");
    // That of db1 is what the stream takes up again; what cannot be begun has none.
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name <> 'pg_hardstorage_db1'";
    assert_eq!(source.value(slots), "0", "a slot was left behind");

    step("one that nobody else may look into");
    set(0o000);
    let mut cases = Cases::new();
    for words in [
        &["list", "db1"][..],
        &["status", "db1"],
        &["verify", "db1"],
        &["repo", "check"],
    ] {
        cases.push((
            format!("closed: {}", words.join(" ")),
            site.run(words),
            3,
            "auth.store_denied",
        ));
    }
    set_back(&site.repository());
    all_refused(&cases);
    assert_eq!(site.content(), before);
    read("again");
}

/// From the outside to the inside.
fn set_back(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            set_back(&entry.path());
        }
    }
}

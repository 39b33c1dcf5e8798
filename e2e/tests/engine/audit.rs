//! The audit chain of a deployment's life: everything that was done is in it, and whoever changes it, cuts it off or puts
//! something in is found, by the chain itself or by an anchor that was kept elsewhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Cluster, Hardstorage, ObjectStore};
use serde_json::Value;

use crate::site::{Site, step};
use crate::verdict::refused;

/// The actions of a chain, with the numbers checked.
#[track_caller]
fn actions(site: &Site) -> Vec<String> {
    let listed = site.ask(&["audit", "list", "db1"]);
    let events = listed["deployments"][0]["events"].as_array().unwrap().clone();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence"], index as u64 + 1, "{listed:#}");
    }
    let action = |event: &Value| event["record"]["action"].as_str().unwrap().to_owned();
    events.iter().map(action).collect()
}

/// The objects of the chain, in order.
fn objects(site: &Site) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for month in fs::read_dir(site.repository().join("audit/db1")).unwrap() {
        let month = month.unwrap().path();
        if month.file_name().unwrap() != "anchors" {
            found.extend(fs::read_dir(month).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

/// The number of the first bad record; exit 9 says the same.
#[track_caller]
fn first_bad(site: &Site, more: &[&str]) -> Option<u64> {
    let words = ["audit", "verify", "db1", "-o", "json"];
    let answer = site.run(&[&words[..], more].concat());
    let result = answer.result();
    let bad = result["deployments"][0]["first_bad"]["sequence"].as_u64();
    assert_eq!(answer.code, Some(if bad.is_some() { 9 } else { 0 }), "{answer}");
    assert_eq!(result["ok"], bad.is_none(), "{answer}");
    bad
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_life_is_recorded_and_whoever_changes_the_record_is_found() {
    let site = Site::new();
    let cluster = Cluster::builder(17).start();
    let connection = cluster.connection();

    step("a life: init, backup, hold, release, delete, undelete, rotate, restore");
    site.run(&["init", "--deployment", "db1", "--pg-connection", &connection, "--yes"])
        .ok();
    let first = site.backups().remove(0);
    cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    let second = site.backup(&cluster)["backup_id"].as_str().unwrap().to_owned();
    let hold = |more: &[&str]| site.run(&[&["hold", "db1", &first], more].concat());
    hold(&["--reason", "year\nend"]).ok();
    // It is held already: nothing is done, and nothing recorded.
    hold(&["--reason", "again"]).ok();
    site.run(&["backup", "delete", "db1", &first, "--yes"]).exits(7);
    hold(&["--release"]).ok();
    site.run(&["backup", "delete", "db1", &first, "--yes", "--run-id", "job-7"])
        .ok();
    site.run(&["backup", "undelete", "db1", &first, "--yes"]).ok();
    let keep_one = ["--keep-last", "1", "--keep-daily", "0", "--keep-weekly", "0"];
    let rotate = [
        &["rotate", "db1"],
        &keep_one[..],
        &["--keep-monthly", "0", "--keep-yearly", "0"],
    ]
    .concat();
    site.run(&rotate).ok();
    site.run(&[&rotate[..], &["--apply"]].concat()).ok();
    site.restore_files("restored", &["--to-latest"]);
    let taken = site.place("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("x"), b"somebody's").unwrap();
    site.run(&["restore", "db1", "--target", taken.to_str().unwrap()])
        .exits(7);

    let mut done = actions(&site);
    // Between two backups without a stream a hole may be recorded, as the server's WAL happens to lie.
    done.retain(|action| action != "wal.gap_recorded");
    assert_eq!(
        done,
        [
            "deployment.created",
            "backup.committed",
            "backup.committed",
            "backup.held",
            "backup.released",
            "backup.deleted",
            "backup.undeleted",
            "backup.deleted",
            "restore.begun",
            "restore.finished",
        ]
    );
    let listed = site.ask(&["audit", "list", "db1"]);
    let events = listed["deployments"][0]["events"].as_array().unwrap();
    let of = |action: &str| {
        let found = events.iter().find(|event| event["record"]["action"] == action);
        found.unwrap_or_else(|| panic!("{listed:#}"))["record"].clone()
    };
    assert_eq!(
        (
            of("backup.held")["reason"].as_str(),
            of("backup.held")["backup_id"].as_str()
        ),
        (Some("year\nend"), Some(first.as_str()))
    );
    assert_eq!(of("backup.deleted")["actor"]["run_id"], "job-7");
    assert!(
        of("restore.begun")["actor"]["who"].as_str().unwrap().contains('@'),
        "{listed:#}"
    );
    assert_eq!(of("restore.finished")["backup_id"], second.as_str());
    let text = site.run(&["audit", "list", "db1", "--last", "2"]).ok().stdout;
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.contains("restore.begun") && text.contains(&second), "{text}");

    step("it is not anchored yet, and on the first day that is no issue");
    let events = objects(&site).len();
    let status = site.run(&["status", "db1"]).ok().stdout;
    assert!(
        status.contains(&format!(
            "Audit anchor: ⚠ none ({events} event(s) un-anchored — run pg_hardstorage audit anchor)"
        )),
        "{status}"
    );
    let doctor = site.ask(&["doctor", "db1"]);
    assert!(!doctor["issues"].to_string().contains("audit."), "{doctor:#}");
    let text = site.run(&["audit", "verify"]).ok().stdout;
    assert!(text.contains("no anchor from elsewhere"), "{text}");

    step("anchored in a file, in another repository and on paper");
    let file = site.place("anchors");
    let file = file.to_str().unwrap();
    let other = format!("file://{}", site.dir("other").display());
    Hardstorage::new().run(&["repo", "init", &other]).ok();
    let words = ["audit", "anchor", "db1", "--to", file, "--to-repo", &other, "--print"];
    let anchored = site.ask(&words);
    assert_eq!(anchored["deployments"][0]["events"], events as u64, "{anchored:#}");
    let paper = anchored["deployments"][0]["text"].as_str().unwrap().to_owned();
    let status = site.run(&["status", "db1"]).ok().stdout;
    assert!(
        status.contains("Audit anchor: ✓ ") && status.contains("nothing since"),
        "{status}"
    );
    site.run(&["hold", "db1", &second]).ok();
    let status = site.run(&["status", "db1"]).ok().stdout;
    assert!(status.contains("(1 event(s) since)"), "{status}");
    site.run(&["audit", "anchor", "--to", file]).ok();
    assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 2);
    let typed = paper.to_uppercase().replace(' ', "");
    let all = ["--anchor", file, "--anchor-repo", &other, "--anchor-text", &typed];
    assert_eq!(first_bad(&site, &all), None);
    let text = site.run(&[&["audit", "verify"], &all[..]].concat()).ok().stdout;
    assert!(
        text.contains("the typed anchor: holds") && text.contains("line 2: holds"),
        "{text}"
    );
    site.run(&["repo", "check"]).ok();
    site.run(&["repo", "usage"]).ok();

    step("changed in each way");
    let chain = objects(&site);
    let (before, last) = (chain.len() as u64, chain.len() - 1);
    let stored: Vec<Vec<u8>> = chain.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut altered = stored[3].clone();
    let at = altered.len() - 5;
    altered[at] ^= 1;
    put(&chain[3], &altered);
    assert_eq!(first_bad(&site, &[]), Some(4));
    site.run(&["repo", "check"]).exits(9);
    site.run(&["audit", "list", "db1"]).exits(9);
    put(&chain[3], &stored[3]);

    fs::remove_file(&chain[4]).unwrap();
    assert_eq!(first_bad(&site, &[]), Some(5));
    put(&chain[4], &stored[4]);

    put(&chain[5], &stored[6]);
    put(&chain[6], &stored[5]);
    assert_eq!(first_bad(&site, &[]), Some(6));
    put(&chain[5], &stored[5]);
    put(&chain[6], &stored[6]);

    let inserted = chain[last].with_file_name(format!("{:016x}.json", before + 1));
    put(&inserted, &stored[last]);
    assert_eq!(first_bad(&site, &[]), Some(before + 1));
    fs::remove_file(&inserted).unwrap();
    assert_eq!(first_bad(&site, &all), None);

    step("cut off at the end: only what is kept elsewhere tells");
    let receipts = site.repository().join("audit/db1/anchors");
    let aside = site.place("receipts");
    fs::remove_file(&chain[last]).unwrap();
    assert_eq!(first_bad(&site, &[]), Some(before), "the receipt is still there");
    refused(
        "an anchor of less than was anchored",
        &site.run(&words),
        9,
        "verify.audit_chain",
    );
    fs::rename(&receipts, &aside).unwrap();
    assert_eq!(first_bad(&site, &[]), None);
    assert_eq!(first_bad(&site, &["--anchor", file]), Some(before));
    fs::remove_file(&chain[last - 1]).unwrap();
    assert_eq!(first_bad(&site, &[]), None);
    assert_eq!(first_bad(&site, &["--anchor-repo", &other]), Some(before - 1));
    assert_eq!(first_bad(&site, &["--anchor-text", &paper]), Some(before - 1));
    step("and goes on as if nothing had been: the numbers are there again, with other records");
    site.run(&["hold", "db1", &second, "--release"]).ok();
    site.run(&["hold", "db1", &second]).ok();
    assert_eq!(first_bad(&site, &[]), None);
    assert_eq!(first_bad(&site, &["--anchor-text", &paper]), Some(before - 1));
    assert_eq!(first_bad(&site, &["--anchor", file]), Some(before - 1));
}

#[test]
fn what_cannot_be_an_anchor_is_refused() {
    let site = Site::new();
    let text = site.run(&["audit", "verify"]).ok().stdout;
    assert!(text.contains("holds no deployment"), "{text}");
    refused(
        "no such deployment",
        &site.run(&["audit", "list", "db1"]),
        6,
        "notfound.deployment",
    );
    let cluster = Cluster::builder(18).start();
    site.backup(&cluster);
    let file = site.place("anchors");
    let anchor = |more: &[&str]| site.run(&[&["audit", "anchor", "db1"], more].concat());
    let verify = |more: &[&str]| site.run(&[&["audit", "verify", "db1"], more].concat());

    anchor(&[]).exits(2);
    let inside = site.repository().join("anchors");
    let answer = anchor(&["--to", inside.to_str().unwrap()]);
    refused("a file in the repository", &answer, 2, "usage.anchor_in_repository");
    refused(
        "the repository itself",
        &anchor(&["--to-repo", &site.repo]),
        2,
        "usage.anchor_in_repository",
    );
    let nowhere = format!("file://{}", site.dir("nothing").display());
    refused(
        "no repository",
        &anchor(&["--to-repo", &nowhere, "--print"]),
        6,
        "notfound.repo",
    );
    refused("no folder", &anchor(&["--to", "/nowhere/anchors"]), 1, "io");
    assert!(!inside.exists() && !site.repository().join("audit/db1/anchors").exists());

    let path = file.to_str().unwrap();
    refused("no such file", &verify(&["--anchor", path]), 6, "notfound.anchor");
    fs::write(&file, "nonsense\n").unwrap();
    refused("no anchor", &verify(&["--anchor", path]), 2, "usage.invalid_anchor");
    fs::write(&file, "\n").unwrap();
    refused("an empty file", &verify(&["--anchor", path]), 6, "notfound.anchor");
    refused(
        "typed wrong",
        &verify(&["--anchor-text", "0123 4567"]),
        2,
        "usage.invalid_anchor",
    );
    let other = Site::new();
    refused(
        "nothing in another",
        &verify(&["--anchor-repo", &other.repo]),
        6,
        "notfound.anchor",
    );

    // The user's own from here on.
    fs::remove_file(&file).unwrap();
    anchor(&["--to", path]).ok();
    verify(&["--anchor", path]).ok();
    let line = fs::read_to_string(&file).unwrap();
    fs::write(&file, line.replace("\"sequence\":\"", "\"sequence\":\"1")).unwrap();
    refused(
        "an altered anchor",
        &verify(&["--anchor", path]),
        9,
        "verify.audit_chain",
    );
    fs::write(&file, line).unwrap();

    step("another repository's anchor says nothing here");
    other.backup(&cluster);
    let answer = other.run(&["audit", "verify", "--anchor", path]);
    refused("of another repository", &answer, 6, "notfound.anchor");
}

#[test]
fn a_repository_from_before_and_one_that_takes_no_records_work() {
    let site = Site::new();
    let cluster = Cluster::builder(16).start();
    let id = site.backup(&cluster)["backup_id"].as_str().unwrap().to_owned();
    fs::remove_dir_all(site.repository().join("audit")).unwrap();
    step("from before: there is no chain");
    let status = site.run(&["status", "db1"]).ok().stdout;
    assert!(status.contains("Audit anchor: no events yet"), "{status}");
    for (words, told) in [
        (&["audit", "list", "db1"][..], "db1: the audit chain is empty"),
        (&["audit", "verify"], "db1: the audit chain is empty"),
        (&["audit", "anchor", "--print"], "nothing to anchor"),
    ] {
        let text = site.run(words).ok().stdout;
        assert!(text.contains(told), "{text}");
    }
    site.run(&["repo", "check"]).ok();
    site.run(&["list", "db1"]).ok();
    site.run(&["repo", "sync"]).ok();
    site.run(&["verify", "db1", "latest"]).ok();
    site.run(&["hold", "db1", &id]).ok();
    assert_eq!(actions(&site), ["backup.held"]);

    step("a chain that cannot be written fails nothing, and is told");
    let month = objects(&site)[0].parent().unwrap().to_owned();
    let chain = month.parent().unwrap().to_owned();
    for folder in [&month, &chain] {
        fs::set_permissions(folder, Permissions::from_mode(0o555)).unwrap();
    }
    let answer = site.run(&["hold", "db1", &id, "--release", "-q"]).ok();
    assert!(answer.stderr.contains("audit.append_failed"), "{answer}");
    assert!(answer.stderr.contains("could not be recorded"), "{answer}");
    for folder in [&month, &chain] {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(actions(&site), ["backup.held"]);

    step("who may only read restores without a record and without a word");
    let writable = folders(&site.repository());
    for folder in &writable {
        fs::set_permissions(folder, Permissions::from_mode(0o555)).unwrap();
    }
    let (answer, _) = site.restore_files("restored", &["--to-latest"]);
    for folder in &writable {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
    assert!(!answer.stderr.contains("audit"), "{answer}");
    assert_eq!(actions(&site), ["backup.held"]);
}

/// A directory and every one below it.
fn folders(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(folders(&entry.path()));
        }
    }
    all
}

#[test]
fn a_slot_that_was_dropped_and_another_cluster_are_recorded() {
    let site = Site::new();
    let mut cluster = Cluster::builder(15).start();
    let connection = cluster.connection();
    site.run(&["init", "--deployment", "db1", "--pg-connection", &connection, "--yes"])
        .ok();
    drop(site.stream("stream", &connection, &[]));
    cluster.until("nobody holds the slot", |cluster| {
        let free = "SELECT 1 FROM pg_replication_slots WHERE NOT active";
        cluster.try_value(free).ok()
    });
    site.product.run(&["slot", "drop", "db1", "--run-id", "r1"]).ok();
    let other = Cluster::builder(16).start();
    let words = ["backup", "db1", "--pg-connection", &other.connection()];
    site.run(&words).exits(7);
    site.run(&[&words[..], &["--accept-new-system"]].concat()).ok();
    assert_eq!(
        actions(&site),
        [
            "deployment.created",
            "backup.committed",
            "slot.dropped",
            "system.accepted",
            "backup.committed"
        ]
    );
    assert_eq!(first_bad(&site, &[]), None);
}

#[test]
fn object_stores_keep_chains_and_the_anchors_of_others() {
    let store = ObjectStore::moto();
    store.bucket("backups");
    let (repo, other) = (store.url("backups/own"), store.url("backups/other"));
    let mut product = Hardstorage::new();
    for (name, value) in store.credentials() {
        product.set(name, value);
    }
    for url in [&repo, &other] {
        product.run(&["repo", "init", url]).ok();
    }
    let cluster = Cluster::builder(18).start();
    let run = |args: &[&str]| product.run(&[args, &["--repo", &repo]].concat());
    run(&["backup", "db1", "--pg-connection", &cluster.connection()]).ok();
    let list = run(&["list", "db1", "-o", "json"]).ok().result();
    let id = list["backups"][0]["backup_id"].as_str().unwrap().to_owned();
    run(&["audit", "anchor", "--to-repo", &other]).ok();
    // Eight at the same time: each gets a number.
    let run = &run;
    std::thread::scope(|scope| {
        for number in 0..8 {
            let words = if number % 2 == 0 {
                vec!["hold", "db1", &id]
            } else {
                vec!["hold", "db1", &id, "--release"]
            };
            scope.spawn(move || run(&words).ok());
        }
    });
    let answer = run(&["audit", "verify", "db1", "--anchor-repo", &other, "-o", "json"])
        .ok()
        .result();
    let chain = &answer["deployments"][0];
    assert!(chain["events"].as_u64().unwrap() > 2, "{answer:#}");
    let anchors = chain["anchors"].as_array().unwrap();
    assert_eq!(
        anchors.iter().filter(|anchor| anchor["within"] == false).count(),
        1,
        "{answer:#}"
    );
    assert!(anchors.iter().all(|anchor| anchor["holds"] == true), "{answer:#}");
    let status = run(&["status", "db1"]).ok().stdout;
    assert!(status.contains("Audit anchor: ✓ "), "{status}");
    // What was kept for another is nothing of its own there.
    let probed = product.run(&["audit", "verify", "--repo", &other]).ok().stdout;
    assert!(probed.contains("holds no deployment"), "{probed}");
}

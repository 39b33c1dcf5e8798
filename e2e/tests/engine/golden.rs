//! What was once released stays readable: each golden repository is read by the program of today and by the second reader,
//! and gives what it gave when it was made; a copy of it is gone on with, and old and new stay readable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use hardstorage_e2e::golden::{DEPLOYMENT, Golden, Hashes, ROWS, apply, expected, hashes, holds, home, names};
use hardstorage_e2e::{Cluster, Reader};
use serde_json::{Value, json};

use crate::site::{PATIENCE, step};
use crate::verdict::refused;

/// A golden repository that changes is none: whoever breaks this list has lost the proof, not found a mistake in it.
#[test]
fn they_are_as_they_were_made() {
    let kept = fs::read_to_string(home().join("SHA256SUMS")).unwrap();
    let kept: Hashes = kept
        .lines()
        .map(|line| line.split_once("  ").unwrap())
        .map(|(hash, name)| (name.to_owned(), hash.to_owned()))
        .collect();
    assert_eq!(hashes(&home(), &|name| !name.contains('/')), kept);
    for name in ["journals", "lineage", "plain", "records", "tails", "timelines"] {
        assert!(names().iter().any(|there| there == name), "{name} is not there");
    }
}

#[test]
fn plain_is_read() {
    let golden = read("plain");
    step("PostgreSQL starts on it, at its end and at the name");
    let notes = expected("plain")["notes"].clone();
    assert_eq!(rows(&golden, "end", &["--to-latest"]), notes["rows"]);
    let named = notes["name"].as_str().unwrap();
    let at_name = ["--to-name", named, "--to-action", "promote"];
    assert_eq!(rows(&golden, "name", &at_name), notes["rows_at_name"]);
}

#[test]
fn lineage_is_read() {
    read("lineage");
}

#[test]
fn timelines_are_read() {
    let golden = read("timelines");
    step("recovery goes from the first timeline into the second, up to the gap, and from behind it to the end");
    let notes = expected("timelines")["notes"].clone();
    let first = notes["first"].as_str().unwrap();
    let end = notes["end_before_gap"].as_str().unwrap();
    let before = [first, "--to-lsn", end, "--to-action", "promote"];
    assert_eq!(rows(&golden, "before", &before), notes["rows_before_gap"]);
    assert_eq!(rows(&golden, "end", &["--to-latest"]), notes["rows"]);
}

#[test]
fn tails_are_read() {
    let golden = read("tails");
    let all = golden.reader().check().ok().stdout;
    // The cumulative one, those behind it, and the mark.
    let tails = all.lines().find_map(|line| line.strip_prefix("tail\t")).unwrap();
    assert!((3..64).contains(&tails.parse::<u32>().unwrap()), "{all}");
}

#[test]
fn journals_are_read() {
    let golden = read("journals");
    let all = golden.reader().check().ok().stdout;
    assert!(all.lines().any(|line| line == "journal\t2"), "{all}");
}

#[test]
fn records_are_read() {
    let golden = read("records");
    let all = golden.reader().check().exits(1).stdout;
    for kind in [
        "state", "gone", "damage", "receipt", "anchor", "scrub", "audit", "session",
    ] {
        assert!(
            all.lines().any(|line| line.starts_with(&format!("{kind}\t"))),
            "{kind}: {all}"
        );
    }
}

/// Compares everything with what was expected when it was made.
fn read(name: &str) -> Golden {
    let (golden, expected) = (Golden::copy(name), expected(name));
    step("what the program says");
    if let Err(what) = holds(&expected["facts"], &golden.facts()) {
        panic!("{name}{what}");
    }
    let reader = golden.reader();
    step("every object, by the second reader");
    assert_eq!(damaged(&reader), strings(&expected["damaged"]));
    step("WAL, by both");
    let fetched = golden.fetched();
    let wal: BTreeMap<String, Value> = serde_json::from_value(expected["wal"].clone()).unwrap();
    assert_eq!(fetched, wal);
    let told = reader.run("wals", &[DEPLOYMENT]).ok().stdout;
    for line in told.lines() {
        let (what, hash) = line.split_once('\t').unwrap();
        match wal[what].as_str() {
            Some(wanted) => assert_eq!(hash, wanted, "{what}"),
            None => assert!(hash.starts_with("- "), "{line}"),
        }
    }
    assert_eq!(told.lines().count(), wal.len(), "{told}");
    step("files of every backup, by both");
    for (backup, wanted) in backups(&expected) {
        match wanted.refused {
            None => assert_eq!(
                golden.restored(&backup).as_ref(),
                Ok(wanted.files.as_ref().unwrap()),
                "{backup}"
            ),
            Some(code) => assert_eq!(golden.restored(&backup), Err(code), "{backup}"),
        }
        assert_eq!(golden.read(&reader, &backup), wanted.files, "{backup}");
    }
    golden
}

/// What a restore of a backup gives: a refusal, files, or both where only its state forbids it.
struct Wanted {
    refused: Option<String>,
    files: Option<Hashes>,
}

fn backups(expected: &Value) -> Vec<(String, Wanted)> {
    let mut hashes = Hashes::new();
    let each = expected["files"].as_array().unwrap().iter().map(|backup| {
        let files = backup["files"].is_object().then(|| {
            apply(&mut hashes, &backup["files"]);
            hashes.clone()
        });
        let refused = backup["refused"].as_str().map(str::to_owned);
        (
            backup["backup_id"].as_str().unwrap().to_owned(),
            Wanted { refused, files },
        )
    });
    each.collect()
}

fn damaged(reader: &Reader) -> BTreeSet<String> {
    let said = reader.check();
    let named = said
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("damaged\t")?.split('\t').next());
    named.map(str::to_owned).collect()
}

fn strings(list: &Value) -> BTreeSet<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

/// Restores, starts PostgreSQL, and asks for the rows once it is promoted.
#[track_caller]
fn rows(golden: &Golden, name: &str, args: &[&str]) -> String {
    running(golden, name, args).value(ROWS)
}

#[track_caller]
fn running(golden: &Golden, name: &str, args: &[&str]) -> Cluster {
    let target = golden.place(name);
    let words = ["restore", DEPLOYMENT, "--target", target.to_str().unwrap()];
    golden.run(&[&words[..], args].concat()).ok();
    let mut cluster = Cluster::builder(18).over(&target).start();
    cluster.until_promoted();
    cluster
}

/// The program of today writes into what an older one wrote: the next backup reuses its pages, retention and collection go
/// over it, and what stays is what it was.
#[test]
fn they_are_gone_on_with() {
    let golden = Golden::copy("lineage");
    let expected = expected("lineage");
    let ids = strings(&expected["notes"]["backups"]);
    let cluster = running(&golden, "source", &["--to-latest"]);
    assert_eq!(cluster.value(ROWS), expected["notes"]["rows"]);
    let connection = cluster.connection();
    let words = [
        "wal",
        "stream",
        DEPLOYMENT,
        "--pg-connection",
        &connection,
        "--repo",
        &golden.url,
    ];
    let mut stream = golden
        .product
        .start("stream", &[&words[..], &["--flush-interval", "1s"]].concat());
    stream.until("the slot is in use", PATIENCE, || {
        let active = cluster.try_value("SELECT count(*)::text FROM pg_replication_slots WHERE active");
        (active.ok()? == "1").then_some(())
    });
    cluster.sql("INSERT INTO ledger VALUES (900000, 'of today')");
    let rows_of_today = cluster.value(ROWS);
    step("a backup reuses the pages of the old ones");
    let (code, made) = golden.ask(&["backup", DEPLOYMENT, "--pg-connection", &connection]);
    assert_eq!(code, 0, "{made}");
    assert!(made["reuse"].as_f64().unwrap() > 0.8, "{made:#}");
    let end = cluster.value("SELECT pg_current_wal_flush_lsn()");
    let acknowledged = format!("SELECT count(*)::text FROM pg_replication_slots WHERE restart_lsn >= '{end}'");
    stream.until("everything is acknowledged", PATIENCE, || {
        (cluster.try_value(&acknowledged).ok()? == "1").then_some(())
    });
    stream.stop().ok();
    step("retention and collection");
    let keep = [
        "--keep-last",
        "3",
        "--keep-daily",
        "0",
        "--keep-weekly",
        "0",
        "--keep-monthly",
        "0",
    ];
    let rotate = [&["rotate", DEPLOYMENT], &keep[..], &["--keep-yearly", "0", "--apply"]].concat();
    golden.run(&rotate).ok();
    let collect = ["repo", "gc", "--apply", "--grace", "0s", "--reader-grace", "0s"];
    golden.run(&collect).ok();
    golden.run(&collect).ok();
    golden.run(&["repo", "check", "--read-data"]).ok();
    golden.run(&["audit", "verify", DEPLOYMENT]).ok();
    golden.run(&["wal", "audit", DEPLOYMENT]).ok();
    golden.run(&["repo", "scrub", "--all", "--max-rate", "0"]).ok();
    let reader = golden.reader();
    assert_eq!(damaged(&reader), BTreeSet::new());
    step("old and new");
    let mut stayed = 0;
    let there = golden.ask(&["list", DEPLOYMENT]).1;
    for (backup, wanted) in backups(&expected) {
        if there["backups"].to_string().contains(&backup) {
            assert_eq!(
                golden.restored(&backup).as_ref(),
                Ok(wanted.files.as_ref().unwrap()),
                "{backup}"
            );
            assert_eq!(golden.read(&reader, &backup), wanted.files, "{backup}");
            stayed += 1;
        }
    }
    assert!(stayed >= 2 && stayed < ids.len(), "{there}");
    assert_eq!(rows(&golden, "new", &["--to-latest"]), rows_of_today);
}

/// The three lists of features, as a later program would fill them: each forbids what its name says, and nothing else.
#[test]
fn a_feature_that_is_not_known_forbids_what_it_must() {
    let golden = Golden::copy("plain");
    let backup = expected("plain")["notes"]["backup"].as_str().unwrap().to_owned();
    let target = golden.place("target");
    let words = target.to_str().unwrap();
    let reading = ["restore", DEPLOYMENT, &backup, "-q", "--target", words];
    // Who may not read may do nothing, and who may not write may not collect: that writes records before it removes.
    for (list, forbidden) in [
        ("must_read", [true, true, true]),
        ("must_write", [false, true, true]),
        ("must_collect", [false, false, true]),
    ] {
        step(list);
        golden.alter("HARDSTORAGE", &json!({list: ["holograms"]})).ok();
        let answers = [
            golden.run(&reading),
            golden.run(&["hold", DEPLOYMENT, &backup]),
            golden.run(&["repo", "gc", "--apply"]),
        ];
        for (answer, forbidden) in answers.iter().zip(forbidden) {
            if forbidden {
                refused(list, answer, 7, "conflict.repo_newer_format");
            } else {
                assert_eq!(answer.code, Some(0), "{list}\n{answer}");
            }
        }
        assert_eq!(target.exists(), !forbidden[0], "{list}");
        fs::remove_dir_all(&target)
            .or_else(|_| fs::metadata(golden.repository()).map(drop))
            .unwrap();
        golden.alter("HARDSTORAGE", &json!({list: []})).ok();
        golden.run(&["hold", DEPLOYMENT, &backup, "--release"]).ok();
    }
    step("and a format that is not known");
    golden.alter("HARDSTORAGE", &json!({"format": 2})).ok();
    refused("format", &golden.run(&reading), 7, "conflict.repo_newer_format");
    assert!(!target.exists());
}

/// A later program of the same format may say more in every document. What is said is passed over, unless the manifest
/// lists it as a feature: then the backup is refused, and the rest is not hurt.
#[test]
fn unknown_fields_are_passed_over_and_unknown_features_are_not() {
    let golden = Golden::copy("plain");
    let expected = expected("plain");
    let backup = expected["notes"]["backup"].as_str().unwrap();
    let manifest = format!("manifests/{DEPLOYMENT}/{backup}/manifest.json");
    golden.run(&["hold", DEPLOYMENT, backup]).ok();
    let mut names: Vec<String> = golden.documents();
    // Each record names the hash of the one before: only the last can be another one.
    let last = names.iter().filter(|name| name.starts_with("audit/")).max().cloned();
    names.retain(|name| !name.starts_with("audit/") || Some(name) == last.as_ref());
    assert!(names.len() > 7 && names.contains(&manifest), "{names:?}");
    for name in &names {
        golden.alter(name, &json!({"of_a_later_program": {"a": [1, "b"]}})).ok();
    }
    for command in [
        &["repo", "check", "--read-data"][..],
        &["audit", "verify", DEPLOYMENT],
        &["repo", "scrub", "--all", "--max-rate", "0"],
        &["wal", "list", DEPLOYMENT],
    ] {
        golden.run(command).ok();
    }
    assert_eq!(golden.ask(&["list", DEPLOYMENT]).1["backups"][0]["held"], true);
    for (id, wanted) in backups(&expected) {
        assert_eq!(golden.restored(&id).ok(), wanted.files);
        assert_eq!(golden.read(&golden.reader(), &id), wanted.files);
    }
    assert_eq!(rows(&golden, "end", &["--to-latest"]), expected["notes"]["rows"]);

    step("a feature of the manifest");
    golden.alter(&manifest, &json!({"features": ["holograms"]})).ok();
    let target = golden.place("never");
    let words = [
        "restore",
        DEPLOYMENT,
        backup,
        "-q",
        "--target",
        target.to_str().unwrap(),
    ];
    refused("features", &golden.run(&words), 7, "conflict.repo_newer_format");
    assert!(!target.exists());
    assert_eq!(golden.read(&golden.reader(), backup), None);
    golden.alter(&manifest, &json!({"features": [], "format": 2})).ok();
    refused("format", &golden.run(&words), 7, "conflict.repo_newer_format");
    golden.run(&["wal", "list", DEPLOYMENT]).ok();
}

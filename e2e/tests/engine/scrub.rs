//! What rots in a repository is found by reading it in turn, and the next backup makes good what can be made good.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Answer, Cluster, Ledger};
use serde_json::Value;

use crate::site::{Site, fill_segment, id, step};
use crate::verdict::refused;

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Files below a folder of the repository with their lengths, the longest last.
fn files(site: &Site, folder: &str) -> Vec<PathBuf> {
    let root = site.repository().join(folder);
    let content = site.content().into_iter().filter(|(path, _)| path.starts_with(&root));
    let mut found: Vec<_> = content.collect();
    found.sort_by_key(|(_, length)| *length);
    found.into_iter().map(|(path, _)| path).collect()
}

fn key(site: &Site, path: &Path) -> String {
    path.strip_prefix(site.repository())
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

fn scrub(site: &Site, more: &[&str]) -> Answer {
    site.run(&[&["repo", "scrub", "--max-rate", "0", "-o", "json"], more].concat())
}

/// The report of the only deployment.
#[track_caller]
fn report(answer: &Answer) -> Value {
    let result = answer.result();
    assert_eq!(result["deployments"].as_array().unwrap().len(), 1, "{answer}");
    result["deployments"][0].clone()
}

/// The backups that are hurt. Those of one second have ids in no order of time.
#[track_caller]
fn hurt(report: &Value) -> BTreeSet<String> {
    report["hurt"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_bad_frame_is_found_and_the_next_backup_heals() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    Ledger::add(&source, "first", 2000);
    let older = id(&site.backup(&source));
    Ledger::add(&source, "second", 100);
    let newer = id(&site.backup(&source));
    assert_eq!(
        report(&scrub(&site, &["--all"]).ok())["problems"],
        serde_json::json!([])
    );

    step("a byte in the middle of the pages that both backups share");
    let pack = files(&site, "packs").pop().unwrap();
    let middle = fs::metadata(&pack).unwrap().len() as usize / 2;
    flip(&pack, middle);
    let found = report(&scrub(&site, &["--all"]).exits(9));
    assert_eq!(found["problems"][0]["object"], key(&site, &pack).as_str(), "{found:#}");
    assert_eq!(found["problems"][0]["frames"].as_array().unwrap().len(), 1, "{found:#}");
    assert_eq!(
        (&found["problems"][0]["recorded"], &found["problems"][0]["known"]),
        (&1.into(), &false.into())
    );
    assert_eq!(hurt(&found), BTreeSet::from([older.clone(), newer.clone()]));
    assert_eq!(files(&site, "damage").len(), 1);
    let text = site.run(&["repo", "scrub", "--all"]).exits(9).stdout;
    assert!(text.contains(&newer) && text.contains("base/"), "{text}");
    let target = site.place("hurt");
    let refusal = site.run(&["restore", "db1", &newer, "-q", "--target", target.to_str().unwrap()]);
    refused("restore", &refusal, 9, "verify.object_corrupt");

    step("the next backup stores these pages anew");
    let everything = Ledger::add(&source, "third", 100);
    let healed = id(&site.backup(&source));
    let found = report(&scrub(&site, &["--all"]).ok());
    assert_eq!(found["problems"][0]["known"], true, "{found:#}");
    assert_eq!(hurt(&found), BTreeSet::from([older, newer]));
    assert_eq!(found["newest_is_whole"], true);
    site.run(&["verify", "db1", &healed]).ok();
    assert_eq!(site.latest("latest"), everything);
}

#[test]
fn damaged_wal_is_named_with_its_positions_and_stays_named() {
    let source = Cluster::builder(17).wal_segment_size(1).start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    let backup = id(&site.backup(&source));
    for chapter in 0..3 {
        fill_segment(&source, &format!("segment {chapter}"));
    }
    stream.until_durable(&source);
    stream.stop();
    let mut segments = files(&site, "wal");
    segments.retain(|path| path.file_name().unwrap().len() == 24);
    segments.sort();
    let segment = segments.pop().unwrap();
    let middle = fs::metadata(&segment).unwrap().len() as usize / 2;
    flip(&segment, middle);
    let found = report(&scrub(&site, &["--all"]).exits(9));
    let problem = &found["problems"][0];
    assert_eq!(problem["object"], key(&site, &segment).as_str(), "{found:#}");
    assert_eq!((&problem["wal"], &problem["timeline"]), (&"segment".into(), &1.into()));
    let number = u64::from_str_radix(&segment.file_name().unwrap().to_str().unwrap()[16..], 16).unwrap();
    assert_eq!(problem["from"], format!("0/{:X}", number << 20).as_str(), "{found:#}");
    // The backup itself ends long before it.
    assert!(hurt(&found).is_empty(), "{found:#}");

    step("nothing is due, and it is told all the same, until it is whole again");
    for _ in 0..2 {
        let answer = site.run(&["repo", "scrub"]).exits(9);
        assert!(answer.stdout.contains("take a backup now"), "{answer}");
    }
    flip(&segment, middle);
    scrub(&site, &[]).ok();
    site.run(&["verify", "db1", &backup]).ok();
}

#[test]
fn a_part_each_day_and_the_limit() {
    let source = Cluster::builder(16).start();
    let site = Site::new();
    Ledger::create(&source);
    site.backup(&source);
    let first = report(&scrub(&site, &["--within", "4d"]).ok());
    assert!(first["done"].as_f64().unwrap() < 0.6, "{first:#}");
    step("the same day has nothing more to read");
    let again = report(&scrub(&site, &["--within", "4d"]).ok());
    assert!(again["objects"].as_u64() < first["objects"].as_u64(), "{again:#}");
    assert_eq!(files(&site, "scrub").len(), 1);

    step("all of it, one object after the other");
    let whole = report(&scrub(&site, &["--all"]).ok());
    let (mut rounds, mut done) = (0, 0.0);
    while done < 1.0 {
        let part = report(&scrub(&site, &["--all", "--limit", "1"]).ok());
        assert!(part["done"].as_f64().unwrap() > done, "{part:#}");
        done = part["done"].as_f64().unwrap();
        rounds += 1;
        assert!(rounds <= whole["objects"].as_u64().unwrap() + 2, "{part:#}");
    }
    assert!(rounds > 5, "{rounds}");
    step("who asks for nonsense is told");
    for words in [
        &["--limit", "0"][..],
        &["--within", "soon"],
        &["--keyless"],
        &["--max-rate", "fast"],
    ] {
        let answer = scrub(&site, words);
        assert_eq!(answer.code, Some(2), "{answer}");
    }
    refused(
        "unknown",
        &site.run(&["repo", "scrub", "--deployment", "db2"]),
        6,
        "notfound.deployment",
    );
}

#[test]
fn without_a_key() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    site.backup(&source);
    let before = site.content();
    let state = site.place("state.json");
    let words = ["--keyless", "--state", state.to_str().unwrap()];
    let keyring = site.product.config().join("keyring");
    let hidden = site.product.config().join("elsewhere");
    fs::rename(&keyring, &hidden).unwrap();
    let all = [&words[..], &["--all"]].concat();
    let text = site.run(&[&["repo", "scrub"], &all[..]].concat()).ok().stdout;
    for what in ["signatures of manifests", "MACs of small objects", "frames of packs"] {
        assert!(text.contains(&format!("not checked: {what}")), "{text}");
    }
    let pack = files(&site, "packs").remove(0);
    flip(&pack, 100);
    let found = report(&scrub(&site, &all).exits(9));
    assert_eq!(found["problems"][0]["object"], key(&site, &pack).as_str(), "{found:#}");
    step("what was bad is read again, though nothing else is due");
    scrub(&site, &words).exits(9);
    flip(&pack, 100);
    scrub(&site, &words).ok();
    assert_eq!(site.content(), before);
    step("a file of another repository, and one that is none");
    let other = Site::new();
    let answer = other.run(&[&["repo", "scrub"], &words[..]].concat());
    assert_eq!(answer.code, Some(0), "nothing is in it, so nothing is read\n{answer}");
    fs::write(&state, "{}").unwrap();
    refused(
        "state",
        &site.run(&[&["repo", "scrub"], &words[..]].concat()),
        2,
        "usage.scrub_state",
    );
    fs::rename(&hidden, &keyring).unwrap();
    scrub(&site, &["--all"]).ok();
}

/// A store that goes away is no damage: nothing is recorded, and the next run goes on.
#[test]
fn a_store_that_is_gone_is_no_damage() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    site.backup(&source);
    let repository = site.repository();
    let away = repository.with_extension("away");
    fs::rename(&repository, &away).unwrap();
    let answer = site.run(&["repo", "scrub", "--all"]);
    assert!(![Some(0), Some(9)].contains(&answer.code), "{answer}");
    fs::rename(&away, &repository).unwrap();
    assert!(!repository.join("damage").exists());
    scrub(&site, &["--all"]).ok();
}

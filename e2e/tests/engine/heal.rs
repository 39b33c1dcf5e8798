//! A repository that rots is made whole from its copy: every kind of object, damaged or missing, and a run that is killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::golden::{DEPLOYMENT, Golden, ROWS, expected, files, hashes};
use hardstorage_e2e::{Answer, Cluster, run, until};
use serde_json::Value;

use crate::site::{PATIENCE, step};
use crate::verdict::refused;

/// A golden repository and a copy of it elsewhere.
struct Pair {
    golden: Golden,
    copy: PathBuf,
    from: String,
}

impl Pair {
    fn of(name: &str) -> Pair {
        let golden = Golden::copy(name);
        let copy = golden.place("copy");
        let mut cp = Command::new("cp");
        cp.arg("-a").arg(golden.repository()).arg(&copy);
        run(cp, Duration::from_mins(1)).ok();
        let from = format!("file://{}", copy.display());
        Pair { golden, copy, from }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.golden.repository().join(name)
    }

    fn heal(&self, more: &[&str]) -> Answer {
        let words = ["repo", "heal", "--from", &self.from, "-o", "json"];
        self.golden.run(&[&words[..], more].concat())
    }

    fn scrub(&self) -> Answer {
        self.golden.run(&["repo", "scrub", "--all", "--max-rate", "0"])
    }

    /// The names of objects of which this is a part, largest first.
    fn names(&self, part: &str) -> Vec<String> {
        let root = self.golden.repository();
        let mut found: Vec<PathBuf> = files(&root);
        found.retain(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().contains(part));
        found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
        let names = found.iter().map(|path| path.strip_prefix(&root).unwrap());
        names.map(|name| name.to_str().unwrap().to_owned()).collect()
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // By a new file: the copy must not be the same one by a link.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[track_caller]
fn healed(answer: &Answer) -> Vec<String> {
    let result = answer.result();
    let healed = result["deployments"][0]["healed"].as_array().unwrap();
    healed
        .iter()
        .map(|one| one["object"].as_str().unwrap().to_owned())
        .collect()
}

/// What stays as it was written: not what a scrub or a heal adds.
fn lasting(root: &Path) -> BTreeMap<String, String> {
    let added = ["scrub/", "damage/", "sessions/", "audit/"];
    // What a killed process leaves half written has a name that no object has.
    hashes(root, &|name| {
        added.iter().any(|folder| name.starts_with(folder)) || name.contains("/.")
    })
}

#[test]
fn every_kind_of_object_comes_back() {
    let pair = Pair::of("lineage");
    let wanted = expected("lineage");
    let before = lasting(&pair.copy);
    let packs = pair.names("packs/");
    let segments = pair.names("/segments/");
    let manifests = pair.names("/manifest.json");
    let audit = pair.names("audit/");
    // Data that all backups share, the layers and the file table of one (meta packs are numbered from the top), WAL.
    let meta = packs.iter().find(|name| name.ends_with("/80000000")).unwrap();
    let damaged = [&packs[0], meta, &segments[0], &manifests[2], &audit[0]].map(String::clone);
    let missing = [
        &packs[3],
        &segments[1],
        &manifests[4],
        &audit[1],
        &pair.names("signers/")[0],
    ]
    .map(String::clone);
    for name in &damaged {
        flip(&pair.path(name));
    }
    pair.scrub().exits(9);

    step("only told");
    let spoilt = lasting(&pair.golden.repository());
    let mut told = healed(&pair.heal(&[]).ok());
    told.sort();
    assert!(damaged.iter().all(|name| told.contains(name)), "{told:#?}");
    assert_eq!(lasting(&pair.golden.repository()), spoilt);

    for name in &missing {
        fs::remove_file(pair.path(name)).unwrap();
    }

    step("done");
    let answer = pair.heal(&["--apply"]).ok();
    let mut done = healed(&answer);
    done.sort();
    let mut all: Vec<String> = damaged.iter().chain(&missing).cloned().collect();
    all.sort();
    assert_eq!(done, all, "{answer}");
    assert!(
        answer.result()["deployments"][0]["records_removed"].as_u64() > Some(0),
        "{answer}"
    );
    assert_eq!(lasting(&pair.golden.repository()), before);
    assert!(files(&pair.path("damage")).is_empty());
    pair.scrub().ok();
    pair.golden.run(&["repo", "check", "--read-data"]).ok();
    pair.golden.run(&["audit", "verify", DEPLOYMENT]).ok();
    let chain = pair.golden.ask(&["audit", "list", DEPLOYMENT]).1.to_string();
    assert!(chain.contains("objects.healed"), "{chain}");
    pair.golden.reader().check().ok();

    step("nothing is left to do, and PostgreSQL has its rows");
    assert_eq!(healed(&pair.heal(&["--all", "--apply"]).ok()), Vec::<String>::new());
    let target = pair.golden.place("restored");
    let words = [
        "restore",
        DEPLOYMENT,
        "--to-latest",
        "--target",
        target.to_str().unwrap(),
    ];
    pair.golden.run(&words).ok();
    let mut cluster = Cluster::builder(18).over(&target).start();
    cluster.until_promoted();
    assert_eq!(cluster.value(ROWS), wanted["notes"]["rows"]);
}

#[test]
fn what_was_let_go_does_not_come_back_and_the_copy_is_not_believed() {
    let pair = Pair::of("lineage");
    let ids: Vec<String> = serde_json::from_value(expected("lineage")["notes"]["backups"].clone()).unwrap();
    step("backups and WAL that retention lets go");
    for id in &ids[..4] {
        pair.golden.run(&["backup", "delete", DEPLOYMENT, id, "--yes"]).ok();
    }
    let collect = ["repo", "gc", "--apply", "--grace", "0s", "--reader-grace", "0s"];
    pair.golden.run(&collect).ok();
    pair.golden.run(&collect).ok();
    let answer = pair.heal(&["--apply"]).ok();
    assert_eq!(healed(&answer), Vec::<String>::new(), "{answer}");

    step("damaged in the copy too");
    let pack = pair.names("packs/").remove(0);
    flip(&pair.path(&pack));
    flip(&pair.copy.join(&pack));
    let spoilt = fs::read(pair.path(&pack)).unwrap();
    let answer = pair.heal(&["--all", "--apply"]).exits(9);
    let result = answer.result();
    assert_eq!(result["deployments"][0]["lost"][0]["object"], pack.as_str(), "{answer}");
    assert_eq!(fs::read(pair.path(&pack)).unwrap(), spoilt);
    flip(&pair.path(&pack));
    step("damaged in the copy alone");
    fs::write(pair.copy.join(&pack), &spoilt[..100]).unwrap();
    let answer = pair.heal(&["--all", "--apply"]).ok();
    assert_eq!(
        answer.result()["deployments"][0]["damaged_in_copy"][0]["object"],
        pack.as_str(),
        "{answer}"
    );

    step("another object under that name");
    let manifests = pair.names("/manifest.json");
    fs::copy(pair.copy.join(&manifests[1]), pair.copy.join(&manifests[0])).unwrap();
    let answer = pair.heal(&["--all", "--apply"]).ok();
    let told = answer.result()["deployments"][0]["damaged_in_copy"].to_string();
    assert!(
        told.contains(&manifests[0]),
        "a manifest of another backup was taken for whole\n{answer}"
    );

    step("no copy at all");
    let stranger = Pair::of("timelines");
    let words = ["repo", "heal", "--from", &stranger.golden.url, "-q"];
    refused("another repository", &pair.golden.run(&words), 7, "conflict.not_a_copy");
    let nowhere = format!("file://{}", pair.golden.place("nowhere").display());
    let answer = pair.golden.run(&["repo", "heal", "--from", &nowhere, "-q"]);
    assert!([Some(6), Some(8)].contains(&answer.code), "{answer}");
    let own = pair.golden.url.clone();
    refused(
        "itself",
        &pair.golden.run(&["repo", "heal", "--from", &own, "-q"]),
        2,
        "usage.invalid",
    );
}

/// The two places were written to by two programs: both records are authentic, and only one can be true.
#[test]
fn two_truths_are_an_alarm() {
    let pair = Pair::of("lineage");
    let backup = expected("lineage")["notes"]["backups"][0].as_str().unwrap().to_owned();
    pair.golden.run(&["hold", DEPLOYMENT, &backup, "--reason", "here"]).ok();
    let elsewhere = ["hold", DEPLOYMENT, &backup, "--reason", "there", "--repo", &pair.from];
    pair.golden.product.run(&elsewhere).ok();
    let before = hashes(&pair.golden.repository(), &|_| false);
    let answer = pair.heal(&["--all", "--apply"]).exits(7);
    let differing = answer.result()["deployments"][0]["differing"].clone();
    let names: Vec<&str> = differing
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["object"].as_str())
        .collect();
    assert!(
        names.len() == 2 && names[0].contains("/state/") && names[1].starts_with("audit/"),
        "{answer}"
    );
    assert_eq!(hashes(&pair.golden.repository(), &|_| false), before);
}

/// Killed at any time, run again: whole. At no time is a damaged pack gone without its good bytes being here.
#[test]
fn a_run_that_is_killed_is_gone_on_with() {
    let pair = Pair::of("lineage");
    let before = lasting(&pair.copy);
    let spoilt: Vec<String> = pair
        .names("packs/")
        .into_iter()
        .chain(pair.names("/segments/"))
        .collect();
    for name in &spoilt {
        flip(&pair.path(name));
    }
    let words = [
        "repo",
        "heal",
        "--from",
        &pair.from,
        "--all",
        "--apply",
        "--repo",
        &pair.golden.url,
    ];
    let mut kills = 0;
    for turn in 0.. {
        let mut process = pair.golden.product.start(&format!("heal {turn}"), &words);
        let was_whole = whole(&pair, &spoilt);
        if was_whole == spoilt.len() {
            process.wait(PATIENCE).ok();
            break;
        }
        // As soon as it has done something.
        until("it goes on, or has ended", PATIENCE, || {
            (whole(&pair, &spoilt) > was_whole || !process.runs()).then_some(())
        });
        process.kill();
        kills += 1;
        for name in &spoilt {
            assert!(
                pair.path(name).exists() || pair.path("heal").join(name).exists(),
                "{name} is gone"
            );
        }
    }
    assert!(kills > 2, "{kills}");
    assert_eq!(lasting(&pair.golden.repository()), before);
    pair.scrub().ok();
}

/// How many of the objects are as the copy has them.
fn whole(pair: &Pair, names: &[String]) -> usize {
    let same = |name: &&String| fs::read(pair.path(name)).ok() == fs::read(pair.copy.join(name)).ok();
    names.iter().filter(same).count()
}

/// With the copy gone by then, what was put aside is enough.
#[test]
fn what_was_put_aside_is_enough() {
    let pair = Pair::of("plain");
    let pack = pair.names("packs/").remove(0);
    let aside = pair.path("heal").join(&pack);
    let mut cp = hardstorage_e2e::unprivileged("install");
    cp.args(["-D", "-m", "0600"]).arg(pair.path(&pack)).arg(&aside);
    run(cp, Duration::from_mins(1)).ok();
    fs::remove_file(pair.path(&pack)).unwrap();
    fs::remove_file(pair.copy.join(&pack)).unwrap();
    let answer = pair.heal(&["--apply"]).ok();
    assert_eq!(healed(&answer).join(" "), pack);
    assert!(!aside.exists() && pair.path(&pack).exists());
    let check: Value = pair.golden.ask(&["repo", "check", "--read-data"]).1;
    assert_eq!(check["ok"], true, "{check}");
}

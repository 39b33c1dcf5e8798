//! Every kind of object of a repository that has lived, each with one bit flipped at several places: a scrub names it, with
//! the key and wherever it can without, a check where it is its business, and a collection takes nothing because of it.
//! What does not need the object restores all the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Answer, Cluster, Ledger};
use serde_json::Value;

use crate::push::{archiving, end_segment, until_archived};
use crate::site::{Site, fill_segment, id, step};

const AT_ONCE: [&str; 4] = ["--grace", "0s", "--reader-grace", "0s"];

/// One kind of object.
struct Kind {
    name: &'static str,
    /// Whether a path below the repository is one; of several the last is taken.
    is: fn(&str) -> bool,
    /// Found by a digest that needs no key, wherever the bit is.
    keyless: bool,
    /// `repo check` finds it.
    check: bool,
    /// The newest backup restores.
    restores: bool,
}

const fn kind(name: &'static str, is: fn(&str) -> bool) -> Kind {
    Kind {
        name,
        is,
        keyless: false,
        check: false,
        restores: true,
    }
}

/// All of them; the first that says yes has the object.
const KINDS: &[Kind] = &[
    Kind {
        check: true,
        restores: false,
        ..kind("descriptor", |path| path == "HARDSTORAGE")
    },
    Kind {
        check: true,
        restores: false,
        ..kind("config", |path| path.starts_with("config/"))
    },
    Kind {
        check: true,
        restores: false,
        ..kind("key", |path| path.starts_with("keys/"))
    },
    Kind {
        check: true,
        restores: false,
        ..kind("signer", |path| path.starts_with("signers/"))
    },
    Kind {
        check: true,
        ..kind("manifest", |path| path.ends_with("/manifest.json"))
    },
    kind("state", |path| path.contains("/state/")),
    kind("gone", |path| path.contains("/gone/")),
    Kind {
        keyless: true,
        restores: false,
        ..kind("pack", |path| path.starts_with("packs/"))
    },
    Kind {
        keyless: true,
        ..kind("tail", |path| path.contains("/tails/"))
    },
    Kind {
        keyless: true,
        // The newest one makes the newest backup consistent.
        restores: false,
        ..kind("segment", |path| path.contains("/segments/"))
    },
    Kind {
        keyless: true,
        ..kind("partial", |path| path.ends_with(".partial"))
    },
    kind("backup history", |path| path.ends_with(".backup")),
    Kind {
        // The newest backup was taken on that timeline.
        restores: false,
        ..kind("history", |path| path.ends_with(".history"))
    },
    kind("gap", |path| path.contains("/gaps/")),
    kind("session", |path| path.starts_with("sessions/")),
    kind("damage", |path| path.starts_with("damage/")),
    Kind {
        check: true,
        ..kind("audit", |path| path.starts_with("audit/"))
    },
    kind("scrub", |path| path.starts_with("scrub/")),
];

fn flip(path: &Path, at: usize, bit: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

/// The files below a repository by their names in it.
fn objects(site: &Site) -> BTreeMap<String, u64> {
    let root = site.repository();
    let named = site.content().into_iter();
    named
        .map(|(path, length)| (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), length))
        .filter(|(name, _)| !name.split('/').any(|part| part.starts_with('.')))
        .collect()
}

fn scrub(site: &Site, more: &[&str]) -> Answer {
    site.run(&[&["repo", "scrub", "--all", "--max-rate", "0"], more].concat())
}

#[track_caller]
fn names(answer: &Answer, object: &str) {
    assert_ne!(answer.code, Some(0), "nothing was found in {object}\n{answer}");
    let said = format!("{}{}", answer.stdout, answer.stderr);
    assert!(said.contains(object), "{object} is not named\n{answer}");
}

/// Two timelines, an archiver, a stream, backups of which one was collected, and a frame that went bad.
fn life() -> (Site, Cluster, Ledger) {
    let site = Site::new();
    let mut old = archiving(18, &site).wal_segment_size(1).start();
    let mut new = old.standby();
    Ledger::create(&old);
    Ledger::add(&old, "first", 3000);
    let first = id(&site.backup(&old));
    fill_segment(&old, "archived by the old primary");
    let second = id(&site.backup(&old));
    site.run(&["hold", "db1", &second, "--reason", "test"]).ok();
    fill_segment(&old, "archived after the second backup");
    site.backup(&old);
    step("one backup is collected, and WAL that only moments need");
    until_archived(&mut old);
    site.run(&["backup", "delete", "db1", &first, "--yes"]).ok();
    for _ in 0..2 {
        site.run(&[&["repo", "gc", "--apply", "--keep-wal", "0s"][..], &AT_ONCE].concat())
            .ok();
    }
    step("the standby takes over in the middle of a segment");
    let shared = Ledger::add(&old, "in the segment of the switch", 300);
    new.until("the standby has replayed the rows", |c| {
        let there = c.try_value("SELECT count(*) FROM ledger").ok()?;
        (there == shared.rows().to_string()).then_some(())
    });
    old.kill();
    new.promote();
    end_segment(&new);
    until_archived(&mut new);
    Ledger::add(&new, "on the new timeline", 200);
    site.backup(&new);
    let mut stream = site.stream("stream", &new.connection(), &[]);
    step("a frame goes bad, is found, and the next backup stores its pages anew");
    let pack = site.repository().join(data_pack(&site));
    let middle = fs::read(&pack).unwrap().len() / 2;
    flip(&pack, middle, 0);
    scrub(&site, &[]).exits(9);
    site.backup(&new);
    flip(&pack, middle, 0);
    let everything = Ledger::add(&new, "in a tail", 100);
    stream.until_durable(&new);
    stream.stop();
    scrub(&site, &[]).ok();
    (site, new, everything)
}

fn data_pack(site: &Site) -> String {
    let found = objects(site).into_iter().filter(|(name, _)| name.starts_with("packs/"));
    found.max_by_key(|(_, length)| *length).unwrap().0
}

#[test]
fn one_bit_anywhere_is_found_and_costs_nothing_else() {
    let (site, _server, everything) = life();
    let whole = objects(&site);
    let own = |name: &String| KINDS.iter().position(|kind| (kind.is)(name));
    for name in whole.keys() {
        assert!(own(name).is_some(), "{name} is of no kind of the table");
    }
    assert_eq!(site.latest("before"), everything);
    let state = site.place("state.json");
    let remember = ["--state", state.to_str().unwrap()];
    for (number, kind) in KINDS.iter().enumerate() {
        step(kind.name);
        let mut found: Vec<&String> = whole.keys().filter(|name| own(name) == Some(number)).collect();
        // What is known to be bad there is news no more.
        found.retain(|name| !has_known_damage(&whole, name));
        let name = found.pop().unwrap_or_else(|| panic!("no {} in {whole:#?}", kind.name));
        let path = site.repository().join(name);
        let length = whole[name] as usize;
        for (bit, at) in [0, length / 2, length - 1].into_iter().enumerate() {
            flip(&path, at, bit as u8);
            names(&scrub(&site, &remember), name);
            if kind.keyless {
                names(&scrub(&site, &["--keyless"]).exits(9), name);
            }
            if bit == 1 {
                beside(&site, kind, name);
            }
            flip(&path, at, bit as u8);
            tidy(&site, &whole);
        }
    }
    step("all is well again");
    scrub(&site, &remember).ok();
    scrub(&site, &["--keyless"]).ok();
    site.run(&["repo", "check", "--read-data"]).ok();
    assert_eq!(site.latest("afterwards"), everything);
}

/// Whether it is a pack with a frame that is recorded as bad.
fn has_known_damage(whole: &BTreeMap<String, u64>, name: &str) -> bool {
    let record = name.replacen("packs/", "damage/", 1);
    let record = record
        .rsplit_once('/')
        .map(|(writer, pack)| format!("{writer}-{pack}-"));
    record.is_some_and(|record| whole.keys().any(|name| name.starts_with(&record)))
}

/// What else is done while one bit is wrong.
fn beside(site: &Site, kind: &Kind, name: &str) {
    if kind.check {
        let check = site.run(&["repo", "check"]);
        assert_ne!(check.code, Some(0), "{check}");
    }
    let gc = site.run(&[&["repo", "gc", "--apply", "-o", "json"][..], &AT_ONCE].concat());
    if gc.code == Some(0) || gc.stdout.contains("deployments") {
        let result: Value = gc.result();
        assert_eq!(result["freed_bytes"], 0, "{gc}");
        let done = &result["deployments"][0];
        for list in ["purged", "released", "voided"] {
            assert_eq!(done[list], serde_json::json!([]), "{gc}");
        }
    }
    assert!(site.repository().join(name).exists(), "{gc}");
    if kind.name == "gap" {
        let status = site.run(&["status", "db1"]).ok();
        let audit = site.run(&["wal", "audit", "db1"]).exits(9);
        for said in [&status, &audit] {
            assert!(
                said.stdout.contains(name) && said.stdout.contains("verify.object_corrupt"),
                "{said}"
            );
        }
    }
    if kind.restores {
        let target = site.place("beside");
        site.run(&["restore", "db1", "--target", target.to_str().unwrap()]).ok();
        fs::remove_dir_all(target).unwrap();
    }
}

/// Removes what the commands of a case have written; nothing else may have changed.
fn tidy(site: &Site, whole: &BTreeMap<String, u64>) {
    let now = objects(site);
    for name in now.keys().filter(|name| !whole.contains_key(*name)) {
        let written = ["sessions/", "damage/", "audit/"]
            .iter()
            .any(|folder| name.starts_with(folder));
        assert!(written, "{name} was written");
        let path: PathBuf = site.repository().join(name);
        fs::remove_file(path).unwrap();
    }
    for (name, length) in whole.iter().filter(|(name, _)| !name.starts_with("sessions/")) {
        assert_eq!(now.get(name), Some(length), "{name} changed");
    }
}

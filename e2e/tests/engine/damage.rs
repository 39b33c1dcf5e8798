//! A repository that rots: each kind of object is damaged in a copy of one repository. What is damaged is named, what is
//! whole still restores, nothing that cannot be trusted starts, and the next backup heals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::{Answer, Cluster, Ledger, run};

use crate::site::{Site, id, step};
use crate::verdict::refused;

/// Two backups, each whole by itself, and what the database held at their ends.
struct Pair {
    source: Cluster,
    site: Site,
    older: String,
    newer: String,
    held_by_older: Ledger,
    held: Ledger,
}

/// A copy of the repository that a test may spoil.
struct Rotten<'a> {
    pair: &'a Pair,
    path: PathBuf,
    url: String,
}

impl Pair {
    fn new() -> Pair {
        let source = Cluster::builder(18).start();
        let site = Site::new();
        Ledger::create(&source);
        let held_by_older = Ledger::add(&source, "older", 2000);
        let older = id(&site.backup(&source));
        let held = Ledger::add(&source, "newer", 100);
        let newer = id(&site.backup(&source));
        Pair {
            source,
            site,
            older,
            newer,
            held_by_older,
            held,
        }
    }

    fn copy(&self, name: &str) -> Rotten<'_> {
        step(name);
        let path = self.site.place(&name.replace(' ', "-"));
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.site.repository()).arg(&path);
        run(copy, Duration::from_mins(1)).ok();
        let url = format!("file://{}", path.display());
        Rotten { pair: self, path, url }
    }
}

impl Rotten<'_> {
    fn run(&self, words: &[&str]) -> Answer {
        self.pair.site.product.run(&[words, &["--repo", &self.url]].concat())
    }

    fn check(&self) -> Answer {
        self.pair.site.product.run(&["repo", "check", &self.url])
    }

    fn place(&self, name: &str) -> PathBuf {
        let own = self.path.file_name().unwrap().to_str().unwrap();
        self.pair.site.place(&format!("{own}-{name}"))
    }

    /// Restores a backup, starts it, and compares the rows.
    #[track_caller]
    fn gives(&self, backup: &str, wanted: &Ledger) -> Answer {
        let target = self.place("whole");
        let done = self
            .run(&["restore", "db1", backup, "--target", target.to_str().unwrap()])
            .ok();
        let mut restored = Cluster::builder(18).over(&target).start();
        restored.until_promoted();
        assert_eq!(Ledger::read(&restored), *wanted, "{done}");
        drop(restored);
        fs::remove_dir_all(target).unwrap();
        done
    }

    /// A restore of this backup fails, and leaves nothing that a server would start on.
    #[track_caller]
    fn refuses(&self, backup: &str, code: &str, name: &str) {
        let target = self.place("hurt");
        let answer = self.run(&["restore", "db1", backup, "-q", "--target", target.to_str().unwrap()]);
        refused(&format!("restore {name}"), &answer, 9, code);
        assert!(!target.exists(), "something was left\n{answer}");
    }

    /// The next backup is whole, restores, and makes the newest one of the deployment good again.
    #[track_caller]
    fn heals(&self) {
        let connection = self.pair.source.connection();
        let healed = self
            .run(&["backup", "db1", "--pg-connection", &connection, "-o", "json"])
            .ok();
        let healed = id(&healed.result());
        self.run(&["verify", "db1", &healed]).ok();
        self.gives("latest", &self.pair.held);
    }

    /// Every file under a folder.
    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let (mut waiting, mut found) = (vec![self.path.join(folder)], Vec::new());
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                found.push(path);
            }
        }
        found.sort();
        found
    }

    /// The pack with the first backup's pages: nothing else here is as large.
    fn pack(&self) -> PathBuf {
        let mut packs = self.files("packs");
        packs.retain(|path| fs::metadata(path).unwrap().len() > 1_000_000);
        assert_eq!(packs.len(), 1, "{packs:?}");
        packs.remove(0)
    }

    /// The newest segment: the one that makes the newer backup consistent.
    fn segment(&self) -> PathBuf {
        let mut segments = self.files("wal");
        segments.retain(|path| path.file_name().unwrap().len() == 24);
        segments.pop().unwrap()
    }

    fn key(&self, path: &Path) -> String {
        path.strip_prefix(&self.path).unwrap().to_str().unwrap().to_owned()
    }
}

/// A name for a damage, and how it is done.
type Spoil = (&'static str, fn(&Path));

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[track_caller]
fn names(answer: &Answer, words: &[&str]) {
    let said = format!("{}{}", answer.stdout, answer.stderr);
    for word in words {
        assert!(said.contains(word), "{word} is not named\n{answer}");
    }
}

#[test]
fn manifests() {
    let pair = Pair::new();
    let spoil = |name: &str, backup: &str| {
        let rotten = pair.copy(name);
        let manifest = rotten.path.join(format!("manifests/db1/{backup}/manifest.json"));
        flip(&manifest);
        let (code, target) = ("verify.manifest_corrupt", rotten.place("t"));
        for words in [
            &["show", "db1", backup][..],
            &["verify", "db1", backup],
            &["restore", "db1", backup, "--target", target.to_str().unwrap()],
        ] {
            let answer = rotten.run(words);
            refused(&format!("{name}: {}", words[0]), &answer, 9, code);
            names(&answer, &[backup]);
        }
        assert!(!target.exists());
        names(&rotten.check().exits(9), &[code, backup]);
        let list = rotten.run(&["list", "db1", "-o", "json"]).ok().result();
        let lines = list["backups"].as_array().unwrap_or_else(|| panic!("{list}"));
        assert_eq!(lines.len(), 2, "{list}");
        names(&rotten.run(&["list", "db1"]).ok(), &[backup, "unreadable"]);
        names(&rotten.run(&["status", "db1"]).ok(), &[backup]);
        rotten
    };
    let rotten = spoil("the older manifest", &pair.older);
    rotten.gives("latest", &pair.held);
    rotten.run(&["verify", "db1"]).ok();
    rotten.heals();

    let rotten = spoil("the newest manifest", &pair.newer);
    // What is restored instead is told: it is not the newest.
    let done = rotten.gives("latest", &pair.held_by_older);
    names(&done, &[&pair.older, &pair.newer, "may be newer"]);
    let verified = rotten.run(&["verify", "db1", "-q"]);
    names(&verified, &["verify.backup_unreadable", &pair.newer]);
    rotten.heals();
}

#[test]
fn packs() {
    let pair = Pair::new();
    let spoils: [Spoil; 3] = [
        ("a flipped byte", flip),
        ("a short pack", cut),
        ("no pack", |path| fs::remove_file(path).unwrap()),
    ];
    for (name, spoil) in spoils {
        let rotten = pair.copy(name);
        let pack = rotten.pack();
        let key = rotten.key(&pack);
        spoil(&pack);
        // Both backups have pages in it.
        let answer = rotten.run(&["verify", "db1", &pair.newer, "-q"]).exits(9);
        names(&answer, &["verify.object_corrupt", &key, "base/", "hint: "]);
        let json = rotten
            .run(&["verify", "db1", &pair.newer, "-o", "json"])
            .exits(9)
            .result();
        let damage = json["damage"].as_array().unwrap_or_else(|| panic!("{json}"));
        assert!(damage.iter().all(|one| one["object"] == key.as_str()), "{json}");
        assert!(
            damage.iter().any(|one| !one["files"].as_array().unwrap().is_empty()),
            "{json}"
        );
        if name == "a flipped byte" {
            names(&answer, &["also hurt", &pair.older]);
        } else {
            names(&rotten.check().exits(9), &[&key, &pair.older, &pair.newer]);
        }
        rotten.refuses(&pair.newer, "verify.object_corrupt", name);
        rotten.heals();
    }
}

#[test]
fn wal_segments() {
    let pair = Pair::new();
    let spoils: [Spoil; 2] = [("a short segment", cut), ("a flipped byte in a segment", flip)];
    for (name, spoil) in spoils {
        let rotten = pair.copy(name);
        let segment = rotten.segment();
        let early = rotten.place("early");
        let words = ["restore", "db1", &pair.newer, "--target", early.to_str().unwrap()];
        rotten.run(&words).ok();
        spoil(&segment);
        let (file, key) = (segment.file_name().unwrap().to_str().unwrap(), rotten.key(&segment));
        let fetched = rotten.place("fetched");
        let answer = rotten.run(&["wal", "fetch", "db1", file, fetched.to_str().unwrap()]);
        refused(name, &answer, 126, "verify.object_corrupt");
        names(&answer, &[&key]);
        assert!(!fetched.exists(), "{answer}");
        names(&rotten.run(&["wal", "audit", "db1"]).exits(9), &[file, &key]);
        names(&rotten.check().exits(9), &["verify.object_corrupt", &pair.newer, file]);
        let verified = rotten.run(&["verify", "db1", "-q"]).exits(9);
        names(&verified, &["verify.object_corrupt", file, "NOT whole", "hint: "]);
        rotten.gives(&pair.older, &pair.held_by_older);
        // It holds the backup's own end, which is looked into before a byte is written.
        rotten.refuses(&pair.newer, "verify.object_corrupt", name);
        step("what was restored before stops at the damage, and nothing is served");
        let mut restored = Cluster::builder(18).over(&early).make();
        restored.start_without_waiting();
        let ended = restored.until_ended();
        assert_ne!(ended.code, Some(0), "{ended}");
        rotten.heals();
    }
}

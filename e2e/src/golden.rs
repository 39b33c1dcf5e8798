//! Golden repositories: what a released format wrote, kept in the tree for ever (`e2e/golden/<name>`), and what has to come
//! out of it.
//!
//! Each is `repository.tar.gz`, the `keyring` it opens with (made for it, so no secret), and `expected.json`: hashes of every
//! file of every backup and of every WAL file, and what `list`, `wal list`, `wal audit`, `audit list` and `repo check` said.
//! They are made once, by `make golden NAME=…`, and never again: whoever breaks one has broken somebody's backups.
//! A test works on a copy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::{Answer, run};
use crate::place::tree;
use crate::product::Hardstorage;
use crate::reader::Reader;
use crate::scratch::{Scratch, unprivileged};

const MINUTE: Duration = Duration::from_mins(1);

/// Every golden repository has this one deployment.
pub const DEPLOYMENT: &str = "db1";

/// What tells the rows of the table that every golden database has.
pub const ROWS: &str = "SELECT count(*)::text || ' ' || md5(string_agg(id::text || note, ',' ORDER BY id)) FROM ledger";

/// What a golden repository is made of, in its folder.
pub const PARTS: [&str; 3] = ["repository.tar.gz", "keyring", "expected.json"];

/// Hashes of files by their names.
pub type Hashes = BTreeMap<String, String>;

/// The hashes of a backup, told as what differs from the backup before.
pub fn difference(before: &Hashes, files: &Hashes) -> BTreeMap<String, Option<String>> {
    let gone = before.keys().filter(|name| !files.contains_key(*name));
    let mut told: BTreeMap<_, _> = gone.map(|name| (name.clone(), None)).collect();
    let new = files.iter().filter(|(name, hash)| before.get(*name) != Some(*hash));
    told.extend(new.map(|(name, hash)| (name.clone(), Some(hash.clone()))));
    told
}

/// The hashes again, from what was told.
pub fn apply(before: &mut Hashes, told: &Value) {
    for (name, hash) in told.as_object().unwrap() {
        match hash.as_str() {
            Some(hash) => before.insert(name.clone(), hash.to_owned()),
            None => before.remove(name),
        };
    }
}

/// A repository with a user who has its keys.
#[derive(Debug)]
pub struct Golden {
    /// The user.
    pub product: Hardstorage,
    /// Where the repository is.
    pub url: String,
    scratch: Scratch,
}

/// Where the golden repositories lie.
pub fn home() -> PathBuf {
    tree("e2e/golden")
}

/// Their names.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(home())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The expectation of one.
pub fn expected(name: &str) -> Value {
    serde_json::from_slice(&fs::read(home().join(name).join("expected.json")).unwrap()).unwrap()
}

impl Golden {
    /// A new and empty repository, sealed or in the clear.
    pub fn create(sealed: bool) -> Golden {
        let golden = Golden::empty();
        let clear = if sealed { &[][..] } else { &["--no-encryption"] };
        let init = ["repo", "init", &golden.url];
        golden.product.run(&[&init[..], clear].concat()).ok();
        golden
    }

    /// A copy of a golden one.
    pub fn copy(name: &str) -> Golden {
        let golden = Golden::empty();
        let from = home().join(name);
        // The unprivileged user need not be able to reach the tree.
        let tar = fs::File::open(from.join("repository.tar.gz")).unwrap();
        let mut unpack = unprivileged("tar");
        unpack.arg("-xzC").arg(golden.repository());
        let mut child = unpack.stdin(tar).spawn().unwrap();
        assert!(child.wait().unwrap().success(), "{name} is no archive");
        let keyring = golden.product.config().join("keyring");
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(from.join("keyring")).arg(&keyring);
        fs::create_dir_all(golden.product.config()).unwrap();
        run(copy, MINUTE).ok();
        golden.product.own_config();
        golden
    }

    fn empty() -> Golden {
        let scratch = Scratch::new();
        let url = format!("file://{}", scratch.dir("repository").display());
        Golden {
            product: Hardstorage::new(),
            url,
            scratch,
        }
    }

    /// The directory of the repository.
    pub fn repository(&self) -> PathBuf {
        self.scratch.path("repository")
    }

    /// A path for something else.
    pub fn place(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// The second reader, over this repository.
    pub fn reader(&self) -> Reader {
        let kek = self.product.config().join("keyring/kek.bin");
        Reader::new(&self.scratch, kek.exists().then_some(kek.as_path()), &self.url)
    }

    /// A command on this repository.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Answer {
        self.product.run(&[args, &["--repo", &self.url]].concat())
    }

    /// A command's result, whatever its exit code says.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> (i64, Value) {
        let answer = self.run(&[args, &["-o", "json"]].concat());
        (answer.code.unwrap_or(-1).into(), answer.result())
    }

    /// What the program says about the repository, of what shall never change.
    #[track_caller]
    pub fn facts(&self) -> Value {
        let (_, list) = self.ask(&["list", DEPLOYMENT, "--include-deleted"]);
        let (_, wal) = self.ask(&["wal", "list", DEPLOYMENT]);
        let (audit, holes) = self.ask(&["wal", "audit", DEPLOYMENT]);
        let (_, chain) = self.ask(&["audit", "list", DEPLOYMENT]);
        let (verify, _) = self.ask(&["audit", "verify", DEPLOYMENT]);
        let (check, problems) = self.ask(&["repo", "check", "--read-data"]);
        let backup = [
            "backup_id",
            "held",
            "deleted",
            "damaged",
            "start_lsn",
            "stop_lsn",
            "timeline",
            "logical_bytes",
        ];
        json!({
            "list": each(&list["backups"], &backup),
            "wal_list": each(&wal["lineages"], &["lineage", "segment_size", "timelines", "histories"]),
            "wal_audit": {"exit": audit, "found": each(&holes["lineages"], &["lineage", "stretches", "holes", "unknown"])},
            "chain": each(&chain["deployments"][0]["events"], &["sequence", "record"]),
            "audit_verify": verify,
            "check": {"exit": check, "problems": each(&problems["problems"], &["code", "backup_id"])},
        })
    }

    /// Hashes of the files that a restore of a backup writes, or the code of its refusal.
    #[track_caller]
    pub fn restored(&self, backup: &str) -> Result<Hashes, String> {
        let target = self.place(&format!("product-{backup}"));
        let answer = self.run(&[
            "restore",
            DEPLOYMENT,
            backup,
            "-q",
            "--target",
            target.to_str().unwrap(),
        ]);
        if answer.code == Some(0) {
            return Ok(hashes(&target, &|name| added_by_restore(name)));
        }
        assert!(!target.exists(), "a refused restore left something\n{answer}");
        let code = answer.stderr.lines().find_map(|line| line.strip_prefix("ERROR "));
        let code = code.and_then(|line| line.split(':').next());
        Err(code.unwrap_or_else(|| panic!("no code\n{answer}")).to_owned())
    }

    /// The same by the second reader, which says nothing of codes.
    #[track_caller]
    pub fn read(&self, reader: &Reader, backup: &str) -> Option<Hashes> {
        let target = self.place(&format!("reader-{backup}"));
        let answer = reader.run("restore", &[DEPLOYMENT, backup, target.to_str().unwrap()]);
        (answer.code == Some(0)).then(|| hashes(&target, &|name| added_by_restore(name)))
    }

    /// What `wal fetch` gives for every file of WAL, as recovery along its own timeline and along the latest sees it: a hash,
    /// or the exit code.
    #[track_caller]
    pub fn fetched(&self) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        for name in self.wal_names() {
            let own = u32::from_str_radix(&name[..8], 16).unwrap().to_string();
            for timeline in [own.as_str(), "latest"] {
                let target = self.place("fetched");
                let answer = self.fetch(&name, timeline, &target);
                let value = if answer.code == Some(0) {
                    json!(one_hash(&target))
                } else {
                    json!(answer.code)
                };
                if target.exists() {
                    fs::remove_file(&target).unwrap();
                }
                found.insert(format!("{name} {timeline}"), value);
            }
        }
        found
    }

    /// What a `restore_command` does, as `restore` writes it.
    #[track_caller]
    pub fn fetch(&self, name: &str, timeline: &str, target: &Path) -> Answer {
        let lineages = fs::read_dir(self.repository().join("wal").join(DEPLOYMENT)).unwrap();
        let mut lineages = lineages.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let lineage = lineages.next().unwrap();
        let words = [
            "wal",
            "fetch",
            DEPLOYMENT,
            name,
            target.to_str().unwrap(),
            "--lineage",
            &lineage,
        ];
        let more = [
            "--prefetch",
            "0",
            "--wal-segment-size",
            "1048576",
            "--timeline",
            timeline,
        ];
        self.run(&[&words[..], &more].concat())
    }

    /// Changes fields of one document as a later program might have written them; for repositories in the clear.
    pub fn alter(&self, name: &str, fields: &Value) -> Answer {
        let key = self.product.config().join("keyring/manifest_signing.ed25519");
        self.reader().alter(&key, name, &fields.to_string())
    }

    /// The names of all objects that are JSON.
    pub fn documents(&self) -> Vec<String> {
        let root = self.repository();
        let names = files(&root)
            .into_iter()
            .map(|path| path.strip_prefix(&root).unwrap().to_owned());
        let names = names.map(|path| path.to_str().unwrap().to_owned());
        names
            .filter(|name| name == "HARDSTORAGE" || Path::new(name).extension().is_some_and(|end| end == "json"))
            .collect()
    }

    /// The names that PostgreSQL may ask for.
    pub fn wal_names(&self) -> Vec<String> {
        let wal = self.repository().join("wal").join(DEPLOYMENT);
        let mut names = Vec::new();
        for path in files(&wal) {
            let parts: Vec<&str> = path
                .strip_prefix(&wal)
                .unwrap()
                .iter()
                .map(|part| part.to_str().unwrap())
                .collect();
            match parts[1] {
                "tails" => names.push(parts[3].to_owned()),
                "segments" | "timelines" | "aux" => names.push(parts[parts.len() - 1].to_owned()),
                _ => {}
            }
        }
        names.sort();
        names.dedup();
        names
    }
}

/// Some fields of each value of a list; what is absent stays so.
fn each(list: &Value, fields: &[&str]) -> Value {
    let pick = |value: &Value| {
        let taken = fields
            .iter()
            .filter_map(|field| Some(((*field).to_owned(), value.get(field)?.clone())));
        Value::Object(taken.collect())
    };
    list.as_array()
        .map_or(Value::Null, |list| list.iter().map(pick).collect())
}

/// Whether everything that was expected is there: later programs may say more, never less or else.
pub fn holds(expected: &Value, found: &Value) -> Result<(), String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected.iter().try_for_each(|(field, value)| {
            let now = found.get(field).unwrap_or(&Value::Null);
            holds(value, now).map_err(|what| format!(".{field}{what}"))
        }),
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let pairs = expected.iter().zip(found).enumerate();
            let mut wrong = pairs.filter_map(|(at, (e, f))| holds(e, f).err().map(|what| format!("[{at}]{what}")));
            wrong.next().map_or(Ok(()), Err)
        }
        _ if expected == found => Ok(()),
        _ => Err(format!(": {expected} was expected, {found} is there")),
    }
}

/// Settings and the signal of recovery, and the WAL that somebody put into place.
fn added_by_restore(name: &str) -> bool {
    ["postgresql.auto.conf", "recovery.signal"].contains(&name) || name.starts_with("pg_wal/")
}

/// Every file below a directory.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let (mut waiting, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.exists() {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The SHA-256 of every file below a directory, by its path there.
pub fn hashes(root: &Path, skip: &dyn Fn(&str) -> bool) -> Hashes {
    let names = files(root).into_iter().filter_map(|path| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        (!skip(&name)).then_some(name)
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return Hashes::new();
    }
    let mut sum = Command::new("sha256sum");
    sum.current_dir(root).arg("--").args(&names);
    let said = run(sum, MINUTE).ok();
    let line = |line: &str| {
        line.split_once("  ")
            .map(|(hash, name)| (name.to_owned(), hash.to_owned()))
    };
    let found: Hashes = said.stdout.lines().filter_map(line).collect();
    assert_eq!(found.len(), names.len(), "{said}");
    found
}

fn one_hash(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    let all = hashes(path.parent().unwrap(), &|other| other != name);
    all[name].clone()
}

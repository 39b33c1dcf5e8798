//! Puts a repository that was made into the tree, with what has to come out of it: told by the program of today, and not
//! kept unless the second reader says the same.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::golden::{Golden, Hashes, PARTS, difference, hashes, home};
use hardstorage_e2e::run;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_mins(1);

/// What a recipe has made.
pub struct Made {
    /// The repository.
    pub golden: Golden,
    /// What only the recipe knows, for the test of that name.
    pub notes: Value,
}

/// Writes the folder.
pub fn keep(made: &Made, folder: &Path) {
    let golden = &made.golden;
    // First, as everything that reads leaves sessions and records behind.
    let half = golden.place("half");
    fs::create_dir(&half).unwrap();
    let mut pack = Command::new("tar");
    pack.args([
        "--sort=name",
        "--format=ustar",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
        "--use-compress-program=gzip -9n",
    ]);
    pack.arg("-cf")
        .arg(half.join(PARTS[0]))
        .arg("-C")
        .arg(golden.repository())
        .arg(".");
    run(pack, MINUTE).ok();
    fs::create_dir(half.join(PARTS[1])).unwrap();
    for entry in fs::read_dir(golden.product.config().join("keyring")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), half.join(PARTS[1]).join(entry.file_name())).unwrap();
        }
    }
    let text = format!("{}\n", serde_json::to_string_pretty(&expect(made)).unwrap());
    fs::write(half.join(PARTS[2]), text).unwrap();
    fs::create_dir_all(home()).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(&half).arg(folder);
    run(copy, MINUTE).ok();
    let sums = hashes(&home(), &|name| !name.contains('/'));
    let lines: Vec<String> = sums.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    fs::write(home().join("SHA256SUMS"), lines.concat()).unwrap();
}

fn expect(made: &Made) -> Value {
    let golden = &made.golden;
    let facts = golden.facts();
    let reader = golden.reader();
    let found = reader.check();
    let damaged = found
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("damaged\t")?.split('\t').next());
    let damaged: Vec<&str> = damaged.collect();
    let fetched = golden.fetched();
    let (mut files, mut before) = (Vec::new(), Hashes::new());
    for backup in facts["list"].as_array().unwrap() {
        let id = backup["backup_id"].as_str().unwrap();
        let (restored, read) = (golden.restored(id), golden.read(&reader, id));
        let same = match (&restored, &read) {
            (Ok(restored), read) => Some(restored) == read.as_ref(),
            (Err(code), read) => code.starts_with("verify.") == read.is_none(),
        };
        assert!(same, "{id}: the readers differ");
        let told = read.map(|read| {
            let told = difference(&before, &read);
            before = read;
            told
        });
        files.push(json!({"backup_id": id, "refused": restored.err(), "files": told}));
    }
    let program = golden.product.run(&["version"]).ok();
    json!({
        "made_by": program.text().lines().next(),
        "notes": made.notes,
        "facts": facts,
        "damaged": damaged,
        "files": files,
        "wal": fetched,
    })
}

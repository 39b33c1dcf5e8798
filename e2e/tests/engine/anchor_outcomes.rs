//! Bad endings of tools of this kind that no other test shows the opposite of. docs/explanation/outcomes.md has the whole
//! list.

use std::fs;

use hardstorage_e2e::{Cluster, Hardstorage, Ledger, tree};

use crate::site::{Site, id, step};

/// Keys are made when a repository is made. Who reads with half a keyring gets an answer, and no new key that hides what
/// is missing.
#[test]
fn what_only_reads_makes_no_keys() {
    let source = Cluster::builder(18).start();
    let mut site = Site::new();
    Ledger::create(&source);
    let wanted = Ledger::add(&source, "rows", 100);
    site.backup(&source);
    let kek = fs::read(site.product.config().join("keyring/kek.bin")).unwrap();
    let reads = |site: &Site, exit: i32| {
        let target = site.place(&format!("target-{exit}"));
        for words in [
            &["list", "db1"][..],
            &["show", "db1", "latest"],
            &["verify", "db1"],
            &["repo", "check", "--read-data"],
            &["restore", "db1", "--target", target.to_str().unwrap()],
        ] {
            site.run(words).exits(exit);
        }
        // Whatever is wrong: these tell of it.
        site.run(&["doctor"]).ok();
        target
    };
    let names = |site: &Site| {
        let keyring = site.product.config().join("keyring");
        let found = fs::read_dir(keyring).map(|files| files.map(|file| file.unwrap().file_name()).collect::<Vec<_>>());
        found.unwrap_or_default()
    };

    step("somebody without any key");
    site.product = Hardstorage::new();
    let target = reads(&site, 3);
    assert!(!target.exists());
    assert!(names(&site).is_empty(), "{:?}", names(&site));

    step("with the one key that a restore needs");
    let other = site.dir("keyring");
    fs::write(other.join("kek.bin"), kek).unwrap();
    private(&other);
    site.product.set("PG_HARDSTORAGE_KEYRING_DIR", other.to_str().unwrap());
    let target = reads(&site, 0);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1, "a key was made");
    let mut restored = Cluster::builder(18).over(&target).start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), wanted);
}

/// As PostgreSQL's own data directory: for its owner only.
fn private(keyring: &std::path::Path) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let owner = fs::metadata(keyring).unwrap();
    let key = keyring.join("kek.bin");
    chown(&key, Some(owner.uid()), Some(owner.gid())).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(keyring, fs::Permissions::from_mode(0o700)).unwrap();
}

/// A success says nothing that sounds like a failure, with the least role and without a terminal.
#[test]
fn a_good_day_is_told_as_one() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    let connection = source.connection();
    let taken = site.run(&["backup", "db1", "--pg-connection", &connection]).ok();
    let backup = site.backups().remove(0);
    let bin = hardstorage_e2e::postgres_program(18, "pg_verifybackup");
    let bin = bin.parent().unwrap().to_str().unwrap();
    let (restored, target) = site.restore_files("target", &["--verify", "require", "--pg-bin", bin]);
    let verified = site.run(&["verify", "db1", "latest"]).ok();
    for answer in [&taken, &restored, &verified] {
        let said = format!("{}{}", answer.stdout, answer.stderr).to_lowercase();
        for word in ["fail", "[warning", "[error", "✗"] {
            assert!(!said.contains(word), "{word}\n{answer}");
        }
        assert!(!answer.stdout.starts_with('{'), "JSON that nobody asked for\n{answer}");
    }
    let settings = fs::read_to_string(target.join("postgresql.auto.conf")).unwrap();
    assert_eq!(settings.matches("restore_command").count(), 1, "{settings}");
    let shown = site.ask(&["show", "db1", "latest"]);
    assert_eq!(id(&shown), backup, "latest is another one for show");
    let held = site.ask(&["hold", "db1", "latest", "--reason", "the year"]);
    assert_eq!(id(&held), backup, "latest is another one for hold");
}

/// Who asks for one is told of one.
#[test]
fn doctor_looks_at_what_it_was_asked_for() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    let connection = source.connection();
    site.backup(&source);
    site.run(&["backup", "db2", "--pg-connection", &connection]).ok();
    let told = site.ask(&["doctor", "db2", "--pg-connection", &connection]);
    let names: Vec<&str> = told["deployments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["deployment"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["db2"]);
    assert!(!told["issues"].to_string().contains("db1"), "{told:#}");
}

/// A page that names a test which is gone promises what nobody looks at.
#[test]
fn every_test_of_the_pages_is_there() {
    for (page, least) in [("outcomes", 40), ("proofs", 90)] {
        let found = tests_of(&format!("docs/explanation/{page}.md"));
        assert!(found > least, "{found} tests are named in {page}");
    }
}

/// How many tests a page names, each of which is there.
#[track_caller]
fn tests_of(page: &str) -> u32 {
    let page = fs::read_to_string(tree(page)).unwrap();
    let mut found = 0;
    for line in page.lines().filter(|line| line.starts_with('|')) {
        for word in line.split('`').skip(1).step_by(2) {
            let held = |file: &std::path::Path, test: &str| {
                fs::read_to_string(file)
                    .unwrap_or_default()
                    .contains(&format!("fn {test}("))
            };
            if let Some((file, test)) = word.split_once("::") {
                let path = tree(&format!("e2e/tests/engine/{file}.rs"));
                assert!(held(&path, test), "{word} is not there");
                found += 1;
            } else if let Some((_, folder)) = line.split_once(&format!("`{word}` in `")) {
                let folder = tree(folder.split('`').next().unwrap());
                assert!(
                    sources(&folder).iter().any(|file| held(file, word)),
                    "{word} is not there"
                );
                found += 1;
            }
        }
    }
    found
}

/// Every source file below a directory.
fn sources(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(sources(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

//! Backups without a stream, after kills, with tablespaces, of a damaged server, and two at once.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hardstorage_e2e::{Cluster, Ledger, Scratch};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{PATIENCE, Site, id, step};
use crate::uncommitted::Uncommitted;

/// Kills at different moments leave nothing that is listed, nothing that is in the way, and pages that are used again.
#[test]
fn kills_leave_nothing_behind() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let wanted = Ledger::add(&source, "alone", 20_000);
    let first = site.backup(&source);
    assert_eq!(first["pitr_covered"], false, "{first}");
    let mut listed = site.backups();
    let mut killed = Vec::new();
    for millis in [80, 160, 320, 640, 1280] {
        step(&format!("kill a backup after {millis} ms"));
        let connection = source.connection();
        let words = ["backup", "db1", "--pg-connection", &connection, "--repo", &site.repo];
        let mut backup = site.product.start(&format!("backup-{millis}"), &words);
        // Not a wait for anything: this is the moment of the kill.
        thread::sleep(Duration::from_millis(millis));
        let code = backup.kill().code;
        assert!(
            matches!(code, None | Some(0)),
            "ended with {code:?}\n{}",
            backup.answer()
        );
        // The commit decides, not the exit: who was killed between the two has a backup.
        let more = site.backups();
        let new = more
            .strip_suffix(&listed[..])
            .unwrap_or_else(|| panic!("{listed:?} became {more:?}"));
        assert!(
            new.len() == 1 || (new.is_empty() && code.is_none()),
            "{code:?}: {new:?}"
        );
        if code.is_none() {
            killed.extend(new.to_vec());
        }
        listed = more;
    }
    step("kill one that has written much and certainly has not committed");
    let mut uncommitted = Uncommitted::start(&site, &source, "uncommitted", &[]);
    uncommitted.until_packs();
    uncommitted.kill();
    assert_eq!(site.backups(), listed);

    step("the next one works at once");
    let last = site.backup(&source);
    assert!(last["reused_pages"].as_u64() > last["new_pages"].as_u64(), "{last}");
    listed.insert(0, id(&last));
    assert_eq!(site.backups(), listed);
    site.run(&["repo", "check"]).ok();
    site.run(&["verify", "db1"]).ok();

    step("without any stream, each restores by itself");
    for id in [id(&first), id(&last)].iter().chain(&killed) {
        assert_eq!(site.all(id, &[id]), wanted);
    }
}

#[test]
fn two_at_once() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    let connection = source.connection();
    step("a slow backup");
    let words = ["backup", "db1", "--pg-connection", &connection, "--repo", &site.repo];
    let mut slow = site
        .product
        .start("slow", &[&words[..], &["--max-rate", "64kB", "-o", "json"]].concat());
    slow.until("the copy began", PATIENCE, || {
        source
            .try_value("SELECT 1 FROM pg_stat_progress_basebackup WHERE phase LIKE 'streaming%'")
            .ok()
    });
    let before = site.content();
    let second = site.run(&["backup", "db1", "--pg-connection", &connection]).exits(7);
    assert!(
        second.stderr.contains("ERROR conflict.backup_in_progress: "),
        "{second}"
    );
    assert!(second.stderr.contains(&format!("(process {})", slow.pid())), "{second}");
    assert!(
        site.content()
            .keys()
            .filter(|path| !before.contains_key(*path))
            .all(|path| !is_pack(path))
    );

    step("a signal ends it with nothing committed");
    slow.signal(Signal::TERM);
    let ended = slow.wait(PATIENCE).exits(5);
    assert!(ended.to_string().contains("aborted.interrupted"), "{ended}");
    assert_eq!(site.backups(), Vec::<String>::new());
    site.backup(&source);
    assert_eq!(site.backups().len(), 1);
}

fn is_pack(path: &std::path::Path) -> bool {
    path.components().any(|part| part.as_os_str() == "packs")
}

#[test]
fn tablespaces_go_where_they_are_mapped() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    let outside = Scratch::new();
    let old = outside.dir("space");
    source.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", old.display()));
    Ledger::create(&source);
    source.sql("ALTER TABLE ledger SET TABLESPACE space");
    let wanted = Ledger::add(&source, "elsewhere", 3000);
    let backup = site.backup(&source);
    assert_eq!(backup["tablespace_count"], 2, "{backup}");
    let id = id(&backup);

    step("its own place is in use");
    site.refused("unmapped", &[&id], 7, "conflict.target_not_empty");

    let new = site.place("mapped-space");
    let mapping = format!("{}={}", old.display(), new.display());
    let (_, target) = site.restore_files("mapped", &[&id, "--tablespace-mapping", &mapping]);
    source
        .tool("pg_verifybackup", &["--no-parse-wal", target.to_str().unwrap()])
        .ok();
    let mut restored = Cluster::builder(18).over(&target).start();
    restored.until_promoted();
    let location = restored.value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space'");
    assert_eq!(location, new.to_str().unwrap());
    assert_eq!(Ledger::read(&restored), wanted);
    let written = Ledger::add(&restored, "and on", 10);
    restored.restart();
    assert_eq!(Ledger::read(&restored), written);
    assert_eq!(Ledger::read(&source), wanted);
}

/// PostgreSQL sends neither the link nor the file, and its manifest has no line for it: its warning is all there is.
#[test]
fn a_configuration_behind_a_link_is_told_and_kept() {
    let mut source = Cluster::builder(18).make();
    let site = Site::new();
    let outside = site.dir("etc");
    for name in ["postgresql.conf", "server.crt"] {
        let (inside, outside) = (source.data().join(name), outside.join(name));
        if name == "server.crt" {
            fs::write(&outside, "a certificate").unwrap();
        } else {
            fs::copy(&inside, &outside).unwrap();
            fs::remove_file(&inside).unwrap();
        }
        fs::set_permissions(&outside, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&outside, &inside).unwrap();
    }
    source.start();
    source.sql("GRANT pg_read_all_settings TO pgbackup");
    let connection = source.connection();
    let answer = site
        .run(&["backup", "db1", "--pg-connection", &connection, "-o", "json"])
        .ok();
    let result = answer.result();
    assert_eq!(result["server_warnings"], 2, "{answer}");
    assert_eq!(answer.stderr.matches("backup.server_warning").count(), 2, "{answer}");
    assert!(answer.stderr.contains("server.crt"), "{answer}");
    let files = result["external_files"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let path = source.data().join("postgresql.conf");
    let held = files.iter().find(|file| file["path"] == path.to_str().unwrap());
    let held = held.unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(held["attachment"], "external/config_file", "{answer}");
    let text = site.run(&["backup", "db1", "--pg-connection", &connection]).ok();
    assert!(text.stdout.contains("2 of the server"), "{text}");
}

/// The backup is worth having, and it is not a success.
#[test]
fn damaged_pages_are_named_and_the_backup_is_kept() {
    let mut source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    Ledger::add(&source, "to be hurt", 3000);
    source.sql("CREATE TABLE whole AS SELECT generate_series(1, 1000) AS n");
    let file = source.value("SELECT pg_relation_filepath('ledger')");
    source.stop();
    let damaged = File::options().write(true).open(source.data().join(&file)).unwrap();
    damaged.write_all_at(&[0xA5; 16], 2 * 8192 + 5000).unwrap();
    drop(damaged);
    source.start();

    let connection = source.connection();
    let answer = site
        .run(&["backup", "db1", "--pg-connection", &connection, "-o", "json"])
        .exits(9);
    assert!(answer.stderr.contains("backup.page_damaged"), "{answer}");
    let result = answer.result();
    let pages = result["damaged_pages"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(pages.len(), 1, "{answer}");
    assert!(
        pages[0]["path"].as_str().is_some_and(|path| path.ends_with(&file)),
        "{answer}"
    );
    assert_eq!(pages[0]["block"], 2, "{answer}");
    let list = site.ask(&["list", "db1"]);
    assert_eq!(list["backups"][0]["damaged"], true, "{list}");
    let shown = site.run(&["show", "db1", &id(&result)]).ok();
    assert!(shown.stdout.contains(&file), "{shown}");

    step("what is whole comes back");
    let restored = {
        let mut restored = site.restore(18, "restored", &["latest"]);
        restored.until_promoted();
        restored
    };
    assert_eq!(restored.value("SELECT sum(n) FROM whole"), "500500");
    let hurt = restored.try_value("SELECT count(note) FROM ledger").unwrap_err();
    assert!(hurt.contains("invalid page in block 2"), "{hurt}");
    // The page is as it was on the server, byte for byte.
    let bytes = |cluster: &Cluster| fs::read(cluster.data().join(&file)).unwrap()[2 * 8192..3 * 8192].to_vec();
    assert_eq!(bytes(&restored), bytes(&source));
}

/// A server whose configuration lies elsewhere, as a package installs it, and includes more of it.
struct Elsewhere {
    source: Cluster,
    files: [PathBuf; 3],
    _outside: Scratch,
}

impl Elsewhere {
    fn start(hba: &str) -> Elsewhere {
        let outside = Scratch::new();
        let directory = outside.dir("etc");
        let mut source = Cluster::builder(18).own_identity().make();
        let files = ["postgresql.conf", "pg_hba.conf", "more.conf"].map(|name| directory.join(name));
        let [config, access, more] = &files;
        let moved = |name: &str| {
            let old = source.data().join(name);
            let text = fs::read_to_string(&old).unwrap();
            fs::remove_file(old).unwrap();
            text
        };
        let settings = moved("postgresql.conf");
        fs::write(config, format!("{settings}\ninclude '{}'\n", more.display())).unwrap();
        fs::write(more, "work_mem = '5MB'\n").unwrap();
        fs::write(access, format!("{}{hba}", moved("pg_hba.conf"))).unwrap();
        source.set("config_file", config.to_str().unwrap());
        source.set("hba_file", access.to_str().unwrap());
        source.start();
        Elsewhere {
            source,
            files,
            _outside: outside,
        }
    }

    /// What a backup says of each of the files: `note`, when it was kept.
    fn kept(&self, backup: &Value) -> Vec<Option<String>> {
        let listed = backup["external_files"].as_array().unwrap();
        let note = |path: &PathBuf| {
            let file = listed.iter().find(|file| file["path"] == path.to_str().unwrap())?;
            file["attachment"].as_str()?;
            Some(file["note"].as_str().unwrap().to_owned())
        };
        self.files.iter().map(note).collect()
    }
}

const UNKNOWN: &str = "backup.external_files_unknown";

/// The introduction's role sees nothing of it, which is said and is no failure.
#[test]
fn configuration_elsewhere_that_a_role_may_not_see() {
    let elsewhere = Elsewhere::start("");
    let site = Site::new();
    let connection = elsewhere.source.connection();
    let words = ["backup", "db1", "--pg-connection", &connection, "-o", "json"];
    let answer = site.run(&words).ok();
    assert!(answer.stderr.contains(UNKNOWN), "{answer}");
    assert!(answer.stderr.contains("GRANT pg_read_all_settings"), "{answer}");
    assert!(answer.stderr.contains("host postgres pgbackup"), "{answer}");
    assert_eq!(elsewhere.kept(&answer.result()), [None, None, None]);

    step("it may see where, but pg_hba.conf allows no database: the disk of this machine has it");
    elsewhere.source.sql("GRANT pg_read_all_settings TO pgbackup");
    let answer = site.run(&words).ok();
    assert!(answer.stderr.contains(UNKNOWN), "{answer}");
    let notes = elsewhere.kept(&answer.result());
    let disk = Some("read from this machine's disk".to_owned());
    assert_eq!(notes, [disk.clone(), disk, None], "what is included is not known");
}

#[test]
fn configuration_elsewhere_comes_back_beside_the_target() {
    let elsewhere = Elsewhere::start("host postgres pgbackup 0.0.0.0/0 scram-sha-256\n");
    let (source, site) = (&elsewhere.source, Site::new());
    Ledger::create(source);
    let wanted = Ledger::add(source, "configured elsewhere", 500);
    let connection = source.connection();
    let words = ["backup", "db1", "--pg-connection", &connection, "-o", "json"];
    for (grant, function) in [
        ("pg_read_file(text, bigint, bigint)", "pg_read_file"),
        ("pg_read_binary_file(text, bigint, bigint)", "pg_read_binary_file"),
    ] {
        source.sql("GRANT pg_read_all_settings, pg_read_server_files TO pgbackup");
        source.sql(&format!("GRANT EXECUTE ON FUNCTION {grant} TO pgbackup"));
        let answer = site.run(&words).ok();
        assert!(!answer.stderr.contains(UNKNOWN), "{answer}");
        let note = Some(format!("read by the server ({function})"));
        assert_eq!(elsewhere.kept(&answer.result()), [note.clone(), note.clone(), note]);
    }

    let (said, target) = site.restore_files("elsewhere", &["latest", "-o", "json"]);
    let place = format!("{}.configuration", target.display());
    assert!(said.stdout.contains(&place), "{said}");
    let old = |path: &Path| format!("{place}{}", path.display());
    for file in &elsewhere.files {
        assert_eq!(
            fs::read(old(file)).unwrap(),
            fs::read(file).unwrap(),
            "{}",
            file.display()
        );
    }
    source
        .tool("pg_verifybackup", &["--no-parse-wal", target.to_str().unwrap()])
        .ok();
    let [config, access, _] = &elsewhere.files;
    let mut restored = Cluster::builder(18)
        .over(&target)
        .set("config_file", &old(config))
        .set("hba_file", &old(access))
        .start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), wanted);

    step("a second restore does not mix two configurations");
    restored.stop();
    fs::remove_dir_all(&target).unwrap();
    site.refused("elsewhere", &["latest"], 7, "conflict.target_not_empty");
}

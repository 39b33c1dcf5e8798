//! Restores and backups that were interrupted, and restores onto what is there.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Answer, Cluster, Ledger, ObjectStore, Scratch, Tap, run, unprivileged};
use serde_json::Value;

use crate::site::{PATIENCE, Site, id, step};
use crate::uncommitted::Uncommitted;

const MARKER: &str = ".pg_hardstorage.restore";
/// What a restore reads at a time from a store behind a network, at most.
const IN_FLIGHT: u64 = 32 << 20;

/// So many MB that hardly compress, in tables of their own.
pub fn noise(cluster: &Cluster, tables: u32, megabytes: u32) {
    for table in 0..tables {
        cluster.sql(&format!(
            "CREATE TABLE noise_{table} AS SELECT m AS n, (SELECT string_agg(encode(sha512((random() + m + i)::text::bytea), \
             'base64'), '') FROM generate_series(1, 19) AS i) AS noise FROM generate_series(1, {}) AS m",
            megabytes * 1024 / 2
        ));
    }
}

/// A hash over all of it.
pub fn noise_hash(cluster: &Cluster, tables: u32) -> Vec<String> {
    let hash = |table| {
        cluster.value(&format!(
            "SELECT md5(string_agg(noise, '' ORDER BY n)) FROM noise_{table}"
        ))
    };
    (0..tables).map(hash).collect()
}

/// Bytes on the disk below a directory.
fn occupied(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => occupied(&entry.path()),
        Ok(about) => about.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// As the user that the product and PostgreSQL run as.
#[track_caller]
fn as_owner(script: &str) {
    let mut shell = unprivileged("sh");
    shell.args(["-c", script]);
    run(shell, PATIENCE).ok();
}

fn words<'a>(target: &'a Path, args: &[&'a str]) -> Vec<&'a str> {
    let words = ["restore", "db1", "--target", target.to_str().unwrap(), "-o", "json"];
    [&words[..], args].concat()
}

#[track_caller]
fn refused(site: &Site, target: &Path, args: &[&str], exit: i32, code: &str) -> Answer {
    let preview = site.run(&words(target, &[args, &["--preview"]].concat())).exits(exit);
    let answer = site.run(&words(target, args)).exits(exit);
    let code = format!("\"{code}\"");
    assert!(
        preview.stdout.contains(&code) || preview.stderr.contains(&code),
        "{preview}"
    );
    assert!(
        answer.stdout.contains(&code) || answer.stderr.contains(&code),
        "{answer}"
    );
    answer
}

/// Nothing starts on it, and PostgreSQL says so.
#[track_caller]
fn cannot_start(target: &Path) {
    assert!(target.join(MARKER).exists() && !target.join("global/pg_control").exists());
    let mut half = Cluster::builder(18).over(target).make();
    half.start_without_waiting();
    let said = half.until_ended();
    assert_ne!(said.code, Some(0), "{said}");
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
fn a_killed_restore_goes_on_where_it_was() {
    let store = ObjectStore::minio();
    store.bucket("backup");
    let tap = Tap::before(store.socket());
    let mut site = Site::new();
    for (name, value) in store.credentials() {
        site.product.set(name, value);
    }
    site.repo = store.url("backup/main").replace(&store.endpoint(), &tap.endpoint());
    site.product.run(&["repo", "init", &site.repo]).ok();
    let source = Cluster::builder(18).start();
    Ledger::create(&source);
    Ledger::add(&source, "before", 100);
    let first = id(&site.backup(&source));
    noise(&source, 3, 24);
    let wanted = (Ledger::add(&source, "all of it", 1000), noise_hash(&source, 3));
    let backup = site.backup(&source);
    let stored = number(&backup, "stored_bytes");
    assert!(stored > IN_FLIGHT + (12 << 20), "{backup}");
    let last = id(&backup);

    step("the network stands still in the middle, and the restore is killed");
    let target = site.place("target");
    let at_last = [last.as_str(), "--wal-in-target", "--verify", "skip"];
    let line = words(&target, &at_last);
    tap.shut_after(IN_FLIGHT + (10 << 20));
    let mut restore = site
        .product
        .start("restore", &[&line[..], &["--repo", &site.repo]].concat());
    restore.until("a part is restored and no more comes", PATIENCE, || {
        (tap.is_shut() && occupied(&target) > 8 << 20).then_some(())
    });
    let killed = restore.kill();
    assert_eq!(killed.code, None, "{killed}");
    tap.open();
    cannot_start(&target);

    step("only the same restore goes on");
    let plain = refused(&site, &target, &at_last, 7, "conflict.target_not_empty");
    assert!(plain.to_string().contains("--resume"), "{plain}");
    let other = refused(&site, &target, &[&first, "--resume"], 7, "conflict.resume_mismatch");
    assert!(other.to_string().contains(&format!("name backup {last}")), "{other}");
    refused(
        &site,
        &target,
        &[&last, "--resume", "--to-latest"],
        7,
        "conflict.resume_mismatch",
    );
    cannot_start(&target);

    let done = site
        .run(&words(&target, &[&at_last[..], &["--resume"]].concat()))
        .ok()
        .result();
    let (reused, fetched) = (number(&done, "reused_bytes"), number(&done, "fetched_bytes"));
    assert!(reused > 8 << 20 && fetched < stored, "{done}");
    assert!(!target.join(MARKER).exists());
    let verify = ["--no-parse-wal", "--exit-on-error", target.to_str().unwrap()];
    fs::rename(target.join("pg_hardstorage_wal"), site.place("wal")).unwrap();
    source.tool("pg_verifybackup", &verify).ok();
    fs::rename(site.place("wal"), target.join("pg_hardstorage_wal")).unwrap();
    let mut restored = Cluster::builder(18).over(&target).start();
    restored.until_promoted();
    assert_eq!((Ledger::read(&restored), noise_hash(&restored, 3)), wanted);
    step("it is done: there is nothing to go on with");
    restored.stop();
    refused(&site, &target, &[&last, "--resume"], 7, "conflict.target_not_empty");
}

/// A cluster with a tablespace, two backups of it, and a restored copy that went its own way and was stopped.
struct Copied {
    source: Cluster,
    site: Site,
    backups: [String; 2],
    wanted: [Ledger; 2],
    data: PathBuf,
    space: PathBuf,
    mapping: String,
    _outside: Scratch,
}

impl Copied {
    fn new() -> Copied {
        let source = Cluster::builder(18).own_identity().start();
        let site = Site::new();
        let outside = Scratch::new();
        let old = outside.dir("space");
        source.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", old.display()));
        Ledger::create(&source);
        source.sql("CREATE TABLE apart TABLESPACE space AS SELECT generate_series(1, 20000) AS n");
        let first = Ledger::add(&source, "first", 20_000);
        let one = id(&site.backup(&source));
        let second = Ledger::add(&source, "second", 200);
        let two = id(&site.backup(&source));
        let space = site.place("new-space");
        let mapping = format!("{}={}", old.display(), space.display());
        let mut copy = site.restore(18, "copy", &[&one, "--tablespace-mapping", &mapping]);
        copy.until_promoted();
        Ledger::add(&copy, "its own way", 3000);
        copy.sql("DELETE FROM apart WHERE n % 3 = 0");
        copy.sql("CREATE TABLE only_here AS SELECT generate_series(1, 1000)");
        copy.stop();
        Copied {
            data: site.place("copy"),
            backups: [one, two],
            wanted: [first, second],
            source,
            site,
            space,
            mapping,
            _outside: outside,
        }
    }

    fn args<'a>(&'a self, backup: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&[backup, "--tablespace-mapping", &self.mapping], more].concat()
    }

    /// Whether everything is as the source had it; starts the copy, and stops it.
    #[track_caller]
    fn is(&self, wanted: &Ledger) {
        let data = self.data.to_str().unwrap();
        self.source.tool("pg_verifybackup", &["--no-parse-wal", data]).ok();
        let mut copy = Cluster::builder(18).over(&self.data).start();
        copy.until_promoted();
        assert_eq!(&Ledger::read(&copy), wanted);
        assert_eq!(
            copy.value("SELECT count(*) || ' ' || sum(n) FROM apart"),
            "20000 200010000"
        );
        assert!(copy.try_value("SELECT 1 FROM only_here").is_err());
        copy.stop();
    }
}

#[test]
fn a_delta_takes_what_is_equal_and_leaves_what_is_not_its_own() {
    let copied = Copied::new();
    let (site, data, space) = (&copied.site, &copied.data, &copied.space);
    let relation = |cluster: &Cluster, name: &str| cluster.value(&format!("SELECT pg_relation_filepath('{name}')"));
    step("what went wrong meanwhile: junk, links, a second name, cut and grown files");
    let elsewhere = site.dir("elsewhere");
    fs::write(elsewhere.join("theirs"), "theirs").unwrap();
    let (at, elsewhere_at) = (data.display(), elsewhere.display());
    as_owner(&format!(
        "mkdir -p {at}/base/junk/deep && echo junk > {at}/base/junk/deep/file \
         && echo junk > {at}/junk && ln -s {elsewhere_at} {at}/base/link \
         && ln -s {elsewhere_at}/theirs {at}/postgresql.auto.link && rm -r {at}/pg_xact \
         && ln -s {elsewhere_at} {at}/pg_xact"
    ));
    let ledger = data.join(relation(&copied.source, "ledger"));
    let class = data.join(relation(&copied.source, "pg_class"));
    fs::hard_link(&class, elsewhere.join("pg_class")).unwrap();
    let linked = fs::read(&class).unwrap();
    File::options()
        .write(true)
        .open(&ledger)
        .unwrap()
        .set_len(12_345)
        .unwrap();
    let index = data.join(relation(&copied.source, "ledger_pkey"));
    let grown = File::options().write(true).open(&index).unwrap();
    grown
        .write_all_at(&vec![7; 50_000], grown.metadata().unwrap().len())
        .unwrap();
    fs::remove_file(data.join("pg_hba.conf")).unwrap();

    step("a plan tells, and changes nothing");
    let delta = copied.args(&copied.backups[1], &["--delta"]);
    site.run(&words(data, &[&delta[..], &["--preview"]].concat())).ok();
    assert!(data.join("junk").exists() && data.join("global/pg_control").exists());
    let done = site.run(&words(data, &delta)).ok().result();
    let (reused, written) = (number(&done, "reused_bytes"), number(&done, "bytes_written"));
    assert!(reused > written, "{done}");
    for gone in ["junk", "base/junk", "base/link", "postgresql.auto.link", MARKER] {
        assert!(data.join(gone).symlink_metadata().is_err(), "{gone}");
    }
    assert_eq!(fs::read(elsewhere.join("pg_class")).unwrap(), linked);
    assert_eq!(fs::read_to_string(elsewhere.join("theirs")).unwrap(), "theirs");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 2);
    assert!(!space.join(MARKER).exists());
    copied.is(&copied.wanted[1]);

    step("to the older one, with pg_wal elsewhere, and back to where it was");
    let wal = site.place("wal");
    let older = copied.args(&copied.backups[0], &["--delta", "--wal-dir", wal.to_str().unwrap()]);
    site.run(&words(data, &older)).ok();
    assert_eq!(fs::read_link(data.join("pg_wal")).unwrap(), wal);
    copied.is(&copied.wanted[0]);
    let again = site.run(&words(data, &older)).ok().result();
    assert!(
        number(&again, "reused_bytes") > number(&again, "bytes_written"),
        "{again}"
    );
    copied.is(&copied.wanted[0]);
    site.run(&words(data, &delta)).ok();
    assert!(data.join("pg_wal").symlink_metadata().unwrap().is_dir() && wal.exists());
    copied.is(&copied.wanted[1]);

    step("an empty directory is as good");
    fs::remove_dir_all(data).unwrap();
    fs::remove_dir_all(space).unwrap();
    let fresh = site.run(&words(data, &delta)).ok().result();
    assert_eq!(number(&fresh, "reused_bytes"), 0, "{fresh}");
    copied.is(&copied.wanted[1]);
}

#[test]
fn what_a_delta_refuses_stays_as_it_is() {
    let copied = Copied::new();
    let (site, data) = (&copied.site, &copied.data);
    let delta = copied.args(&copied.backups[1], &["--delta"]);
    let untouched = |data: &Path| {
        assert!(data.join("global/pg_control").exists() && !data.join(MARKER).exists());
    };

    step("a server that runs, and one that was killed");
    let mut copy = Cluster::builder(18).over(data).start();
    refused(site, data, &delta, 7, "conflict.target_running");
    assert_eq!(copy.value("SELECT count(*) FROM only_here"), "1000");
    copy.stop();
    untouched(data);
    fs::write(data.join("postmaster.pid"), "999999\n").unwrap();
    refused(site, data, &delta, 7, "conflict.target_running");
    fs::remove_file(data.join("postmaster.pid")).unwrap();

    step("no restore was interrupted here");
    let resume = copied.args(&copied.backups[1], &["--resume"]);
    let plain = refused(site, data, &resume, 7, "conflict.target_not_empty");
    assert!(plain.to_string().contains("--delta"), "{plain}");
    untouched(data);

    step("the tablespace of the source, which is not this directory's");
    refused(
        site,
        data,
        &[&copied.backups[1], "--delta"],
        7,
        "conflict.target_not_empty",
    );
    untouched(data);

    step("a tablespace that a cluster of another version shares");
    let shared = copied.space.join("PG_9.0_of_another_cluster");
    fs::create_dir(&shared).unwrap();
    let said = refused(site, data, &delta, 7, "conflict.target_not_empty");
    assert!(said.to_string().contains("PG_9.0_of_another_cluster"), "{said}");
    fs::remove_dir(shared).unwrap();
    untouched(data);

    step("another cluster, and what is none");
    let mut other = Cluster::builder(18).own_identity().start();
    other.stop();
    refused(site, other.data(), &delta, 7, "conflict.target_foreign_cluster");
    untouched(other.data());
    let papers = site.dir("papers");
    fs::write(papers.join("thesis"), "years of work").unwrap();
    refused(site, &papers, &delta, 7, "conflict.target_not_data_directory");
    fs::create_dir(papers.join("global")).unwrap();
    fs::copy(data.join("PG_VERSION"), papers.join("PG_VERSION")).unwrap();
    symlink(data.join("global/pg_control"), papers.join("global/pg_control")).unwrap();
    refused(site, &papers, &delta, 7, "conflict.target_not_data_directory");
    let file = site.place("file");
    fs::write(&file, "x").unwrap();
    refused(site, &file, &delta, 7, "conflict.target_not_empty");

    step("marks that nobody can read, or of a scheduler's restore");
    let marked = site.dir("marked");
    for (text, hint) in [("", "remove what it left"), ("run-1\n{}\n", "remove what it left")] {
        fs::write(marked.join(MARKER), text).unwrap();
        for args in [&delta, &resume] {
            let said = refused(site, &marked, args, 7, "conflict.target_not_empty");
            assert!(said.to_string().contains(hint), "{said}");
        }
    }
    site.run(&words(&marked, &[&delta[..], &["--resume"]].concat()))
        .exits(2);
    site.run(&words(&marked, &[&delta[..], &["--retry-id", "run-1"]].concat()))
        .exits(2);
    assert_eq!(fs::read_dir(&marked).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(papers.join("thesis")).unwrap(), "years of work");

    step("and then it is done");
    site.run(&words(data, &delta)).ok();
    copied.is(&copied.wanted[1]);
}

/// The objects that tell how far a backup came.
fn progress(site: &Site) -> usize {
    let sessions = fs::read_dir(site.repository().join("sessions/db1"))
        .into_iter()
        .flatten();
    let folders = sessions.map(|session| session.unwrap().path().join("progress"));
    let named = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "json");
    folders
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .filter(named)
        .count()
}

#[test]
fn what_a_killed_backup_had_done_is_taken_over() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    noise(&source, 6, 24);
    let wanted = (Ledger::add(&source, "all of it", 1000), noise_hash(&source, 6));

    step("a backup is killed in its middle");
    let mut killed = Uncommitted::start(&site, &source, "killed", &[]);
    killed.process.until("a part of it is whole", PATIENCE, || {
        (progress(&site) > 0).then_some(())
    });
    killed.kill();
    let told = site.ask(&["repo", "gc"]);
    assert_eq!(told["deployments"][0]["voided"].as_array().unwrap().len(), 1, "{told}");

    step("the next one takes over what is whole");
    let done = site.backup(&source);
    let (adopted, new) = (number(&done, "adopted_pages"), number(&done, "new_pages"));
    assert_eq!(done["resumed"].as_array().unwrap().len(), 1, "{done}");
    assert!(adopted > 3000 && number(&done, "reused_pages") >= adopted, "{done}");
    assert!(new < 6 * 24 * 128, "{done}");
    site.run(&["repo", "check", "--read-data"]).ok();

    step("a collection takes what is not needed of it, and nothing else");
    let at_once = ["--grace", "0s", "--reader-grace", "0s"];
    let apply = [&["repo", "gc", "--apply"][..], &at_once].concat();
    for _ in 0..2 {
        let collected = site.ask(&apply);
        assert_eq!(
            collected["deployments"][0]["problems"],
            serde_json::json!([]),
            "{collected}"
        );
    }
    assert_eq!(progress(&site), 0);
    site.run(&["repo", "check", "--read-data"]).ok();
    let mut restored = site.restore(18, "restored", &[&id(&done)]);
    restored.until_promoted();
    assert_eq!((Ledger::read(&restored), noise_hash(&restored, 6)), wanted);

    step("nothing is left to be taken over");
    let plain = site.backup(&source);
    assert!(plain.get("resumed").is_none(), "{plain}");
}

#[test]
fn what_was_given_up_is_not_taken_over() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    noise(&source, 5, 24);
    let wanted = noise_hash(&source, 5);
    let mut killed = Uncommitted::start(&site, &source, "killed", &[]);
    killed.process.until("a part of it is whole", PATIENCE, || {
        (progress(&site) > 0).then_some(())
    });
    killed.kill();
    site.run(&["repo", "gc", "--apply"]).ok();
    assert_eq!(progress(&site), 0);
    let done = site.backup(&source);
    assert!(done.get("resumed").is_none(), "{done}");
    site.run(&["repo", "check", "--read-data"]).ok();
    let mut restored = site.restore(18, "restored", &[&id(&done)]);
    restored.until_promoted();
    assert_eq!(noise_hash(&restored, 5), wanted);
}

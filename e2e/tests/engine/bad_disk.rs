//! Disks that are full, on the side of the repository and on the other: whatever was tried says so, what was stored stays
//! whole, and the same command does its work when there is room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hardstorage_e2e::{Cluster, Ledger, run};
use rustix::process::geteuid;

use crate::bad_places::data;
use crate::site::{PATIENCE, Site, fill_segment, id, lsn, step};
use crate::verdict::{Cases, all_refused};

/// A file system with a size of its own, in memory.
struct Disk(PathBuf);

impl Disk {
    /// Over a directory; none without the right to mount.
    fn over(path: PathBuf, limits: &str) -> Option<Disk> {
        if !geteuid().is_root() {
            step("SKIPPED: only root may mount a disk that fills up");
            return None;
        }
        let disk = Disk(path);
        disk.mount(&format!("{limits},mode=0700,uid=65534,gid=65534"));
        Some(disk)
    }

    #[track_caller]
    fn mount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&self.0);
        run(mount, PATIENCE).ok();
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut filler = File::create(self.0.join("filler")).unwrap();
        for block in [vec![0; 1 << 20], vec![0; 512]] {
            while filler.write_all(&block).is_ok() {}
        }
    }

    /// Gives it back.
    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A destructor must not panic: what stays mounted is memory in a directory of its own.
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

/// A site whose repository fills up.
fn site_on_a_disk() -> Option<(Site, Disk)> {
    let site = Site::new();
    let disk = Disk::over(site.repository(), "size=64m")?;
    site.product.run(&["repo", "init", &site.repo]).ok();
    Some((site, disk))
}

/// The segment that the server has just ended.
fn ended_segment(source: &Cluster) -> PathBuf {
    let name = source.value("SELECT pg_walfile_name(pg_switch_wal())");
    source.data().join("pg_wal").join(name)
}

#[test]
fn a_repository_that_is_full() {
    let Some((site, disk)) = site_on_a_disk() else { return };
    let source = Cluster::builder(18).start();
    Ledger::create(&source);
    let older = id(&site.backup(&source));
    let newer = id(&site.backup(&source));
    Ledger::add(&source, "before it was full", 100);
    let wanted = Ledger::read(&source);
    let segment = ended_segment(&source);
    site.run(&["wal", "push", "db1", segment.to_str().unwrap()]).ok();
    Ledger::add(&source, "in the segment that follows", 10);
    let following = ended_segment(&source);
    let (connection, following) = (source.connection(), following.to_str().unwrap().to_owned());
    let other = format!("file://{}/another", site.repository().display());
    let keys = site.repository().join("exported");
    disk.fill();
    let before = site.stored();

    step("whatever writes is refused");
    let mut cases = Cases::new();
    for words in [
        &["backup", "db1", "--pg-connection", &connection][..],
        &["backup", "db2", "--pg-connection", &connection],
        &["wal", "stream", "db1", "--pg-connection", &connection, "--no-reconnect"],
        &["wal", "push", "db1", &following],
        &["hold", "db1", &older],
        &["backup", "delete", "db1", &older, "--yes"],
        &["rotate", "db1", "--apply", "--keep-last", "1"],
    ] {
        let what = format!("full: {}", words[..2].join(" "));
        cases.push((what, site.run(words), 1, "storage.full"));
    }
    cases.push((
        "full: repo init".to_owned(),
        site.product.run(&["repo", "init", &other]),
        1,
        "storage.full",
    ));
    cases.push((
        "full: keyring export".to_owned(),
        site.product.run(&["keyring", "export", keys.to_str().unwrap()]),
        1,
        "io",
    ));
    all_refused(&cases);
    assert_eq!(site.stored(), before, "something was left behind");
    assert!(!keys.exists(), "half a keyring");

    step("whatever reads does its work");
    for words in [
        &["list", "db1"][..],
        &["show", "db1", "latest"],
        &["verify", "db1"],
        &["status", "db1"],
        &["wal", "list", "db1"],
        &["wal", "audit", "db1"],
        &["repo", "check", "--read-data"],
        &["repo", "usage"],
    ] {
        site.run(words).ok();
    }
    assert_eq!(site.backups(), [newer.clone(), older.clone()]);
    assert_eq!(site.latest("while-full"), wanted);

    step("what is collected makes room");
    site.run(&["repo", "gc", "--apply"]).ok();
    disk.free();
    site.product.run(&["keyring", "export", keys.to_str().unwrap()]).ok();
    fs::remove_dir_all(&keys).unwrap();
    site.run(&["hold", "db1", &older]).ok();
    site.run(&["wal", "push", "db1", &following]).ok();
    let everything = Ledger::add(&source, "with room", 100);
    site.backup(&source);
    assert_eq!(site.all("again", &["--to-action", "promote"]), everything);
    site.run(&["repo", "check", "--read-data"]).ok();
}

/// Nothing is acknowledged that is not stored, and it goes on by itself.
#[test]
fn a_stream_into_a_repository_that_fills_up() {
    let Some((site, disk)) = site_on_a_disk() else { return };
    let mut source = Cluster::builder(18).start();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    stream.until_durable(&source);
    disk.fill();
    let everything = fill_segment(&source, "while it is full");
    let status = stream.until("it says that it waits", |status| status["phase"] == "reconnecting");
    let written = source.value("SELECT pg_current_wal_flush_lsn()");
    let durable = lsn(status["durable_lsn"].as_str().unwrap());
    assert!(durable < lsn(&written), "stored without room: {status}");
    let held = source.value("SELECT restart_lsn FROM pg_replication_slots");
    assert!(lsn(&held) <= durable, "{held} was acknowledged: {status}");
    let said = stream.process.answer();
    assert!(said.stderr.contains("storage.full"), "{said}");
    assert!(stream.process.runs());
    disk.free();
    stream.until_durable(&source);
    stream.stop();
    source.stop();
    assert_eq!(site.latest("latest"), everything);
    site.run(&["wal", "audit", "db1"]).ok();
}

/// The free bytes are asked for before; that there are no files to be had shows only in the middle.
#[test]
fn a_target_that_is_full() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let wanted = Ledger::add(&source, "rows", 100);
    site.backup(&source);
    let Some(disk) = Disk::over(site.dir("disk"), "size=1g,nr_inodes=120") else {
        return;
    };
    let target = disk.0.join("data");
    let restore = ["restore", "db1", "--target", target.to_str().unwrap()];
    let before = data(&site);
    let mut cases: Cases = vec![(
        "a target without files".to_owned(),
        site.run(&restore),
        4,
        "preflight.no_space",
    )];
    assert!(
        !target.join("postgresql.auto.conf").exists(),
        "half a restore looks whole"
    );

    step("one file less than a segment");
    let segment = segments(&site.repository()).remove(0);
    let small = Disk::over(site.dir("small"), "size=1m").unwrap();
    let fetched = small.0.join("segment");
    let fetch = ["wal", "fetch", "db1", &segment, fetched.to_str().unwrap()];
    cases.push((
        "wal fetch without room".to_owned(),
        site.run(&fetch),
        126,
        "preflight.no_space",
    ));
    all_refused(&cases);
    assert!(!fetched.exists(), "PostgreSQL would read half a segment");
    assert_eq!(data(&site), before);

    step("the same command, with room");
    disk.mount("remount,nr_inodes=100k");
    site.run(&restore).ok();
    let mut restored = Cluster::builder(18).over(&target).start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), wanted);
}

/// The names of the finished segments.
fn segments(repository: &Path) -> Vec<String> {
    let mut waiting = vec![repository.join("wal")];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                waiting.push(entry.path());
            } else if name.len() == 24 {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

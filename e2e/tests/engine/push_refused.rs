//! What `wal push` refuses, and what PostgreSQL does then: it keeps the segment and tries again. Nothing is overwritten,
//! and nothing is stored of what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Builder, Cluster, Ledger, ObjectStore};

use crate::line::Line;
use crate::push::{archiving, command, end_segment, failures, until_archived};
use crate::site::{Site, fill_segment, step};
use crate::verdict::refused;

/// Waits until the archiver has failed so often.
#[track_caller]
fn until_failed(cluster: &mut Cluster, times: u64) {
    let sql = "SELECT failed_count FROM pg_stat_archiver";
    cluster.until("the archive_command has failed", |c| {
        let failed: u64 = c.try_value(sql).ok()?.parse().ok()?;
        (failed >= times).then_some(())
    });
}

/// The segment that the next switch ends, as a path.
fn current(cluster: &Cluster) -> PathBuf {
    let name = cluster.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    cluster.data().join("pg_wal").join(name)
}

/// Two servers with one identity: the second one's segments have the names of the first one's.
#[test]
fn other_bytes_under_the_same_name() {
    let site = Site::new();
    let mut first = archiving(18, &site).start();
    Ledger::create(&first);
    site.backup(&first);
    let everything = fill_segment(&first, "of the first");
    until_archived(&mut first);
    let before = site.content();

    let mut second = archiving(18, &site).start();
    Ledger::create(&second);
    let path = current(&second);
    fill_segment(&second, "of the second");
    step("PostgreSQL tries again and again, and keeps the segment");
    until_failed(&mut second, 2);
    let log = second.log();
    assert!(log.contains("archive command failed with exit code 7"), "{log}");
    assert!(log.contains("ERROR conflict.split_brain: "), "{log}");
    let kept = "SELECT count(*) > 0 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'";
    assert_eq!(second.value(kept), "t");
    let answer = site.run(&["wal", "push", "db1", path.to_str().unwrap()]);
    refused("by hand", &answer, 7, "conflict.split_brain");
    assert_eq!(site.content(), before);

    step("so is a history of the same number that tells another story");
    let history = first.data().join("pg_wal/00000002.history");
    fs::write(&history, "1\t0/3000158\tno recovery target specified\n").unwrap();
    site.run(&["wal", "push", "db1", history.to_str().unwrap()]).ok();
    fs::write(&history, "1\t0/3000160\tno recovery target specified\n").unwrap();
    let answer = site.run(&["wal", "push", "db1", history.to_str().unwrap()]);
    refused("a history", &answer, 7, "conflict.split_brain");
    assert_eq!(site.all("first", &["--to-latest", "--to-timeline", "1"]), everything);
}

/// Nothing of another cluster gets in, whatever kind of file it is, and it does not begin an archive of its own.
#[test]
fn another_cluster() {
    let site = Site::new();
    let mut ours = archiving(18, &site).start();
    Ledger::create(&ours);
    site.backup(&ours);
    until_archived(&mut ours);
    let before = site.content();
    let mut foreign = archiving(18, &site).own_identity().start();
    let segment = current(&foreign);
    end_segment(&foreign);
    until_failed(&mut foreign, 1);
    let log = foreign.log();
    assert!(log.contains("archive command failed with exit code 7"), "{log}");
    let wal = foreign.data().join("pg_wal");
    let partial = wal.join(format!("{}.partial", segment.file_name().unwrap().to_str().unwrap()));
    fs::copy(&segment, &partial).unwrap();
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o644)).unwrap();
    let history = wal.join("00000002.history");
    fs::write(&history, "1\t0/3000158\tno recovery target specified\n").unwrap();
    let backup = wal.join("000000010000000000000003.00000028.backup");
    fs::write(
        &backup,
        "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n",
    )
    .unwrap();
    for path in [&segment, &partial, &history, &backup] {
        let answer = site.run(&["wal", "push", "db1", path.to_str().unwrap()]);
        refused(&path.display().to_string(), &answer, 7, "conflict.system_identifier");
        assert!(answer.stderr.contains("--accept-new-system"), "{answer}");
    }
    assert_eq!(site.content(), before);

    step("once it is accepted, the archiver goes on by itself");
    let connection = foreign.connection();
    site.run(&["backup", "db1", "--pg-connection", &connection, "--accept-new-system"])
        .ok();
    end_segment(&foreign);
    until_archived(&mut foreign);
    fill_segment(&ours, "the old one is still known");
    until_archived(&mut ours);
    assert_eq!(failures(&ours), 0, "{}", ours.log());
}

/// What is wrong with a file is told before any repository is asked.
#[test]
fn files_that_are_not_what_they_should_be() {
    let site = Site::new();
    let source = Cluster::builder(18).start();
    Ledger::create(&source);
    let whole = current(&source);
    end_segment(&source);
    let bytes = fs::read(&whole).unwrap();
    Ledger::add(&source, "in the segment that is written", 100);
    let unfinished = current(&source);
    let place = site.dir("files");
    let put = |name: &str, bytes: &[u8]| {
        let path = place.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    };
    let push = |path: &Path, repo: &str| {
        let words = ["wal", "push", "db1", path.to_str().unwrap(), "--repo", repo];
        site.product.run(&words)
    };
    let name = whole.file_name().unwrap().to_str().unwrap();
    let mut garbage = bytes.clone();
    garbage[..8192].fill(0x5a);
    let before = site.content();
    for (what, path, exit, code) in [
        (
            "cut short",
            put(name, &bytes[..bytes.len() - 1]),
            4,
            "preflight.wal_unfinished",
        ),
        (
            "empty",
            put("000000010000000000000012", b""),
            4,
            "preflight.wal_unfinished",
        ),
        ("still written", unfinished, 4, "preflight.wal_unfinished"),
        (
            "too long",
            put("000000010000000000000013", &[&bytes[..], b"x"].concat()),
            9,
            "verify.wal_file",
        ),
        (
            "garbage",
            put("000000010000000000000011", &garbage),
            9,
            "verify.wal_file",
        ),
        (
            "another segment",
            put("0000000100000000000000AA", &bytes),
            9,
            "verify.wal_file",
        ),
        (
            "another one, partial",
            put("0000000100000000000000AA.partial", &bytes),
            9,
            "verify.wal_file",
        ),
        (
            "a history of nothing",
            put("00000002.history", b"nothing"),
            9,
            "verify.wal_file",
        ),
        (
            "of no data directory",
            put("00000003.history", b"1\t0/3000158\tx\n"),
            4,
            "preflight.wal_owner_unclear",
        ),
        (
            "a directory",
            site.dir("00000001000000000000000F"),
            9,
            "verify.wal_file",
        ),
        ("not there", place.join("00000001000000000000000E"), 1, "io"),
        ("another name", put("backup_label", b""), 2, "usage.invalid"),
        (
            "lower case",
            put("00000001000000000000000a", &bytes),
            2,
            "usage.invalid",
        ),
        ("compressed", put(&format!("{name}.gz"), &bytes), 2, "usage.invalid"),
    ] {
        // Nothing is there: a repository that was asked would be the first to complain.
        refused(what, &push(&path, "file:///nowhere/at/all"), exit, code);
        refused(what, &push(&path, &site.repo), exit, code);
    }
    assert_eq!(site.content(), before, "something was stored");
    refused(
        "no path",
        &site.product.run(&["wal", "push", "db1"]),
        2,
        "usage.invalid",
    );
    push(&whole, &site.repo).ok();
}

/// Who may only read gets a clear answer, and PostgreSQL waits until it may write.
#[test]
fn a_repository_that_takes_no_writes() {
    let site = Site::new();
    let mut source = archiving(18, &site).start();
    Ledger::create(&source);
    site.backup(&source);
    until_archived(&mut source);
    let mode = |mode: u32| {
        let folders = walk(&site.repository().join("wal"));
        for folder in folders {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    mode(0o555);
    let before = site.content();
    let everything = fill_segment(&source, "while it is closed");
    until_failed(&mut source, 2);
    assert!(source.log().contains("ERROR auth.store_denied: "), "{}", source.log());
    assert!(
        source.log().contains("archive command failed with exit code 3"),
        "{}",
        source.log()
    );
    assert_eq!(site.content(), before);
    mode(0o755);
    end_segment(&source);
    until_archived(&mut source);
    assert_eq!(site.latest("latest"), everything);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
    }
    found
}

/// The bucket is away, and comes back.
#[test]
fn a_repository_that_does_not_answer() {
    let store = ObjectStore::moto();
    store.bucket("backup");
    let line = Line::to(store.endpoint().trim_start_matches("http://").parse().unwrap());
    let mut site = Site::new();
    for (name, value) in store.credentials() {
        site.product.set(name, value);
    }
    site.repo = store
        .url("backup/db")
        .replace(&store.endpoint(), &format!("http://{}", line.address()));
    site.product.run(&["repo", "init", &site.repo, "--single-writer"]).ok();
    let with_access = |server: Builder| {
        let server = server.environments(store.credentials());
        server.environment("AWS_EC2_METADATA_DISABLED", "true")
    };
    let server = Cluster::builder(18)
        .set("archive_mode", "on")
        .set("archive_command", &command(&site));
    let mut source = with_access(server).start();
    Ledger::create(&source);
    site.backup(&source);
    until_archived(&mut source);
    line.cut();
    let everything = fill_segment(&source, "while the bucket is away");
    until_failed(&mut source, 1);
    assert!(
        source.log().contains("archive command failed with exit code 8"),
        "{}",
        source.log()
    );
    line.mend();
    end_segment(&source);
    until_archived(&mut source);
    let (_, target) = site.restore_files("latest", &["--to-latest"]);
    let mut restored = with_access(Cluster::builder(18)).over(&target).start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), everything);
}

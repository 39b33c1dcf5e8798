//! A recovery that is killed: while it copies, while it replays, and when only its end is missing. Its server may live on,
//! and the next run of the same restore ends it and begins anew.

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Background, Cluster, Ledger, free_loopback, get};
use serde_json::Value;

use crate::recover::{MARKER, move_away, nothing_tells_of_the_recovery, programs, words};
use crate::site::{PATIENCE, Site, step};

/// A program that tells that it was called, and then waits as long as a file is there.
struct Held {
    called: PathBuf,
    hold: PathBuf,
}

impl Held {
    fn before(script: &Path, program: &Path) -> Held {
        let beside = |end: &str| script.with_extension(end);
        let held = Held {
            called: beside("called"),
            hold: beside("hold"),
        };
        fs::write(&held.hold, "").unwrap();
        let text = format!(
            "#!/bin/sh\n: > '{}'\nwhile [ -e '{}' ]; do sleep 0.05; done\nexec '{}' \"$@\"\n",
            held.called.display(),
            held.hold.display(),
            program.display()
        );
        fs::write(script, text).unwrap();
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        held
    }

    fn let_go(&self) {
        fs::remove_file(&self.hold).unwrap();
    }
}

/// Whether a process has not ended; one that has may wait for its parent.
fn lives(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn a_killed_recovery_begins_anew() {
    let source = Cluster::builder(18).start();
    let mut site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    let wanted = Ledger::add(&source, "rows", 500);
    stream.until_durable(&source);
    stream.stop();

    // PostgreSQL's own programs, one of which waits.
    let home = site.dir("pg");
    let (real, bin) = (programs(18), home.join("bin"));
    fs::create_dir(&bin).unwrap();
    symlink(real.with_file_name("lib"), home.join("lib")).unwrap();
    for name in ["postgres", "pg_controldata", "pg_verifybackup"] {
        symlink(real.join(name), bin.join(name)).unwrap();
    }
    let scripts = site.dir("x");
    fs::set_permissions(&scripts, fs::Permissions::from_mode(0o777)).unwrap();
    let asks = scripts.join("psql");
    let asking = Held::before(&asks, &real.join("psql"));
    symlink(&asks, bin.join("psql")).unwrap();
    let fetches = scripts.join("fetch");
    let fetching = Held::before(&fetches, site.product.binary());
    site.product
        .set("PG_HARDSTORAGE_RESTORE_BIN", fetches.to_str().unwrap());

    // Whoever is killed removes nothing.
    let temporary = site.dir("t");
    site.product.set("TMPDIR", temporary.to_str().unwrap());
    let target = site.place("copy");
    let wal = site.place("wal");
    let more = ["--to-latest", "--retry-id", "one", "--wal-dir", wal.to_str().unwrap()];
    let command = words(&target, &bin, &more);
    let report = SocketAddrV4::new(free_loopback(9187), 9187);
    let listen = report.to_string();
    let start = |name: &str| {
        let args = [&command[..], &["--repo", &site.repo, "--report-listen", &listen]].concat();
        site.product.start(name, &args)
    };
    let stage = |run: &mut Background, wanted: &str| {
        run.until(&format!("it reports that it is {wanted}"), PATIENCE, || {
            let (_, body) = get(report, "/v1/report").ok()?;
            let report: Value = serde_json::from_str(&body).ok()?;
            (report["progress"]["stage"] == wanted).then_some(())
        });
    };
    let owner = |pid: &Path| -> Option<u32> { fs::read_to_string(pid).ok()?.lines().next()?.trim().parse().ok() };

    step("killed while it copies");
    let mut run = start("copying");
    run.until("it writes", PATIENCE, || {
        target.join("PG_VERSION").exists().then_some(())
    });
    run.kill();
    assert!(!target.join("global/pg_control").exists(), "it was too fast");
    assert!(target.join(MARKER).exists());

    step("killed while it recovers");
    let mut run = start("recovering");
    run.until("WAL is asked for", PATIENCE, || fetching.called.exists().then_some(()));
    stage(&mut run, "recovering");
    run.kill();
    let server = owner(&target.join("postmaster.pid")).unwrap();
    assert!(lives(server), "its server goes on");

    step("killed when all but the end is done");
    fetching.let_go();
    let mut run = start("finishing");
    run.until("the copy is asked", PATIENCE, || asking.called.exists().then_some(()));
    stage(&mut run, "finishing");
    run.kill();
    let promoted = owner(&target.join("postmaster.pid")).unwrap();
    assert_ne!(promoted, server);
    assert!(lives(promoted), "its server goes on");
    let other = [&command[..7], &["--retry-id", "two"]].concat();
    site.run(&other).exits(7);

    step("and once more");
    asking.let_go();
    let answer = start("last").wait(PATIENCE).ok();
    assert!(answer.stdout.contains("New timeline:     2"), "{answer}");
    assert!(!lives(promoted));
    nothing_tells_of_the_recovery(&target);
    assert!(!wal.join(MARKER).exists());
    move_away(&site);
    let copy = Cluster::builder(18).over(&target).start();
    assert_eq!(Ledger::read(&copy), wanted);
    assert_eq!(copy.value("SELECT timeline_id FROM pg_control_checkpoint()"), "2");
}

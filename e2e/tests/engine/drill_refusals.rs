//! Drills that cannot be: directories that are none, checks that make no sense, programs that do not fit; and drills that
//! are interrupted, killed, or watched.

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Answer, Background, Cluster, free_loopback, get, until};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};

use crate::drill::{check, drill, expecting, failed, prepared, words};
use crate::drill_origin::{JOB, LIBRARY};
use crate::recover::{self, programs};
use crate::site::{PATIENCE, Site, step};
use crate::verdict::refused;

#[track_caller]
fn run(site: &Site, words: &[String]) -> Answer {
    site.product.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn what_is_no_drill() {
    let mut source = Cluster::builder(18).start();
    let site = Site::new();
    let copy = prepared(&site, &source);
    let none = json!([]);
    let fails = |data: &Path, major: u16, exit: i32, code: &str| {
        let what = format!("{} with the programs of {major}", data.display());
        refused(&what, &drill(&site, major, data, &none, &[]), exit, code);
    };

    step("directories");
    fails(&site.place("nowhere"), 18, 7, "conflict.not_a_drill");
    fails(&site.dir("empty"), 18, 7, "conflict.not_a_drill");
    fails(source.data(), 18, 7, "conflict.not_a_drill");
    source.stop();
    fails(source.data(), 18, 7, "conflict.not_a_drill");
    assert!(!source.data().join("standby.signal").exists());
    fails(&copy, 17, 6, "notfound.postgres_programs");

    step("checks");
    for text in [
        "",
        "{}",
        "[1]",
        r#"[{"name": "a", "database": "b"}]"#,
        r#"[{"name": "a", "database": "b", "sql": "c", "timeout": 1}]"#,
        r#"[{"name": "a", "database": "b", "sql": "c", "timeout_seconds": 0}]"#,
        r#"[{"name": "a", "database": "b", "sql": "c", "timeout_seconds": "1m"}]"#,
    ] {
        let words = words(&site, &copy, text, &programs(18), &[]);
        refused(text, &run(&site, &words), 2, "usage.invalid_checks");
    }
    let missing = [
        "drill",
        "check",
        "--data",
        copy.to_str().unwrap(),
        "--checks",
        "nowhere.json",
    ];
    refused("no such file", &site.product.run(&missing), 1, "io");
    let target = site.place("kept");
    let keep = [
        "restore",
        "db1",
        "--target",
        target.to_str().unwrap(),
        "--recover",
        "--hand-over",
        "drill",
    ];
    let pg_bin = programs(18);
    let keep = [
        &keep[..],
        &["--subscriptions", "keep", "--pg-bin", pg_bin.to_str().unwrap()],
    ]
    .concat();
    refused("a drill that subscribes", &site.run(&keep), 2, "usage.invalid");
    assert!(!target.exists());

    step("a database that is not there is a check that fails");
    let other = json!([{"name": "lost", "database": "host=127.0.0.1 dbname=postgres", "sql": "SELECT 1"}]);
    let answer = drill(&site, 18, &copy, &other, &["-o", "json"]).exits(9);
    assert_eq!(failed(&answer.result()), ["lost"], "{answer}");

    if geteuid().is_root() {
        step("root asks, and PostgreSQL runs as the owner of the files");
        let asked = words(&site, &copy, "[]", &programs(18), &[]);
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        hardstorage_e2e::run(site.product.command_as_caller(&asked), PATIENCE).ok();
        let mut files = fs::read_dir(&copy).unwrap().map(Result::unwrap);
        assert!(
            files.all(|file| file.metadata().unwrap().uid() != 0),
            "something is root's now"
        );
    }

    step("a server that somebody has started: a hot standby of nobody");
    let server = Cluster::builder(18).over(&copy).start();
    assert_eq!(server.value("SELECT pg_is_in_recovery()"), "t");
    fails(&copy, 18, 7, "conflict.target_running");
    assert_eq!(server.value("SELECT count(*) FROM pg_stat_wal_receiver"), "0");
    drop(server);

    step("somebody has promoted it");
    let mut server = Cluster::builder(18).over(&copy).start();
    server.promote();
    server.stop();
    fails(&copy, 18, 7, "conflict.not_a_drill");
}

/// The process of a file like `postmaster.pid`.
fn server_of(copy: &Path) -> Option<u32> {
    let text = fs::read_to_string(copy.join("postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

fn lives(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn a_drill_that_is_watched_interrupted_or_killed() {
    let source = Cluster::builder(18).start();
    let mut site = Site::new();
    let copy = prepared(&site, &source);
    let temporary = site.dir("t");
    site.product.set("TMPDIR", temporary.to_str().unwrap());
    let slow = json!([
        {"name": "slow", "database": "postgres", "sql": "SELECT pg_sleep(600)", "timeout_seconds": 900},
        expecting("after it", "SELECT 1", "1"),
    ]);
    let report = SocketAddrV4::new(free_loopback(9187), 9187);
    let listen = report.to_string();
    let more = [
        "--index-limit",
        "0s",
        "--report-listen",
        &listen,
        "--report-linger",
        "10m",
    ];
    let command = words(&site, &copy, &slow.to_string(), &programs(18), &more);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let told = || -> Option<Value> { serde_json::from_str(&get(report, "/v1/report").ok()?.1).ok() };
    // Its socket lies in the only directory here.
    let enter = |user: &str, sql: &str| -> Option<Answer> {
        let private = fs::read_dir(&temporary).unwrap().next()?.unwrap().path();
        let words = [
            "-X",
            "-At",
            "-d",
            "postgres",
            "-U",
            user,
            "-c",
            sql,
            "-h",
            private.to_str()?,
        ];
        Some(source.tool("psql", &words))
    };
    let asleep = |run: &mut Background| {
        let sql = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query ~ '^ *SELECT pg_sleep'";
        run.until("its check sleeps", PATIENCE, || {
            let session: i32 = enter("hardstorage_drill", sql)?.text().parse().ok()?;
            let progress = &told()?["progress"];
            assert_eq!(progress["stage"], "checking", "{progress}");
            Some(session)
        })
    };

    step("watched, and a session that breaks down costs no more than its check");
    let mut run = site.product.start("watched", &command);
    let session = asleep(&mut run);
    refused(
        "a second one",
        &drill(&site, 18, &copy, &json!([]), &[]),
        7,
        "conflict.target_running",
    );
    step("nobody else gets in, not even who may enter that directory");
    enter("postgres", "SELECT 1").unwrap().exits(2);
    kill_process(Pid::from_raw(session).unwrap(), Signal::KILL).unwrap();
    let ended = run.until("it has ended", PATIENCE, || {
        told().filter(|report| report["state"] == "failed")
    });
    assert_eq!(ended["error"]["code"], "verify.drill_failed", "{ended:#}");
    assert_eq!(failed(&ended["result"]), ["slow"], "{ended:#}");
    assert_eq!(check(&ended["result"], "after it")["passed"], true, "{ended:#}");
    assert!(server_of(&copy).is_none());
    run.kill();

    step("interrupted");
    let mut run = site.product.start("interrupted", &command);
    asleep(&mut run);
    let server = server_of(&copy).unwrap();
    run.signal(Signal::TERM);
    let ended = run.until("it has ended", PATIENCE, || {
        told().filter(|report| report["state"] == "failed")
    });
    assert_eq!(ended["error"]["code"], "aborted.interrupted", "{ended:#}");
    assert!(server_of(&copy).is_none() && !lives(server));
    run.kill();
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);

    step("killed: its server goes on, and the next one ends it");
    let mut run = site.product.start("killed", &command);
    asleep(&mut run);
    let server = server_of(&copy).unwrap();
    run.kill();
    assert!(lives(server));
    drill(&site, 18, &copy, &json!([expecting("again", "SELECT 1", "1")]), &[]).ok();
    until("the old server is gone", PATIENCE, || (!lives(server)).then_some(()));
    assert!(server_of(&copy).is_none());
}

/// PostgreSQL's programs as a machine may have them: without amcheck, and with a server that does not start without the
/// libraries of its origin.
fn other_programs(site: &Site, major: u16) -> PathBuf {
    let (home, real) = (site.dir("pg"), programs(major).with_file_name(""));
    for (directory, without) in [
        ("lib", "amcheck"),
        ("bin", "postgres"),
        ("share", "extension"),
        ("share/extension", "amcheck"),
    ] {
        fs::create_dir(home.join(directory)).unwrap();
        for entry in fs::read_dir(real.join(directory)).unwrap() {
            let name = entry.unwrap().file_name();
            if !name.to_string_lossy().starts_with(without) {
                symlink(real.join(directory).join(&name), home.join(directory).join(&name)).unwrap();
            }
        }
    }
    // It looks for everything from where it lies itself.
    fs::copy(real.join("bin/postgres"), home.join("bin/postgres.real")).unwrap();
    let script = "#!/bin/sh\nfor word; do test \"$word\" != shared_preload_libraries= || exit 1; done\n\
                  exec \"$0.real\" \"$@\"\n";
    fs::write(home.join("bin/postgres"), script).unwrap();
    fs::set_permissions(home.join("bin/postgres"), fs::Permissions::from_mode(0o755)).unwrap();
    home.join("bin")
}

/// What is not there is told, and what is needed to start is loaded.
#[test]
fn a_machine_without_amcheck_and_a_server_that_wants_its_libraries() {
    let mut source = Cluster::builder(18).start();
    source.sql("ALTER SYSTEM SET shared_preload_libraries = 'pg_prewarm'");
    source.restart();
    let site = Site::new();
    site.backup(&source);
    let bin = other_programs(&site, 18);
    let target = site.place("copy");
    let restored = site.run(&recover::words(&target, &bin, &["--hand-over", "drill"])).ok();
    assert!(restored.stderr.contains("restore.amcheck_missing"), "{restored}");
    assert!(restored.stdout.contains("drill check --data"), "{restored}");
    let checks = json!([expecting("library", LIBRARY, "1")]).to_string();
    let words = words(&site, &target, &checks, &bin, &["-o", "json"]);
    let result = run(&site, &words).ok().result();
    assert_eq!(result["indexes_checked"], 0, "{result:#}");
    assert!(result["indexes_unchecked"].as_u64().unwrap() > 100, "{result:#}");
    let notes = result["notes"].to_string();
    assert!(notes.contains("amcheck") && notes.contains("pg_prewarm"), "{notes}");
    assert!(!target.join(JOB).exists(), "a background job ran");
}

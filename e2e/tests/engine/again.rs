//! A restore as a scheduler runs it: planned first, killed at any moment, tried again under its id, and asked meanwhile.

use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Background, Cluster, Ledger, free_loopback, get, until};
use serde_json::Value;

use crate::site::{PATIENCE, Site, id, step};

const MARKER: &str = ".pg_hardstorage.restore";

/// Every file and folder below a directory.
fn everything(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(everything(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// Begins a restore and kills it as soon as so much is there; whether it was in the middle of it.
fn killed(site: &Site, name: &str, words: &[&str], target: &Path, there: impl Fn(&Path) -> bool) -> bool {
    let mut process: Background = site.product.start(name, words);
    until("there is as much as wanted, or it has ended", PATIENCE, || {
        (there(target) || !process.runs()).then_some(())
    });
    process.kill();
    target.join(MARKER).exists()
}

#[test]
fn a_restore_that_was_killed_is_tried_again_and_nobody_elses_directory_is() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    // Enough to be in the middle of it for a while.
    source.sql("CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 20) AS t FROM generate_series(1, 60000) i");
    let space = site.dir("space-there");
    source.sql(&format!("CREATE TABLESPACE other LOCATION '{}'", space.display()));
    source.sql("CREATE TABLE elsewhere TABLESPACE other AS SELECT generate_series(1, 1000) AS i");
    let wanted = Ledger::add(&source, "rows", 1000);
    let backup = id(&site.backup(&source));
    let (target, moved) = (site.place("target"), site.place("space-here"));
    let mapping = format!("{}={}", space.display(), moved.display());
    let mut words = vec!["restore", "db1", &backup, "--target", target.to_str().unwrap()];
    words.extend(["--repo", &site.repo, "--tablespace-mapping", &mapping, "-j", "1"]);
    let of = |id: &'static str| [&words[..], &["--retry-id", id]].concat();

    let mut in_the_middle = 0;
    let mut tries = 0;
    let moments: [&dyn Fn(&Path) -> bool; 5] = [
        &|target| target.join(MARKER).exists(),
        &|target| target.join("base").exists(),
        &|target| everything(target).len() > 300,
        &|target| everything(target).len() > 900,
        &|target| target.join("global/pg_control").exists(),
    ];
    for there in moments {
        tries += 1;
        step(&format!("kill {tries}"));
        if killed(&site, &format!("kill-{tries}"), &of("run-1"), &target, there) {
            in_the_middle += 1;
        } else if !everything(&target).is_empty() {
            // It was faster than we: there is nothing to try again.
            fs::remove_dir_all(&target).unwrap();
            fs::remove_dir_all(&moved).unwrap();
        }
    }
    assert!(in_the_middle >= 2, "no restore was killed in the middle of it");
    let left = killed(&site, "last", &of("run-1"), &target, |target| {
        target.join("base").exists()
    });
    assert!(left, "it was not killed in the middle of it");

    step("another restore, and one without an id, leave it alone");
    let before = (everything(&target), everything(&moved));
    for others in [of("run-2"), words.clone()] {
        let refused = site.product.run(&others).exits(7);
        assert!(refused.stderr.contains("conflict.target_not_empty"), "{refused}");
    }
    assert_eq!((everything(&target), everything(&moved)), before);

    step("a directory with files and no marker is left alone under an id, too");
    let theirs = site.dir("theirs");
    fs::write(theirs.join("keep"), "me").unwrap();
    let mut into = of("run-1");
    into[4] = theirs.to_str().unwrap();
    let refused = site.product.run(&into).exits(7);
    assert!(refused.stderr.contains("conflict.target_not_empty"), "{refused}");
    assert_eq!(everything(&theirs), [theirs.join("keep")]);

    step("the same restore begins anew, and the rows are right");
    let done = site
        .product
        .run(&[&of("run-1")[..], &["-o", "json"]].concat())
        .ok()
        .result();
    assert_eq!(done["tablespaces"][0]["path"], moved.to_str().unwrap(), "{done}");
    for place in [&target, &moved] {
        assert!(!place.join(MARKER).exists());
    }
    let mut restored = Cluster::builder(18).over(&target).start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), wanted);
    let counts = "SELECT (SELECT count(*) FROM bulk) || ' ' || (SELECT count(*) FROM elsewhere)";
    assert_eq!(restored.value(counts), "60000 1000");
    restored.stop();

    step("once it is done it is nobody's to empty");
    site.product.run(&of("run-1")).exits(7);
    assert!(target.join("PG_VERSION").exists());
}

/// The answers of a run that lingers: its report once it has ended, and the word that it was heard.
fn asked(site: &Site, name: &str, words: &[&str]) -> Value {
    let address = SocketAddrV4::new(free_loopback(9188), 9188);
    let listen = address.to_string();
    let more = [
        "--repo",
        &site.repo,
        "--run-id",
        "run-1",
        "--report-listen",
        &listen,
        "--report-linger",
        "1h",
    ];
    let mut process = site.product.start(name, &[words, &more].concat());
    let report = process.until("it has ended", PATIENCE, || {
        let (_, body) = get(address, "/v1/report").ok()?;
        let report: Value = serde_json::from_str(&body).ok()?;
        (report["state"] != "running").then_some(report)
    });
    process.kill();
    report
}

#[test]
fn a_plan_and_a_result_are_typed_and_say_what_can_be_reached() {
    let source = Cluster::builder(18).set("track_commit_timestamp", "on").start();
    let site = Site::new();
    Ledger::create(&source);
    let backup = id(&site.backup(&source));
    let mut stream = site.stream("stream", &source.connection(), &[]);
    Ledger::add(&source, "kept", 100);
    let moment = source.now();
    // As a document writes it: no zeros behind the last digit.
    let written = format!(
        "{}Z",
        moment.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.')
    );
    Ledger::add(&source, "undone", 100);
    source.sql("SELECT pg_create_restore_point('here')");
    stream.until_durable(&source);
    stream.stop();
    let target = site.place("target");
    let words = ["restore", "db1", "--target", target.to_str().unwrap()];

    step("a plan");
    let preview = |more: &[&str]| asked(&site, "preview", &[&words[..], &["--preview"], more].concat());
    let report = preview(&["--to", &moment]);
    let plan = &report["result"];
    assert_eq!(report["state"], "succeeded", "{report}");
    assert_eq!(
        (&plan["backup_id"], &plan["preflight_ok"]),
        (&backup.as_str().into(), &true.into())
    );
    assert_eq!(
        (&plan["target"]["kind"], &plan["target"]["time"]),
        (&"time".into(), &written.as_str().into())
    );
    assert_eq!(plan["postgres"]["major"], 18, "{plan}");
    let named = preview(&["--to-name", "here"]);
    assert_eq!(named["result"]["stop_at"]["name"], "here", "{named}");
    assert!(
        named["result"]["reaches_lsn"].is_string() && named["result"]["reaches_time"].is_string(),
        "{named}"
    );

    step("moments that cannot be reached");
    let reachable = plan["reachable"].clone();
    let (from, to) = (reachable["from"].as_str().unwrap(), reachable["to"].as_str().unwrap());
    // As moments, not as text: they are written with as many digits as they have.
    let in_order = source.value(&format!("SELECT timestamptz '{from}' < timestamptz '{to}'"));
    assert_eq!(in_order, "t", "{reachable}");
    for (goal, exit) in [("2100-01-01T00:00:00Z", 7), ("1999-01-01T00:00:00Z", 6)] {
        let refused = preview(&["--to", goal]);
        assert_eq!(refused["state"], "failed", "{refused}");
        assert_eq!(refused["error"]["exit_code"], exit, "{refused}");
        assert_eq!(refused["reachable"]["from"], reachable["from"], "{refused}");
        assert_eq!(refused["reachable"]["to"], reachable["to"], "{refused}");
        let real = asked(&site, "real", &[&words[..], &["--to", goal]].concat());
        assert_eq!(real["reachable"], refused["reachable"], "{real}");
        assert!(!target.exists());
    }

    step("a relative time counts from the moment that is named");
    let relative = preview(&["--to", "0 seconds ago", "--now", &moment]);
    assert_eq!(relative["result"]["target"]["time"], written.as_str(), "{relative}");
    let ahead = preview(&["--to", "1 minute ago", "--now", "2100-01-01T00:00:00Z"]);
    assert_eq!(ahead["error"]["code"], "usage.invalid_time", "{ahead}");

    step("the result");
    let done = asked(
        &site,
        "done",
        &[&words[..], &["--to", &moment, "--to-action", "promote"]].concat(),
    );
    let result = &done["result"];
    assert_eq!(done["state"], "succeeded", "{done}");
    for member in [
        "backup_id",
        "target",
        "stop_at",
        "target_timeline",
        "start_segment",
        "reachable",
        "wal_bytes",
    ] {
        assert_eq!(result[member], plan[member], "{member}");
    }
    assert!(result["bytes_written"].as_u64().unwrap() > 0, "{result}");
    for member in ["done_bytes", "total_bytes", "bytes_per_second"] {
        assert!(done["progress"][member].is_u64(), "{member}: {done}");
    }
    let mut restored = Cluster::builder(18).over(&target).start();
    restored.until_promoted();
    let chapters = restored.value("SELECT count(DISTINCT note) FROM ledger WHERE note LIKE 'undone%'");
    assert_eq!(chapters, "0");
}

/// The server recovers where program, repository and keys lie elsewhere.
#[test]
fn a_server_recovers_with_the_places_that_were_named() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    let wanted = Ledger::add(&source, "rows", 500);
    stream.until_durable(&source);
    stream.stop();
    let there = site.dir("there");
    let (bin, credentials) = (site.dir("there/bin"), site.dir("there/credentials"));
    site.product.run(&["self", "install", bin.to_str().unwrap()]).ok();
    let program = bin.join("pg_hardstorage");
    let repository = there.join("repository");
    let url = format!("file://{}", repository.display());
    let target = site.place("target");
    let mut words = vec!["restore", "db1", "--target", target.to_str().unwrap(), "--to-latest"];
    words.extend(["--fetch-command", program.to_str().unwrap(), "--fetch-repo", &url]);
    words.extend(["--fetch-credentials-dir", credentials.to_str().unwrap()]);
    site.run(&words).ok();
    let settings = fs::read_to_string(target.join("postgresql.auto.conf")).unwrap();
    let command = settings
        .lines()
        .find(|line| line.starts_with("restore_command"))
        .unwrap();
    let home = site.product.home();
    for elsewhere in [
        site.repo.as_str(),
        home.to_str().unwrap(),
        site.product.binary().to_str().unwrap(),
    ] {
        assert!(!command.contains(elsewhere), "{elsewhere}: {command}");
    }

    step("nothing of the places here is left");
    fs::rename(site.repository(), &repository).unwrap();
    fs::rename(site.product.config().join("keyring/kek.bin"), credentials.join("kek")).unwrap();
    let mut restored = Cluster::builder(18).over(&target).start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), wanted);

    step("a path that is not absolute is refused");
    let relative = site.run(&["restore", "db1", "--target", "/nowhere", "--fetch-command", "bin/x"]);
    relative.exits(2);
}

//! Words that make no sense: names, ids, times, URLs and configuration files. Nothing is written, nothing is contacted.

use std::fs;
use std::thread;

use hardstorage_e2e::Cluster;

use crate::site::{Site, id, step};
use crate::verdict::{PASSWORD, refused, silent};

#[test]
fn names_and_ids() {
    let site = Site::new();
    let long = "a".repeat(300);
    let elsewhere = site.place("nowhere");
    let target = elsewhere.to_str().unwrap();
    let before = site.content();
    let invalid = |words: &[&str]| refused(&words.join(" "), &site.run(words), 2, "usage.invalid_name");
    for name in ["../x", "", &long, "DB1", "a/b", "..", "db 1", "db1..x"] {
        invalid(&["backup", name, "--pg-connection", "host=nowhere.invalid"]);
        invalid(&["wal", "stream", name, "--pg-connection", "host=nowhere.invalid"]);
        invalid(&["restore", name, "--target", target]);
        invalid(&["list", name]);
        let words = ["wal", "fetch", name, "000000010000000000000001", "x"];
        refused("wal fetch", &site.run(&words), 126, "usage.invalid_name");
    }
    for name in ["../x", "", &long, "DB1", "db1/x", "nonsense", "db1.full.20260101.0000"] {
        invalid(&["restore", "db1", name, "--target", target]);
        invalid(&["show", "db1", name]);
        invalid(&["verify", "db1", name]);
    }
    for (words, code) in [
        (&["backup"][..], "usage.invalid"),
        (&["bakup", "db1"], "usage.invalid"),
        (&["backup", "db1", "--bogus"], "usage.invalid"),
        (
            &["restore", "db1", "--target", target, "--to-lsn", "zero"],
            "usage.invalid_lsn",
        ),
    ] {
        refused(&words.join(" "), &site.run(words), 2, code);
    }
    for words in [&["list", "db9"][..], &["restore", "db9", "--target", target]] {
        refused(&words.join(" "), &site.run(words), 6, "notfound.deployment");
    }
    assert!(!elsewhere.exists());
    assert_eq!(site.content(), before);
}

#[test]
fn moments_that_cannot_be_reached() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    let first = site.backup(&source);
    let elsewhere = site.place("nowhere");
    let target = elsewhere.to_str().unwrap();
    let before = site.stored();
    let refuse = |more: &[&str], exit: i32, code: &str| {
        let words = [&["restore", "db1", "--target", target, "-q"], more].concat();
        refused(&more.join(" "), &site.run(&words), exit, code);
        assert!(!elsewhere.exists());
    };
    for time in [
        "2026-02-30",
        "2026-02-30T10:00:00Z",
        "25:00",
        "2026-11-22 25:00:00Z",
        "soon",
        "",
    ] {
        refuse(&["--to", time], 2, "usage.invalid_time");
    }
    refuse(&["--to", "2020-01-01 00:00:00Z"], 6, "notfound.backup_before_target");
    refuse(&["--to-lsn", "0/1"], 6, "notfound.backup_before_target");
    refuse(&["--to-name", "never"], 6, "notfound.backup_before_target");
    refuse(&["--to", "2999-01-01 00:00:00Z"], 7, "conflict.target_unreachable");
    refuse(&["--to-lsn", "FFFFFFFF/0"], 7, "conflict.target_unreachable");
    refuse(&["--to-timeline", "7"], 7, "conflict.target_unreachable");
    refuse(&["db1.full.20200101T000000Z.0000"], 6, "notfound.backup");
    let (repository, file) = (site.repository(), site.product.home().join("file"));
    fs::write(&file, "mine").unwrap();
    for (target, exit, code) in [
        (&repository, 2, "usage.target_in_repository"),
        (&file, 7, "conflict.target_not_empty"),
    ] {
        let words = ["restore", "db1", "-q", "--target", target.to_str().unwrap()];
        refused("the repository or a file as target", &site.run(&words), exit, code);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let theirs = id(&first).replacen("db1", "db2", 1);
    refuse(&[&theirs], 6, "notfound.backup");
    for command in ["show", "verify"] {
        refused(
            "another deployment's",
            &site.run(&[command, "db1", &theirs]),
            6,
            "notfound.backup",
        );
    }
    assert_eq!(site.stored(), before);
}

#[test]
fn urls() {
    let mut site = Site::new();
    for (name, value) in [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", PASSWORD)] {
        site.product.set(name, value);
    }
    let refuse = |words: &[&str], exit: i32, code: &str| {
        refused(&words.join(" "), &site.product.run(words), exit, code);
    };
    let everywhere = |url: &str, exit: i32, code: &str| {
        // A store that does not answer is asked several times: three commands then wait side by side.
        thread::scope(|scope| {
            scope.spawn(|| refuse(&["list", "db1", "--repo", url], exit, code));
            scope.spawn(|| refuse(&["repo", "init", url], exit, code));
            let fetch = ["wal", "fetch", "db1", "000000010000000000000001", "x", "--repo", url];
            scope.spawn(move || refuse(&fetch, 126, code));
        });
    };
    for url in ["ftp://host/x", "https://host/x"] {
        everywhere(url, 2, "usage.unknown_scheme");
    }
    for url in ["no url", "/srv/backup", "s3://", "file:///srv?x=1"] {
        everywhere(url, 2, "usage.invalid_url");
    }
    everywhere(
        "s3://bucket/prefix?endpoint=http://127.0.0.1:1&region=x",
        8,
        "unreachable.store",
    );
}

#[test]
fn configuration() {
    let site = Site::new();
    let file = site.product.home().join("bad.yaml");
    let path = file.to_str().unwrap();
    let refuse = |what: &str| {
        let list = ["-c", path, "list", "db1"];
        refused(what, &site.run(&list), 2, "usage.invalid_config");
        let fetch = ["-c", path, "wal", "fetch", "db1", "000000010000000000000001", "x"];
        refused(what, &site.run(&fetch), 126, "usage.invalid_config");
    };
    refuse("missing");
    let connection = format!("    pg_connection: postgres://u:{PASSWORD}@h/x\n");
    for (what, text) in [
        ("unknown field", "bogus: 1\n".to_owned()),
        (
            "unknown field beside a password",
            format!("deployments:\n  db1:\n{connection}    repos: file:///x\n"),
        ),
        ("not YAML", format!("deployments:\n  db1:\n{connection}  x: [\n")),
        ("of another shape", "deployments: 3\n".to_owned()),
        ("a malformed name", format!("deployments:\n  DB1:\n{connection}")),
        ("another schema", "schema: pg_hardstorage.config.v9\n".to_owned()),
    ] {
        fs::write(&file, text).unwrap();
        refuse(what);
    }
    step("a password in the configuration is not shown");
    fs::write(
        &file,
        format!("deployments:\n  db1:\n    pg_connection: postgres://u:{PASSWORD}@h:port/x\n"),
    )
    .unwrap();
    let answer = site.run(&["-c", path, "backup", "db1"]);
    refused(
        "connection in the configuration",
        &answer,
        2,
        "usage.invalid_connection",
    );
    silent("connection", &answer);
    assert!(!site.product.home().join("x").exists());
}

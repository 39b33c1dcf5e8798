//! `verify --restore`: the backup is restored, started and asked, as an unprivileged user also when root asks, and the
//! scratch directory is gone afterwards, whatever came of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hardstorage_e2e::{Answer, Cluster, postgres_program, run};
use rustix::process::geteuid;

use crate::site::{Site, step};
use crate::verdict::refused;

fn programs(major: u16) -> String {
    let program = postgres_program(major, "postgres");
    program.parent().and_then(Path::to_str).unwrap().to_owned()
}

/// A source with something to ask for, its backup, and a place for scratch directories that nothing stays in.
struct Proof {
    site: Site,
    bin: String,
}

impl Proof {
    fn new(major: u16) -> Proof {
        let source = Cluster::builder(major).start();
        source.sql("CREATE TABLE answers AS SELECT 42 AS n");
        let site = Site::new();
        site.backup(&source);
        Proof {
            site,
            bin: programs(major),
        }
    }

    fn words<'a>(&'a self, scratch: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let words = [
            "verify",
            "db1",
            "--restore",
            "--scratch",
            scratch,
            "--repo",
            &self.site.repo,
        ];
        [&words[..], more].concat()
    }

    /// Verifies, and fails the test when a file or a process is left.
    #[track_caller]
    fn verify(&self, as_root: bool, more: &[&str]) -> Answer {
        let scratch = self.site.dir("scratch");
        let words = self.words(scratch.to_str().unwrap(), more);
        let answer = if as_root {
            run(self.site.product.command_as_caller(&words), Duration::from_mins(2))
        } else {
            self.site.product.run(&words)
        };
        let left: Vec<_> = fs::read_dir(&scratch)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?} was left\n{answer}");
        let servers = servers_in(&scratch);
        assert!(servers.is_empty(), "{servers:?} was left\n{answer}");
        answer
    }

    /// A good backup passes and tells the query's answer.
    #[track_caller]
    fn passes(&self, as_root: bool) {
        let query = "SELECT n FROM answers";
        let more = ["--pg-bin", &self.bin, "--query", query, "-o", "json"];
        let answer = self.verify(as_root, &more).ok();
        let result = answer.result();
        assert_eq!(result["level"], "restore", "{answer}");
        assert_eq!(result["ok"], true, "{answer}");
        assert_eq!(result["restore"]["answer"], "42", "{answer}");
        assert_eq!(result["restore"]["query"], query, "{answer}");
    }
}

/// Command lines of this machine that name a directory.
fn servers_in(directory: &Path) -> Vec<String> {
    let word = directory.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    // A process that ended in between has no command line any more.
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let text = lines.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    text.filter(|line| line.contains(word)).collect()
}

#[test]
fn a_good_backup_passes() {
    for major in [18, 15] {
        step(&format!("PostgreSQL {major}"));
        let proof = Proof::new(major);
        proof.passes(false);
        if geteuid().is_root() {
            step("as root");
            proof.passes(true);
        }
    }
}

#[test]
fn what_is_no_proof() {
    let proof = Proof::new(18);
    let fails = |as_root: bool, more: &[&str], exit: i32, code: &str| {
        refused(&more.join(" "), &proof.verify(as_root, more), exit, code);
    };
    let failed = "verify.restore_failed";
    let bin = ["-q", "--pg-bin", &proof.bin];
    let wrong_query = [&bin[..], &["--query", "SELECT 1/0"]].concat();
    fails(false, &wrong_query, 9, failed);
    fails(false, &[&bin[..], &["--database", "nowhere"]].concat(), 9, failed);
    let absent = "notfound.postgres_programs";
    let other = programs(17);
    let another_version = ["-q", "--pg-bin", &other];
    fails(false, &another_version, 6, absent);
    fails(false, &["-q", "--pg-bin", "/nowhere"], 6, absent);
    // PostgreSQL 18 is on no PATH here and in no packaged place, or this test could not tell.
    fails(false, &["-q"], 6, absent);
    if geteuid().is_root() {
        step("as root");
        fails(true, &wrong_query, 9, failed);
        fails(true, &another_version, 6, absent);
    }
    step("restore looks for its verifier before it writes");
    let target = proof.site.place("restored");
    let restore = ["restore", "db1", "-q", "--target", target.to_str().unwrap()];
    for more in [&["--pg-bin", &other][..], &["--verify", "require"]] {
        let answer = proof.site.run(&[&restore[..], more].concat());
        refused(&more.join(" "), &answer, 6, absent);
        assert!(!target.exists());
    }
}

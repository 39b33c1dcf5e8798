//! One repository with its user, the streams that fill it, and what comes back out of it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hardstorage_e2e::{Answer, Background, Cluster, Hardstorage, Ledger, Scratch, free_loopback, get};
use serde_json::Value;

pub use hardstorage_e2e::lsn;

/// The longest wait for anything.
pub const PATIENCE: Duration = Duration::from_mins(1);
const REPORT_PORT: u16 = 9187;

/// Tells what a test is about to do; the test runner shows it when the test fails.
#[allow(clippy::print_stderr, reason = "the runner keeps it for the test that fails")]
pub fn step(text: &str) {
    eprintln!("• {text}");
}

/// Adds rows and ends the segment.
#[track_caller]
pub fn fill_segment(cluster: &Cluster, chapter: &str) -> Ledger {
    let held = Ledger::add(cluster, chapter, 500);
    cluster.sql("SELECT pg_switch_wal()");
    held
}

/// A repository, empty at first.
pub struct Site {
    pub product: Hardstorage,
    pub repo: String,
    places: Scratch,
}

impl Site {
    pub fn new() -> Site {
        let places = Scratch::new();
        let repo = format!("file://{}", places.dir("repository").display());
        let product = Hardstorage::new();
        product.run(&["repo", "init", &repo]).ok();
        Site { product, repo, places }
    }

    /// The same, with one backup and all that was written so far, brought by a stream that has ended.
    pub fn streamed_once(source: &Cluster) -> Site {
        let site = Site::new();
        Ledger::create(source);
        let mut stream = site.stream("before", &source.connection(), &[]);
        site.backup(source);
        stream.until_durable(source);
        stream.stop();
        site
    }

    /// A repository in an object store.
    pub fn on(url: &str, credentials: &[(&str, &str)]) -> Site {
        let mut product = Hardstorage::new();
        for (name, value) in credentials {
            product.set(name, value);
        }
        product.run(&["repo", "init", url]).ok();
        Site {
            product,
            repo: url.to_owned(),
            places: Scratch::new(),
        }
    }

    /// The directory of the repository.
    pub fn repository(&self) -> PathBuf {
        self.places.path("repository")
    }

    /// A path for something that is to be restored.
    pub fn place(&self, name: &str) -> PathBuf {
        self.places.path(name)
    }

    /// A directory of the user.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.places.dir(name)
    }

    /// A command on this repository.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Answer {
        self.product.run(&[args, &["--repo", &self.repo]].concat())
    }

    /// A command's result as JSON.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> Value {
        self.run(&[args, &["-o", "json"]].concat()).ok().result()
    }

    /// Takes a backup of `db1`; its result.
    #[track_caller]
    pub fn backup(&self, cluster: &Cluster) -> Value {
        self.ask(&["backup", "db1", "--pg-connection", &cluster.connection()])
    }

    /// The ids that `list db1` shows, newest first.
    #[track_caller]
    pub fn backups(&self) -> Vec<String> {
        let list = self.ask(&["list", "db1"]);
        let lines = list["backups"].as_array().unwrap_or_else(|| panic!("{list}"));
        lines.iter().map(|line| id(line)).collect()
    }

    /// Starts a stream of `db1` and waits until bytes flow.
    #[track_caller]
    pub fn stream(&self, name: &str, connection: &str, more: &[&str]) -> Stream {
        let mut stream = self.start_stream(name, connection, more);
        stream.until("it streams", |status| status["phase"] == "streaming");
        stream
    }

    /// Starts a stream of `db1`, with a flush each second unless `more` says otherwise.
    pub fn start_stream(&self, name: &str, connection: &str, more: &[&str]) -> Stream {
        let report = SocketAddrV4::new(free_loopback(REPORT_PORT), REPORT_PORT);
        let listen = report.to_string();
        let mut args = vec![
            "wal",
            "stream",
            "db1",
            "--pg-connection",
            connection,
            "--repo",
            &self.repo,
        ];
        args.extend(["--report-listen", &listen, "-o", "json"]);
        if !more.contains(&"--flush-interval") {
            args.extend(["--flush-interval", "1s"]);
        }
        args.extend(more);
        Stream {
            process: self.product.start(name, &args),
            report,
        }
    }

    /// Restores `db1` to `name`; what the command said, and where the files are.
    #[track_caller]
    pub fn restore_files(&self, name: &str, args: &[&str]) -> (Answer, PathBuf) {
        let target = self.place(name);
        let words = ["restore", "db1", "--target", target.to_str().unwrap()];
        let done = self.run(&[&words[..], args].concat()).ok();
        (done, target)
    }

    /// Restores `db1` and starts the server, whose restore_command reads from the store, too.
    #[track_caller]
    pub fn restore(&self, major: u16, name: &str, args: &[&str]) -> Cluster {
        let (_, target) = self.restore_files(name, args);
        let server = Cluster::builder(major).over(&target);
        server.environments(self.product.environment()).start()
    }

    /// The rows at the end of the archive.
    #[track_caller]
    pub fn latest(&self, name: &str) -> Ledger {
        self.all(name, &["--to-latest"])
    }

    /// The rows after recovery that ends with a promotion.
    #[track_caller]
    pub fn all(&self, name: &str, args: &[&str]) -> Ledger {
        let mut restored = self.restore(18, name, args);
        restored.until_promoted();
        Ledger::read(&restored)
    }

    /// The rows of a moment, where recovery stands still.
    #[track_caller]
    pub fn paused(&self, name: &str, args: &[&str]) -> Ledger {
        let mut restored = self.restore(18, name, args);
        restored.until_paused();
        Ledger::read(&restored)
    }

    /// A restore that must be refused before it writes.
    #[track_caller]
    pub fn refused(&self, name: &str, args: &[&str], exit: i32, code: &str) -> Answer {
        let target = self.place(name);
        let words = ["restore", "db1", "--target", target.to_str().unwrap()];
        let preview = self.run(&[&words[..], args, &["--preview"]].concat()).exits(exit);
        let answer = self.run(&[&words[..], args].concat()).exits(exit);
        assert!(answer.stderr.contains(&format!("ERROR {code}: ")), "{answer}");
        assert!(
            preview.stdout.contains(code) || preview.stderr.contains(code),
            "{preview}"
        );
        assert!(!target.exists(), "a refused restore wrote something\n{answer}");
        answer
    }

    /// The same without sessions: whoever reads opens one, so that nothing is collected under it.
    pub fn stored(&self) -> BTreeMap<PathBuf, u64> {
        let sessions = self.repository().join("sessions");
        let mut found = self.content();
        found.retain(|path, _| !path.starts_with(&sessions));
        found
    }

    /// Every file of the repository with its length, to see that nothing changed.
    pub fn content(&self) -> BTreeMap<PathBuf, u64> {
        let mut found = BTreeMap::new();
        walk(&self.repository(), &mut found);
        found
    }
}

/// The id in a result.
#[track_caller]
pub fn id(result: &Value) -> String {
    let id = result["backup_id"].as_str();
    id.unwrap_or_else(|| panic!("no backup_id: {result}")).to_owned()
}

fn walk(directory: &Path, found: &mut BTreeMap<PathBuf, u64>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            walk(&entry.path(), found);
        } else {
            found.insert(entry.path(), metadata.len());
        }
    }
}

/// A running `wal stream`.
pub struct Stream {
    pub process: Background,
    report: SocketAddrV4,
}

impl Stream {
    /// Where it answers.
    pub fn address(&self) -> SocketAddrV4 {
        self.report
    }

    /// Its `/status`, once it answers.
    pub fn status(&self) -> Option<Value> {
        let (code, body) = get(self.report, "/status").ok()?;
        assert_eq!(code, 200, "{body}");
        Some(serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    /// Its connection to the server is the first one.
    #[track_caller]
    pub fn never_broke(&mut self) {
        let answer = self.process.answer();
        assert_eq!(self.status().unwrap()["connections"], 1, "{answer}");
        assert!(self.events_named("wal.stream.reconnecting").is_empty(), "{answer}");
    }

    /// Waits for something in its `/status`.
    #[track_caller]
    pub fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until_within(what, PATIENCE, is)
    }

    /// The same with a deadline of its own.
    #[track_caller]
    pub fn until_within(&mut self, what: &str, deadline: Duration, is: impl Fn(&Value) -> bool) -> Value {
        let report = self.report;
        self.process.until(what, deadline, || {
            let (_, body) = get(report, "/status").ok()?;
            serde_json::from_str::<Value>(&body).ok().filter(|status| is(status))
        })
    }

    /// Waits until everything that the server has flushed is durable in the repository.
    #[track_caller]
    pub fn until_durable(&mut self, cluster: &Cluster) {
        let wanted = cluster.value("SELECT pg_current_wal_flush_lsn()");
        // The control file learns of a new timeline only with its first checkpoint.
        let timeline = cluster.value("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
        let timeline = u64::from_str_radix(&timeline, 16).unwrap();
        self.until(&format!("{wanted} of timeline {timeline} is durable"), |status| {
            let durable = status["durable_lsn"].as_str();
            status["timeline"] == timeline && durable.is_some_and(|durable| lsn(durable) >= lsn(&wanted))
        });
    }

    /// The events so far.
    pub fn events(&mut self) -> Vec<Value> {
        let said = self.process.answer();
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        said.stderr.lines().map(parse).collect()
    }

    /// The events of a name.
    pub fn events_named(&mut self, name: &str) -> Vec<Value> {
        let events = self.events().into_iter();
        events.filter(|event| event["name"] == name).collect()
    }

    /// Asks it to end; its result, which must be a clean stop.
    #[track_caller]
    pub fn stop(mut self) -> Value {
        let said = self.process.stop().ok();
        let result = said.result();
        assert_eq!(result["clean_stop"], true, "{said}");
        result
    }
}

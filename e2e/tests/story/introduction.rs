//! The introduction, from an empty repository to the rows of a moment. Written against the command-line contract only.

use std::path::Path;
use std::time::Duration;

use hardstorage_e2e::{Background, Cluster, Hardstorage, Ledger, ObjectStore, Scratch, free_loopback, get, until};
use serde_json::Value;

#[test]
fn on_postgresql_15() {
    over_a_directory(15);
}

#[test]
fn on_postgresql_16() {
    over_a_directory(16);
}

#[test]
fn on_postgresql_17() {
    over_a_directory(17);
}

#[test]
fn on_postgresql_18() {
    over_a_directory(18);
}

#[test]
fn over_an_object_store() {
    let store = ObjectStore::minio();
    store.bucket("backups");
    tell(18, &store.url("backups/deep/prefix"), &store.credentials());
}

fn over_a_directory(major: u16) {
    let repository = Scratch::new();
    tell(major, &format!("file://{}", repository.dir("backup").display()), &[]);
}

/// What every command of the story needs.
struct Story {
    product: Hardstorage,
    source: Cluster,
    restored: Scratch,
    repo: String,
    environment: Vec<(String, String)>,
}

impl Story {
    /// Restores into a new directory and starts PostgreSQL over it.
    fn restore(&self, name: &str, target: &[&str]) -> Cluster {
        let directory = self.restored.path(name);
        let path = directory.display().to_string();
        let mut args = vec!["restore", "db1", "latest", "--target", &path, "--repo", &self.repo];
        args.extend(target);
        let plan = self.product.run(&[&args[..], &["--preview"]].concat()).ok();
        assert!(!directory.exists(), "a preview wrote something\n{plan}");
        let done = self.product.run(&args).ok();
        assert!(directory.join("PG_VERSION").exists(), "{done}");
        // PostgreSQL's own judge; without the WAL, which comes from the repository.
        self.source.tool("pg_verifybackup", &["--no-parse-wal", &path]).ok();
        self.start(&directory)
    }

    fn start(&self, directory: &Path) -> Cluster {
        let mut recipe = Cluster::builder(self.source.major()).over(directory);
        for (name, value) in &self.environment {
            recipe = recipe.environment(name, value);
        }
        recipe.start()
    }

    /// A command whose answer is one document; its result.
    fn ask(&self, args: &[&str]) -> Value {
        let answer = self
            .product
            .run(&[args, &["--repo", &self.repo, "-o", "json"]].concat())
            .ok();
        assert!(
            answer.json()["schema"]
                .as_str()
                .is_some_and(|schema| !schema.is_empty()),
            "{answer}"
        );
        answer.result()
    }
}

fn tell(major: u16, repo: &str, environment: &[(&str, &str)]) {
    let mut product = Hardstorage::new();
    for (name, value) in environment {
        product.set(name, value);
    }
    let source = Cluster::builder(major).start();
    let connection = source.connection();
    let (pg, repository) = (["--pg-connection", &connection], ["--repo", repo]);

    product.run(&["repo", "init", repo]).ok();
    let again = product.run(&["repo", "init", repo]).exits(7);
    assert!(again.stderr.contains("conflict.repo_exists"), "{again}");
    product.run(&[&["wal", "preflight", "db1"], &pg[..]].concat()).ok();

    let report = free_loopback(9187);
    let listen = format!("{report}:9187");
    let stream = [
        "wal",
        "stream",
        "db1",
        "--flush-interval",
        "1s",
        "--report-listen",
        &listen,
    ];
    let mut stream = product.start("stream", &[&stream[..], &pg, &repository].concat());
    let slot = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'pg_hardstorage_db1' AND active AND NOT temporary";
    stream.until("the permanent slot is in use", Duration::from_mins(1), || {
        source.try_value(slot).ok()
    });
    reports(&mut stream, report);

    product
        .run(&[&["init", "--deployment", "db1", "--yes"], &pg[..], &repository].concat())
        .ok();

    Ledger::create(&source);
    Ledger::add(&source, "before the backup", 2000);
    let backup = product
        .run(&[&["backup", "db1"], &pg[..], &repository, &["-o", "json"]].concat())
        .ok();
    let backup_id = backup.result()["backup_id"]
        .as_str()
        .unwrap_or_else(|| panic!("no backup_id\n{backup}"))
        .to_owned();
    let wanted = Ledger::add(&source, "after the backup", 500);
    let moment = source.now();
    let everything = Ledger::add(&source, "after the moment", 700);
    assert_ne!(wanted, everything);

    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut story = Story {
        product,
        source,
        restored: Scratch::new(),
        repo: repo.to_owned(),
        environment,
    };
    story.source.until_acknowledged();

    // Exactly the rows of the moment: paused there, and it stays so.
    let mut then = story.restore("then", &["--to", &moment]);
    then.until_paused();
    assert_eq!(Ledger::read(&then), wanted);
    drop(then);

    // Everything, by the tail of the WAL that no full segment holds yet.
    let mut now = story.restore("now", &["--to-latest"]);
    now.until_promoted();
    assert_eq!(Ledger::read(&now), everything);
    Ledger::add(&now, "a new timeline", 10);
    drop(now);

    // Plain: the end of the backup. Everything written before it began is there, nothing after its end.
    let end = story.restore("end", &[]);
    let rows = until("the restored table", Duration::from_mins(1), || {
        end.try_value("SELECT count(*) FROM ledger").ok()
    });
    assert_eq!(rows, "2000");
    drop(end);

    overview(&story, &backup_id);
    story.product.run(&["verify", "db1", "latest", "--repo", repo]).ok();

    // Graceful: what was received is durable when it ends.
    let last = Ledger::add(&story.source, "before the stop", 50);
    let ended = stream.stop().ok();
    assert!(!ended.stderr.contains("ERROR"), "{ended}");
    let mut after = story.restore("after", &["--to-latest"]);
    after.until_promoted();
    assert_eq!(Ledger::read(&after), last);
    assert_eq!(last.rows(), everything.rows() + 50);
}

/// The stream tells how it is.
fn reports(stream: &mut Background, address: std::net::Ipv4Addr) {
    let address = std::net::SocketAddrV4::new(address, 9187);
    let (status, body) = stream.until("the report", Duration::from_secs(30), || {
        get(address, "/v1/report").ok()
    });
    assert_eq!(status, 200, "{body}");
    let report: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert!(report.is_object(), "{report}");
    assert_eq!(get(address, "/healthz").unwrap().0, 200);
    let (status, metrics) = get(address, "/metrics").unwrap();
    assert!(status == 200 && metrics.contains("# TYPE"), "{metrics}");
}

/// The commands that only tell.
fn overview(story: &Story, backup_id: &str) {
    let status = story.ask(&["status", "db1"]);
    assert!(status.to_string().contains(backup_id), "{status}");
    let list = story.ask(&["list", "db1"]);
    // The wizard's and ours.
    assert_eq!(list["backups"].as_array().map(Vec::len), Some(2), "{list}");
    assert!(list.to_string().contains(backup_id), "{list}");
    let shown = story.ask(&["show", "db1", backup_id]);
    assert_eq!(shown["backup_id"], backup_id, "{shown}");
    let plan = story.ask(&["rotate", "db1"]);
    assert!(plan.to_string().contains(backup_id), "{plan}");
    // A plan only: nothing is gone.
    assert_eq!(story.ask(&["list", "db1"])["backups"].as_array().map(Vec::len), Some(2));
}

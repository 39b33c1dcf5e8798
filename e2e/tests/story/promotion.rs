//! The days on which a stream earns its keep: a promotion, a `kill -9`, a quiet stop.

use std::time::Duration;

use hardstorage_e2e::{Background, Cluster, Hardstorage, Scratch};

const MINUTE: Duration = Duration::from_mins(1);

struct Scene {
    product: Hardstorage,
    scratch: Scratch,
    repo: String,
}

impl Scene {
    fn new() -> Scene {
        let scratch = Scratch::new();
        let repo = format!("file://{}", scratch.dir("backup").display());
        let product = Hardstorage::new();
        product.run(&["repo", "init", &repo]).ok();
        Scene { product, scratch, repo }
    }

    fn stream(&self, name: &str, connection: &str, flush: &str) -> Background {
        let words = [
            "wal",
            "stream",
            "db1",
            "--pg-connection",
            connection,
            "--repo",
            &self.repo,
            "--flush-interval",
            flush,
        ];
        self.product.start(name, &words)
    }

    fn backup(&self, connection: &str) {
        self.product
            .run(&["backup", "db1", "--pg-connection", connection, "--repo", &self.repo])
            .ok();
    }

    fn restore_all(&self, major: u16, name: &str) -> Cluster {
        let target = self.scratch.path(name);
        let path = target.display().to_string();
        self.product
            .run(&["restore", "db1", "--target", &path, "--repo", &self.repo, "--to-latest"])
            .ok();
        let mut restored = Cluster::builder(major).over(&target).start();
        restored.until_promoted();
        restored
    }
}

const COUNT: &str =
    "SELECT string_agg(what || '=' || n, ',' ORDER BY what) FROM (SELECT what, count(*) n FROM t GROUP BY what) s";

fn add(cluster: &Cluster, what: &str, rows: u32) {
    cluster.sql(&format!(
        "INSERT INTO t SELECT '{what}', g FROM generate_series(1, {rows}) g"
    ));
}

#[test]
fn a_promotion_is_followed_and_no_row_is_lost() {
    let scene = Scene::new();
    let mut primary = Cluster::builder(18).start();
    let mut standby = primary.standby();
    primary.sql("CREATE TABLE t (what text, g int)");
    let connection = primary.connection();
    let mut first = scene.stream("first", &connection, "500ms");
    first.until("the stream is there", MINUTE, || {
        primary
            .try_value("SELECT 1 FROM pg_replication_slots WHERE active")
            .ok()
    });
    scene.backup(&connection);
    add(&primary, "before", 1000);
    primary.sql("SELECT pg_switch_wal()");
    add(&primary, "tail", 10);
    primary.until_acknowledged();
    first.stop().ok();
    primary.stop();
    standby.promote();
    add(&standby, "after", 500);
    let connection = standby.connection();
    let mut second = scene.stream("second", &connection, "500ms");
    second.until("the stream follows", MINUTE, || {
        standby
            .try_value("SELECT 1 FROM pg_replication_slots WHERE active")
            .ok()
    });
    standby.until_acknowledged();
    let restored = scene.restore_all(18, "latest");
    assert_eq!(restored.value(COUNT), "after=500,before=1000,tail=10");
    scene.product.run(&["wal", "audit", "db1", "--repo", &scene.repo]).ok();
    second.stop().ok();
}

#[test]
fn a_killed_stream_resumes_and_a_stopped_one_leaves_a_tail() {
    let scene = Scene::new();
    let primary = Cluster::builder(18).start();
    let connection = primary.connection();
    primary.sql("CREATE TABLE t (what text, g int)");
    let mut first = scene.stream("first", &connection, "1s");
    first.until("the stream is there", MINUTE, || {
        primary
            .try_value("SELECT 1 FROM pg_replication_slots WHERE active")
            .ok()
    });
    scene.backup(&connection);
    add(&primary, "killed", 5000);
    first.kill();
    add(&primary, "away", 5000);
    // An hour: only the graceful stop makes the last rows durable.
    let mut second = scene.stream("second", &connection, "1h");
    second.until("the stream is back", MINUTE, || {
        primary
            .try_value("SELECT 1 FROM pg_stat_replication WHERE sent_lsn >= pg_current_wal_lsn()")
            .ok()
    });
    add(&primary, "last", 7);
    second.until("the rows were sent", MINUTE, || {
        primary
            .try_value("SELECT 1 FROM pg_stat_replication WHERE sent_lsn >= pg_current_wal_lsn()")
            .ok()
    });
    second.stop().ok();
    let restored = scene.restore_all(18, "latest");
    assert_eq!(restored.value(COUNT), "away=5000,killed=5000,last=7");
}

#[test]
fn a_backup_restores_by_itself_and_bad_input_changes_nothing() {
    let scene = Scene::new();
    let primary = Cluster::builder(15).start();
    let connection = primary.connection();
    primary.sql("CREATE TABLE t (what text, g int)");
    add(&primary, "alone", 100);
    scene.backup(&connection);
    let restored = scene.restore_all(15, "alone");
    assert_eq!(restored.value(COUNT), "alone=100");

    let nowhere = "postgres://pgbackup:pgbackup@127.0.0.1:1/postgres";
    let wrong = connection.replace("pgbackup@", "wrong@");
    let inside = scene.repo.trim_start_matches("file://").to_owned() + "/x";
    let repo = scene.repo.as_str();
    let cases: [(&[&str], i32, &str); 9] = [
        (
            &["backup", "db1", "--repo", repo, "--pg-connection", nowhere],
            8,
            "unreachable.postgres",
        ),
        (
            &["backup", "db1", "--repo", repo, "--pg-connection", &wrong],
            3,
            "auth.postgres",
        ),
        (
            &["backup", "../x", "--repo", repo, "--pg-connection", &connection],
            2,
            "usage.invalid_name",
        ),
        (
            &["backup", "db1", "--repo", "ftp://x/y", "--pg-connection", &connection],
            2,
            "usage.unknown_scheme",
        ),
        (
            &["list", "db1", "--repo", "file:///nowhere/at/all"],
            6,
            "notfound.bucket",
        ),
        (&["list", "db9", "--repo", repo], 6, "notfound.deployment"),
        (
            &["restore", "db1", "--repo", repo, "--target", &inside],
            2,
            "usage.target_in_repository",
        ),
        (
            &[
                "restore",
                "db1",
                "--repo",
                repo,
                "--target",
                "/tmp/never",
                "--to",
                "soon",
            ],
            2,
            "usage.invalid_time",
        ),
        (
            &[
                "restore",
                "db1",
                "--repo",
                repo,
                "--target",
                "/tmp/never",
                "--to-lsn",
                "0/1",
            ],
            6,
            "notfound.backup_before_target",
        ),
    ];
    let before = scene
        .product
        .run(&["list", "db1", "--repo", repo, "-o", "json"])
        .ok()
        .result()["count"]
        .clone();
    for (words, exit, code) in cases {
        let answer = scene.product.run(words).exits(exit);
        assert!(
            answer.stderr.contains(code) && answer.stderr.contains("hint: "),
            "{words:?}\n{answer}"
        );
    }
    let after = scene
        .product
        .run(&["list", "db1", "--repo", repo, "-o", "json"])
        .ok()
        .result()["count"]
        .clone();
    assert_eq!(before, after);
}

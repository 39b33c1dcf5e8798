//! A stream that a scheduler starts before everything that it needs is there: it waits, says for what, and is never
//! started again.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use hardstorage_e2e::{Background, Cluster, Hardstorage, Ledger, get};
use serde_json::Value;

use crate::site::{PATIENCE, Site, Stream, step};

/// Puts a file in place in one step, for the product's user alone.
fn put(directory: &Path, name: &str, bytes: &[u8]) {
    let temporary = directory.join(format!(".{name}"));
    fs::write(&temporary, bytes).unwrap();
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(directory).unwrap();
    chown(&temporary, Some(owner.uid()), Some(owner.gid())).unwrap();
    fs::rename(&temporary, directory.join(name)).unwrap();
}

/// Waits until the stream says that it waits for this, with a hint, and that its run goes on.
#[track_caller]
fn waits_for(stream: &mut Stream, code: &str) -> Value {
    let status = stream.until(&format!("it waits for {code}"), |status| {
        status["last_error"]["code"] == code && status["phase"] == "reconnecting"
    });
    assert!(!status["last_error"]["hint"].as_str().unwrap().is_empty(), "{status}");
    let (_, report) = get(stream.address(), "/v1/report").unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["state"], &report["run_id"], &report["error"]),
        (&"running".into(), &"run-1".into(), &Value::Null)
    );
    assert_eq!(report["stream"]["last_error"]["code"], code);
    status
}

#[test]
fn a_stream_under_a_scheduler_waits_for_each_of_its_parts() {
    let mut source = Cluster::builder(18).start();
    Ledger::create(&source);
    let site = Site::new();
    let credentials = site.dir("credentials");
    let address = source.address();
    let connection = format!("host={} port={} dbname=postgres", address.ip(), address.port());
    let moved = site.place("not-mounted-yet");
    fs::rename(site.repository(), &moved).unwrap();
    let more = [
        "--credentials-dir",
        credentials.to_str().unwrap(),
        "--run-id",
        "run-1",
        "--max-reconnect-backoff",
        "1s",
    ];
    let mut stream = site.start_stream("late", &connection, &more);

    step("the volume of the repository");
    waits_for(&mut stream, "notfound.bucket");
    let (code, metrics) = get(stream.address(), "/metrics").unwrap();
    assert!(code == 200 && metrics.contains("deployment=\"db1\""), "{metrics}");
    fs::rename(&moved, site.repository()).unwrap();

    step("the key");
    waits_for(&mut stream, "auth.key_missing");
    let kek = fs::read(site.product.config().join("keyring/kek.bin")).unwrap();
    put(&credentials, "kek", &kek);

    step("the password, absent and then wrong");
    put(&credentials, "username", b"pgbackup\n");
    let absent = waits_for(&mut stream, "auth.postgres");
    put(&credentials, "password", b"another");
    stream.until("the other one was tried", |status| {
        let message = &status["last_error"]["message"];
        message.is_string() && *message != absent["last_error"]["message"]
    });
    put(&credentials, "password", b"pgbackup\n");
    stream.until("it streams", |status| status["phase"] == "streaming");

    step("a password that is changed on both sides while it streams");
    source.sql("ALTER ROLE pgbackup PASSWORD 'rotated'");
    source.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    waits_for(&mut stream, "auth.postgres");
    put(&credentials, "password", b"rotated");
    stream.until("it streams again", |status| {
        status["phase"] == "streaming" && status["last_error"].is_null()
    });
    Ledger::add(&source, "after all of it", 100);
    stream.until_durable(&source);
    stream.stop();
    source.stop();
}

#[test]
fn a_server_without_a_free_walsender_is_waited_for() {
    let mut source = Cluster::builder(18).set("max_wal_senders", "1").start();
    let site = Site::new();
    let mut receiver = source.tool_command("pg_receivewal");
    receiver.arg("-D").arg(site.dir("receiver"));
    let mut receiver = Background::start(receiver, &site.place("receiver-log"));
    source.until("it receives", |source| {
        source.try_value("SELECT 1 FROM pg_stat_replication").ok()
    });
    let mut stream = site.start_stream("waits", &source.connection(), &["--run-id", "run-1"]);
    waits_for(&mut stream, "preflight.no_free_walsender");
    receiver.stop();
    stream.until("it streams", |status| status["phase"] == "streaming");
    stream.stop();
}

/// What no waiting can cure ends it under a scheduler too, and so does a wish not to try again.
#[test]
fn what_never_heals_ends_it_all_the_same() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    site.backup(&source);
    let other = Cluster::builder(18).own_identity().start();
    let ended = |name: &str, connection: &str, more: &[&str], exit: i32, code: &str| {
        let mut process = site.start_stream(name, connection, more).process;
        let answer = process.wait(PATIENCE).exits(exit);
        assert!(answer.to_string().contains(code), "{answer}");
    };
    let connection = other.connection();
    ended("other", &connection, &[], 7, "conflict.system_identifier");
    ended("words", "host=h port=x", &[], 2, "usage.invalid_connection");
    let once = ["--no-reconnect"];
    let wrong = format!("postgres://pgbackup:wrong@{}/postgres", source.address());
    ended("once", &wrong, &once, 3, "auth.postgres");

    step("a key of another repository");
    let stranger = Hardstorage::new();
    let elsewhere = format!("file://{}", site.dir("elsewhere").display());
    stranger.run(&["repo", "init", &elsewhere]).ok();
    let credentials = site.dir("credentials");
    let key = fs::read(stranger.config().join("keyring/kek.bin")).unwrap();
    put(&credentials, "kek", &key);
    let more = ["--credentials-dir", credentials.to_str().unwrap()];
    ended("key", &source.connection(), &more, 3, "auth.key_wrong");
}

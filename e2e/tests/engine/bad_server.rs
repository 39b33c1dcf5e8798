//! Servers that cannot be used: every command that talks to one answers the same, and the repository stays as it was.

use hardstorage_e2e::{Background, Cluster};

use crate::site::{Site, step};
use crate::verdict::{PASSWORD, refused};

const PREFLIGHT: &[&str] = &["wal", "preflight", "db1"];
const STREAM: &[&str] = &["wal", "stream", "db1"];
const BACKUP: &[&str] = &["backup", "db1"];
const ALL: &[&[&str]] = &[PREFLIGHT, STREAM, BACKUP];

/// Fails the test unless each of the commands is refused so, and has left nothing.
#[track_caller]
fn refuse(site: &Site, what: &str, connection: &str, (exit, code): (i32, &str), commands: &[&[&str]]) {
    let before = site.content();
    for command in commands {
        let words = [*command, &["--pg-connection", connection]].concat();
        let answer = if command.contains(&"preflight") {
            site.product.run(&words)
        } else {
            site.run(&words)
        };
        refused(&format!("{what}: {}", command.join(" ")), &answer, exit, code);
    }
    assert_eq!(site.content(), before, "{what}: something was written");
}

#[test]
fn connections_that_are_refused() {
    let mut source = Cluster::builder(18).start();
    let site = Site::new();
    site.backup(&source);
    source.sql("CREATE ROLE stranger REPLICATION LOGIN PASSWORD 'secret-word'");
    source.sql("CREATE ROLE plain LOGIN PASSWORD 'secret-word'");
    let hba = source.data().join("pg_hba.conf");
    let lines = std::fs::read_to_string(&hba).unwrap() + "host replication plain 0.0.0.0/0 scram-sha-256\n";
    std::fs::write(&hba, lines).unwrap();
    let loaded = source.value("SELECT pg_conf_load_time()");
    source.sql("SELECT pg_reload_conf()");
    source.until("the file is read", |source| {
        (source.try_value("SELECT pg_conf_load_time()").ok()? != loaded).then_some(())
    });
    let user = |name: &str| format!("postgres://{name}:{PASSWORD}@{}/postgres", source.address());

    refuse(&site, "wrong password", &user("pgbackup"), (3, "auth.postgres"), ALL);
    refuse(&site, "no such role", &user("nobody"), (3, "auth.pg_hba"), ALL);
    refuse(
        &site,
        "no line in pg_hba.conf",
        &user("stranger"),
        (3, "auth.pg_hba"),
        ALL,
    );
    refuse(
        &site,
        "no REPLICATION",
        &user("plain"),
        (3, "auth.role_no_replication"),
        ALL,
    );
    refuse(
        &site,
        "TLS is demanded",
        &(user("pgbackup") + "?sslmode=require"),
        (3, "auth.tls"),
        ALL,
    );
    refuse(
        &site,
        "no server",
        &format!("postgres://u:{PASSWORD}@127.0.0.1:1/postgres"),
        (8, "unreachable.postgres"),
        &[PREFLIGHT, BACKUP, &["wal", "stream", "db1", "--no-reconnect"]],
    );
    refuse(
        &site,
        "no such host",
        &format!("host=nowhere.invalid user=u password={PASSWORD}"),
        (8, "unreachable.postgres"),
        &[PREFLIGHT, BACKUP],
    );
    refuse(
        &site,
        "not a connection string",
        &format!("postgres://u:{PASSWORD}@h:port/x"),
        (2, "usage.invalid_connection"),
        ALL,
    );
    step("none at all");
    let before = site.content();
    for command in [BACKUP, STREAM] {
        refused("no connection", &site.run(command), 2, "usage.invalid_connection");
    }
    assert_eq!(site.content(), before);
}

#[test]
fn servers_that_are_not_set_up() {
    let site = Site::new();
    let mut source = Cluster::builder(18).start();
    site.backup(&source);

    // With wal_level = minimal PostgreSQL starts only with max_wal_senders = 0, and that is what it answers.
    source.set("wal_level", "minimal");
    source.set("max_wal_senders", "0");
    source.restart();
    let none = (4, "preflight.no_free_walsender");
    refuse(&site, "wal_level = minimal", &source.connection(), none, ALL);

    // Another copy of one cluster, so another repository: over the first it would be a split brain.
    let site = Site::new();
    let mut source = Cluster::builder(18).start();
    site.backup(&source);
    source.set("max_wal_senders", "1");
    source.restart();
    let receive = |source: &mut Cluster, name: &str, more: &[&str]| {
        let mut receiver = source.tool_command("pg_receivewal");
        receiver.arg("-D").arg(site.dir(name)).args(more);
        let receiver = Background::start(receiver, &site.place(&format!("{name}-log")));
        source.until("it receives", |source| {
            source.try_value("SELECT 1 FROM pg_stat_replication").ok()
        });
        receiver
    };
    let mut receiver = receive(&mut source, "receiver", &[]);
    refuse(&site, "no free walsender", &source.connection(), none, ALL);
    receiver.stop();

    source.set("max_wal_senders", "10");
    source.restart();
    source.sql("SELECT pg_create_physical_replication_slot('pg_hardstorage_db1', true)");
    let mut holder = receive(&mut source, "holder", &["-S", "pg_hardstorage_db1"]);
    let held = (7, "conflict.slot_in_use");
    refuse(&site, "slot held by another", &source.connection(), held, &[STREAM]);
    holder.stop();
    source.sql("SELECT pg_drop_replication_slot('pg_hardstorage_db1')");

    source.set("max_replication_slots", "1");
    source.restart();
    source.sql("SELECT pg_create_physical_replication_slot('somebody_else')");
    let full = (4, "preflight.no_free_slot");
    refuse(&site, "no free slot", &source.connection(), full, &[STREAM]);
    step("a backup can do without a slot, and says so");
    let connection = source.connection();
    let done = site.run(&["backup", "db1", "--pg-connection", &connection]).ok();
    assert!(done.stderr.contains("backup.no_free_slot"), "{done}");

    step("a logical slot of that name is somebody's, and stays");
    source.sql("SELECT pg_drop_replication_slot('somebody_else')");
    source.set("wal_level", "logical");
    source.restart();
    source.sql("SELECT pg_create_logical_replication_slot('pg_hardstorage_db1', 'pgoutput')");
    let logical = (7, "conflict.slot_unusable");
    refuse(&site, "a logical slot", &source.connection(), logical, &[STREAM]);
    assert_eq!(source.value("SELECT slot_type FROM pg_replication_slots"), "logical");
}

#[test]
fn versions_that_are_not_supported() {
    let source = Cluster::builder(14).start();
    let site = Site::new();
    // Nothing was stored of this deployment yet, and no key is left behind for it.
    let old = (4, "preflight.postgres_version");
    refuse(&site, "PostgreSQL 14", &source.connection(), old, ALL);
    assert_eq!(source.value("SELECT count(*) FROM pg_replication_slots"), "0");
}

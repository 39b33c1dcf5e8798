//! Servers that cannot be used: one line that says why, with code and hint, the exit code of the table, no password,
//! and nothing changed.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener};
use std::thread;

use hardstorage_e2e::{Answer, Cluster, free_loopback};

use crate::site::{Site, step};

/// A way to be wrong.
struct Case<'a> {
    what: &'a str,
    connection: String,
    exit: i32,
    code: &'a str,
}

#[track_caller]
fn judge(answer: Answer, case: &Case<'_>) {
    let answer = answer.exits(case.exit);
    let line = answer.stderr.lines().find(|line| line.starts_with("ERROR "));
    let line = line.unwrap_or_else(|| panic!("{}: no error\n{answer}", case.what));
    assert!(
        line.starts_with(&format!("ERROR {}: ", case.code)),
        "{}\n{answer}",
        case.what
    );
    assert!(answer.stderr.contains("  hint: "), "{}\n{answer}", case.what);
    assert!(
        !answer.stderr.contains("secret-word"),
        "{}: a password is shown\n{answer}",
        case.what
    );
}

/// Every command that talks to a server answers the same.
#[track_caller]
fn refuse(site: &Site, case: &Case<'_>, commands: &[&[&str]]) {
    step(case.what);
    let before = site.content();
    for command in commands {
        let mut words = command.to_vec();
        words.extend(["--pg-connection", &case.connection]);
        let answer = if command.contains(&"preflight") {
            site.product.run(&words)
        } else {
            site.run(&words)
        };
        judge(answer, case);
    }
    assert_eq!(site.content(), before, "{}: something was written", case.what);
}

const PREFLIGHT: &[&str] = &["wal", "preflight", "db1"];
const STREAM: &[&str] = &["wal", "stream", "db1"];
const BACKUP: &[&str] = &["backup", "db1"];

fn as_user(cluster: &Cluster, user: &str, password: &str) -> String {
    format!("postgres://{user}:{password}@{}/postgres", cluster.address())
}

#[test]
fn connections_that_are_refused() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    site.backup(&source);
    source.sql("CREATE ROLE stranger REPLICATION LOGIN PASSWORD 'secret-word'");
    source.sql("CREATE ROLE plain LOGIN PASSWORD 'secret-word'");
    let hba = source.data().join("pg_hba.conf");
    let lines = std::fs::read_to_string(&hba).unwrap() + "host replication plain 0.0.0.0/0 scram-sha-256\n";
    std::fs::write(&hba, lines).unwrap();
    source.sql("SELECT pg_reload_conf()");
    let case = |what, connection, exit, code| Case {
        what,
        connection,
        exit,
        code,
    };
    let all: &[&[&str]] = &[PREFLIGHT, STREAM, BACKUP];
    refuse(
        &site,
        &case(
            "a wrong password",
            as_user(&source, "pgbackup", "secret-word"),
            3,
            "auth.postgres",
        ),
        all,
    );
    refuse(
        &site,
        &case(
            "no such role",
            as_user(&source, "nobody", "secret-word"),
            3,
            "auth.pg_hba",
        ),
        all,
    );
    refuse(
        &site,
        &case(
            "no line in pg_hba.conf",
            as_user(&source, "stranger", "secret-word"),
            3,
            "auth.pg_hba",
        ),
        all,
    );
    refuse(
        &site,
        &case(
            "no REPLICATION",
            as_user(&source, "plain", "secret-word"),
            3,
            "auth.role_no_replication",
        ),
        all,
    );
    refuse(
        &site,
        &case(
            "no server",
            "postgres://u:secret-word@127.0.0.1:1/postgres".to_owned(),
            8,
            "unreachable.postgres",
        ),
        &[PREFLIGHT, BACKUP, &["wal", "stream", "db1", "--no-reconnect"]],
    );
    refuse(
        &site,
        &case(
            "no such host",
            "host=nowhere.invalid user=u password=secret-word".to_owned(),
            8,
            "unreachable.postgres",
        ),
        &[PREFLIGHT, BACKUP],
    );
    refuse(
        &site,
        &case(
            "not a connection string",
            "postgres://u:secret-word@h:port/x".to_owned(),
            2,
            "usage.invalid_connection",
        ),
        all,
    );
}

#[test]
fn servers_that_are_not_set_up() {
    let site = Site::new();
    let case = |what, source: &Cluster, exit, code| Case {
        what,
        connection: source.connection(),
        exit,
        code,
    };
    let mut source = Cluster::builder(18).start();
    site.backup(&source);

    // With wal_level = minimal PostgreSQL starts only with max_wal_senders = 0, and that is what it answers.
    source.set("wal_level", "minimal");
    source.set("max_wal_senders", "0");
    source.restart();
    let minimal = case("wal_level = minimal", &source, 4, "preflight.no_free_walsender");
    refuse(&site, &minimal, &[PREFLIGHT, STREAM, BACKUP]);

    let mut source = Cluster::builder(18).set("max_wal_senders", "1").start();
    let mut receiver = source.tool_command("pg_receivewal");
    receiver.arg("-D").arg(site.dir("receiver"));
    let mut receiver = hardstorage_e2e::Background::start(receiver, &site.place("receiver-log"));
    source.until("the only walsender is taken", |source| {
        source.try_value("SELECT 1 FROM pg_stat_replication").ok()
    });
    let taken = case("no free walsender", &source, 4, "preflight.no_free_walsender");
    refuse(&site, &taken, &[PREFLIGHT, STREAM, BACKUP]);
    receiver.stop();
    source.set("max_wal_senders", "10");
    source.set("max_replication_slots", "1");
    source.restart();
    source.sql("SELECT pg_create_physical_replication_slot('somebody_else')");
    refuse(
        &site,
        &case("no free slot", &source, 4, "preflight.no_free_slot"),
        &[STREAM],
    );
    step("a backup can do without a slot, and says so");
    let connection = source.connection();
    let done = site.run(&["backup", "db1", "--pg-connection", &connection]).ok();
    assert!(done.stderr.contains("backup.no_free_slot"), "{done}");

    step("a slot that the server invalidated");
    source.sql("SELECT pg_drop_replication_slot('somebody_else')");
    source.sql("SELECT pg_create_physical_replication_slot('pg_hardstorage_db1', true)");
    source.set("max_slot_wal_keep_size", "1MB");
    source.set("wal_keep_size", "0");
    source.restart();
    source.until("the slot is lost", |source| {
        source.sql("SELECT pg_switch_wal() FROM pg_create_restore_point('x')");
        source.sql("CHECKPOINT");
        source
            .try_value("SELECT 1 FROM pg_replication_slots WHERE wal_status = 'lost'")
            .ok()
    });
    let lost = case(
        "a slot that the server invalidated",
        &source,
        7,
        "conflict.slot_unusable",
    );
    refuse(&site, &lost, &[STREAM]);
}

#[test]
fn words_that_make_no_sense() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    site.backup(&source);
    let connection = source.connection();
    let elsewhere = site.place("nowhere");
    let target = elsewhere.to_str().unwrap();
    let backup: &[&str] = &["--pg-connection", &connection];
    let cases: [(&[&str], i32, &str); 8] = [
        (&["backup", "../x"], 2, "usage.invalid_name"),
        (&["backup"], 2, "usage.invalid"),
        (&["list", "db9"], 6, "notfound.deployment"),
        (
            &["restore", "db1", "--target", target, "--to", "soon"],
            2,
            "usage.invalid_time",
        ),
        (
            &["restore", "db1", "--target", target, "--to-lsn", "zero"],
            2,
            "usage.invalid_lsn",
        ),
        (
            &["restore", "db1", "--target", target, "--to-lsn", "0/1"],
            6,
            "notfound.backup_before_target",
        ),
        (
            &["restore", "db1", "--target", target, "--to-timeline", "7"],
            7,
            "conflict.target_unreachable",
        ),
        (
            &["restore", "db1", "db1.full.20200101T000000Z.0000", "--target", target],
            6,
            "notfound.backup",
        ),
    ];
    let before = site.content();
    for (words, exit, code) in cases {
        step(&words.join(" "));
        let more = if words[0] == "backup" { backup } else { &[] };
        let answer = site.run(&[words, more].concat()).exits(exit);
        assert!(
            answer.stderr.contains(code) && answer.stderr.contains("hint: "),
            "{answer}"
        );
        assert!(!elsewhere.exists());
    }
    for (repo, exit, code) in [
        ("ftp://x/y", 2, "usage.unknown_scheme"),
        ("no url", 2, "usage.invalid_url"),
        ("file:///nowhere/at/all", 6, "notfound."),
    ] {
        step(repo);
        let words = ["backup", "db1", "--pg-connection", &connection, "--repo", repo];
        let answer = site.product.run(&words).exits(exit);
        assert!(
            answer.stderr.contains(code) && answer.stderr.contains("hint: "),
            "{answer}"
        );
    }
    // A restore opens a session, so that no collection runs beside it; nothing else may have come.
    let kept: Vec<_> = site
        .content()
        .into_iter()
        .filter(|(path, _)| !path.to_string_lossy().contains("session"))
        .collect();
    let earlier: Vec<_> = before
        .into_iter()
        .filter(|(path, _)| !path.to_string_lossy().contains("session"))
        .collect();
    assert_eq!(kept, earlier);
}

/// As much of PostgreSQL 14 as it takes to be refused.
#[test]
fn versions_that_are_not_supported() {
    let site = Site::new();
    let address = SocketAddrV4::new(free_loopback(5432), 5432);
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            thread::spawn(|| speak_as_14(socket.unwrap()));
        }
    });
    let case = Case {
        what: "PostgreSQL 14",
        connection: format!("postgres://pgbackup:secret-word@{address}/postgres?sslmode=disable"),
        exit: 4,
        code: "preflight.postgres_version",
    };
    step(case.what);
    judge(site.run(&["backup", "db1", "--pg-connection", &case.connection]), &case);
    judge(
        site.run(&["wal", "stream", "db1", "--pg-connection", &case.connection]),
        &case,
    );
    judge(
        site.product
            .run(&["wal", "preflight", "db1", "--pg-connection", &case.connection]),
        &case,
    );
}

/// Lets everybody in as version 14 and knows no command. The connection's end is no failure here.
fn speak_as_14(mut socket: impl Read + Write) -> Option<()> {
    let message = |kind: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).ok()?;
        Some([&[kind][..], &length.to_be_bytes(), body].concat())
    };
    let mut length = [0; 4];
    socket.read_exact(&mut length).ok()?;
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    socket.read_exact(&mut startup).ok()?;
    let mut hello = message(b'R', &0u32.to_be_bytes())?;
    for (name, value) in [
        ("server_version", "14.23"),
        ("client_encoding", "UTF8"),
        ("integer_datetimes", "on"),
    ] {
        hello.extend(message(b'S', format!("{name}\0{value}\0").as_bytes())?);
    }
    hello.extend(message(b'Z', b"I")?);
    socket.write_all(&hello).ok()?;
    loop {
        let mut head = [0; 5];
        socket.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
        socket.read_exact(&mut body).ok()?;
        let mut answer = message(b'E', b"SERROR\0VERROR\0C0A000\0Mnot here\0\0")?;
        answer.extend(message(b'Z', b"I")?);
        socket.write_all(&answer).ok()?;
    }
}

//! Logins without TLS, on the oldest and the newest server.

use std::path::Path;

use hardstorage_e2e::{Cluster, Scratch};
use hardstorage_replication::{ConnInfo, ConnectMode, Connection, Environment, connect};
use hardstorage_report::{Retry, code::replication as codes};

use crate::certificates::write_private;
use crate::login::{accepted, log_in, log_in_from, refused, server};

#[tokio::test]
async fn logins_on_15() {
    logins(15).await;
}

#[tokio::test]
async fn logins_on_18() {
    logins(18).await;
}

async fn logins(major: u16) {
    let cluster = server(major);
    let host = cluster.address();
    let uri = |user: &str, password: &str| format!("postgresql://{user}:{password}@{host}/?sslmode=disable");

    let connected = accepted(log_in(&uri("scram", "p%C3%A4ssw%C3%B6rd")).await, "scram");
    assert!(!connected.encrypted);
    assert!(connected.process_id > 0 && !connected.secret.is_empty());
    assert_eq!(connected.host.to_string(), host.to_string());
    let mut walsender = Connection::from_wire(connected.wire).unwrap();
    assert_eq!(u64::from(walsender.server_version_num() / 10_000), u64::from(major));
    walsender.identify().await.unwrap();
    assert_eq!(
        cluster.value("SELECT application_name FROM pg_stat_replication"),
        "pg_hardstorage"
    );
    assert_eq!(
        cluster.value("SELECT backend_type FROM pg_stat_activity WHERE usename = 'scram'"),
        "walsender"
    );

    accepted(log_in(&uri("md5user", "secret")).await, "md5");
    accepted(log_in(&uri("clear", "secret")).await, "password");
    accepted(log_in(&uri("trusted", "")).await, "trust");
    accepted(
        log_in(&format!(
            "host={host_ip} user=scram password=pässwörd",
            host_ip = host.ip()
        ))
        .await,
        "key=value",
    );

    for (user, password) in [
        ("scram", "wrong"),
        ("md5user", "wrong"),
        ("clear", "wrong"),
        ("nologin", "secret"),
    ] {
        let error = refused(log_in(&uri(user, password)).await, codes::AUTH, user);
        assert_eq!(error.retry_advice(), Retry::Never);
    }
    for user in ["scram", "md5user", "clear"] {
        let error = refused(log_in(&uri(user, "")).await, codes::AUTH, user);
        assert!(error.message().contains("none is given"), "{error:?}");
    }
    let error = refused(log_in(&uri("nohba", "secret")).await, codes::HBA, "no line");
    assert!(
        error.hint_text().contains("`host replication nohba 127."),
        "{}",
        error.hint_text()
    );
    assert!(
        error.hint_text().contains("/32 scram-sha-256`"),
        "{}",
        error.hint_text()
    );
    refused(
        log_in(&uri("missing", "secret")).await,
        codes::HBA,
        "a role that does not exist and has no line",
    );
    refused(log_in(&uri("rejected", "secret")).await, codes::HBA, "reject");
    refused(log_in(&uri("norepl", "secret")).await, codes::ROLE, "no REPLICATION");
    let error = refused(
        log_in(&uri("trusted:x@", "")).await,
        hardstorage_report::code::usage::CONNINFO,
        "a broken string",
    );
    assert!(!error.to_string().contains("trusted"), "{error}");

    unix_socket(&cluster).await;
    passfile(&cluster).await;
    database(&cluster).await;
    what_the_login_sets(&cluster).await;
}

async fn unix_socket(cluster: &Cluster) {
    let sockets = cluster.sockets().display().to_string();
    let encoded = sockets.replace('/', "%2F");
    let pass = "p%C3%A4ssw%C3%B6rd";
    // sslmode does not count on a socket.
    for conninfo in [
        format!("postgresql://scram:{pass}@{encoded}"),
        format!("postgresql://scram:{pass}@{encoded}?sslmode=verify-full"),
        format!("postgresql:///?host={sockets}&user=scram&password={pass}"),
        format!("host='{sockets}' user=scram password='pässwörd'"),
    ] {
        let connected = accepted(log_in(&conninfo).await, &conninfo);
        assert!(!connected.encrypted && connected.host.is_local());
    }
    let conninfo = format!("host={sockets} user=nohba password=secret");
    let error = refused(log_in(&conninfo).await, codes::HBA, "no local line");
    assert!(
        error.hint_text().contains("`local replication nohba scram-sha-256`"),
        "{}",
        error.hint_text()
    );
    // The server looks at our process and asks nothing: no line is missing.
    if rustix::process::geteuid().is_root() {
        refused(
            log_in(&format!("host={sockets} user=nobody")).await,
            codes::AUTH,
            "peer",
        );
    }
    refused(
        log_in(&format!("host={sockets} port=1 user=scram")).await,
        codes::UNREACHABLE,
        "no socket",
    );
    let conninfo = format!("host={sockets} user=scram password=pässwörd channel_binding=require");
    refused(log_in(&conninfo).await, codes::AUTH, "nothing to bind to");
}

async fn passfile(cluster: &Cluster) {
    let home = Scratch::new();
    let file = home.path(".pgpass");
    let host = cluster.address().ip().to_string();
    write_private(
        &file,
        &format!("{host}:5432:replication:scram:pässwörd\n{host}:*:app:clear:secret\n"),
    );
    let conninfo = format!("postgresql://scram@{host}/");
    let connected = accepted(log_in_from(home.root(), &conninfo).await, "the replication line");
    assert!(connected.warnings.is_empty());
    let conninfo = format!("postgresql://clear@{host}/app");
    accepted(
        log_in_from(home.root(), &conninfo).await,
        "the line of the database in the string",
    );
    // The string beats the file, and a file that others can read is none.
    let conninfo = format!("postgresql://scram:wrong@{host}/");
    refused(
        log_in_from(home.root(), &conninfo).await,
        codes::AUTH,
        "password before passfile",
    );
    open_to_all(&file);
    let conninfo = format!("postgresql://scram@{host}/");
    let error = refused(log_in_from(home.root(), &conninfo).await, codes::AUTH, "0644");
    assert!(error.hint_text().contains("0600"), "{}", error.hint_text());
    let conninfo = format!("postgresql://trusted@{host}/");
    let connected = accepted(log_in_from(home.root(), &conninfo).await, "no password needed");
    assert_eq!(connected.warnings.len(), 1);
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

async fn database(cluster: &Cluster) {
    let host = cluster.address();
    let log_in = |dbname: &'static str| {
        let conninfo = ConnInfo::parse(&format!("postgresql://scram:p%C3%A4ssw%C3%B6rd@{host}/{dbname}")).unwrap();
        async move { connect(&conninfo, ConnectMode::Database, &Environment::empty()).await }
    };
    let connected = accepted(log_in("app").await, "a walsender with a database");
    let sql = format!(
        "SELECT datname FROM pg_stat_activity WHERE pid = {}",
        connected.process_id
    );
    assert_eq!(cluster.value(&sql), "app");
    let error = refused(log_in("postgres").await, codes::HBA, "another database");
    assert!(
        error.hint_text().contains("`host postgres scram "),
        "{}",
        error.hint_text()
    );
}

async fn what_the_login_sets(cluster: &Cluster) {
    let host = cluster.address();
    let conninfo = format!(
        "postgresql://trusted@{host}/?application_name=%C3%BCber&options=-c%20wal_sender_timeout%3D7s&client_encoding=LATIN1"
    );
    let connected = accepted(log_in(&conninfo).await, "options");
    assert_eq!(
        connected.wire.parameters().get("client_encoding").map(String::as_str),
        Some("UTF8")
    );
    let mut walsender = Connection::from_wire(connected.wire).unwrap();
    assert_eq!(walsender.show("wal_sender_timeout").await.unwrap(), "7s");
}

//! A server with a line in `pg_hba.conf` for everything that a login can meet, and logins to it.

use std::fs;
use std::path::Path;

use hardstorage_e2e::Cluster;
use hardstorage_replication::{ConnInfo, ConnectMode, Connected, Environment, connect};
use hardstorage_report::{Code, Error, Result};
use rustix::fs::{Gid, Uid, chown};

use crate::certificates::{Pair, write_private};

/// Each user has one way in.
const HBA: &str = "\
local all postgres trust
local replication postgres trust
local replication scram scram-sha-256
local replication nobody peer
host replication scram all scram-sha-256
host app scram all scram-sha-256
host replication md5user all md5
host replication clear all password
host replication norepl all scram-sha-256
host replication nologin all scram-sha-256
host replication rejected all reject
host replication trusted all trust
hostssl replication certuser all cert
hostssl replication clientcert all scram-sha-256 clientcert=verify-ca
hostssl replication sslonly all scram-sha-256
hostnossl replication plainonly all scram-sha-256
";

const ROLES: &str = "\
CREATE ROLE scram REPLICATION LOGIN PASSWORD 'pässwörd';
CREATE ROLE clear REPLICATION LOGIN PASSWORD 'secret';
CREATE ROLE norepl LOGIN PASSWORD 'secret';
CREATE ROLE nologin REPLICATION NOLOGIN PASSWORD 'secret';
CREATE ROLE rejected REPLICATION LOGIN PASSWORD 'secret';
CREATE ROLE nohba REPLICATION LOGIN PASSWORD 'secret';
CREATE ROLE trusted REPLICATION LOGIN;
CREATE ROLE certuser REPLICATION LOGIN;
CREATE ROLE clientcert REPLICATION LOGIN PASSWORD 'secret';
CREATE ROLE sslonly REPLICATION LOGIN PASSWORD 'secret';
CREATE ROLE plainonly REPLICATION LOGIN PASSWORD 'secret';
CREATE ROLE md5user REPLICATION LOGIN PASSWORD 'secret';";

/// A server of this version without TLS.
pub fn server(major: u16) -> Cluster {
    let mut cluster = Cluster::builder(major).make();
    begin(&mut cluster);
    cluster
}

/// A server of this version with TLS: its own certificate (for `db1.test` and its address) and the authority of its
/// clients. `issue` gets the server's address.
pub fn tls_server(major: u16, issue: impl FnOnce(&str) -> Pair, clients: &str) -> Cluster {
    let mut cluster = Cluster::builder(major)
        .set("ssl", "on")
        .set("ssl_ca_file", "clients.crt")
        .make();
    install(&cluster, &issue(&cluster.address().ip().to_string()));
    fs::write(cluster.data().join("clients.crt"), clients).unwrap();
    begin(&mut cluster);
    cluster
}

fn begin(cluster: &mut Cluster) {
    fs::write(cluster.data().join("pg_hba.conf"), HBA).unwrap();
    cluster.start();
    for role in ROLES.lines() {
        let method = if role.contains("md5user") {
            "md5"
        } else {
            "scram-sha-256"
        };
        cluster.sql(&format!("SET password_encryption = '{method}'; {role}"));
    }
    cluster.sql("CREATE DATABASE app");
}

/// Puts a certificate where the server reads its own.
pub fn install(cluster: &Cluster, pair: &Pair) {
    fs::write(cluster.data().join("server.crt"), &pair.certificate).unwrap();
    let key = cluster.data().join("server.key");
    write_private(&key, &pair.key);
    // The server takes only a key of its own.
    if rustix::process::geteuid().is_root() {
        let owner = rustix::fs::stat(cluster.data()).unwrap();
        chown(
            &key,
            Some(Uid::from_raw(owner.st_uid)),
            Some(Gid::from_raw(owner.st_gid)),
        )
        .unwrap();
    }
}

/// A login that knows nothing but the string.
pub async fn log_in(conninfo: &str) -> Result<Connected> {
    connect(
        &ConnInfo::parse(conninfo)?,
        ConnectMode::Physical,
        &Environment::empty(),
    )
    .await
}

/// A login with a home directory.
pub async fn log_in_from(home: &Path, conninfo: &str) -> Result<Connected> {
    let home = home.display().to_string();
    let environment = Environment::new(|name| (name == "HOME").then(|| home.clone()));
    connect(&ConnInfo::parse(conninfo)?, ConnectMode::Physical, &environment).await
}

/// A login that must work.
#[track_caller]
pub fn accepted(result: Result<Connected>, what: &str) -> Connected {
    result.unwrap_or_else(|error| panic!("{what}: {error:?} ({})", error.hint_text()))
}

/// A login that must fail with this code, and tells no password.
#[track_caller]
pub fn refused(result: Result<Connected>, code: Code, what: &str) -> Error {
    let Err(error) = result else {
        panic!("{what}: was let in")
    };
    assert!(error.is(code), "{what}: {error:?}");
    let shown = format!("{error} {error:?} {}", error.hint_text());
    assert!(
        !shown.contains("secret") && !shown.contains("pässwörd"),
        "{what}: {shown}"
    );
    error
}

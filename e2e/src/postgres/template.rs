//! The data directory that every cluster of a version is copied from: made once and kept in the cache, because initdb
//! takes five times as long as a copy.
//!
//! It is the introduction's database: page checksums, the role `pgbackup` with REPLICATION and nothing else, and a
//! `pg_hba.conf` with its single line. initdb's own `trust` lines would hide that the product needs no more.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::programs;
use crate::answer::run;
use crate::place::cache_root;
use crate::scratch::give_away;

const MINUTE: Duration = Duration::from_mins(1);

/// Raised whenever what `make` does changes.
const FORMAT: u32 = 1;

/// The superuser by the local socket only; the role of the introduction by its own line.
const HBA: &str = "\
local all all trust
local replication postgres trust
host replication pgbackup 0.0.0.0/0 scram-sha-256
";

/// What every server here has. Where the server listens is not in a file, or a restored copy would listen there too.
const SETTINGS: &str = "
shared_buffers = 32MB
wal_level = replica
max_wal_size = 256MB
log_line_prefix = '%m [%p] %b '
log_checkpoints = on
lc_messages = 'C'
timezone = 'UTC'
";

/// The template of a version, made when it is missing.
pub(super) fn of(major: u16) -> PathBuf {
    let home = cache_root().join("templates");
    let path = home.join(format!("{major}-{FORMAT}"));
    if path.exists() {
        return path;
    }
    fs::create_dir_all(&home).unwrap_or_else(|error| panic!("mkdir {}: {error}", home.display()));
    let lock = File::create(home.join(format!("{major}.lock"))).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !path.exists() {
        let half = tempfile::Builder::new().prefix(".half.").tempdir_in(&home).unwrap();
        give_away(half.path());
        make(major, &half.path().join("data"), &[]);
        fs::rename(half.path().join("data"), &path).unwrap();
    }
    path
}

/// Makes a data directory from nothing.
pub(super) fn make(major: u16, data: &Path, options: &[String]) {
    let mut initdb = programs::command(major, "initdb");
    initdb.arg("-D").arg(data).args([
        "-U",
        "postgres",
        "-k",
        "-N",
        "--encoding=UTF8",
        "--locale=C",
        "-A",
        "trust",
    ]);
    initdb.args(options);
    run(initdb, MINUTE).ok();
    fs::write(data.join("pg_hba.conf"), HBA).unwrap();
    let mut settings = File::options().append(true).open(data.join("postgresql.conf")).unwrap();
    settings.write_all(SETTINGS.as_bytes()).unwrap();
    single_user(
        major,
        data,
        "CREATE ROLE pgbackup REPLICATION LOGIN PASSWORD 'pgbackup'",
    );
}

/// One statement without a server.
fn single_user(major: u16, data: &Path, sql: &str) {
    let mut command = programs::command(major, "postgres");
    command.args(["--single", "-D"]).arg(data).arg("postgres");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{sql}\n").as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("ERROR"),
        "postgres --single: {said}"
    );
}

/// Copies a data directory with owners, modes and times.
pub(super) fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto"]).arg(from).arg(to);
    run(command, MINUTE).ok();
}

//! One member: Patroni, its PostgreSQL, and what can be done to either.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::Etcd;
use crate::background::Background;
use crate::http;
use crate::place::{cached, free_loopback, postgres_program};
use crate::postgres::{family, programs, query};
use crate::scratch::{Scratch, give_away, unprivileged};

const PORT: u16 = 5432;
const REST: u16 = 8008;
const KEEPER: &str = include_str!("../../patroni/keeper.py");
/// The superuser and the standbys by their socket or by password; the role of the introduction by its own line.
const HBA: [&str; 3] = [
    "local all all trust",
    "host all postgres 0.0.0.0/0 scram-sha-256",
    "host replication standby,pgbackup 0.0.0.0/0 scram-sha-256",
];

/// What all members have in common.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// PostgreSQL's version.
    pub major: u16,
    /// In MiB.
    pub segment: u32,
    /// The first dynamic configuration.
    pub dynamic: Value,
}

/// A member.
#[derive(Debug)]
pub struct Member {
    /// First, so that it ends before its directory goes.
    keeper: Background,
    name: String,
    address: Ipv4Addr,
    scratch: Scratch,
}

impl Member {
    /// Starts it; the first of a new etcd makes the database, the others copy it.
    pub fn start(recipe: &Recipe, number: usize, etcd: &Etcd) -> Member {
        let scratch = Scratch::new();
        let name = format!("member{number}");
        let address = free_loopback(PORT);
        scratch.dir("s");
        fs::write(scratch.path("keeper.py"), KEEPER).unwrap();
        let config = config(recipe, &name, address, etcd, &scratch);
        // JSON is YAML.
        fs::write(scratch.path("patroni.yaml"), config.to_string()).unwrap();
        fs::write(scratch.path("run"), "").unwrap();
        give_away(&scratch.path("run"));
        let mut command = unprivileged("python3");
        command.arg(scratch.path("keeper.py")).arg(scratch.root());
        command.arg(cached("patroni/bin/patroni", "fetch-servers patroni"));
        command.arg(scratch.path("patroni.yaml"));
        command.env(
            "LD_LIBRARY_PATH",
            programs::libraries(&postgres_program(recipe.major, "postgres")),
        );
        command.env("HOME", scratch.root()).current_dir("/");
        Member {
            keeper: Background::start(command, &scratch.path("patroni")),
            name,
            address,
            scratch,
        }
    }

    /// Its name in Patroni.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its PostgreSQL listens.
    pub fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, PORT)
    }

    /// Where its Patroni listens.
    pub fn rest(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, REST)
    }

    /// The directory of its socket, where the superuser gets in without a password.
    pub fn sockets(&self) -> PathBuf {
        self.scratch.path("s")
    }

    /// The first row of a statement.
    pub fn row(&self, sql: &str) -> Option<Vec<Option<String>>> {
        query::rows(&self.sockets(), "postgres", sql).ok()?.into_iter().next()
    }

    /// Runs statements; fails the test when one fails.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        query::rows(&self.sockets(), "postgres", sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}\n--- {}\n{}", self.name, self.log()))
    }

    /// Whether Patroni says that it holds the lock, and its PostgreSQL runs as the primary.
    pub fn leads(&self) -> bool {
        matches!(http::get(self.rest(), "/primary"), Ok((200, _)))
    }

    /// Tells Patroni something.
    pub fn tell(&self, method: &str, path: &str, document: &Value) -> Result<String, String> {
        match http::send(self.rest(), method, path, document, Duration::from_mins(2)) {
            Ok((200 | 202, said)) => Ok(said),
            Ok((status, said)) => Err(format!("{status} {said}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Kills all of its PostgreSQL; Patroni finds it dead.
    pub fn kill_postgres(&self) {
        family::signal(&self.postgres(), Signal::KILL);
    }

    /// Kills one backend that writes.
    pub fn kill_backend(&self) {
        let one =
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE 'INSERT%' LIMIT 1";
        let pid = self.row(one).and_then(|row| row[0].as_deref()?.parse().ok());
        // It may have ended by itself in this instant.
        family::signal(&Vec::from_iter(pid), Signal::KILL);
    }

    /// Stops or continues all of its PostgreSQL.
    pub fn signal_postgres(&self, signal: Signal) {
        family::signal(&self.postgres(), signal);
    }

    /// Stops PostgreSQL and Patroni, as if the machine stood still. What is returned lets them go on.
    pub fn stop_all(&self) -> impl FnOnce() + Send + 'static {
        let all = family::descendants(self.keeper.pid());
        family::signal(&all, Signal::STOP);
        move || family::signal(&all, Signal::CONT)
    }

    /// Kills Patroni, but not its PostgreSQL, and keeps it from being started. What is returned lets it start again.
    pub fn kill_patroni(&self) -> impl FnOnce() + Send + 'static {
        let run = self.scratch.path("run");
        fs::remove_file(&run).unwrap();
        let patroni = fs::read_to_string(self.scratch.path("patroni.pid")).unwrap();
        family::signal(&[patroni.parse().unwrap()], Signal::KILL);
        // The member and its directory may be gone by then.
        move || drop(fs::write(run, ""))
    }

    /// Kills all of it in one instant, for ever.
    pub fn cut(&mut self) {
        self.keeper.stop();
    }

    /// What Patroni and PostgreSQL have said.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.scratch.path("patroni.err")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn postgres(&self) -> Vec<u32> {
        let is_postgres =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "postgres\n");
        let mut all = family::descendants(self.keeper.pid());
        all.retain(is_postgres);
        all
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The keeper takes everything with it; `Background` alone would leave PostgreSQL to nobody.
        self.keeper.signal(Signal::TERM);
        let begun = std::time::Instant::now();
        while self.keeper.runs() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn config(recipe: &Recipe, name: &str, address: Ipv4Addr, etcd: &Etcd, scratch: &Scratch) -> Value {
    let (postgres, rest) = (SocketAddrV4::new(address, PORT), SocketAddrV4::new(address, REST));
    let programs = postgres_program(recipe.major, "postgres");
    json!({
        "scope": "ledger",
        "name": name,
        "etcd3": {"host": etcd.socket().to_string()},
        "restapi": {"listen": rest.to_string(), "connect_address": rest.to_string()},
        "bootstrap": {
            "dcs": recipe.dynamic,
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums", "no-sync",
                {"wal-segsize": recipe.segment.to_string()}],
        },
        "postgresql": {
            "listen": postgres.to_string(),
            "connect_address": postgres.to_string(),
            "bin_dir": programs.parent(),
            "data_dir": scratch.path("data"),
            "pgpass": scratch.path("pgpass"),
            "parameters": {"unix_socket_directories": scratch.path("s")},
            "pg_hba": HBA,
            "authentication": {
                "superuser": {"username": "postgres", "password": "for-tests-only"},
                "replication": {"username": "standby", "password": "for-tests-only"},
            },
            // Without this a copy waits for minutes until its checkpoint is at leisure.
            "basebackup": [{"checkpoint": "fast"}],
            // What cannot be rewound is copied anew.
            "remove_data_directory_on_rewind_failure": true,
            "remove_data_directory_on_diverged_timelines": true,
        },
    })
}

//! One server: its data directory, its postmaster, and what a test asks of it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::builder::Builder;
use super::{family, programs, query};
use crate::answer::{Answer, run};
use crate::background::Background;
use crate::place::free_loopback;
use crate::scratch::Scratch;

/// How long a server may take for what takes it a second.
const PATIENCE: Duration = Duration::from_mins(1);
const PORT: u16 = 5432;

/// A PostgreSQL server on an address of its own, port 5432.
#[derive(Debug)]
pub struct Cluster {
    /// First, so that it ends before its directory goes.
    postmaster: Option<Background>,
    recipe: Builder,
    data: PathBuf,
    address: Ipv4Addr,
    scratch: Scratch,
}

impl Cluster {
    /// A server of this major version, as the introduction has it.
    pub fn builder(major: u16) -> Builder {
        Builder::new(major)
    }

    pub(super) fn new(recipe: Builder, data: PathBuf, scratch: Scratch) -> Cluster {
        scratch.dir("s");
        Cluster {
            postmaster: None,
            recipe,
            data,
            address: free_loopback(PORT),
            scratch,
        }
    }

    /// The major version.
    pub fn major(&self) -> u16 {
        self.recipe.major
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, PORT)
    }

    /// The directory of its socket, where the superuser gets in without a password.
    pub fn sockets(&self) -> PathBuf {
        self.scratch.path("s")
    }

    /// What `--pg-connection` gets: the introduction's role over TCP.
    pub fn connection(&self) -> String {
        format!("postgres://pgbackup:pgbackup@{}/postgres", self.address())
    }

    /// The process id of its postmaster; fails the test when it does not run.
    #[track_caller]
    pub fn postmaster(&self) -> u32 {
        self.postmaster
            .as_ref()
            .unwrap_or_else(|| panic!("the server is not running"))
            .pid()
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.recipe = self.recipe.clone().set(name, value);
    }

    /// Starts it and waits until it answers SQL.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_without_waiting();
        self.until("it answers SQL", |cluster| cluster.try_rows("SELECT 1").ok().map(drop));
    }

    /// Starts it; for servers that are to fail, or to end by themselves.
    pub fn start_without_waiting(&mut self) {
        let mut command = self.tool_command("postgres");
        command.arg("-D").arg(&self.data);
        let own = [
            ("listen_addresses".to_owned(), self.address.to_string()),
            ("port".to_owned(), PORT.to_string()),
            (
                "unix_socket_directories".to_owned(),
                self.sockets().display().to_string(),
            ),
        ];
        for (name, value) in own.iter().chain(&self.recipe.overrides) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.envs(self.recipe.environment.iter().map(|(name, value)| (name, value)));
        self.postmaster = Some(Background::start(command, &self.scratch.path("server")));
    }

    /// Waits for something about this server; fails the test, with the server's log, when the server ends before.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&Cluster) -> Option<T>) -> T {
        let mut postmaster = self
            .postmaster
            .take()
            .unwrap_or_else(|| panic!("the server is not running: {what}"));
        let answer = postmaster.until(what, PATIENCE, || ask(self));
        self.postmaster = Some(postmaster);
        answer
    }

    /// Waits until recovery reached its target and stands still.
    #[track_caller]
    pub fn until_paused(&mut self) {
        self.until("recovery is paused", |c| {
            (c.try_value("SELECT pg_get_wal_replay_pause_state()").ok()? == "paused").then_some(())
        });
    }

    /// Waits until recovery ended and the server takes writes.
    #[track_caller]
    pub fn until_promoted(&mut self) {
        self.until("recovery has ended", |c| {
            (c.try_value("SELECT pg_is_in_recovery()").ok()? == "f").then_some(())
        });
    }

    /// Waits until the server ends by itself; what it said.
    #[track_caller]
    pub fn until_ended(&mut self) -> Answer {
        self.postmaster
            .take()
            .unwrap_or_else(|| panic!("the server is not running"))
            .wait(PATIENCE)
    }

    /// Stops it in the fast mode, as a service manager does; fails the test when that was not clean.
    #[track_caller]
    pub fn stop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            postmaster.signal(Signal::INT);
            postmaster.wait(PATIENCE).ok();
        }
    }

    /// Ends it without a checkpoint, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            // The postmaster's death is noticed by its children; SIGQUIT takes them along at once.
            postmaster.signal(Signal::QUIT);
            postmaster.wait(PATIENCE);
        }
    }

    /// Ends all of it in one instant (SIGKILL), as a machine that loses its power does: nothing is said to anybody.
    pub fn cut(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            let family = family::children(postmaster.pid());
            postmaster.kill();
            family::signal(&family, Signal::KILL);
            family::until_gone(&family);
        }
    }

    /// Stops or continues all of its processes (SIGSTOP, SIGCONT).
    pub fn signal_all(&self, signal: Signal) {
        let mut all = vec![self.postmaster()];
        all.extend(family::children(self.postmaster()));
        family::signal(&all, signal);
    }

    /// Stops and starts it.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// What the server said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path("server.err")).unwrap_or_default()
    }

    /// Every row of a statement as text; NULL is nothing. The error is the server's text.
    pub fn try_rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        query::rows(&self.sockets(), "postgres", sql)
    }

    /// The first field of the first row.
    pub fn try_value(&self, sql: &str) -> Result<String, String> {
        let first = self
            .try_rows(sql)?
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .flatten();
        first.ok_or_else(|| format!("no value: {sql}"))
    }

    /// Runs statements; fails the test when one fails.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_rows(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}\n--- server\n{}", self.log()))
    }

    /// The first field of the first row; fails the test when there is none.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        self.try_value(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}\n--- server\n{}", self.log()))
    }

    /// The server's clock, in a form that every reader of times takes.
    #[track_caller]
    pub fn now(&self) -> String {
        self.value(r#"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#)
    }

    /// Where the next WAL record will be written.
    #[track_caller]
    pub fn insert_lsn(&self) -> String {
        self.value("SELECT pg_current_wal_insert_lsn()")
    }

    /// Waits until a receiver has acknowledged everything that is written now: by contract, until it is durable there.
    #[track_caller]
    pub fn until_acknowledged(&mut self) {
        let lsn = self.insert_lsn();
        let sql = format!("SELECT coalesce(bool_or(flush_lsn >= '{lsn}'), false) FROM pg_stat_replication");
        self.until(&format!("a receiver acknowledged {lsn}"), |c| {
            (c.try_value(&sql).ok()? == "t").then_some(())
        });
    }

    /// One of PostgreSQL's programs with the connection of the superuser in its environment.
    pub fn tool_command(&self, name: &str) -> Command {
        let mut command = programs::command(self.recipe.major, name);
        command
            .env("PGHOST", self.sockets())
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", "postgres");
        command
    }

    /// Runs one of PostgreSQL's programs to its end.
    #[track_caller]
    pub fn tool(&self, name: &str, args: &[&str]) -> Answer {
        let mut command = self.tool_command(name);
        command.args(args);
        run(command, Duration::from_mins(5))
    }

    /// A standby of this server, streaming from it with a slot of its own.
    #[track_caller]
    pub fn standby(&self) -> Cluster {
        let scratch = Scratch::new();
        let mut standby = Cluster::new(self.recipe.clone(), scratch.path("data"), scratch);
        standby.follow(self);
        standby
    }

    /// Makes this server, which does not run, a standby of another one: from nothing, at the same address.
    #[track_caller]
    pub fn follow(&mut self, primary: &Cluster) {
        assert!(self.postmaster.is_none(), "the server is running");
        if self.data.exists() {
            fs::remove_dir_all(&self.data).unwrap();
        }
        let target = self.data.display().to_string();
        let name = format!("standby_{}", target.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        let slot = name.to_ascii_lowercase();
        primary
            .tool(
                "pg_basebackup",
                &[
                    "-D",
                    &target,
                    "-R",
                    "-C",
                    "-S",
                    &slot,
                    "-X",
                    "stream",
                    "-c",
                    "fast",
                    "--no-sync",
                ],
            )
            .ok();
        self.start();
        self.until("the standby streams", |c| {
            c.try_value("SELECT status FROM pg_stat_wal_receiver WHERE status = 'streaming'")
                .ok()
        });
    }

    /// Makes a standby, or a server whose recovery is paused, a primary.
    #[track_caller]
    pub fn promote(&mut self) {
        self.sql("SELECT pg_promote(true, 60)");
        self.until_promoted();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            // SIGQUIT reaches its children too; `Background` makes sure of the rest.
            postmaster.signal(Signal::QUIT);
            if !std::thread::panicking() {
                postmaster.wait(PATIENCE);
            }
        }
    }
}

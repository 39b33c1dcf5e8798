//! What a commit costs that waits for a receiver: `pgbench` with nobody, with `pg_receivewal --synchronous`, and with
//! `wal stream --synchronous` on a directory of the same disk and on an object store at several distances. In one run, in
//! random order within each round, because walls of different hours do not compare on a shared machine.
//!
//! It prints the median of the transactions per second with their range, and the ratio to `pg_receivewal`: of the medians, and
//! as the mean over the rounds with its standard error (a dozen short rounds tell more than three long ones). Nothing here fails
//! for being slow. `ROUNDS` (3), `SECONDS` (15), `CLIENTS` (1,8,32), `DISTANCES` in milliseconds of a round trip
//! (0,5,20; empty for no object store) and `HARDSTORAGE_BIN` are read from the environment.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers that prints a table, and stops where a step fails"
)]

mod table;

use std::env;
use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::torture::Dice;
use hardstorage_e2e::{Background, Cluster, Distance, Hardstorage, ObjectStore, Scratch, run, until, url_by};
use rustix::process::Signal;

use table::Table;

const PATIENCE: Duration = Duration::from_mins(2);
const SCALE: &str = "10";
const SLOT: &str = "pg_receivewal";
const OURS: &str = "pg_hardstorage_db1";

/// Who receives.
#[derive(Debug, Clone)]
enum Receiver {
    Nobody,
    Receivewal,
    /// A name for the table, and a repository.
    Ours(String, String),
}

impl Receiver {
    fn name(&self) -> &str {
        match self {
            Receiver::Nobody => "no receiver, no waiting",
            Receiver::Receivewal => table::PEER,
            Receiver::Ours(name, _) => name,
        }
    }
}

fn number(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

fn numbers(name: &str, usual: &[u64]) -> Vec<u64> {
    env::var(name).map_or(usual.to_vec(), |text| {
        let parse = |part: &str| part.parse().unwrap_or_else(|_| panic!("{name}={text}: no number"));
        text.split(',').filter(|part| !part.is_empty()).map(parse).collect()
    })
}

fn main() {
    let (rounds, seconds) = (number("ROUNDS", 3), number("SECONDS", 15));
    let (clients, distances) = (numbers("CLIENTS", &[1, 8, 32]), numbers("DISTANCES", &[0, 5, 20]));
    let cluster = Cluster::builder(18)
        .durable()
        .set("shared_buffers", "512MB")
        .set("max_wal_size", "8GB")
        .set("checkpoint_timeout", "1h")
        .start();
    cluster.tool("pgbench", &["-i", "-q", "-s", SCALE, "postgres"]).ok();
    cluster.sql(&format!("SELECT pg_create_physical_replication_slot('{SLOT}', true)"));
    let scratch = Scratch::new();
    let mut product = Hardstorage::new();
    let store = (!distances.is_empty()).then(ObjectStore::minio);
    let mut receivers = vec![Receiver::Nobody, Receiver::Receivewal];
    let mut ours = vec![(
        "pg_hardstorage, directory".to_owned(),
        format!("file://{}", scratch.dir("repository").display()),
    )];
    if let Some(store) = &store {
        for (name, value) in store.credentials() {
            product.set(name, value);
        }
        for distance in distances {
            let bucket = format!("far-{distance}");
            store.bucket(&bucket);
            let network = Distance::before(store.socket(), Duration::from_millis(distance));
            let name = format!("pg_hardstorage, S3 at {distance} ms");
            ours.push((name, url_by(&network.endpoint(), &bucket)));
        }
    }
    for (name, url) in ours {
        product.run(&["repo", "init", &url]).ok();
        receivers.push(Receiver::Ours(name, url));
    }
    let directory = scratch.dir("receivewal");
    let bench = Bench {
        cluster,
        product,
        receivewal: directory.display().to_string(),
        scratch,
    };
    let (mut table, mut dice) = (Table::default(), Dice::new(Dice::fresh_seed()));
    for round in 1..=rounds {
        for clients in &clients {
            dice.shuffle(&mut receivers);
            for receiver in &receivers {
                let tps = bench.measure(receiver, *clients, seconds);
                eprintln!(
                    "round {round} of {rounds}: {clients} clients, {}: {tps:.0} tps",
                    receiver.name()
                );
                table.add(receiver.name(), *clients, tps);
            }
        }
    }
    println!("PostgreSQL 18, pgbench -N at scale {SCALE}, {rounds} rounds of {seconds} s");
    print!("{table}");
}

struct Bench {
    cluster: Cluster,
    product: Hardstorage,
    receivewal: String,
    scratch: Scratch,
}

impl Bench {
    /// The load while one receiver is connected and named.
    fn measure(&self, receiver: &Receiver, clients: u64, seconds: u64) -> f64 {
        let running = match receiver {
            Receiver::Nobody => None,
            Receiver::Receivewal => {
                let mut command = self.cluster.tool_command("pg_receivewal");
                command.args(["-D", &self.receivewal, "-S", SLOT, "--synchronous"]);
                Some((Background::start(command, &self.scratch.path("receiver")), SLOT))
            }
            Receiver::Ours(_, url) => {
                let connection = self.cluster.connection();
                let words = ["wal", "stream", "db1", "--synchronous", "--pg-connection", &connection];
                Some((
                    self.product.start("ours", &[&words[..], &["--repo", url]].concat()),
                    OURS,
                ))
            }
        };
        let Some((mut program, name)) = running else {
            return self.load(clients, seconds);
        };
        self.name(name);
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND sync_state = 'sync' AND state = 'streaming'"
        );
        program.until("the receiver is waited for", PATIENCE, || {
            self.cluster
                .try_value(&sql)
                .is_ok_and(|count| count == "1")
                .then_some(())
        });
        let tps = self.load(clients, seconds);
        self.name("");
        // pg_receivewal knows SIGINT only, ours takes both.
        program.signal(Signal::INT);
        program.wait(PATIENCE).ok();
        tps
    }

    /// Whom commits wait for; no commit of its own waits.
    fn name(&self, name: &str) {
        let before = self.cluster.value("SELECT pg_conf_load_time()");
        let value = if name.is_empty() {
            String::new()
        } else {
            format!("\"{name}\"")
        };
        self.cluster
            .sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{value}'"));
        self.cluster.sql("SELECT pg_reload_conf()");
        until("the names are known", PATIENCE, || {
            let now = self.cluster.try_value("SELECT pg_conf_load_time()").ok()?;
            (now != before).then_some(())
        });
    }

    fn load(&self, clients: u64, seconds: u64) -> f64 {
        self.cluster.sql("CHECKPOINT");
        rustix::fs::sync();
        let mut pgbench: Command = self.cluster.tool_command("pgbench");
        let (clients, time) = (clients.to_string(), seconds.to_string());
        pgbench.args(["-n", "-N", "-c", &clients, "-j", "2", "-T", &time, "postgres"]);
        let said = run(pgbench, Duration::from_secs(seconds + 120)).ok();
        let tps = said.stdout.lines().find_map(|line| line.strip_prefix("tps = "));
        let tps = tps.and_then(|rest| rest.split(' ').next()?.parse().ok());
        tps.unwrap_or_else(|| panic!("pgbench told no tps\n{said}"))
    }
}

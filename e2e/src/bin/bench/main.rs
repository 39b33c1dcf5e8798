//! The benchmarks: our engine beside pgBackRest, `pg_basebackup`, `pg_receivewal` and `cp`, in one run, interleaved, on
//! one database, because walls of different hours do not compare on a shared machine.
//!
//! It prints medians with their range and *ratios* to a named peer, and beside each the cores that other work used
//! meanwhile. Nothing here fails for being slow. `SCALE` (100: 2.1 GB), `ROUNDS` (3), `SECONDS` of `pgbench` (20),
//! `ONLY` (a comma-separated list out of backup, wal with replay, tps, many, far, large), `BACKUPS` of many (30),
//! `DISTANCE` of far (20 ms for a round trip), `GIB` of large (100) and `HARDSTORAGE_BIN` are read from the environment.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers that prints a table, and stops where a step fails"
)]

mod backups;
mod database;
mod far;
mod large;
mod many;
mod replay;
mod sample;
mod table;
mod tools;
mod wal;

use std::env;

use database::Database;
use table::Table;
use tools::Tools;

/// What the environment asks for.
struct Plan {
    scale: u32,
    rounds: u32,
    seconds: u32,
    backups: u32,
    distance: u32,
    gib: u32,
    only: Option<String>,
}

impl Plan {
    fn read() -> Plan {
        let number = |name: &str, usual: u32| {
            env::var(name).map_or(usual, |text| {
                text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
            })
        };
        Plan {
            scale: number("SCALE", 100),
            rounds: number("ROUNDS", 3),
            seconds: number("SECONDS", 20),
            backups: number("BACKUPS", 30),
            distance: number("DISTANCE", 20),
            gib: number("GIB", 100),
            only: env::var("ONLY").ok(),
        }
    }

    fn wants(&self, part: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| only.split(',').any(|name| name == part))
    }
}

fn main() {
    let plan = Plan::read();
    let database = Database::build(plan.scale);
    let tools = Tools::new(&database);
    let mut table = Table::default();
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        if plan.wants("backup") {
            backups::round(&database, &tools, round, plan.seconds, &mut table);
        }
        if plan.wants("wal") {
            let (repo, received) = wal::catch_up(&database, &tools, plan.seconds, &mut table);
            replay::fetch_all(&database, &tools, &repo, &received, round, &mut table);
        }
        if plan.wants("tps") {
            wal::beside_the_load(&database, &tools, round, plan.seconds.min(12), &mut table);
        }
    }
    if plan.wants("many") {
        many::restores(&database, &tools, plan.backups, plan.rounds, &mut table);
    }
    if plan.wants("far") {
        far::away(&database, &tools, u64::from(plan.distance), plan.rounds, &mut table);
    }
    if plan.wants("large") {
        large::sparse(&database, &tools, u64::from(plan.gib), &mut table);
    }
    println!(
        "PostgreSQL 18, {:.2} GB, {} rounds interleaved, {}",
        database.bytes() as f64 / 1e9,
        plan.rounds,
        machine()
    );
    print!("{table}");
}

/// The processor and what there is of it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown processor");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{cores} cores, {}", model.trim_start_matches([' ', '\t', ':']))
}

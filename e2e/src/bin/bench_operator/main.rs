//! The operator beside many streams: what it takes, what it writes, and how long it needs after a restart.
//!
//! A real API server, the real operator, and a stand-in for the pods: each Deployment of hardstorage.dev gets a pod with an
//! address of its own on the loopback, at which one process answers for all of them. `DEPLOYMENTS` (500), `BACKUPS` of each
//! (28) and `SECONDS` of each measurement (120) are read from the environment; the operator is `HARDSTORAGE_OPERATOR_BIN`.
//! Nothing here fails for being slow. What is aimed at with 500 and 28: at most 128 MiB, no write on idle streams, one for
//! each Deployment and minute on busy ones, and 60 s after a restart. What the Repository writes counts as well: nothing runs
//! the Jobs that it makes for the news of its streams, and now and then it says so.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers that prints a table, and stops where a step fails"
)]

mod operator;
mod pods;
mod stand_in;
mod world;

use std::env;
use std::time::{Duration, Instant};

use operator::Operator;
use stand_in::{Mood, StandIn};
use world::{World, until};

/// The longest wait for everything to be as it should.
const PATIENCE: Duration = Duration::from_mins(20);

fn number(name: &str, usual: usize) -> usize {
    env::var(name).map_or(usual, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

fn main() {
    let (deployments, backups) = (number("DEPLOYMENTS", 500), number("BACKUPS", 28));
    let seconds = Duration::from_secs(number("SECONDS", 120) as u64);
    let stand_in = StandIn::start(backups);
    let world = World::new();
    let mut operator = Operator::start(&world);
    eprintln!("a repository");
    world.repository(&stand_in);
    eprintln!("{deployments} Deployments and BackupSchedules");
    let began = Instant::now();
    world.deployments(deployments);
    world.pods(deployments, &stand_in);
    until("every Deployment streams", PATIENCE, || {
        world.streaming("True") == deployments
    });
    let streams = began.elapsed();
    until("every backup is shown", PATIENCE, || {
        world.backups() >= deployments * backups
    });
    let shown = began.elapsed();
    println!("{deployments} Deployments with a BackupSchedule and {backups} backups each");
    println!(
        "from nothing: all stream after {:.0} s, all backups are shown after {:.0} s",
        streams.as_secs_f64(),
        shown.as_secs_f64()
    );

    // What was begun ends: figures are written once more within a minute.
    let settled = world.until_quiet(Duration::from_mins(1), PATIENCE);
    println!(
        "quiet after another {:.0} s; memory of the operator {}",
        settled.as_secs_f64(),
        operator.memory()
    );
    let idle = measure(&world, &mut operator, seconds);
    println!("idle:  {idle}");
    stand_in.feel(Mood::Busy);
    // The first write of each comes at once, and is one of a minute that has passed.
    std::thread::sleep(Duration::from_mins(1));
    let busy = measure(&world, &mut operator, seconds);
    println!("busy:  {busy}");

    operator.kill();
    stand_in.feel(Mood::Broken);
    let mut operator = Operator::start(&world);
    let began = Instant::now();
    until("every status says what has changed", PATIENCE, || {
        world.streaming("False") == deployments
    });
    println!(
        "restart: {:.0} s until the last of {deployments} says what has changed meanwhile; memory {}",
        began.elapsed().as_secs_f64(),
        operator.memory()
    );
}

/// Writes, requests and processor time over a while.
fn measure(world: &World, operator: &mut Operator, seconds: Duration) -> String {
    let (writes, reads, cpu) = (world.writes(), world.reads(), operator.cpu());
    let began = Instant::now();
    // The measurement is the time that passes.
    std::thread::sleep(seconds);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let per_minute = |before: u64, after: u64| (after - before) as f64 / minutes;
    format!(
        "{:.1} writes and {:.0} reads a minute, {:.2} cores, memory {}",
        per_minute(writes, world.writes()),
        per_minute(reads, world.reads()),
        operator.cpu().saturating_sub(cpu).as_secs_f64() / began.elapsed().as_secs_f64(),
        operator.memory()
    )
}

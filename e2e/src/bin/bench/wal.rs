//! WAL: how fast a receiver catches up with a backlog, and what it costs the database while both work.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::{Background, until};

use crate::database::{Database, tree_bytes};
use crate::sample::{Meter, Sample, memory, own_and_waited_cpu, settle};
use crate::table::Table;
use crate::tools::Tools;

const CATCH_UP: &str = "WAL catch-up";
const BESIDE: &str = "pgbench beside the receiver";
const PATIENCE: Duration = Duration::from_mins(10);
const OUR_SLOT: &str = "pg_hardstorage_db1";
const PEERS_SLOT: &str = "pg_receivewal";

/// Both receivers have a slot; a load runs without them; then each takes the same backlog. Our repository with it, and
/// the directory of `pg_receivewal`.
pub fn catch_up(database: &Database, tools: &Tools, seconds: u32, table: &mut Table) -> (String, PathBuf) {
    let cluster = database.cluster();
    let (repo, repository) = tools.our_repository("wal-ours");
    let directory = tools.empty("wal-receivewal");
    cluster.sql(&format!(
        "SELECT pg_create_physical_replication_slot('{PEERS_SLOT}', true)"
    ));
    let mut ours = start_ours(database, tools, &repo);
    ours.stop().ok();
    database.load(seconds);
    // The end of a segment: pg_receivewal makes whole segments durable only.
    let target = cluster.value("SELECT pg_switch_wal()");
    let flushed = tree_bytes(&directory);

    settle(0);
    let before = tree_bytes(&repository);
    let meter = Meter::start(cluster.postmaster());
    let ours = start_ours(database, tools, &repo);
    let mut sample = until_flushed(database, &ours, OUR_SLOT, &target, meter);
    sample.added = tree_bytes(&repository) - before;
    finish(ours);
    table.add(CATCH_UP, "pg_hardstorage", sample);

    settle(0);
    let mut sample = tools.measure(
        receivewal(database, tools, &["--no-loop", &format!("--endpos={target}")]),
        database,
    );
    sample.added = tree_bytes(&directory) - flushed;
    table.add(CATCH_UP, "pg_receivewal", sample);
    drop_slots(database);
    (repo, directory)
}

/// The same load with nobody, with `pg_receivewal` in both its ways, and with us; who begins changes with the round.
pub fn beside_the_load(database: &Database, tools: &Tools, number: u32, seconds: u32, table: &mut Table) {
    let cluster = database.cluster();
    let (repo, _) = tools.our_repository("tps-ours");
    tools.empty("wal-receivewal");
    cluster.sql(&format!(
        "SELECT pg_create_physical_replication_slot('{PEERS_SLOT}', true)"
    ));
    let mut order = [
        "no receiver",
        "pg_receivewal",
        "pg_receivewal --synchronous",
        "pg_hardstorage",
    ];
    order.rotate_left(number as usize % 4);
    for who in order {
        settle(0);
        let peer = |options| Background::start(receivewal(database, tools, options), &tools.path("receivewal"));
        let sample = match who {
            "pg_receivewal" => loaded(database, peer(&[]), PEERS_SLOT, seconds),
            "pg_receivewal --synchronous" => loaded(database, peer(&["--synchronous"]), PEERS_SLOT, seconds),
            "pg_hardstorage" => loaded(database, start_ours(database, tools, &repo), OUR_SLOT, seconds),
            _ => {
                let meter = Meter::start(cluster.postmaster());
                let tps = database.load(seconds);
                Sample { tps, ..meter.stop(0.0) }
            }
        };
        table.add(BESIDE, who, sample);
    }
    drop_slots(database);
}

fn start_ours(database: &Database, tools: &Tools, repo: &str) -> Background {
    let connection = database.cluster().connection();
    let mut ours = tools.ours.start(
        "stream",
        &["wal", "stream", "db1", "--pg-connection", &connection, "--repo", repo],
    );
    ours.until("the stream has its slot", PATIENCE, || {
        is_active(database, OUR_SLOT).then_some(())
    });
    ours
}

fn receivewal(database: &Database, tools: &Tools, options: &[&str]) -> Command {
    let mut command = database.cluster().tool_command("pg_receivewal");
    command
        .arg("-D")
        .arg(tools.path("wal-receivewal"))
        .args(["-S", PEERS_SLOT, "-s", "1"])
        .args(options);
    command
}

fn is_active(database: &Database, slot: &str) -> bool {
    let sql = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
    database.cluster().try_value(&sql).is_ok_and(|active| active == "t")
}

/// Waits until the receiver has made everything up to a position durable; what that cost from the meter's start.
fn until_flushed(database: &Database, receiver: &Background, slot: &str, target: &str, meter: Meter) -> Sample {
    let sql = format!("SELECT restart_lsn >= '{target}' FROM pg_replication_slots WHERE slot_name = '{slot}'");
    let mut peak = (0, 0);
    until(&format!("{slot} has {target}"), PATIENCE, || {
        let (largest, tree) = memory(receiver.pid());
        peak = (largest.max(peak.0), tree.max(peak.1));
        database
            .cluster()
            .try_value(&sql)
            .is_ok_and(|done| done == "t")
            .then_some(())
    });
    let sample = meter.stop(own_and_waited_cpu(receiver.pid()));
    Sample {
        largest: peak.0,
        tree: peak.1,
        ..sample
    }
}

/// Runs the load while a receiver is connected; the receiver's cost meanwhile.
fn loaded(database: &Database, mut receiver: Background, slot: &str, seconds: u32) -> Sample {
    receiver.until("the receiver is connected", PATIENCE, || {
        is_active(database, slot).then_some(())
    });
    let meter = Meter::start(database.cluster().postmaster());
    let before = own_and_waited_cpu(receiver.pid());
    let tps = database.load(seconds);
    let sample = meter.stop(own_and_waited_cpu(receiver.pid()) - before);
    let (largest, tree) = memory(receiver.pid());
    finish(receiver);
    Sample {
        largest,
        tree,
        tps,
        ..sample
    }
}

/// Ends a receiver; pg_receivewal knows SIGINT only, ours takes both.
fn finish(mut receiver: Background) {
    receiver.signal(rustix::process::Signal::INT);
    receiver.wait(PATIENCE).ok();
}

fn drop_slots(database: &Database) {
    let mine = format!("slot_name IN ('{OUR_SLOT}', '{PEERS_SLOT}')");
    until("the slots are free", PATIENCE, || {
        let sql = format!("SELECT count(*) FROM pg_replication_slots WHERE active AND {mine}");
        database
            .cluster()
            .try_value(&sql)
            .is_ok_and(|active| active == "0")
            .then_some(())
    });
    database.cluster().sql(&format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE {mine}"
    ));
}

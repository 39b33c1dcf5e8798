//! Full backup, second backup after change, restore: each contestant once a round.

use crate::database::{Database, tree_bytes};
use crate::sample::settle;
use crate::table::Table;
use crate::tools::Tools;

const FULL: &str = "full backup";
const SECOND: &str = "second backup, after pgbench";
const RESTORE: &str = "restore of the full backup";
const RESTORE_SECOND: &str = "restore of the second backup";

/// The contestants; the first one of a contest changes with the round, because each leaves the machine warmer.
#[derive(Clone, Copy)]
enum Who {
    Ours,
    PgBackRest,
    Plain,
}

fn order(round: u32) -> [Who; 3] {
    let mut order = [Who::Ours, Who::PgBackRest, Who::Plain];
    order.rotate_left(round as usize % 3);
    order
}

/// One round.
pub fn round(database: &Database, tools: &Tools, number: u32, seconds: u32, table: &mut Table) {
    let warm = database.bytes() * 3 / 2;
    let (repo, _) = tools.our_repository("ours");
    tools.renew_pgbackrest();
    for name in ["basebackup", "basebackup-2"] {
        tools.remove(name);
    }
    for who in order(number) {
        settle(warm);
        backup(database, tools, &repo, who, false, table);
    }
    database.change(seconds);
    for who in order(number) {
        settle(0);
        backup(database, tools, &repo, who, true, table);
    }
    tools.remove("basebackup-2");
    let (ids, sets) = (our_backups(tools, &repo), pgbackrest_backups(tools));
    for second in [false, true] {
        for who in order(number) {
            settle(warm);
            let of = |list: &[String]| list.get(usize::from(second)).cloned();
            restore(database, tools, who, second, &repo, (of(&ids), of(&sets)), table);
        }
    }
}

fn backup(database: &Database, tools: &Tools, repo: &str, who: Who, second: bool, table: &mut Table) {
    let cluster = database.cluster();
    let connection = cluster.connection();
    let (name, directory, command) = match who {
        Who::Ours => {
            let args = ["backup", "db1", "--pg-connection", &connection, "--repo", repo];
            ("pg_hardstorage", tools.path("ours"), tools.ours.command(&args))
        }
        Who::PgBackRest => {
            let kind = if second { "--type=incr" } else { "--type=full" };
            let Some(command) = tools.pgbackrest(&["backup", kind]) else {
                return;
            };
            ("pgBackRest", tools.path("pgbackrest"), command)
        }
        Who::Plain => {
            let directory = tools.path(if second { "basebackup-2" } else { "basebackup" });
            let mut command = cluster.tool_command("pg_basebackup");
            command.args(["-X", "stream", "-c", "fast", "-D"]).arg(&directory);
            if second {
                let manifest = tools.path("basebackup").join("backup_manifest");
                command.arg(format!("--incremental={}", manifest.display()));
            }
            ("pg_basebackup", directory, command)
        }
    };
    let before = tree_bytes(&directory);
    let mut sample = tools.measure(command, database);
    sample.added = tree_bytes(&directory) - before;
    table.add(if second { SECOND } else { FULL }, name, sample);
}

/// `from` is our backup and pgBackRest's; `cp` of the plain one is the floor for the first.
fn restore(
    database: &Database,
    tools: &Tools,
    who: Who,
    second: bool,
    repo: &str,
    from: (Option<String>, Option<String>),
    table: &mut Table,
) {
    let target = tools.path("target").display().to_string();
    let (name, command) = match (who, from) {
        (Who::Ours, (Some(id), _)) => (
            "pg_hardstorage",
            tools
                .ours
                .command(&["restore", "db1", &id, "--target", &target, "--repo", repo]),
        ),
        (Who::PgBackRest, (_, Some(set))) => {
            tools.empty("target");
            let args = [
                &format!("--pg1-path={target}"),
                "--type=none",
                &format!("--set={set}"),
                "restore",
            ];
            let command = tools
                .pgbackrest(&args)
                .unwrap_or_else(|| panic!("pgBackRest made {set} and is gone"));
            ("pgBackRest", command)
        }
        (Who::Plain, _) if !second => ("cp", Tools::copy(&tools.path("basebackup"), &tools.path("target"))),
        _ => return,
    };
    let sample = tools.measure(command, database);
    table.add(if second { RESTORE_SECOND } else { RESTORE }, name, sample);
    tools.remove("target");
}

/// Our backups, the oldest first.
pub fn our_backups(tools: &Tools, repo: &str) -> Vec<String> {
    let list = tools
        .ours
        .run(&["list", "db1", "--repo", repo, "-o", "json"])
        .ok()
        .result();
    let backups = list["backups"].as_array().cloned().unwrap_or_default();
    let mut ids: Vec<String> = backups
        .iter()
        .filter_map(|backup| Some(backup["backup_id"].as_str()?.to_owned()))
        .collect();
    // The time is in the id.
    ids.sort();
    ids
}

/// pgBackRest's, the oldest first.
fn pgbackrest_backups(tools: &Tools) -> Vec<String> {
    let Some(info) = tools.pgbackrest(&["info", "--output=json"]) else {
        return Vec::new();
    };
    let info = hardstorage_e2e::run(info, std::time::Duration::from_mins(1))
        .ok()
        .json();
    let backups = info[0]["backup"].as_array().cloned().unwrap_or_default();
    backups
        .iter()
        .filter_map(|backup| Some(backup["label"].as_str()?.to_owned()))
        .collect()
}

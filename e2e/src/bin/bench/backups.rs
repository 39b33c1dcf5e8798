//! Full backup, second backup after change, restore: each contestant once a round.

use crate::database::{Database, tree_bytes};
use crate::sample::settle;
use crate::table::Table;
use crate::tools::Tools;

const FULL: &str = "full backup";
const SECOND: &str = "second backup, after pgbench";
const RESTORE: &str = "restore of the full backup";
const RESTORE_SECOND: &str = "restore of the second backup";

/// One round.
pub fn round(database: &Database, tools: &Tools, seconds: u32, table: &mut Table) {
    let cluster = database.cluster();
    let connection = cluster.connection();
    let warm = database.bytes() * 3 / 2;
    let (repo, repository) = tools.our_repository("ours");
    tools.renew_pgbackrest();
    for name in ["basebackup", "basebackup-2", "copy"] {
        tools.remove(name);
    }
    let path = |name: &str| tools.path(name).display().to_string();
    let backup = ["backup", "db1", "--pg-connection", &connection, "--repo", &repo];
    let pg_basebackup = |args: &[&str]| {
        let mut command = cluster.tool_command("pg_basebackup");
        command.args(["-X", "stream", "-c", "fast", "-D"]).args(args);
        command
    };
    let pgbackrest_repository = tools.path("pgbackrest");

    // Ours and pgBackRest's, then what only copies.
    settle(warm);
    let mut sample = tools.measure(tools.ours.command(&backup), database);
    sample.added = tree_bytes(&repository);
    table.add(FULL, "pg_hardstorage", sample);
    if let Some(command) = tools.pgbackrest(&["backup", "--type=full"]) {
        settle(warm);
        let mut sample = tools.measure(command, database);
        sample.added = tree_bytes(&pgbackrest_repository);
        table.add(FULL, "pgBackRest", sample);
    }
    settle(warm);
    let mut sample = tools.measure(pg_basebackup(&[&path("basebackup")]), database);
    sample.added = tree_bytes(&tools.path("basebackup"));
    table.add(FULL, "pg_basebackup", sample);

    database.change(seconds);

    settle(0);
    let before = tree_bytes(&repository);
    let mut sample = tools.measure(tools.ours.command(&backup), database);
    sample.added = tree_bytes(&repository) - before;
    table.add(SECOND, "pg_hardstorage", sample);
    if let Some(command) = tools.pgbackrest(&["backup", "--type=incr"]) {
        settle(0);
        let before = tree_bytes(&pgbackrest_repository);
        let mut sample = tools.measure(command, database);
        sample.added = tree_bytes(&pgbackrest_repository) - before;
        table.add(SECOND, "pgBackRest", sample);
    }
    settle(0);
    let manifest = format!("--incremental={}/backup_manifest", path("basebackup"));
    let mut sample = tools.measure(pg_basebackup(&[&path("basebackup-2"), &manifest]), database);
    sample.added = tree_bytes(&tools.path("basebackup-2"));
    table.add(SECOND, "pg_basebackup", sample);
    tools.remove("basebackup-2");

    restores(database, tools, &repo, warm, table);
}

/// Both backups of both, and a copy of a plain one as the floor.
fn restores(database: &Database, tools: &Tools, repo: &str, warm: u64, table: &mut Table) {
    let target = tools.path("target").display().to_string();
    let ids = our_backups(tools, repo);
    let sets = pgbackrest_backups(tools);
    for (number, what) in [RESTORE, RESTORE_SECOND].into_iter().enumerate() {
        let restore = [
            "restore",
            "db1",
            ids[number].as_str(),
            "--target",
            &target,
            "--repo",
            repo,
        ];
        settle(warm);
        table.add(
            what,
            "pg_hardstorage",
            tools.measure(tools.ours.command(&restore), database),
        );
        tools.remove("target");
        if let Some(set) = sets.get(number) {
            tools.empty("target");
            settle(warm);
            let args = [
                &format!("--pg1-path={target}"),
                "--type=none",
                &format!("--set={set}"),
                "restore",
            ];
            let command = tools
                .pgbackrest(&args)
                .unwrap_or_else(|| panic!("pgBackRest made {set} and is gone"));
            table.add(what, "pgBackRest", tools.measure(command, database));
            tools.remove("target");
        }
    }
    settle(warm);
    let copy = Tools::copy(&tools.path("basebackup"), &tools.path("target"));
    table.add(RESTORE, "cp", tools.measure(copy, database));
    tools.remove("target");
}

/// Our backups, the oldest first.
fn our_backups(tools: &Tools, repo: &str) -> Vec<String> {
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
    assert_eq!(ids.len(), 2, "{list}");
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

//! How fast recovery gets its WAL: one `restore_command` after the other for every archived segment, as PostgreSQL asks.

use std::path::Path;
use std::process::Command;

use hardstorage_e2e::{command_line, run, unprivileged};

use crate::database::Database;
use crate::sample::settle;
use crate::table::Table;
use crate::tools::{HOUR, Tools};

const REPLAY: &str = "WAL for a replay, one command for each segment";

/// Fetches what [`crate::wal::catch_up`] has archived: ours out of our repository, pgBackRest out of its own, which is
/// given the same segments first, and `cp` out of the directory of `pg_receivewal`.
pub fn fetch_all(database: &Database, tools: &Tools, repo: &str, received: &Path, number: u32, table: &mut Table) {
    let segments = whole_segments(received);
    let bytes = segments.len() as u64 * (16 << 20);
    tools.renew_pgbackrest();
    for segment in &segments {
        let path = received.join(segment).display().to_string();
        if let Some(push) = tools.pgbackrest(&["archive-push", &path]) {
            run(push, HOUR).ok();
        }
    }
    let target = tools.path("replay").display().to_string();
    let spool = tools.path("spool").display().to_string();
    let destination = format!("{target}/RECOVERYXLOG");
    let lives = std::fs::read_dir(tools.path("wal-ours").join("wal/db1")).unwrap();
    let lineage = lives
        .map(|life| life.unwrap().file_name().into_string().unwrap())
        .next()
        .unwrap();
    let ours = [
        "wal",
        "fetch",
        "db1",
        "SEGMENT",
        &destination,
        "--repo",
        repo,
        "--spool",
        &spool,
        "--wal-segment-size",
        "16777216",
        "--lineage",
        &lineage,
    ];
    let theirs = ["--archive-async", "archive-get", "SEGMENT", &destination];
    let mut copy = unprivileged("cp");
    copy.arg(received.join("SEGMENT")).arg(&destination);
    let mut contest = [
        ("pg_hardstorage", Some(tools.ours.command(&ours))),
        ("pgBackRest", tools.pgbackrest(&theirs)),
        ("cp", Some(copy)),
    ];
    contest.rotate_left(number as usize % 3);
    for (who, command) in contest {
        let Some(command) = command else { continue };
        tools.empty("replay");
        tools.empty("spool");
        settle(0);
        let mut sample = tools.measure(for_each(&command, &segments), database);
        sample.added = bytes;
        table.add(REPLAY, who, sample);
    }
    for name in ["replay", "spool"] {
        tools.remove(name);
    }
}

/// The names of the complete segments in a directory, in order.
fn whole_segments(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
    let mut segments: Vec<String> = names
        .filter(|name| name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    segments.sort();
    assert!(segments.len() > 1, "no segments in {}", directory.display());
    segments
}

/// A shell that runs a command for every segment, whose name stands where the command says `SEGMENT`, and that looks at
/// the size of each as PostgreSQL does.
fn for_each(command: &Command, segments: &[String]) -> Command {
    let line = command_line(command).replace("SEGMENT", "\"$segment\"");
    let target = line.split(' ').find(|word| word.ends_with("RECOVERYXLOG")).unwrap();
    let mut shell = unprivileged("/bin/sh");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
        .arg("-ec")
        .arg(format!(
            "for segment; do {line}; test \"$(stat -c %s {target})\" = 16777216; rm {target}; done"
        ))
        .arg("sh")
        .args(segments);
    shell
}

//! The definition of the command line as a whole.

use clap::{CommandFactory, Parser};

use super::*;

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_introduction_is_accepted() {
    let pg = "postgres://pgbackup:pgbackup@192.0.2.1:5432/postgres";
    let repo = "file:///postgresql/backup";
    let lines: &[&[&str]] = &[
        &["version"],
        &["repo", "init", "file:///postgresql/backup/"],
        &["wal", "preflight", "db1", "--pg-connection", pg],
        &["wal", "stream", "db1", "--pg-connection", pg, "--repo", repo],
        &[
            "init",
            "--pg-connection",
            pg,
            "--repo",
            repo,
            "--deployment",
            "db1",
            "--yes",
        ],
        &["backup", "db1", "--pg-connection", pg, "--repo", repo],
        &["restore", "db1", "latest", "--target", "/t", "--repo", repo],
        &[
            "restore",
            "db1",
            "latest",
            "--target",
            "/t",
            "--repo",
            repo,
            "--to",
            "5 minutes ago",
            "--preview",
        ],
        &[
            "restore",
            "db1",
            "latest",
            "--target",
            "/t",
            "--repo",
            repo,
            "--to-lsn",
            "0/3000028",
        ],
        &[
            "restore",
            "db1",
            "latest",
            "--target",
            "/t",
            "--repo",
            repo,
            "--to-name",
            "pre_release",
        ],
        &[
            "restore",
            "db1",
            "latest",
            "--target",
            "/t",
            "--repo",
            repo,
            "--verify=skip",
        ],
        &["status", "db1"],
        &["list", "db1"],
        &["show", "db1", "db1.full.20260625T084842Z.2dd5"],
        &["rotate", "db1"],
        &["backup", "delete", "db1", "db1.full.20260625T084842Z.2dd5", "--yes"],
    ];
    for line in lines {
        let words = std::iter::once("pg_hardstorage").chain(line.iter().copied());
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    }
}

#[test]
fn what_is_malformed_is_refused() {
    for line in [
        &["backup"][..],
        &["backup", "../x"],
        &["backup", ""],
        &["restore", "db1", "latest"],
        &["restore", "db1", "nonsense", "--target", "/t"],
        &["restore", "db1", "--target", "/t", "--to", "now", "--to-lsn", "0/1"],
        &["restore", "db1", "--target", "/t", "--to-timeline", "0"],
        &["restore", "db1", "--target", "/t", "--tablespace-mapping", "a=b"],
        &["wal", "stream", "db1", "--flush-interval", "soon"],
        &["wal", "push", "db1"],
        &["backup", "db1", "--jobs", "0"],
        &["backup", "db1", "--max-rate", "NaN"],
    ] {
        let words = std::iter::once("pg_hardstorage").chain(line.iter().copied());
        assert!(Cli::try_parse_from(words).is_err(), "{line:?}");
    }
}

/// Every command that is shown, with its parents' names.
fn all(command: &clap::Command, parent: &str, into: &mut Vec<(String, clap::Command)>) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{parent}{}", command.get_name());
    for child in command.get_subcommands() {
        all(child, &format!("{name} "), into);
    }
    into.push((name, command.clone()));
}

#[test]
fn the_short_help_of_every_command_fits_a_terminal() {
    let mut root = Cli::command();
    root.build();
    let mut commands = Vec::new();
    all(&root, "", &mut commands);
    assert!(commands.len() > 25, "{}", commands.len());
    for (name, command) in commands {
        let help = command.term_width(80).render_help().to_string();
        let long: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
        // A usage line is one word after the other and is not broken.
        assert!(long.iter().all(|line| line.starts_with("Usage: ")), "{name}: {long:?}");
        insta::assert_snapshot!(format!("help of {name}").replace(' ', "_"), help);
    }
}

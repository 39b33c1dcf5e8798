//! PostgreSQL's own programs, run as PostgreSQL wants it: not as root, and with its own libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::postgres_program;
use crate::scratch::unprivileged;

/// The oldest and the newest version that there is a template for: those that the product serves, and one to refuse.
pub(crate) const MAJORS: std::ops::RangeInclusive<u16> = 14..=18;

/// A program of this version, as the unprivileged user, in a directory that this user can enter.
pub(crate) fn command(major: u16, name: &str) -> Command {
    assert!(MAJORS.contains(&major), "PostgreSQL {major} is not supported");
    let program = postgres_program(major, name);
    let mut command = unprivileged(&program);
    command.env("LD_LIBRARY_PATH", libraries(&program)).current_dir("/");
    command
}

/// The libraries that belong to a program.
pub(crate) fn libraries(program: &Path) -> PathBuf {
    program
        .ancestors()
        .nth(2)
        .map(|home| home.join("lib"))
        .unwrap_or_default()
}

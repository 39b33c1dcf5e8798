//! The program as it is run: one binary for all integration tests of the command line.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod fetch;
mod install;
mod pages;
mod scheduler;

use std::path::Path;
use std::process::{Command, Stdio};

/// The program with a home of its own and nothing else around it.
fn product(home: &Path) -> Command {
    std::fs::create_dir_all(home).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pg_hardstorage"));
    command.env_clear().env("HOME", home).env("NO_COLOR", "1");
    command.stdin(Stdio::null());
    command
}

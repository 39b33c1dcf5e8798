//! `drill`: what a restored copy is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::RunArgs;
use super::parsers::parse_duration;

#[derive(Debug, Subcommand)]
pub(crate) enum DrillCommand {
    /// Start a copy that `restore --hand-over drill` has made as a standby of nobody, and ask it: exit 9 when a check fails
    Check(DrillArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DrillArgs {
    /// The directory that `restore --recover --hand-over drill` has made
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// What to ask: a JSON array of {"name", "database", "sql"}, and where wanted "expect" and "timeout_seconds" (60)
    #[arg(long, value_name = "FILE")]
    pub(crate) checks: Option<PathBuf>,
    /// Directory of PostgreSQL's programs, or `auto`: where packages put them, or PATH
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// Read B-tree indexes for so long at most; 0s reads none
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = parse_duration)]
    pub(crate) index_limit: Duration,
    /// Load the libraries that the origin preloads, for checks that need them; no worker of theirs runs
    #[arg(long)]
    pub(crate) preload: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

impl DrillArgs {
    /// The directory of PostgreSQL's programs, when one was named.
    pub(crate) fn programs(&self) -> Option<&Path> {
        self.pg_bin.as_deref().filter(|named| *named != Path::new("auto"))
    }
}

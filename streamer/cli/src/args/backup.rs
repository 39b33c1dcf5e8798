//! `init`, `backup`, `rotate` and `hold`: making backups, and deciding which stay.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hardstorage_report::{BackupId, ByteSize, DeploymentName};

use super::parsers::{parse_annotation, parse_duration, parse_size};
use super::{BackupChoice, RepoArg, RunArgs, SourceArgs};

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Name of the deployment
    #[arg(long, default_value = "db1", value_name = "NAME")]
    pub(crate) deployment: DeploymentName,
    /// Ask nothing
    #[arg(long)]
    pub(crate) yes: bool,
    /// Take no first backup
    #[arg(long)]
    pub(crate) skip_backup: bool,
    /// Keep backups in clear
    #[arg(long)]
    pub(crate) no_encryption: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BackupCommand {
    #[command(subcommand)]
    pub(crate) verb: Option<BackupVerb>,
    #[command(flatten)]
    pub(crate) take: TakeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Mark a backup as deleted; `backup undelete` takes it back until the space is collected
    Delete(MarkArgs),
    /// Take a deletion back
    Undelete(MarkArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MarkArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    /// The backup
    pub(crate) backup: BackupId,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Ask nothing
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct TakeArgs {
    /// Name of the deployment
    #[arg(required = true)]
    pub(crate) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// A fact to keep with the backup; may be given several times
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = parse_annotation)]
    pub(crate) annotations: Vec<(String, String)>,
    /// How the server makes its checkpoint: at once, or spread over its usual time
    #[arg(long, value_enum, default_value_t = CheckpointArg::Fast, value_name = "KIND")]
    pub(crate) checkpoint: CheckpointArg,
    /// Read from the server at most so much a second, from 32kB to 1GB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_rate: Option<ByteSize>,
    /// Threads that hash and compress [default: one for each processor, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: Option<u16>,
    /// Go on although another backup of this deployment is running
    #[arg(long)]
    pub(crate) allow_concurrent: bool,
    /// Take the server although it is another cluster than before (after pg_upgrade or initdb)
    #[arg(long)]
    pub(crate) accept_new_system: bool,
    /// A definition of the source to store with the backup
    #[arg(long, value_name = "FILE")]
    pub(crate) source_snapshot: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// How the server makes its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckpointArg {
    /// At once.
    Fast,
    /// Over its usual time.
    Spread,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RotateArgs {
    /// Name of a deployment; without it all that are configured
    pub(crate) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Write the tombstones
    #[arg(long)]
    pub(crate) apply: bool,
    /// Keep the newest so many, whatever their age
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<u32>,
    /// Keep the newest of so many days [default: 7]
    #[arg(long, value_name = "N")]
    pub(crate) keep_daily: Option<u32>,
    /// Keep the newest of so many weeks [default: 4]
    #[arg(long, value_name = "N")]
    pub(crate) keep_weekly: Option<u32>,
    /// Keep the newest of so many months [default: 12]
    #[arg(long, value_name = "N")]
    pub(crate) keep_monthly: Option<u32>,
    /// Keep the newest of so many years [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) keep_yearly: Option<u32>,
    /// Then collect, as `repo gc --deployment NAME` does
    #[arg(long)]
    pub(crate) collect: bool,
    /// With --collect: keep continuous WAL for the last so long only [default: from the oldest backup on]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "collect")]
    pub(crate) keep_wal: Option<Duration>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    /// A backup's id, or `latest`
    pub(crate) backup: BackupChoice,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// End the hold
    #[arg(long)]
    pub(crate) release: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

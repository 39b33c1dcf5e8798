//! `restore` and `verify`: bringing a backup back, and proving that it can be brought back.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use hardstorage_engine::restore::{Onto, TargetTimeline};
use hardstorage_report::{DeploymentName, Lsn};

use super::parsers::{parse_absolute, parse_lsn, parse_mapping, parse_retry_id, parse_timeline};
use super::{BackupChoice, RepoArg, RunArgs};

#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    /// A backup's id, or `latest`: the newest that leads to the target
    #[arg(default_value = "latest")]
    pub(crate) backup: BackupChoice,
    /// Directory to restore into; empty or not there yet, unless --resume or --delta is given
    #[arg(long, value_name = "DIR")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Recover to this time: "5 minutes ago", "yesterday 21:00", 2026-11-22T08:15:00Z
    #[arg(long = "to", value_name = "TIME", group = "goal")]
    pub(crate) to_time: Option<String>,
    /// What relative times of --to count from, instead of the moment in which this command runs
    #[arg(long, value_name = "TIME", requires = "to_time")]
    pub(crate) now: Option<String>,
    /// Recover to this WAL position
    #[arg(long, value_name = "LSN", group = "goal", value_parser = parse_lsn)]
    pub(crate) to_lsn: Option<Lsn>,
    /// Recover to this restore point
    #[arg(long, value_name = "NAME", group = "goal")]
    pub(crate) to_name: Option<String>,
    /// Recover to this transaction
    #[arg(long, value_name = "XID", group = "goal")]
    pub(crate) to_xid: Option<u64>,
    /// Recover to the end of the archive
    #[arg(long, group = "goal")]
    pub(crate) to_latest: bool,
    /// Stop before the target instead of after it
    #[arg(long)]
    pub(crate) to_exclusive: bool,
    /// What the server does when it has arrived [default: pause; promote without a target]
    #[arg(long, value_enum, value_name = "ACTION")]
    pub(crate) to_action: Option<ActionArg>,
    /// Timeline to follow: `latest` or a number
    #[arg(long, value_name = "TIMELINE", default_value = "latest", value_parser = parse_timeline)]
    pub(crate) to_timeline: TargetTimeline,
    /// Print the plan and everything that would stop it, and write nothing
    #[arg(long)]
    pub(crate) preview: bool,
    /// Check the result with PostgreSQL's own pg_verifybackup: when it is found, always, or not
    #[arg(long, value_enum, default_value_t = VerifyMode::Auto, value_name = "MODE")]
    pub(crate) verify: VerifyMode,
    /// Put a tablespace elsewhere; may be given several times
    #[arg(long = "tablespace-mapping", value_name = "OLD=NEW", value_parser = parse_mapping)]
    pub(crate) tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Owner of the files, when run by root [default: the owner of the target's parent]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) owner: Option<String>,
    /// Threads that decode and write [default: one for each processor, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: Option<u16>,
    /// Directory of PostgreSQL's programs, or `auto`: where packages put them, or PATH
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// Put pg_wal into this directory; empty or not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) wal_dir: Option<PathBuf>,
    /// Recover and promote here, with the PostgreSQL of this machine, and stop: what is left starts without us
    #[arg(long)]
    pub(crate) recover: bool,
    /// For whom the recovered directory is made ready
    #[arg(long, value_enum, default_value_t = HandOverArg::Plain, value_name = "WHOM", requires = "recover")]
    pub(crate) hand_over: HandOverArg,
    /// What becomes of subscriptions in the recovered copy
    #[arg(long, value_enum, default_value_t = SubscriptionsArg::Disable, value_name = "WHAT", requires = "recover")]
    pub(crate) subscriptions: SubscriptionsArg,
    /// Lay all WAL that recovery needs into the target, so that it starts without us and without the repository
    #[arg(long, conflicts_with = "recover")]
    pub(crate) wal_in_target: bool,
    /// Mark the target with this id, and begin anew in one that a killed restore of the same id has left; nothing else is
    /// ever emptied
    #[arg(long, value_name = "ID", value_parser = parse_retry_id, conflicts_with_all = ["resume", "delta"])]
    pub(crate) retry_id: Option<String>,
    /// Go on with a restore of the same backup to the same moment that was killed: what it left is compared, and only the
    /// rest is fetched
    #[arg(long, conflicts_with = "delta")]
    pub(crate) resume: bool,
    /// Restore onto a data directory of the same cluster in which no server runs: what is equal stays, what differs is
    /// fetched, and what the backup does not have is removed
    #[arg(long)]
    pub(crate) delta: bool,
    #[command(flatten)]
    pub(crate) fetch: FetchPlaces,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

impl RestoreArgs {
    /// What may be in the target already.
    pub(crate) fn onto(&self) -> Onto {
        match (self.resume, self.delta) {
            (true, _) => Onto::Resume,
            (_, true) => Onto::Delta,
            _ => Onto::Empty,
        }
    }

    /// The directory of PostgreSQL's programs, when one was named.
    pub(crate) fn programs(&self) -> Option<&Path> {
        self.pg_bin.as_deref().filter(|named| *named != Path::new("auto"))
    }
}

/// For whom a recovered directory is made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HandOverArg {
    /// It starts with pg_ctl.
    Plain,
    /// CloudNativePG adopts it.
    Cnpg,
    /// Patroni starts on it.
    Patroni,
    /// `drill check` asks it.
    Drill,
}

/// What becomes of subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SubscriptionsArg {
    /// They are disabled: this is a copy.
    Disable,
    /// They stay: this takes the origin's place.
    Keep,
}

/// Where the `restore_command` finds what it needs, when the server recovers elsewhere than here.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "When the server recovers in another container")]
pub(crate) struct FetchPlaces {
    /// Path of this program there [default: where it is here]
    #[arg(
        id = "fetch_command",
        long = "fetch-command",
        value_name = "PATH",
        env = "PG_HARDSTORAGE_RESTORE_BIN",
        hide_env = true,
        value_parser = parse_absolute
    )]
    pub(crate) program: Option<PathBuf>,
    /// URL of the repository there [default: the one that is restored from]
    #[arg(id = "fetch_repo", long = "fetch-repo", value_name = "URL")]
    pub(crate) repo: Option<String>,
    /// Directory with one file for each credential there [default: that of --credentials-dir]
    #[arg(id = "fetch_credentials_dir", long = "fetch-credentials-dir", value_name = "DIR", value_parser = parse_absolute,
        conflicts_with = "fetch_keyring")]
    pub(crate) credentials_dir: Option<PathBuf>,
    /// Directory of the keys there [default: that of this command, where there is no directory of credentials]
    #[arg(id = "fetch_keyring", long = "fetch-keyring", value_name = "DIR", value_parser = parse_absolute)]
    pub(crate) keyring: Option<PathBuf>,
    /// Configuration file there [default: that of this command, unless --fetch-command is given]
    #[arg(id = "fetch_config", long = "fetch-config", value_name = "FILE", value_parser = parse_absolute)]
    pub(crate) config: Option<PathBuf>,
}

/// What the server does when it has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ActionArg {
    /// Waits, readable.
    Pause,
    /// Becomes a primary.
    Promote,
    /// Stops.
    Shutdown,
}

/// Whether pg_verifybackup runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyMode {
    /// When it is found.
    Auto,
    /// Its absence is an error.
    Require,
    /// Not. Every file is still checked while it is written.
    Skip,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    /// A backup's id, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) backup: BackupChoice,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Look at structure and signatures only, read no pages
    #[arg(long, conflicts_with = "restore")]
    pub(crate) structure: bool,
    /// Restore it into a scratch directory, start PostgreSQL and ask it something
    #[arg(long)]
    pub(crate) restore: bool,
    /// What to ask
    #[arg(
        long,
        value_name = "SQL",
        default_value = "SELECT count(*) FROM pg_class",
        requires = "restore"
    )]
    pub(crate) query: String,
    /// Database to ask in
    #[arg(long, value_name = "NAME", default_value = "postgres", requires = "restore")]
    pub(crate) database: String,
    /// Where to make the scratch directory
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// Directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// Threads that decode [default: one for each processor, at most 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: Option<u16>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

//! What the command line accepts, one file for each group of commands. Help, man pages and completions are made from
//! it, so a comment on an argument is what a person reads in `--help`.

mod agent;
mod audit;
mod backup;
mod catalogue;
mod drill;
mod parsers;
mod repository;
mod restore;
mod wal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::agent::AgentArgs;
pub(crate) use self::audit::{AuditAnchorArgs, AuditCommand, AuditListArgs, AuditVerifyArgs};
pub(crate) use self::backup::{
    BackupCommand, BackupVerb, CheckpointArg, HoldArgs, InitArgs, MarkArgs, RotateArgs, TakeArgs,
};
pub(crate) use self::catalogue::{BackupChoice, DoctorArgs, ListArgs, ShowArgs, StatusArgs};
pub(crate) use self::drill::{DrillArgs, DrillCommand};
pub(crate) use self::parsers::parse_duration;
pub(crate) use self::repository::{GcArgs, HealArgs, KeyringCommand, RepoCommand, ScrubArgs, SelfCommand};
pub(crate) use self::restore::{
    ActionArg, FetchPlaces, HandOverArg, RestoreArgs, SubscriptionsArg, VerifyArgs, VerifyMode,
};
pub(crate) use self::wal::{FetchArgs, PatroniArgs, PushArgs, SlotCommand, StreamArgs, WalCommand};
use crate::printer::Format;

/// Protects PostgreSQL 15 to 18: continuous WAL streaming, base backups, restore to any moment.
#[derive(Debug, Parser)]
#[command(name = "pg_hardstorage", version = crate::version::LINE, max_term_width = 100, propagate_version = false,
    subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Configuration file [default: pg_hardstorage.yaml in the user's or the service's configuration directory]
    #[arg(
        short = 'c',
        long,
        global = true,
        env = "PG_HARDSTORAGE_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) config: Option<PathBuf>,
    /// How the result is written; events always go to stderr
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Print only the result and what is a warning or worse
    #[arg(short = 'q', long, global = true)]
    pub(crate) quiet: bool,
    /// Print details too
    #[arg(short = 'v', long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Directory of the keys [default: keyring/ beside the configuration]
    #[arg(
        long,
        global = true,
        env = "PG_HARDSTORAGE_KEYRING_DIR",
        hide_env = true,
        value_name = "DIR"
    )]
    pub(crate) keyring: Option<PathBuf>,
    /// Directory with one file for each credential, read again when it changes: kek, signing-key, access-key-id,
    /// secret-access-key, session-token, username, password
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) credentials_dir: Option<PathBuf>,
    /// End when the process with this id is not the parent any more; the agent starts its children so
    #[arg(long, global = true, hide = true, value_name = "PID")]
    pub(crate) exit_with_parent: Option<u32>,
}

/// What a scheduler asks of a run.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Under a scheduler")]
pub(crate) struct RunArgs {
    /// The scheduler's id of this run, kept with what it makes
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Serve /v1/report, /status, /metrics and /healthz here while it runs; port 0 takes a free one and says which
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) report_listen: Option<SocketAddr>,
    /// How long to go on answering after the end, until POST /v1/heard?run=ID says that the result was heard
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s", requires = "report_listen")]
    pub(crate) report_linger: Duration,
    /// Write the report, cut to 3 KiB, to this file at the end
    #[arg(long, value_name = "FILE")]
    pub(crate) termination_file: Option<PathBuf>,
}

/// The repository.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RepoArg {
    /// Repository URL, for example file:///srv/backup or s3://bucket/prefix?region=eu-central-1
    #[arg(long, env = "PG_HARDSTORAGE_REPO", hide_env_values = true, value_name = "URL")]
    pub(crate) repo: Option<String>,
}

/// PostgreSQL and the repository.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SourceArgs {
    /// How to reach PostgreSQL: a postgres:// URI or key=value pairs, as libpq takes them
    #[arg(
        long,
        env = "PG_HARDSTORAGE_PG_CONNECTION",
        hide_env_values = true,
        value_name = "CONNINFO"
    )]
    pub(crate) pg_connection: Option<String>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
}

/// The commands, those of every day first.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set everything up: probe, repository, keys, configuration, first backup
    Init(InitArgs),
    /// Take a base backup
    Backup(BackupCommand),
    /// Bring a backup back, to its end or to any moment after it
    Restore(Box<RestoreArgs>),
    /// Stream WAL, and look after it
    #[command(subcommand)]
    Wal(WalCommand),
    /// Look after every deployment of the configuration, always: streams, backups, retention, checks
    Agent(AgentArgs),
    /// Tell whether the deployments are protected, now
    Status(StatusArgs),
    /// Tell whether anything is wrong, here, in the repository and on the server, and what to do about it
    Doctor(DoctorArgs),
    /// List the backups of a deployment
    List(ListArgs),
    /// Show one backup with all that its manifest says
    Show(ShowArgs),
    /// Prove that a backup can be restored
    Verify(VerifyArgs),
    /// Prove by a drill that a copy holds what it should
    #[command(subcommand)]
    Drill(DrillCommand),
    /// Apply the retention policy: a dry run, unless --apply is given
    Rotate(RotateArgs),
    /// Protect a backup from deletion, or end that protection
    Hold(HoldArgs),
    /// List what was done, prove that the record of it is whole, and anchor it elsewhere
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Create a repository, and look after it
    #[command(subcommand)]
    Repo(RepoCommand),
    /// Look after the keys
    #[command(subcommand)]
    Keyring(KeyringCommand),
    /// Look after the replication slot
    #[command(subcommand)]
    Slot(SlotCommand),
    /// Install this program
    #[command(name = "self", subcommand)]
    Own(SelfCommand),
    /// Print the version
    Version,
    /// Print the completions of a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// Directory to write into
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print the table of error codes, or this program's reference, as Markdown
    #[command(hide = true)]
    Reference {
        /// What to print
        #[arg(value_enum)]
        what: ReferencePart,
    },
}

/// What `reference` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReferencePart {
    /// Error codes and exit codes.
    Codes,
    /// Every command with its options.
    Commands,
}

#[cfg(test)]
mod tests;

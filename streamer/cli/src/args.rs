//! What the command line accepts. Help, man pages and completions are made from it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hardstorage_report::{BackupId, ByteSize, DeploymentName, Lsn};

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
}

/// What a scheduler asks of a run.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Under a scheduler")]
pub(crate) struct RunArgs {
    /// The scheduler's id of this run, kept with what it makes
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Serve /v1/report, /status, /metrics and /healthz here while it runs
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) report_listen: Option<SocketAddr>,
    /// How long to go on answering after the end, until the result was heard
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
    /// Tell whether the deployments are protected, now
    Status(StatusArgs),
    /// List the backups of a deployment
    List(ListArgs),
    /// Show one backup with all that its manifest says
    Show(ShowArgs),
    /// Prove that a backup can be restored
    Verify(VerifyArgs),
    /// Apply the retention policy: a dry run, unless --apply is given
    Rotate(RotateArgs),
    /// Protect a backup from deletion, or end that protection
    Hold(HoldArgs),
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
pub(crate) struct RestoreArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    /// A backup's id, or `latest`: the newest that leads to the target
    #[arg(default_value = "latest")]
    pub(crate) backup: BackupChoice,
    /// Directory to restore into; empty or not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Recover to this time: "5 minutes ago", "yesterday 21:00", 2026-11-22T08:15:00Z
    #[arg(long = "to", value_name = "TIME", group = "goal")]
    pub(crate) to_time: Option<String>,
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
    pub(crate) to_timeline: hardstorage_engine::restore::TargetTimeline,
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
    /// Directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
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

/// `latest` or an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackupChoice {
    /// The newest that fits.
    Latest,
    /// This one.
    Id(BackupId),
}

impl std::str::FromStr for BackupChoice {
    type Err = hardstorage_report::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" {
            Ok(BackupChoice::Latest)
        } else {
            text.parse().map(BackupChoice::Id)
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Tell whether the server is ready to be streamed from
    Preflight {
        /// Name of the deployment
        deployment: DeploymentName,
        /// How to reach PostgreSQL
        #[arg(
            long,
            env = "PG_HARDSTORAGE_PG_CONNECTION",
            hide_env_values = true,
            value_name = "CONNINFO"
        )]
        pg_connection: Option<String>,
        /// Replication slot [default: pg_hardstorage_<deployment>]
        #[arg(long, value_name = "NAME")]
        slot: Option<String>,
    },
    /// Stream WAL into the repository, always
    Stream(Box<StreamArgs>),
    /// The restore_command: exit 0 found, 1 proven absent, 126 anything else
    Fetch(FetchArgs),
    /// Fetch segments ahead, for `wal fetch`
    #[command(hide = true)]
    Prefetch(FetchArgs),
    /// List what the archive has of each timeline
    List {
        /// Name of the deployment
        deployment: DeploymentName,
        #[command(flatten)]
        repo: RepoArg,
    },
    /// Look for gaps, across timelines: exit 9 when there is one
    Audit {
        /// Name of the deployment
        deployment: DeploymentName,
        #[command(flatten)]
        repo: RepoArg,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StreamArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Replication slot [default: pg_hardstorage_<deployment>]
    #[arg(long, value_name = "NAME")]
    pub(crate) slot: Option<String>,
    /// Make the bytes of an unfinished segment durable at least so often
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) flush_interval: Duration,
    /// Tell the server the position at least so often
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) status_interval: Duration,
    /// Take the server for dead when it answers nothing for so long
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub(crate) receive_timeout: Duration,
    /// Wait at most so long between two attempts to reconnect
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub(crate) max_reconnect_backoff: Duration,
    /// End instead of reconnecting
    #[arg(long)]
    pub(crate) no_reconnect: bool,
    /// Do not look at the server's settings first
    #[arg(long)]
    pub(crate) skip_preflight: bool,
    /// Stream without a slot: the server may remove WAL before it was streamed
    #[arg(long, conflicts_with = "slot")]
    pub(crate) no_slot: bool,
    /// Stream from a standby too
    #[arg(long)]
    pub(crate) allow_standby_source: bool,
    /// Wait while another process holds the slot, instead of refusing
    #[arg(long)]
    pub(crate) wait: bool,
    /// Take the server although it is another cluster than before (after pg_upgrade or initdb)
    #[arg(long)]
    pub(crate) accept_new_system: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FetchArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    /// The file that PostgreSQL asks for (%f)
    pub(crate) file: String,
    /// Where it wants it (%p)
    pub(crate) destination: PathBuf,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// The cluster's life to read from, as `restore` wrote it
    #[arg(long, value_name = "LINEAGE")]
    pub(crate) lineage: Option<String>,
    /// The timeline that recovery follows: `latest` or a number
    #[arg(long, value_name = "TIMELINE", default_value = "latest", value_parser = parse_timeline)]
    pub(crate) timeline: hardstorage_engine::restore::TargetTimeline,
    /// The size of a WAL segment in bytes, as `restore` wrote it
    #[arg(long, value_name = "BYTES")]
    pub(crate) wal_segment_size: Option<u64>,
    /// Fetch so many segments ahead; 0 fetches only what is asked for
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) prefetch: u16,
    /// Directory for segments that were fetched ahead
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Name of a deployment; without it all that are configured or in the repository
    pub(crate) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Name of the deployment; without it the deployments are listed
    pub(crate) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Show deleted backups too
    #[arg(long)]
    pub(crate) include_deleted: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    /// A backup's id, or `latest`
    pub(crate) backup: BackupChoice,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
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
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    /// The backup
    pub(crate) backup: BackupId,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// End the hold
    #[arg(long)]
    pub(crate) release: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Create a repository, encrypted unless told otherwise
    Init {
        /// Repository URL
        url: String,
        /// Keep everything in clear
        #[arg(long)]
        no_encryption: bool,
        /// Accept a store that does not keep create-only writes; only one process may then write at a time
        #[arg(long)]
        single_writer: bool,
    },
    /// Tell what is at a URL, without a key
    Probe {
        /// Repository URL
        url: String,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Check that everything is there and hangs together
    Check {
        /// Repository URL
        url: Option<String>,
        #[command(flatten)]
        repo: RepoArg,
        /// Only this deployment
        #[arg(long, value_name = "NAME")]
        deployment: Option<DeploymentName>,
        /// Read every stored byte too
        #[arg(long)]
        read_data: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Tell the size, by deployment
    Usage {
        /// Repository URL
        url: Option<String>,
        #[command(flatten)]
        repo: RepoArg,
    },
    /// Read the catalogue, as a report
    Sync {
        /// Repository URL
        url: Option<String>,
        #[command(flatten)]
        repo: RepoArg,
        #[command(flatten)]
        run: RunArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyringCommand {
    /// Show which keys there are, by fingerprint
    Show,
    /// Copy the keys into a new directory, to be kept elsewhere
    Export {
        /// Directory; must not be there yet
        dir: PathBuf,
    },
    /// Take keys that were exported
    Import {
        /// Directory with the exported keys
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SlotCommand {
    /// Drop the replication slot on the server; the repository is not touched
    Drop {
        /// Name of the deployment
        deployment: DeploymentName,
        /// How to reach PostgreSQL
        #[arg(
            long,
            env = "PG_HARDSTORAGE_PG_CONNECTION",
            hide_env_values = true,
            value_name = "CONNINFO"
        )]
        pg_connection: Option<String>,
        /// Replication slot [default: pg_hardstorage_<deployment>]
        #[arg(long, value_name = "NAME")]
        slot: Option<String>,
        #[command(flatten)]
        run: RunArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SelfCommand {
    /// Copy this program into a directory
    Install {
        /// Directory
        dir: PathBuf,
    },
}

/// Reads `100ms`, `10s`, `5m`, `2h`, `1d`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration; write for example 10s, 500ms or 5m");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().map_err(|_| bad())?;
    let millis = match &text[split..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    number
        .checked_mul(millis)
        .filter(|ms| *ms < 1 << 50)
        .map(Duration::from_millis)
        .ok_or_else(bad)
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    text.parse()
}

fn parse_lsn(text: &str) -> Result<Lsn, hardstorage_report::ParseLsnError> {
    text.parse()
}

fn parse_timeline(text: &str) -> Result<hardstorage_engine::restore::TargetTimeline, String> {
    use hardstorage_engine::restore::TargetTimeline;
    match text.parse::<u32>() {
        _ if text == "latest" => Ok(TargetTimeline::Latest),
        Ok(number) if number > 0 => Ok(TargetTimeline::Number(hardstorage_report::Timeline(number))),
        _ => Err(format!("{text:?} is not a timeline; write latest or a number")),
    }
}

fn parse_annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key.len() <= 63 && value.len() <= 4096 => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!("{text:?} is not of the form KEY=VALUE")),
    }
}

fn parse_mapping(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let absolute = |path: &str| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    text.split_once('=')
        .and_then(|(old, new)| absolute(old).zip(absolute(new)))
        .ok_or_else(|| format!("{text:?} is not of the form OLD=NEW with absolute paths"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

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
            &["backup", "db1", "--jobs", "0"],
            &["backup", "db1", "--max-rate", "NaN"],
        ] {
            let words = std::iter::once("pg_hardstorage").chain(line.iter().copied());
            assert!(Cli::try_parse_from(words).is_err(), "{line:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("100ms", 100),
            ("10s", 10_000),
            ("10", 10_000),
            ("5m", 300_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1s", "1.5s", "1w1", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}

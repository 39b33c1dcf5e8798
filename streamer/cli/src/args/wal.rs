//! `wal` and `slot`: the stream, what it archives, and the slot that it reads from.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hardstorage_engine::restore::TargetTimeline;
use hardstorage_report::DeploymentName;

use super::parsers::{parse_duration, parse_timeline};
use super::{RepoArg, RunArgs, SourceArgs};

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
        /// Judge it for a stream that is a synchronous standby
        #[arg(long)]
        synchronous: bool,
    },
    /// Stream WAL into the repository, always
    Stream(Box<StreamArgs>),
    /// The archive_command: store one file of pg_wal
    Push(PushArgs),
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
    /// Make what comes durable at once and acknowledge it: a synchronous standby, for `synchronous_standby_names`
    #[arg(long)]
    pub(crate) synchronous: bool,
    /// Tell the server the position at least so often
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) status_interval: Duration,
    /// Take the server for dead when it answers nothing for so long
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub(crate) receive_timeout: Duration,
    /// Wait at most so long between two attempts to reconnect; 3s with --synchronous
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
    pub(crate) patroni: PatroniArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Where Patroni looks after the servers.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "With Patroni")]
pub(crate) struct PatroniArgs {
    /// REST API of a Patroni member, or of several: Patroni is told to keep the slot on every member
    #[arg(
        id = "patroni_url",
        long = "patroni-url",
        env = "PG_HARDSTORAGE_PATRONI_URL",
        hide_env_values = true,
        value_name = "URL",
        value_delimiter = ','
    )]
    pub(crate) url: Vec<String>,
    /// User of the REST API
    #[arg(id = "patroni_user", long = "patroni-user", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// File with that user's password, read again each time
    #[arg(id = "patroni_password_file", long = "patroni-password-file", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Authority that the REST API's certificate is checked by [default: those of the system]
    #[arg(id = "patroni_ca", long = "patroni-ca", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PushArgs {
    /// Name of the deployment
    pub(crate) deployment: DeploymentName,
    /// The file that PostgreSQL archives (%p)
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
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
    pub(crate) timeline: TargetTimeline,
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

#[derive(Debug, Subcommand)]
pub(crate) enum SlotCommand {
    /// Drop the replication slot on the server; no backup and no WAL in the repository is touched
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

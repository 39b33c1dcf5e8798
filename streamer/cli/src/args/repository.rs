//! `repo`, `keyring` and `self`: what lies around the backups.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hardstorage_report::{ByteSize, DeploymentName};

use super::parsers::{parse_duration, parse_limit, parse_size};
use super::{RepoArg, RunArgs};

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
        #[command(flatten)]
        run: RunArgs,
    },
    /// Tell what is at a URL, without a key
    Probe {
        /// Repository URL
        url: String,
        /// Where a repository is, also try whether the store keeps create-only writes: writes a few small objects beside
        /// it and removes them
        #[arg(long)]
        prove_writes: bool,
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
    /// Give back the space of deleted backups, of backups that never were, and of WAL that no backup needs
    Gc(GcArgs),
    /// Read what is stored, all of it in turn: a part each day, so that damage is found while the server still has the pages
    Scrub(ScrubArgs),
    /// Bring back what is damaged or missing from a copy of this repository
    Heal(HealArgs),
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

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Repository URL
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Only this deployment
    #[arg(long, value_name = "NAME")]
    pub(crate) deployment: Option<DeploymentName>,
    /// Remove; without it only tell
    #[arg(long)]
    pub(crate) apply: bool,
    /// A deletion can be taken back for so long
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub(crate) grace: Duration,
    /// Keep what is purged for so long, for restores that have no right to write to the repository: they cannot say that
    /// they read it
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub(crate) reader_grace: Duration,
    /// Keep continuous WAL for the last so long only; older backups keep what makes each consistent. Without it, and
    /// without `retention.keep_wal` in the configuration, from the oldest backup on
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) keep_wal: Option<Duration>,
    /// No stream and no backup runs meanwhile: needed where the store does not keep create-only writes
    #[arg(long)]
    pub(crate) exclusive: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    /// Repository URL
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Only this deployment
    #[arg(long, value_name = "NAME")]
    pub(crate) deployment: Option<DeploymentName>,
    /// Everything is read once in so long; each run reads what is due until the next day
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = parse_duration)]
    pub(crate) within: Duration,
    /// Read everything now
    #[arg(long)]
    pub(crate) all: bool,
    /// Bytes per second at most; 0 is as fast as it goes
    #[arg(long, value_name = "SIZE", default_value = "50MiB", value_parser = parse_size)]
    pub(crate) max_rate: ByteSize,
    /// Stop after about so many bytes of each deployment; the next run goes on there
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub(crate) limit: Option<ByteSize>,
    /// Use no key: check digests and forms only, and tell what was not checked
    #[arg(long)]
    pub(crate) keyless: bool,
    /// Remember in this file how far it has come, and not in the repository
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HealArgs {
    /// Repository URL
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Where the copy is; it is only read
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// Only this deployment
    #[arg(long, value_name = "NAME")]
    pub(crate) deployment: Option<DeploymentName>,
    /// Read everything here and compare it with the copy; without it, what a scrub found damaged and what is missing
    #[arg(long)]
    pub(crate) all: bool,
    /// Do it; without it only tell
    #[arg(long)]
    pub(crate) apply: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
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
pub(crate) enum SelfCommand {
    /// Copy this program into a directory
    Install {
        /// Directory
        dir: PathBuf,
    },
}

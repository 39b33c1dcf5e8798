//! `repo`, `keyring` and `self`: what lies around the backups.

use std::path::PathBuf;

use clap::Subcommand;
use hardstorage_report::DeploymentName;

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
pub(crate) enum SelfCommand {
    /// Copy this program into a directory
    Install {
        /// Directory
        dir: PathBuf,
    },
}

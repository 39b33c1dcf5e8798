//! `audit list|verify|anchor`: the chain of what was done.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use hardstorage_report::DeploymentName;

use super::{RepoArg, RunArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what was done
    List(AuditListArgs),
    /// Prove that no record was changed, taken out or put in, and by anchors that none was cut off: exit 9 when one was
    Verify(AuditVerifyArgs),
    /// Sign the head of the chain and keep that elsewhere
    Anchor(AuditAnchorArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AuditListArgs {
    /// Name of the deployment; without it all of the repository
    pub(crate) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Only the last ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) last: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerifyArgs {
    /// Name of the deployment; without it all of the repository
    pub(crate) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Compare with the anchors in this file; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) anchor: Vec<PathBuf>,
    /// Compare with the anchors in another repository; may be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) anchor_repo: Vec<String>,
    /// Compare with an anchor that was printed, as it is typed in; may be given several times
    #[arg(long, value_name = "DIGITS")]
    pub(crate) anchor_text: Vec<String>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("place").required(true).multiple(true))]
pub(crate) struct AuditAnchorArgs {
    /// Name of the deployment; without it all of the repository
    pub(crate) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
    /// Append the anchor to this file, outside of the repository
    #[arg(long, value_name = "FILE", group = "place")]
    pub(crate) to: Option<PathBuf>,
    /// Put the anchor into another repository
    #[arg(long, value_name = "URL", group = "place")]
    pub(crate) to_repo: Option<String>,
    /// Print the anchor in a short form, for paper
    #[arg(long, group = "place")]
    pub(crate) print: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

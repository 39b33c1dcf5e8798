//! `status`, `doctor`, `list` and `show`: looking at what there is, and naming one backup of it.

use std::time::Duration;

use clap::Args;
use hardstorage_report::{BackupId, DeploymentName};

use super::parsers::parse_duration;
use super::{RepoArg, SourceArgs};

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Name of a deployment; without it all that are configured or in the repository
    pub(crate) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(crate) repo: RepoArg,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Name of a deployment; without it all that are configured or in the repositories
    pub(crate) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// A newest backup that is older than this is overdue
    #[arg(long, value_name = "DURATION", default_value = "36h", value_parser = parse_duration)]
    pub(crate) max_backup_age: Duration,
    /// End with 10 when anything is wrong, for a monitor
    #[arg(long)]
    pub(crate) exit_on_issues: bool,
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

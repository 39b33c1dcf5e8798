//! `list`: the deployments of a repository, and the backups of one of them.

use hardstorage_engine::catalogue::records;
use hardstorage_report::{BackupRecord, ByteSize, DeploymentName, Result};
use hardstorage_repository::Mode;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::columns::dash;
use crate::app::App;
use crate::args::ListArgs;
use crate::printer::Report;

/// What there is to say of a backup beside its figures.
fn marks(backup: &BackupRecord) -> String {
    let marks = [
        (backup.held, "held"),
        (backup.deleted, "deleted"),
        (backup.damaged, "damaged"),
        (backup.problem.is_some(), "unreadable"),
    ];
    let set: Vec<&str> = marks.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    set.join(",")
}

/// The backups of a deployment, newest first.
#[derive(Debug, Serialize)]
pub(crate) struct ListResult {
    deployment: DeploymentName,
    count: usize,
    pub(crate) backups: Vec<BackupRecord>,
}

impl Report for ListResult {
    fn text(&self) -> String {
        let mut out = format!("Backups for {} ({}):\n", self.deployment, self.count);
        let width = self
            .backups
            .iter()
            .map(|line| line.backup_id.as_str().len())
            .max()
            .unwrap_or(9)
            .max(9);
        out.push_str(&format!(
            "{:<width$}  {:<5} {:<17} {:>7} {:>10} {:>10} {:>7} {:>9}  {}\n",
            "BACKUP ID", "TYPE", "WHEN (UTC)", "FILES", "SIZE", "STORED", "REUSE", "DURATION", "STATE"
        ));
        for line in &self.backups {
            let when = line
                .stopped_at
                .map(|at| at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M").to_string());
            out.push_str(&format!(
                "{:<width$}  {:<5} {:<17} {:>7} {:>10} {:>10} {:>6.1}% {:>9}  {}\n",
                line.backup_id.as_str(),
                line.kind.as_deref().unwrap_or("-"),
                dash(when),
                line.file_count,
                ByteSize(line.logical_bytes).to_string(),
                ByteSize(line.stored_bytes).to_string(),
                line.reuse * 100.0,
                dash(line.duration_ms.map(|ms| format!("{ms}ms"))),
                marks(line),
            ));
        }
        out
    }
}

/// The deployments of a repository.
#[derive(Debug, Serialize)]
pub(crate) struct DeploymentsResult {
    repo_url: String,
    deployments: Vec<DeploymentName>,
}

impl Report for DeploymentsResult {
    fn text(&self) -> String {
        let mut out = format!("Deployments in {} ({}):\n", self.repo_url, self.deployments.len());
        for name in &self.deployments {
            out.push_str(&format!("{name}\n"));
        }
        out
    }
}

/// `list DEPLOYMENT`.
pub(crate) async fn list(app: &App, args: &ListArgs, name: DeploymentName) -> Result<ListResult> {
    let deployment = app.existing(&args.repo, &name).await?;
    let mut backups = records(&deployment).await?;
    backups.retain(|backup| args.include_deleted || !backup.deleted);
    Ok(ListResult {
        deployment: name,
        count: backups.len(),
        backups,
    })
}

/// `list`.
pub(crate) async fn list_deployments(app: &App, args: &ListArgs) -> Result<DeploymentsResult> {
    let url = app.repo_url(&args.repo, None)?;
    let repository = app.repository(&url, Mode::Read).await?;
    Ok(DeploymentsResult {
        deployments: repository.deployments().await?,
        repo_url: url,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::lines;
    use crate::printer::shown;

    fn result(backups: Vec<BackupRecord>) -> ListResult {
        ListResult {
            deployment: "db1".parse().unwrap(),
            count: backups.len(),
            backups,
        }
    }

    #[test]
    fn a_deployment_without_backups() {
        insta::assert_snapshot!(shown("list", &result(Vec::new())));
    }

    #[tokio::test]
    async fn backups_newest_first_and_what_is_said_of_them() {
        let mut backups = lines().await;
        backups.reverse();
        insta::assert_snapshot!(shown("list", &result(backups)));
    }

    #[tokio::test]
    async fn a_damaged_one_and_one_that_cannot_be_read() {
        let mut backups = lines().await;
        backups.truncate(2);
        backups[0].damaged = true;
        let unreadable = &mut backups[1];
        unreadable.problem = Some("manifest: the signature does not hold".to_owned());
        (unreadable.kind, unreadable.stopped_at, unreadable.duration_ms) = (None, None, None);
        insta::assert_snapshot!(result(backups).text());
    }

    #[test]
    fn the_deployments_of_a_repository() {
        let result = DeploymentsResult {
            repo_url: "s3://bucket/prefix".to_owned(),
            deployments: vec!["billing".parse().unwrap(), "db1".parse().unwrap()],
        };
        insta::assert_snapshot!(shown("list", &result));
    }
}

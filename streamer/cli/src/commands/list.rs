//! `list`: the deployments of a repository, and the backups of one of them.

use hardstorage_report::{BackupId, ByteSize, DeploymentName, Lsn, Result, Timeline};
use hardstorage_repository::{BackupKind, CatalogEntry, Content, Mode};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::columns::{dash, kind_word};
use crate::app::App;
use crate::args::ListArgs;
use crate::printer::Report;

/// One backup of a list.
#[derive(Debug, Serialize)]
pub(crate) struct BackupLine {
    pub(crate) backup_id: BackupId,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<BackupKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pg_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_lsn: Option<Lsn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Timeline>,
    file_count: u64,
    logical_bytes: u64,
    stored_bytes: u64,
    reuse: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    pub(crate) held: bool,
    pub(crate) deleted: bool,
    pub(crate) damaged: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

impl BackupLine {
    /// From an entry of the catalogue; nothing for a name that holds no backup.
    pub(crate) fn of(entry: &CatalogEntry) -> Option<BackupLine> {
        let (manifest, problem) = match &entry.content {
            Content::Committed(stored) => (Some(&stored.manifest), None),
            Content::Broken(error) => (None, Some(error.to_string())),
            Content::Void(_) | Content::Absent => return None,
        };
        let state = entry.state.as_ref().ok();
        let totals = manifest.map(|manifest| manifest.totals).unwrap_or_default();
        let pages = totals.new_pages + totals.reused_pages;
        Some(BackupLine {
            backup_id: entry.backup_id.clone(),
            kind: manifest.map(|manifest| manifest.kind),
            pg_version: manifest.map(|manifest| manifest.server.version.clone()),
            started_at: manifest.map(|manifest| manifest.times.started_at),
            stopped_at: manifest.map(|manifest| manifest.times.stopped_at),
            duration_ms: manifest.map(|manifest| {
                manifest
                    .times
                    .stopped_at
                    .duration_since(manifest.times.started_at)
                    .as_millis()
                    .max(0) as u64
            }),
            stop_lsn: manifest.map(|manifest| manifest.wal.stop_lsn),
            timeline: manifest.map(|manifest| manifest.wal.timeline),
            file_count: totals.files,
            logical_bytes: totals.logical_bytes,
            stored_bytes: totals.stored_bytes,
            reuse: if pages == 0 {
                0.0
            } else {
                totals.reused_pages as f64 / pages as f64
            },
            run_id: manifest.and_then(|manifest| manifest.writer.run_id.clone()),
            held: state.is_some_and(|state| state.held.is_some()),
            deleted: state.is_some_and(|state| state.deleted.is_some() || state.purged.is_some()),
            damaged: !entry.damage.is_empty() || manifest.is_some_and(|manifest| !manifest.damaged_pages.is_empty()),
            problem: problem.or_else(|| entry.state.as_ref().err().map(ToString::to_string)),
        })
    }

    fn marks(&self) -> String {
        let marks = [
            (self.held, "held"),
            (self.deleted, "deleted"),
            (self.damaged, "damaged"),
            (self.problem.is_some(), "unreadable"),
        ];
        let set: Vec<&str> = marks.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
        set.join(",")
    }
}

/// The backups of a deployment, newest first.
#[derive(Debug, Serialize)]
pub(crate) struct ListResult {
    deployment: DeploymentName,
    count: usize,
    pub(crate) backups: Vec<BackupLine>,
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
                line.kind.map_or("-", kind_word),
                dash(when),
                line.file_count,
                ByteSize(line.logical_bytes).to_string(),
                ByteSize(line.stored_bytes).to_string(),
                line.reuse * 100.0,
                dash(line.duration_ms.map(|ms| format!("{ms}ms"))),
                line.marks(),
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
    let catalog = deployment.backups().await?;
    let lines = catalog.entries.iter().rev().filter_map(BackupLine::of);
    let backups: Vec<BackupLine> = lines.filter(|line| args.include_deleted || !line.deleted).collect();
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

    fn result(backups: Vec<BackupLine>) -> ListResult {
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

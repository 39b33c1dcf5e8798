//! `repo sync`: the catalogue as a report, for those who keep a copy of it.

use std::collections::BTreeMap;

use hardstorage_report::{DeploymentName, Result};
use hardstorage_repository::Mode;
use serde::Serialize;

use crate::app::App;
use crate::commands::list::BackupLine;
use crate::printer::Report;

/// The catalogue as a report.
#[derive(Debug, Serialize)]
pub(super) struct SyncResult {
    url: String,
    id: String,
    deployments: BTreeMap<DeploymentName, Vec<BackupLine>>,
}

impl Report for SyncResult {
    fn text(&self) -> String {
        let mut out = format!("Repository {} ({})\n", self.id, self.url);
        for (name, backups) in &self.deployments {
            out.push_str(&format!("{name}: {} backup(s)\n", backups.len()));
            for backup in backups {
                out.push_str(&format!("  {}\n", backup.backup_id));
            }
        }
        out
    }
}

pub(super) async fn sync(app: &App, url: &str) -> Result<SyncResult> {
    let repository = app.repository(url, Mode::Read).await?;
    let mut deployments = BTreeMap::new();
    for name in repository.deployments().await? {
        let catalog = repository.deployment(&name).await?.backups().await?;
        deployments.insert(name, catalog.entries.iter().rev().filter_map(BackupLine::of).collect());
    }
    Ok(SyncResult {
        url: url.to_owned(),
        id: hex::encode(repository.descriptor().repository_id),
        deployments,
    })
}

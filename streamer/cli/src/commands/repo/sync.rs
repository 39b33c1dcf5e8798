//! `repo sync`: the catalogue as a report, for those who keep a copy of it. Over HTTP the backups are served in pages.

use std::collections::BTreeMap;

use hardstorage_engine::catalogue::records;
use hardstorage_engine::wal::lineages;
use hardstorage_engine::window::recoverable_window;
use hardstorage_report::{BackupRecord, ByteSize, Catalog, DeploymentName, Result};
use hardstorage_repository::{Deployment, Mode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::usage::usage;
use crate::app::App;
use crate::printer::Report;
use crate::serve::Live;

/// From when to when one deployment can be recovered.
#[derive(Debug, Serialize)]
struct Recoverable {
    from: Timestamp,
    to: Timestamp,
}

/// One deployment.
#[derive(Debug, Serialize)]
struct Synced {
    #[serde(skip_serializing_if = "Option::is_none")]
    recoverable: Option<Recoverable>,
    backups: Vec<BackupRecord>,
}

/// The catalogue as a report.
#[derive(Debug, Serialize)]
pub(super) struct SyncResult {
    url: String,
    id: String,
    /// Bytes stored.
    total_bytes: u64,
    /// Bytes of backups that are marked deleted; what they share with others stays.
    reclaimable_at_most: u64,
    deployments: BTreeMap<DeploymentName, Synced>,
}

impl Report for SyncResult {
    fn text(&self) -> String {
        let mut out = format!(
            "Repository {} ({}), {}\n",
            self.id,
            self.url,
            ByteSize(self.total_bytes)
        );
        for (name, synced) in &self.deployments {
            let window = synced.recoverable.as_ref().map_or_else(
                || "nothing can be recovered".to_owned(),
                |window| format!("recoverable from {} to {}", window.from, window.to),
            );
            out.push_str(&format!("{name}: {} backup(s), {window}\n", synced.backups.len()));
            for backup in &synced.backups {
                out.push_str(&format!("  {}\n", backup.backup_id));
            }
        }
        out
    }

    fn summary(&self) -> Value {
        let deployments: BTreeMap<_, _> = self
            .deployments
            .iter()
            .map(|(name, synced)| {
                let alive = synced.backups.iter().filter(|backup| !backup.deleted).count();
                (name, json!({"backups": alive, "recoverable": synced.recoverable}))
            })
            .collect();
        json!({
            "url": self.url,
            "id": self.id,
            "total_bytes": self.total_bytes,
            "reclaimable_at_most": self.reclaimable_at_most,
            "deployments": deployments,
        })
    }
}

pub(super) async fn sync(app: &App, url: &str, live: &Live) -> Result<SyncResult> {
    let repository = app.repository(url, Mode::Read).await?;
    let id = hex::encode(repository.descriptor().repository_id);
    let usage = usage(app, url).await?;
    let mut deployments = BTreeMap::new();
    for name in repository.deployments().await? {
        let deployment = repository.deployment(&name).await?;
        let synced = Synced {
            recoverable: window(&deployment).await?,
            backups: records(&deployment).await?,
        };
        deployments.insert(name, synced);
    }
    live.show(Catalog {
        repository_id: id.clone(),
        deployments: deployments
            .iter()
            .map(|(name, synced)| (name.clone(), synced.backups.clone()))
            .collect(),
    });
    Ok(SyncResult {
        url: url.to_owned(),
        id,
        total_bytes: usage.total_bytes,
        reclaimable_at_most: usage.reclaimable_at_most(),
        deployments,
    })
}

/// The window of the cluster's newest life.
async fn window(deployment: &Deployment) -> Result<Option<Recoverable>> {
    let Some(lineage) = lineages(deployment).await?.into_iter().next_back() else {
        return Ok(None);
    };
    let window = recoverable_window(deployment, lineage).await?;
    Ok(window.map(|window| Recoverable {
        from: window.from,
        to: window.to,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::{lines, time};
    use crate::printer::shown;

    #[tokio::test]
    async fn a_catalogue_and_its_summary() {
        let synced = Synced {
            recoverable: Some(Recoverable {
                from: time("2026-11-21T21:01:00Z"),
                to: time("2026-11-22T09:00:00Z"),
            }),
            backups: lines().await,
        };
        let result = SyncResult {
            url: "s3://bucket/prefix".to_owned(),
            id: "00112233445566778899aabbccddeeff".to_owned(),
            total_bytes: 5 << 20,
            reclaimable_at_most: 1 << 20,
            deployments: BTreeMap::from([("db1".parse().unwrap(), synced)]),
        };
        insta::assert_snapshot!([shown("repo sync", &result), format!("{:#}", result.summary())].join("\n"));
    }
}

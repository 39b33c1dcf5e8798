//! `repo usage`: how much of a store each deployment takes.

use std::collections::{BTreeMap, BTreeSet};

use hardstorage_report::{ByteSize, DeploymentName, Result};
use hardstorage_repository::Mode;
use hardstorage_storage::{DynStore, ListRequest};
use serde::Serialize;

use crate::app::App;
use crate::printer::Report;

/// Sizes of one deployment.
#[derive(Debug, Default, Serialize)]
struct Usage {
    backups: usize,
    logical_bytes: u64,
    pack_bytes: u64,
    wal_bytes: u64,
    other_bytes: u64,
    objects: u64,
    /// Bytes added by backups that are marked deleted; what of them is still shared stays.
    reclaimable_at_most: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct UsageResult {
    url: String,
    deployments: BTreeMap<String, Usage>,
    pub(super) total_bytes: u64,
}

impl UsageResult {
    /// Bytes of backups that are marked deleted, at most.
    pub(super) fn reclaimable_at_most(&self) -> u64 {
        self.deployments.values().map(|usage| usage.reclaimable_at_most).sum()
    }
}

impl Report for UsageResult {
    fn text(&self) -> String {
        let mut out = format!(
            "{:<24} {:>7} {:>10} {:>10} {:>10} {:>10} {:>12}\n",
            "DEPLOYMENT", "BACKUPS", "LOGICAL", "PACKS", "WAL", "OBJECTS", "RECLAIMABLE"
        );
        for (name, usage) in &self.deployments {
            out.push_str(&format!(
                "{name:<24} {:>7} {:>10} {:>10} {:>10} {:>10} {:>12}\n",
                usage.backups,
                ByteSize(usage.logical_bytes).to_string(),
                ByteSize(usage.pack_bytes).to_string(),
                ByteSize(usage.wal_bytes).to_string(),
                usage.objects,
                format!("<= {}", ByteSize(usage.reclaimable_at_most)),
            ));
        }
        out.push_str(&format!("Total: {}\n", ByteSize(self.total_bytes)));
        out
    }
}

/// The deployment in an object's key, and what the object is.
fn classify(key: &str) -> Option<(&str, &str)> {
    let mut parts = key.split('/');
    let folder = parts.next()?;
    let deployment = parts.next()?;
    parts.next()?;
    Some((deployment, folder))
}

pub(super) async fn usage(app: &App, url: &str) -> Result<UsageResult> {
    let repository = app.repository(url, Mode::Read).await?;
    let mut deployments: BTreeMap<String, Usage> = BTreeMap::new();
    let mut total_bytes = 0;
    let store: &DynStore = repository.store();
    let mut request = ListRequest::under("");
    loop {
        let page = store.list(&request).await?;
        for object in &page.objects {
            total_bytes += object.size;
            if let Some((deployment, folder)) = classify(object.key.as_str()) {
                let usage = deployments.entry(deployment.to_owned()).or_default();
                usage.objects += 1;
                match folder {
                    "packs" => usage.pack_bytes += object.size,
                    "wal" => usage.wal_bytes += object.size,
                    _ => usage.other_bytes += object.size,
                }
            }
        }
        match page.next {
            Some(next) => request = request.after(next),
            None => break,
        }
    }
    let known: BTreeSet<DeploymentName> = repository.deployments().await?.into_iter().collect();
    deployments.retain(|name, _| name.parse().is_ok_and(|name| known.contains(&name)));
    for name in known {
        let catalog = repository.deployment(&name).await?.backups().await?;
        let usage = deployments.entry(name.to_string()).or_default();
        for entry in &catalog.entries {
            let Some(stored) = entry.manifest() else { continue };
            if entry.is_usable() {
                usage.backups += 1;
                usage.logical_bytes += stored.manifest.totals.logical_bytes;
            } else {
                usage.reclaimable_at_most += stored.manifest.totals.stored_bytes;
            }
        }
    }
    Ok(UsageResult {
        url: url.to_owned(),
        deployments,
        total_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::shown;

    #[test]
    fn sizes_by_deployment() {
        let usage = |backups, scale: u64| Usage {
            backups,
            logical_bytes: scale << 30,
            pack_bytes: scale << 28,
            wal_bytes: scale << 24,
            other_bytes: scale << 10,
            objects: 100 * scale,
            reclaimable_at_most: scale << 20,
        };
        let result = UsageResult {
            url: "file:///srv/backup".to_owned(),
            deployments: BTreeMap::from([("billing".to_owned(), usage(1, 1)), ("db1".to_owned(), usage(14, 600))]),
            total_bytes: 601 << 28,
        };
        insta::assert_snapshot!(shown("repo usage", &result));
    }

    #[test]
    fn objects_belong_to_a_deployment_or_to_all() {
        assert_eq!(classify("packs/db1/aa/00"), Some(("db1", "packs")));
        assert_eq!(classify("config/00000001.json"), None);
        assert_eq!(classify("HARDSTORAGE"), None);
    }
}

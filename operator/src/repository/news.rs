//! What has come into a Repository since its catalogue was read, as far as others have told: the newest backup of each
//! Deployment that uses it. Pure.
//!
//! It is a hash, which the Job that reads the catalogue bears: another hash is news. So no clock is compared with another
//! one's, whoever tells first makes no second reading, and a crash forgets nothing. A Job without one was made by an older
//! operator: its next reading comes when it is due.

use std::collections::{BTreeMap, BTreeSet};

use hardstorage_crds::{Backup, Phase, ProtectedDeployment};
use kube::ResourceExt as _;

use crate::names::short_hash;

/// What is told of the Deployments that use a Repository, by namespace and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    told: BTreeMap<(String, String), Told>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    /// The names in the repository that it shows: whose they are decides what the Repository shows itself.
    names: BTreeSet<String>,
    newest: Option<String>,
    /// Its stream flows: what its status says is up to date.
    flows: bool,
}

impl News {
    /// Of a Deployment.
    pub fn deployment(&mut self, namespace: &str, deployment: &ProtectedDeployment, names: &BTreeSet<String>) {
        let status = deployment.status.clone().unwrap_or_default();
        let told = Told {
            names: names.clone(),
            newest: status.last_backup.and_then(|last| last.id),
            flows: matches!(status.phase, Some(Phase::Streaming | Phase::CatchingUp)),
        };
        self.told.insert((namespace.to_owned(), deployment.name_any()), told);
    }

    /// The namespaces in which runs have to tell, because a stream does not.
    pub fn silent(&self) -> BTreeSet<String> {
        let silent = self.told.iter().filter(|(_, told)| !told.flows);
        silent.map(|((namespace, _), _)| namespace.clone()).collect()
    }

    /// Of the runs in a namespace.
    pub fn runs(&mut self, namespace: &str, backups: &[Backup]) {
        for backup in backups {
            let Some(reference) = &backup.spec.deployment_ref else {
                continue;
            };
            let id = backup.status.as_ref().and_then(|status| status.backup_id.clone());
            let told = self.told.get_mut(&(namespace.to_owned(), reference.name.clone()));
            if let (Some(id), Some(told)) = (id, told.filter(|told| !told.flows)) {
                told.newest = told
                    .newest
                    .take()
                    .into_iter()
                    .chain([id])
                    .max_by(|a, b| by_moment(a, b));
            }
        }
    }

    /// All of it in a word.
    pub fn word(&self) -> String {
        let all: Vec<_> = self
            .told
            .iter()
            .map(|(who, told)| (who, &told.names, &told.newest))
            .collect();
        short_hash(&format!("{all:?}"))
    }
}

/// An id ends with the moment of the backup and a suffix.
fn by_moment(a: &str, b: &str) -> std::cmp::Ordering {
    let moment = |id: &str| id.rsplit('.').nth(1).map(str::to_owned);
    moment(a).cmp(&moment(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::*;
    use serde_json::{Value, json};

    const OLD: &str = "team.orders.incr.20260101T000000Z.00ff";
    const NEW: &str = "team.orders.full.20260102T000000Z.00aa";

    fn news(status: Value, runs: &[Option<&str>]) -> News {
        let deployment: ProtectedDeployment = serde_json::from_value(json!({
            "apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment",
            "metadata": {"name": "orders", "namespace": "team"},
            "spec": {"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"}},
            "status": status}))
        .unwrap();
        let backup = |id: Option<&str>| -> Backup {
            serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
                "metadata": {"name": "b", "namespace": "team"}, "spec": {"deploymentRef": {"name": "orders"}},
                "status": {"backupID": id}}))
            .unwrap()
        };
        let mut news = News::default();
        news.deployment("team", &deployment, &BTreeSet::from(["team.orders".to_owned()]));
        news.runs("team", &runs.iter().copied().map(backup).collect::<Vec<_>>());
        news
    }

    #[test]
    fn a_new_backup_is_news_whoever_tells_and_only_once() {
        let nothing = news(json!({"phase": "Streaming"}), &[]).word();
        let streamed = |id: &str| news(json!({"phase": "Streaming", "lastBackup": {"id": id}}), &[]).word();
        let paused = |runs: &[Option<&str>]| news(json!({"phase": "Paused", "lastBackup": {"id": OLD}}), runs).word();
        assert_ne!(nothing, streamed(OLD));
        assert_ne!(streamed(OLD), streamed(NEW));
        // The run tells while the stream does not, and then the stream says the same.
        assert_eq!(paused(&[]), streamed(OLD));
        assert_eq!(paused(&[None, Some(NEW), Some(OLD)]), streamed(NEW));
        assert_eq!(paused(&[Some(OLD)]), streamed(OLD));
        // While it flows, what runs say is not asked for, and does not count.
        let flows = news(json!({"phase": "CatchingUp", "lastBackup": {"id": OLD}}), &[Some(NEW)]);
        assert_eq!((flows.word(), flows.silent().len()), (streamed(OLD), 0));
        assert_eq!(news(Value::Null, &[]).silent().len(), 1);
    }

    #[test]
    fn who_shows_what_is_news() {
        assert_ne!(News::default().word(), news(Value::Null, &[]).word());
    }
}

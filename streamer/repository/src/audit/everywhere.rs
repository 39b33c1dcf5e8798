//! What concerns a whole repository is recorded in the chain of each of its deployments: every chain has one key, and a
//! deployment that is copied elsewhere takes its history along.

use hardstorage_report::{DeploymentName, Error, Result};

use super::chain::AuditLog;
use super::record::AuditEvent;
use crate::Repository;

impl Repository {
    /// Appends to every chain. What could not be recorded is told, and keeps no other chain from it.
    pub async fn audit_everywhere(&self, event: &AuditEvent) -> Result<Vec<(DeploymentName, Error)>> {
        let mut failed = Vec::new();
        for name in self.deployments().await? {
            let appended = async { AuditLog::of(&self.deployment(&name).await?).append(event).await };
            if let Err(error) = appended.await {
                failed.push((name, error));
            }
        }
        Ok(failed)
    }

    /// The same behind something that is done already: what could not be recorded is only told.
    pub(crate) async fn audit_done(&self, event: &AuditEvent) {
        match self.audit_everywhere(event).await {
            Ok(failed) => {
                for (name, error) in failed {
                    tracing::warn!(deployment = %name, %error, "it could not be recorded in the audit chain");
                }
            }
            Err(error) => tracing::warn!(%error, "it could not be recorded in the audit chains"),
        }
    }
}

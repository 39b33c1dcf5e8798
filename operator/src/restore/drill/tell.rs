//! What a drill has proven, told where people look: on the Deployment whose source it restored, and on the Backup that it
//! began with. One that could not be tried says nothing of either. A later proof is never overwritten by an earlier one.

use crate::guarded::Guarded;
use hardstorage_crds::condition::backup::VERIFIED;
use hardstorage_crds::{Backup, BackupStatus, DrillResult, LastDrill, ProtectedDeployment, RestoreStatus, Verified};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::apply;
use crate::backup::mirror;
use crate::condition::{Conditions, Is};
use crate::error::{Error, Result};
use crate::restore::run::Work;

/// How it was verified.
const LEVEL: &str = "Drill";

/// A proof.
struct Proof<'a> {
    restore: String,
    passed: bool,
    time: Time,
    duration: Option<String>,
    moment: &'a str,
    message: &'a str,
}

impl<'a> Proof<'a> {
    fn of(restore: &str, status: &'a RestoreStatus) -> Option<Proof<'a>> {
        let drill = status.drill.as_ref()?;
        let passed = match drill.result {
            Some(DrillResult::Passed) => true,
            Some(DrillResult::Failed) => false,
            _ => return None,
        };
        let failure = status.failure.as_ref();
        Some(Proof {
            restore: restore.to_owned(),
            passed,
            time: drill.time.clone()?,
            duration: drill.duration.clone(),
            moment: status
                .target
                .as_ref()
                .and_then(|target| target.moment.as_deref())
                .unwrap_or_default(),
            message: failure
                .and_then(|failure| failure.message.as_deref())
                .unwrap_or_default(),
        })
    }

    fn word(&self) -> String {
        let result = if self.passed {
            DrillResult::Passed
        } else {
            DrillResult::Failed
        };
        result.as_str().to_owned()
    }

    fn is_news(&self, known: Option<&Time>) -> bool {
        known.is_none_or(|known| known.0 < self.time.0)
    }

    /// The status of a Backup that it restored.
    fn verifies(&self, backup: &Backup, now: Timestamp) -> BackupStatus {
        let before = backup.status.clone().unwrap_or_default();
        let mut conditions = Conditions::new(&before.conditions, backup.metadata.generation, now);
        let (is, reason) = if self.passed {
            (Is::True, "DrillPassed")
        } else {
            (Is::False, "DrillFailed")
        };
        let message = if self.passed {
            format!(
                "Restore {} brought it to {}, and every check passed",
                self.restore, self.moment
            )
        } else {
            format!("Restore {}: {}", self.restore, self.message)
        };
        conditions.set(VERIFIED, is, reason, message);
        before.conditions.iter().for_each(|old| conditions.keep(&old.type_));
        BackupStatus {
            conditions: conditions.finish(),
            verified: Some(Verified {
                time: Some(self.time.clone()),
                level: Some(LEVEL.to_owned()),
                result: Some(self.word()),
            }),
            ..before
        }
    }
}

impl Work<'_> {
    /// Tells it, as often as it is called.
    pub(super) async fn tell_proof(&self, status: &RestoreStatus) -> Result<()> {
        let name = self.restore.name_any();
        let Some(proof) = Proof::of(&name, status) else {
            return Ok(());
        };
        if let Some(reference) = &self.restore.spec.source.deployment_ref {
            self.tell_deployment(&reference.name, &proof).await?;
        }
        let id = status.target.as_ref().and_then(|target| target.backup_id.as_ref());
        for backup in mirror::objects(self.context, self.namespace).await? {
            let known = backup.status.clone().unwrap_or_default();
            let verified = known.verified.as_ref().and_then(|verified| verified.time.as_ref());
            if id.is_some() && known.backup_id.as_ref() == id && proof.is_news(verified) {
                let before = serde_json::to_value(&backup.status)?;
                let after = serde_json::to_value(proof.verifies(&backup, self.context.now()))?;
                gone_is_fine(apply::write_status_of_seen(self.context, "Backup", &backup, &before, &after).await)?;
            }
        }
        Ok(())
    }

    async fn tell_deployment(&self, name: &str, proof: &Proof<'_>) -> Result<()> {
        let found = apply::get::<Guarded<ProtectedDeployment>>(self.context, self.namespace, name).await?;
        let Some(Guarded(Ok(deployment))) = found else {
            return Ok(());
        };
        let mut status = deployment.status.clone().unwrap_or_default();
        let known = status.last_drill.as_ref().and_then(|last| last.time.as_ref());
        if !proof.is_news(known) {
            return Ok(());
        }
        status.last_drill = Some(LastDrill {
            name: Some(proof.restore.clone()),
            time: Some(proof.time.clone()),
            result: Some(proof.word()),
            duration: proof.duration.clone(),
        });
        let before = serde_json::to_value(&deployment.status)?;
        let after = serde_json::to_value(&status)?;
        gone_is_fine(apply::write_status_of_seen(self.context, "Deployment", &deployment, &before, &after).await)
    }
}

/// Who is gone needs not be told.
fn gone_is_fine(written: Result<bool, Error>) -> Result<()> {
    match written {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use serde_json::json;

    fn status(result: &str) -> RestoreStatus {
        serde_json::from_value(
            json!({"drill": {"result": result, "time": "2026-01-02T09:00:00Z", "duration": "3m20s"},
            "target": {"moment": "latest"}, "failure": {"message": "1 check failed"}}),
        )
        .unwrap()
    }

    #[test]
    fn what_could_not_be_tried_proves_nothing() {
        assert!(Proof::of("d", &status("NotRun")).is_none() && Proof::of("d", &RestoreStatus::default()).is_none());
    }

    #[test]
    fn a_backup_says_what_was_proven_of_it_and_keeps_the_rest() {
        let backup: Backup = serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "b", "generation": 1}, "spec": {},
            "status": {"phase": "Completed", "size": "1Gi", "conditions": [{"type": "Ready", "status": "True",
                "reason": "Completed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap();
        for (result, is, reason) in [("Passed", "True", "DrillPassed"), ("Failed", "False", "DrillFailed")] {
            let of = status(result);
            let proof = Proof::of("d", &of).unwrap();
            let after = proof.verifies(&backup, "2026-01-02T09:00:05Z".parse().unwrap());
            let verified = after.conditions.iter().find(|one| one.type_ == "Verified").unwrap();
            assert_eq!((verified.status.as_str(), verified.reason.as_str()), (is, reason));
            assert!(
                after
                    .conditions
                    .iter()
                    .any(|one| one.type_ == "Ready" && one.status == "True")
            );
            assert_eq!(after.size.unwrap().as_str(), "1Gi");
            let told = after.verified.unwrap();
            assert_eq!(
                (told.level.as_deref(), told.result.as_deref()),
                (Some("Drill"), Some(result))
            );
            assert!(!proof.is_news(told.time.as_ref()), "once is enough");
        }
    }
}

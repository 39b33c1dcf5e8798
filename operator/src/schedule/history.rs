//! The Jobs of past runs: each gets a Backup object that outlives it, and is removed when its result is stored and it is
//! older than those that are kept. Pure.

use std::collections::BTreeSet;

use hardstorage_crds::{Backup, BackupPhase, BackupSchedule, BackupSpec, DeploymentRef, History};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::status::began;
use crate::backup::{is_sought, job_name};
use crate::names::{self, Role, annotation, label};

/// The Backup objects that are missing: of Jobs that the CronJob made, that somebody made from it, or that we made.
pub fn missing(schedule: &BackupSchedule, owner: Option<&OwnerReference>, jobs: &[Job], all: &[Backup]) -> Vec<Backup> {
    let runs: BTreeSet<&str> = all
        .iter()
        .filter_map(|backup| backup.annotations().get(annotation::RUN_ID).map(String::as_str))
        .collect();
    let taken: BTreeSet<String> = all.iter().map(ResourceExt::name_any).collect();
    jobs.iter()
        .filter(|job| is_new(job))
        .filter_map(|job| Some((job, job.metadata.uid.as_deref()?)))
        .filter(|(_, uid)| !runs.contains(uid))
        .map(|(job, uid)| {
            let mut name = job.name_any();
            if taken.contains(&name) || name.contains('.') {
                name = job_name(&name.replace('.', "-"), Role::Backup, uid);
            }
            backup(schedule, owner, name, uid)
        })
        .collect()
}

/// Whether a Job may need an object. One whose result is stored had one, and somebody removed it.
fn is_new(job: &Job) -> bool {
    !job.annotations().contains_key(annotation::STORED)
        && !job.labels().contains_key(label::BACKUP)
        && job.metadata.deletion_timestamp.is_none()
}

fn backup(schedule: &BackupSchedule, owner: Option<&OwnerReference>, name: String, run: &str) -> Backup {
    let deployment = &schedule.spec.deployment_ref.name;
    let mut labels = names::own_labels(Role::Backup);
    labels.insert(label::SCHEDULE.to_owned(), schedule.name_any());
    labels.insert(label::DEPLOYMENT.to_owned(), deployment.clone());
    Backup {
        metadata: ObjectMeta {
            namespace: schedule.namespace(),
            name: Some(name),
            labels: Some(labels),
            annotations: Some([(annotation::RUN_ID.to_owned(), run.to_owned())].into()),
            // It holds no data; what it stands for is shown by the Deployment.
            owner_references: owner.map(|owner| vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: BackupSpec {
            deployment_ref: Some(DeploymentRef {
                name: deployment.clone(),
            }),
            ..BackupSpec::default()
        },
        status: None,
    }
}

/// The Backup objects of failed runs that are not kept any more: as many stay as Jobs do, and the last one always, because
/// it is what the schedule tells of. What has a backup goes as the catalogue has it, and what somebody else made stays.
pub fn spent<'a>(history: &History, runs: &'a [Backup], now: Timestamp) -> Vec<&'a Backup> {
    let is_spent = |backup: &&Backup| {
        let status = backup.status.clone().unwrap_or_default();
        status.phase == Some(BackupPhase::Failed)
            && status.backup_id.is_none()
            && !is_sought(backup, now)
            && backup.labels().get(label::MANAGED_BY).map(String::as_str) == Some(names::MANAGER)
            && !backup.annotations().contains_key(annotation::DELETE_DATA)
            && backup.metadata.deletion_timestamp.is_none()
    };
    let mut failed: Vec<&Backup> = runs.iter().filter(is_spent).collect();
    failed.sort_by_key(|backup| std::cmp::Reverse((began(backup), backup.name_any())));
    let keep = usize::try_from(history.failed).unwrap_or_default().max(1);
    failed.into_iter().skip(keep).collect()
}

/// The Jobs that are not kept any more.
pub fn past<'a>(history: &History, jobs: &'a [Job]) -> Vec<&'a Job> {
    let mut out = Vec::new();
    for (word, keep) in [("Completed", history.successful), ("Failed", history.failed)] {
        let mut ended: Vec<&Job> = jobs
            .iter()
            .filter(|job| job.metadata.deletion_timestamp.is_none())
            .filter(|job| job.annotations().get(annotation::STORED).map(String::as_str) == Some(word))
            .collect();
        ended.sort_by_key(|job| {
            let made = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
            std::cmp::Reverse((made, job.name_any()))
        });
        out.extend(ended.into_iter().skip(usize::try_from(keep).unwrap_or_default()));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::super::samples::{schedule, schedule_job};
    use super::*;
    use serde_json::{Value, json};

    fn stored(name: &str, second: u32, word: &str) -> Job {
        let mut job = schedule_job(name, second);
        job.annotations_mut().insert(annotation::STORED.into(), word.into());
        job
    }

    #[test]
    fn every_job_gets_one_object_and_only_one() {
        let schedule = schedule(json!({}));
        let jobs = [
            schedule_job("nightly-1", 1),
            schedule_job("nightly-2", 2),
            stored("nightly-0", 0, "Completed"),
        ];
        let first = missing(&schedule, None, &jobs, &[]);
        let names: Vec<String> = first.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["nightly-1", "nightly-2"]);
        assert_eq!(first[0].annotations()[annotation::RUN_ID], "uid-nightly-1");
        assert!(missing(&schedule, None, &jobs, &first).is_empty());
        for backup in &first {
            for key in backup.labels().keys().chain(backup.annotations().keys()) {
                assert!(
                    key.starts_with("hardstorage.dev/") || key.starts_with("app.kubernetes.io/"),
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn somebodys_own_object_stays_what_it_is() {
        let schedule = schedule(json!({}));
        let jobs = [schedule_job("nightly-1", 1)];
        let mut theirs = missing(&schedule, None, &jobs, &[]).remove(0);
        theirs.annotations_mut().clear();
        let made = missing(&schedule, None, &jobs, std::slice::from_ref(&theirs));
        assert_eq!(made.len(), 1);
        assert_ne!(made[0].name_any(), "nightly-1");
        assert_eq!(made[0].annotations()[annotation::RUN_ID], "uid-nightly-1");
        // The Job of a wish has its object already.
        let mut wish = schedule_job("mine-backup-1", 3);
        wish.labels_mut().insert(label::BACKUP.into(), "mine".into());
        assert!(missing(&schedule, None, &[wish], &[]).is_empty());
    }

    #[test]
    fn objects_of_failures_are_bounded_and_nothing_else_goes() {
        let failed = |hour: u32, more: Value| -> Backup {
            let mut object = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup",
                "metadata": {"name": format!("f{hour}"), "namespace": "team",
                    "labels": {"app.kubernetes.io/managed-by": names::MANAGER}},
                "spec": {"deploymentRef": {"name": "orders"}},
                "status": {"phase": "Failed", "failure": {"code": "auth.password"},
                    "startTime": format!("2026-01-01T{hour:02}:00:00Z")}});
            for (pointer, value) in more.as_object().into_iter().flatten() {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                object.pointer_mut(parent).unwrap()[key] = value.clone();
            }
            serde_json::from_value(object).unwrap()
        };
        let now: Timestamp = "2026-01-01T10:30:00Z".parse().unwrap();
        let mut all: Vec<Backup> = (0..10).map(|hour| failed(hour, json!({}))).collect();
        let gone = |all: &[Backup], failed| -> Vec<String> {
            let history = History { successful: 1, failed };
            spent(&history, all, now)
                .iter()
                .map(|backup| backup.name_any())
                .collect()
        };
        assert_eq!(gone(&all, 8), ["f1", "f0"]);
        assert_eq!(gone(&all, 0).len(), 9, "the last one tells");
        all.truncate(1);
        all.insert(0, failed(9, json!({})));
        for kept in [
            json!({"/metadata/labels": {}}),
            json!({"/metadata/annotations": {annotation::DELETE_DATA: "x"}}),
            json!({"/status/backupID": "a.full.20260101T000000Z.00aa"}),
            json!({"/status/phase": "Completed"}),
            json!({"/status/failure": {"message": "lost"}, "/status/completionTime": "2026-01-01T10:00:00Z"}),
        ] {
            all[1] = failed(0, kept.clone());
            assert!(gone(&all, 0).is_empty(), "{kept}");
        }
    }

    #[test]
    fn only_what_is_stored_is_removed() {
        let jobs = [
            stored("c1", 1, "Completed"),
            stored("c2", 2, "Completed"),
            stored("c3", 3, "Completed"),
            stored("f1", 1, "Failed"),
            stored("f2", 2, "Failed"),
            schedule_job("runs", 0),
        ];
        let gone = |successful, failed| -> Vec<String> {
            past(&History { successful, failed }, &jobs)
                .iter()
                .map(|job| job.name_any())
                .collect()
        };
        assert_eq!(gone(1, 3), ["c2", "c1"]);
        assert_eq!(gone(0, 1), ["c3", "c2", "c1", "f1"]);
        assert!(gone(100, 100).is_empty());
    }
}

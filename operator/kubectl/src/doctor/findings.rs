//! What is wrong with one object, and what to do about it. Pure.

use hardstorage_crds::condition::Condition;
use hardstorage_crds::{BackupSchedule, ProtectedDeployment, Repository, Restore};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::protection::{condition, judge};
use crate::unprotected::Cluster;

/// A run that should have begun this long ago is overdue.
const OVERDUE_SECONDS: i64 = 15 * 60;

/// How bad it is; the worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Data may be lost.
    Bad,
    /// It will be, if nobody does anything.
    Warning,
    /// Worth knowing.
    Note,
}

impl Level {
    /// The sign before the line.
    pub fn sign(self) -> char {
        match self {
            Level::Bad => '✗',
            Level::Warning => '!',
            Level::Note => '·',
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The kind of the object.
    pub kind: &'static str,
    /// `namespace/name`.
    pub name: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

fn full_name<K: kube::Resource>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// A condition's message holds its hint behind a semicolon: what happened, and what to do.
fn split(condition: &Condition, kind: &str, name: &str) -> (String, String) {
    let said = format!("{}: {}", condition.reason, condition.message);
    if let Some((message, hint)) = said.rsplit_once("; ") {
        return (message.to_owned(), hint.to_owned());
    }
    let (namespace, name) = name.split_once('/').unwrap_or_default();
    let singular = format!("hs{}", kind.to_lowercase());
    (said, format!("kubectl -n {namespace} describe {singular} {name}"))
}

fn of_condition(kind: &'static str, name: &str, level: Level, condition: &Condition) -> Finding {
    let (message, fix) = split(condition, kind, name);
    Finding {
        level,
        kind,
        name: name.to_owned(),
        message,
        fix,
    }
}

/// Objects that cannot be read.
pub fn malformed(kind: &'static str, found: &[(String, String)]) -> Vec<Finding> {
    let finding = |(name, error): &(String, String)| Finding {
        level: Level::Bad,
        kind,
        name: name.clone(),
        message: format!("it cannot be read: {error}"),
        fix: "correct the object, or delete it".to_owned(),
    };
    found.iter().map(finding).collect()
}

/// Of a Repository.
pub fn repository(repository: &Repository) -> Vec<Finding> {
    let name = full_name(repository);
    let conditions = repository.status.clone().unwrap_or_default().conditions;
    let bad = |type_: &str| condition(&conditions, type_).filter(|condition| condition.status == "False");
    let mut out = Vec::new();
    match condition(&conditions, "Ready") {
        None => out.push(unseen("Repository", &name)),
        Some(ready) if ready.status != "True" => out.push(of_condition("Repository", &name, Level::Bad, ready)),
        Some(_) => {}
    }
    if let Some(condition) = bad("WriteSafe") {
        out.push(of_condition("Repository", &name, Level::Bad, condition));
    }
    if let Some(condition) = bad("RecoveryKeyExported") {
        out.push(of_condition("Repository", &name, Level::Warning, condition));
    }
    out
}

/// Of a Deployment.
pub fn deployment(deployment: &ProtectedDeployment, schedules: &[BackupSchedule], now: Timestamp) -> Vec<Finding> {
    let name = full_name(deployment);
    let status = deployment.status.clone().unwrap_or_default();
    if condition(&status.conditions, "Ready").is_none() {
        return vec![unseen("Deployment", &name)];
    }
    let mut out = Vec::new();
    let protection = judge(deployment, schedules, now);
    if protection.protected.word != "Yes" {
        let reason = protection.protected.reason.clone().unwrap_or_default();
        let said = status
            .conditions
            .iter()
            .find(|condition| condition.reason == reason && condition.status != "True");
        out.push(match said {
            Some(condition) => of_condition("Deployment", &name, Level::Bad, condition),
            None => Finding {
                level: Level::Bad,
                kind: "Deployment",
                message: match reason.as_str() {
                    "NoBackup" => "it has no backup, so nothing can be restored".to_owned(),
                    "FiguresTooOld" => "nothing has been heard of it for five minutes".to_owned(),
                    other => other.to_owned(),
                },
                fix: match reason.as_str() {
                    "NoBackup" => format!(
                        "kubectl hardstorage -n {} backup {}",
                        protection.namespace, protection.name
                    ),
                    _ => "look whether the operator runs: kubectl get pods -A -l \
                          app.kubernetes.io/name=pg-hardstorage,app.kubernetes.io/component=operator"
                        .to_owned(),
                },
                name: name.clone(),
            },
        });
    }
    for type_ in ["SlotHealthy", "UpgradeHalted"] {
        let is_bad = |condition: &&Condition| (condition.status == "True") == (type_ == "UpgradeHalted");
        let found = condition(&status.conditions, type_).filter(is_bad);
        if let Some(condition) = found.filter(|condition| condition.status != "Unknown") {
            out.push(of_condition("Deployment", &name, Level::Warning, condition));
        }
    }
    if protection.next_backup.is_none() {
        out.push(Finding {
            level: Level::Warning,
            kind: "Deployment",
            message: "no BackupSchedule takes backups of it: the WAL since its last backup grows without end"
                .to_owned(),
            fix: "make a BackupSchedule with deploymentRef.name ".to_owned() + &protection.name,
            name,
        });
    }
    out
}

/// Of a BackupSchedule.
pub fn schedule(schedule: &BackupSchedule, now: Timestamp) -> Vec<Finding> {
    let name = full_name(schedule);
    let status = schedule.status.clone().unwrap_or_default();
    let mut out = Vec::new();
    match condition(&status.conditions, "Ready") {
        None => return vec![unseen("BackupSchedule", &name)],
        Some(ready) if ready.status != "True" => {
            out.push(of_condition("BackupSchedule", &name, Level::Warning, ready));
        }
        Some(_) => {}
    }
    for type_ in ["LastRunSucceeded", "RetentionSucceeded", "LastDrillPassed"] {
        let bad = condition(&status.conditions, type_).filter(|condition| condition.status == "False");
        if let Some(condition) = bad {
            out.push(of_condition("BackupSchedule", &name, Level::Warning, condition));
        }
    }
    let next = status.next_time.as_ref().map(|time| time.0);
    if let Some(next) =
        next.filter(|next| now.duration_since(*next).as_secs() > OVERDUE_SECONDS && !schedule.spec.suspend)
    {
        out.push(Finding {
            level: Level::Warning,
            kind: "BackupSchedule",
            name,
            message: format!("its run of {next} has not begun"),
            fix: "look whether the operator and the CronJob controller run".to_owned(),
        });
    }
    out
}

/// Of a Restore: one that came to nothing, or that waits for a person. Of the drills of a schedule it tells the last one.
pub fn restore(restore: &Restore) -> Vec<Finding> {
    if restore
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "BackupSchedule")
    {
        return Vec::new();
    }
    let name = full_name(restore);
    let status = restore.status.clone().unwrap_or_default();
    let Some(ready) = condition(&status.conditions, "Ready") else {
        return vec![unseen("Restore", &name)];
    };
    let stalled = condition(&status.conditions, "Stalled").is_some_and(|stalled| stalled.status == "True");
    if !stalled {
        return Vec::new();
    }
    let failure = status.failure.unwrap_or_default();
    match (failure.message, failure.hint) {
        (Some(message), Some(fix)) => vec![Finding {
            level: Level::Warning,
            kind: "Restore",
            name,
            message,
            fix,
        }],
        _ => vec![of_condition("Restore", &name, Level::Warning, ready)],
    }
}

/// A cluster that nobody protects.
pub fn unprotected(cluster: &Cluster) -> Finding {
    Finding {
        level: Level::Note,
        kind: "Cluster",
        name: format!("{}/{}", cluster.namespace, cluster.name),
        message: format!("no Deployment protects this cluster ({})", cluster.kind),
        fix: "make a Deployment of hardstorage.dev that names it".to_owned(),
    }
}

fn unseen(kind: &'static str, name: &str) -> Finding {
    Finding {
        level: Level::Bad,
        kind,
        name: name.to_owned(),
        message: "the operator has not looked at it".to_owned(),
        fix: "look whether the operator runs, and whether it looks after this namespace".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn object<K: serde::de::DeserializeOwned>(kind: &str, spec: Value, status: Value) -> K {
        serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": kind,
            "metadata": {"name": "shop", "namespace": "team"}, "spec": spec, "status": status}))
        .unwrap()
    }

    fn says(type_: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": at(0)})
    }

    #[test]
    fn what_a_condition_says_is_split_into_what_happened_and_what_to_do() {
        let found: Repository = object(
            "Repository",
            json!({"url": "s3://a/b"}),
            json!({"conditions": [says("Ready", "False", "KeyMissing", "the key is not there; put it back"),
                says("RecoveryKeyExported", "False", "NotExported", "copy it")]}),
        );
        let all = repository(&found);
        assert_eq!(all.len(), 2);
        assert_eq!(
            (all[0].message.as_str(), all[0].fix.as_str()),
            ("KeyMissing: the key is not there", "put it back")
        );
        assert_eq!(all[1].level, Level::Warning);
        assert_eq!(all[1].fix, "kubectl -n team describe hsrepository shop");
    }

    #[test]
    fn a_deployment_without_backup_or_schedule_is_told_so() {
        let spec = json!({"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"}});
        let good = json!([
            says("Ready", "True", "Ready", ""),
            says("Streaming", "True", "Streaming", ""),
            says("ArchiveContinuous", "True", "NoGap", "")
        ]);
        let found: ProtectedDeployment = object("Deployment", spec.clone(), json!({"conditions": good}));
        let all = deployment(&found, &[], at(0));
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].fix.contains("backup shop") && all[1].fix.contains("BackupSchedule"));
        let unseen: ProtectedDeployment = object("Deployment", spec, Value::Null);
        assert_eq!(deployment(&unseen, &[], at(0)).len(), 1);
    }

    #[test]
    fn a_restore_that_waits_for_nobody_is_no_finding() {
        let spec = json!({"source": {"deploymentRef": {"name": "shop"}},
            "destination": {"cloudNativePG": {"cluster": "back"}}});
        let conditions = |stalled: &str| {
            json!([
                says("Ready", "False", "Refused", "no"),
                says("Stalled", stalled, "Refused", "no")
            ])
        };
        let of = |stalled: &str, failure: Value| -> Vec<Finding> {
            restore(&object(
                "Restore",
                spec.clone(),
                json!({"conditions": conditions(stalled), "failure": failure}),
            ))
        };
        assert!(of("False", Value::Null).is_empty());
        let mut drill: Restore = object("Restore", spec.clone(), json!({"conditions": conditions("True")}));
        drill.metadata.owner_references = serde_json::from_value(json!([{"apiVersion": "hardstorage.dev/v1alpha1",
            "kind": "BackupSchedule", "name": "shop", "uid": "u"}]))
        .unwrap();
        assert!(restore(&drill).is_empty(), "its schedule says it");
        assert_eq!(of("True", json!({"message": "m", "hint": "h"}))[0].fix, "h");
        assert_eq!(
            of("True", Value::Null)[0].fix,
            "kubectl -n team describe hsrestore shop"
        );
    }

    #[test]
    fn a_run_that_did_not_begin_is_overdue() {
        let spec = json!({"deploymentRef": {"name": "shop"}, "schedule": "@daily"});
        let status = json!({"conditions": [says("Ready", "True", "Ready", "")], "nextTime": at(0)});
        let found: BackupSchedule = object("BackupSchedule", spec, status);
        assert!(schedule(&found, at(60)).is_empty());
        assert_eq!(schedule(&found, at(16 * 60)).len(), 1);
    }
}

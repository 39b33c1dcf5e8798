//! The Restore of one drill. Pure.

use hardstorage_crds::{BackupSchedule, DrillMoment, ProtectedDeployment, Recoverable, Restore, ScheduledDrill};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::names::{self, Role, annotation, label};

/// As much of the schedule's name as leaves room for the rest in the 45 characters of a Restore.
const STEM: usize = 31;

/// The Restore for a time; none when there is nothing to restore.
pub fn restore(
    schedule: &BackupSchedule,
    wanted: &ScheduledDrill,
    deployment: &ProtectedDeployment,
    due: Timestamp,
) -> Result<Option<Restore>> {
    let known = deployment
        .status
        .as_ref()
        .and_then(|status| status.recoverable.as_ref());
    let Some((from, to)) = known.and_then(window) else {
        return Ok(None);
    };
    let uid = schedule.uid().unwrap_or_default();
    let mut drill = json!({"checks": wanted.checks});
    if let Some(storage) = &wanted.storage {
        drill["storage"] = json!(storage);
    }
    let mut spec = json!({
        "source": {"deploymentRef": {"name": deployment.name_any()}},
        "destination": {"drill": drill},
    });
    if wanted.moment != DrillMoment::Latest {
        spec["recoveryTarget"] = json!({"time": random(&uid, due, from, to)});
        // What retention takes away in the meantime is not what is tested.
        spec["onUnreachable"] = json!("Nearest");
    }
    let template = schedule
        .spec
        .pod_template
        .as_ref()
        .or(deployment.spec.pod_template.as_ref());
    for (field, value) in [
        ("postgresImage", json!(wanted.postgres_image)),
        ("resources", json!(wanted.resources)),
        ("podTemplate", json!(template)),
    ] {
        if value != Value::Null {
            spec[field] = value;
        }
    }
    let mut labels = names::own_labels(Role::Drill);
    labels.insert(label::SCHEDULE.to_owned(), schedule.name_any());
    labels.insert(label::DEPLOYMENT.to_owned(), deployment.name_any());
    let mut restore = Restore::new(&name(schedule, due), serde_json::from_value(spec)?);
    restore.metadata = ObjectMeta {
        name: restore.metadata.name,
        namespace: schedule.namespace(),
        labels: Some(labels),
        annotations: Some([(annotation::DUE.to_owned(), due.to_string())].into()),
        owner_references: schedule.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    Ok(Some(restore))
}

fn name(schedule: &BackupSchedule, due: Timestamp) -> String {
    let stem: String = schedule.name_any().chars().take(STEM).collect();
    let seed = format!("{}/{due}", schedule.uid().unwrap_or_default());
    names::job(stem.trim_end_matches('-'), Role::Drill, &seed)
}

fn window(known: &Recoverable) -> Option<(Timestamp, Timestamp)> {
    let (from, to) = (known.from.as_ref()?.0, known.to.as_ref()?.0);
    (from <= to).then_some((from, to))
}

/// A whole second between the two: always the same one for a time, so that a second try means the same moment.
fn random(uid: &str, due: Timestamp, from: Timestamp, to: Timestamp) -> Timestamp {
    let hash = Sha256::digest(format!("{uid}/{due}/moment").as_bytes());
    let number = hash
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let seconds = to.duration_since(from).as_secs().unsigned_abs();
    let offset = i64::try_from(number % seconds.saturating_add(1)).unwrap_or_default();
    from.checked_add(SignedDuration::from_secs(offset)).unwrap_or(to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::super::super::samples::{foreign, schedule};
    use super::*;
    use std::collections::BTreeSet;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn deployment(recoverable: Value) -> ProtectedDeployment {
        serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment",
            "metadata": {"name": "orders", "namespace": "team", "labels": foreign()},
            "spec": {"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"},
                "podTemplate": {"nodeSelector": {"disk": "fast"}}},
            "status": {"recoverable": recoverable}}))
        .unwrap()
    }

    fn made(drill: Value, recoverable: Value, due: &str) -> Option<Restore> {
        let mut whole =
            json!({"schedule": "@weekly-random", "checks": [{"name": "rows", "database": "app", "sql": "select 1"}]});
        for (key, value) in drill.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let schedule = schedule(json!({"drill": whole}));
        let wanted = schedule.spec.drill.clone().unwrap();
        restore(&schedule, &wanted, &deployment(recoverable), at(due)).unwrap()
    }

    fn reachable() -> Value {
        json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z"})
    }

    #[test]
    fn a_restore_that_the_schedule_owns_and_that_bears_nobodys_marks() {
        let more = json!({"postgresImage": "mine:18", "resources": {"limits": {"memory": "4Gi"}}, "storage": {"size": "20Gi"}});
        let object = serde_json::to_value(made(more, reachable(), "2026-01-08T03:00:00Z").unwrap()).unwrap();
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "uid-nightly");
        assert!(!object["metadata"].to_string().contains("argocd"), "{object:#}");
        let spec = &object["spec"];
        assert_eq!(spec["source"], json!({"deploymentRef": {"name": "orders"}}));
        assert_eq!(spec["destination"]["drill"]["storage"]["size"], "20Gi");
        assert_eq!(spec["destination"]["drill"]["checks"][0]["timeout"], "1m");
        assert_eq!(
            (&spec["postgresImage"], &spec["onUnreachable"]),
            (&json!("mine:18"), &json!("Nearest"))
        );
        assert_eq!(spec["podTemplate"]["nodeSelector"]["disk"], "fast", "of the Deployment");
        assert_eq!(spec["resources"]["limits"]["memory"], "4Gi");
        let latest = made(json!({"moment": "Latest"}), reachable(), "2026-01-08T03:00:00Z").unwrap();
        assert_eq!(latest.spec.recovery_target, None);
    }

    #[test]
    fn random_moments_are_stable_spread_and_within() {
        let moment = |due: &str| {
            made(json!({}), reachable(), due)
                .unwrap()
                .spec
                .recovery_target
                .unwrap()
                .time
                .unwrap()
        };
        let dues: Vec<String> = (1..=28).map(|day| format!("2026-02-{day:02}T03:00:00Z")).collect();
        let all: Vec<Timestamp> = dues.iter().map(|due| at(&moment(due))).collect();
        assert_eq!(moment(&dues[0]), moment(&dues[0]));
        assert!(
            all.iter()
                .all(|time| (at("2026-01-01T00:00:00Z")..=at("2026-01-08T00:00:00Z")).contains(time))
        );
        let days: BTreeSet<i64> = all.iter().map(|time| time.as_second() / 86_400).collect();
        assert!(days.len() > 4, "{all:?}");
        let point = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
        let only = made(json!({}), point, &dues[0])
            .unwrap()
            .spec
            .recovery_target
            .unwrap()
            .time;
        assert_eq!(only.as_deref(), Some("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn nothing_is_drilled_where_nothing_can_be_restored() {
        for nothing in [Value::Null, json!({}), json!({"from": "2026-01-01T00:00:00Z"})] {
            assert!(made(json!({}), nothing, "2026-01-08T03:00:00Z").is_none());
        }
    }

    #[test]
    fn names_fit_and_follow_from_the_time() {
        let mut schedule = schedule(json!({}));
        schedule.metadata.name = Some(format!("{}-{}", "a".repeat(30), "b".repeat(14)));
        let name_of = |due: &str| name(&schedule, at(due));
        assert!(name_of("2026-01-08T03:00:00Z").len() <= 45);
        assert_eq!(name_of("2026-01-08T03:00:00Z"), name_of("2026-01-08T03:00:00Z"));
        assert_ne!(name_of("2026-01-08T03:00:00Z"), name_of("2026-01-15T03:00:00Z"));
    }
}

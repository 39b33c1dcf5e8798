//! The Jobs of a wish and of a deletion.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use crate::job;
use crate::schedule::samples::target;
use serde_json::json;

fn image() -> Image {
    Image {
        name: "engine:1".into(),
        pull_policy: "IfNotPresent".into(),
    }
}

#[test]
fn a_wish_is_taken_as_it_says() {
    let target = target(json!({}), json!({}));
    let taking = Taking {
        target: &target,
        image: image(),
        manner: Manner::of(None),
        from: BackupFrom::Primary,
        checkpoint: Checkpoint::Spread,
        label: Some("before $(RUN_ID) --x".into()),
        max_rate: Rate::new("50Mi"),
        schedule: None,
        backup: Some("mine".into()),
        run_id: Some("uid-mine".into()),
    };
    let job = job::build(taking.plan("mine-backup-1".into(), None));
    let labels = job.metadata.labels.clone().unwrap();
    assert_eq!(labels[label::BACKUP], "mine");
    assert_eq!(labels[label::REPOSITORY_NAMESPACE], "team");
    assert!(!labels.contains_key(label::SCHEDULE));
    let engine = &job.spec.unwrap().template.spec.unwrap().containers[0];
    let args = engine.args.clone().unwrap();
    for word in [
        "--allow-concurrent",
        "--checkpoint=spread",
        "--label=before $$(RUN_ID) --x",
        "--max-rate=52428800",
        "uid-mine",
    ] {
        assert!(args.iter().any(|arg| arg == word), "{word}: {args:?}");
    }
    let env = engine.env.clone().unwrap();
    assert!(env.iter().all(|variable| variable.name != "RUN_ID"));
}

#[test]
fn job_names_fit_whatever_the_parent_is_called() {
    for parent in ["a".repeat(63), format!("{}-b", "a".repeat(44)), "a.b".into()] {
        for role in [Role::Backup, Role::Tombstone] {
            let name = job_name(&parent, role, "x");
            assert!(name.len() <= 63 && !name.contains("--"), "{name}");
        }
    }
}

#[test]
fn a_tombstone_names_one_backup_and_nothing_owns_it() {
    let target = target(json!({}), json!({}));
    let tombstone = Tombstone {
        namespace: "team",
        backup: "mine",
        repository: &target.repository.access,
        name: "team.orders",
        id: "team.orders.full.20260101T000000Z.00aa",
        image: image(),
        surroundings: Surroundings::default(),
    };
    let job = tombstone.job("mine-tombstone-1".into());
    assert!(job.metadata.owner_references.is_none());
    // So it goes by itself when its object went before we took it away.
    let spec = job.spec.unwrap();
    assert_eq!(spec.ttl_seconds_after_finished, Some(86_400));
    let args = spec.template.spec.unwrap().containers[0].args.clone().unwrap();
    let words = [
        "backup",
        "delete",
        "team.orders",
        "team.orders.full.20260101T000000Z.00aa",
        "--yes",
        "--repo=s3://backups/team",
    ];
    assert_eq!(args[..6], words);
}

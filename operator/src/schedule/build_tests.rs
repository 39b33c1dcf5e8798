//! What a run is built from, and what never reaches it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::super::samples::{foreign, schedule, target};
use super::*;
use serde_json::{Value, json};

fn image() -> Image {
    Image {
        name: "engine:1".into(),
        pull_policy: "IfNotPresent".into(),
    }
}

fn built(spec: Value, repository: Value, deployment: Value) -> (CronJob, Job) {
    let (schedule, target, image) = (schedule(spec), target(repository, deployment), image());
    let plan = Plan::new("@daily-random", "Europe/Berlin", "team/nightly").unwrap();
    let ground = Ground {
        schedule: &schedule,
        target: &target,
        image: &image,
    };
    (ground.cron_job(&plan, Some("1")), ground.job("nightly-backup-1".into()))
}

fn args(job: &k8s_openapi::api::batch::v1::JobSpec) -> Vec<String> {
    job.template.spec.as_ref().unwrap().containers[0].args.clone().unwrap()
}

#[test]
fn the_cron_job_is_safe() {
    let (cron_job, _) = built(
        json!({"timeZone": "Europe/Berlin", "suspend": true}),
        json!({}),
        json!({}),
    );
    let spec = cron_job.spec.unwrap();
    assert_eq!(spec.time_zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(spec.concurrency_policy.as_deref(), Some("Forbid"));
    assert_eq!((spec.suspend, spec.starting_deadline_seconds), (Some(true), Some(3600)));
    assert_eq!(spec.schedule.split(' ').count(), 5);
    assert_eq!(cron_job.metadata.name.as_deref(), Some("nightly"));
    let job = spec.job_template.spec.unwrap();
    assert_eq!(
        (job.active_deadline_seconds, job.backoff_limit),
        (Some(86_400), Some(2))
    );
    assert_eq!((job.suspend, job.ttl_seconds_after_finished), (None, None));
    let pod = job.template.spec.unwrap();
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    let resources = pod.containers[0].resources.clone().unwrap();
    assert!(resources.limits.unwrap().contains_key("memory"));
}

#[test]
fn names_end_in_time() {
    let mut longest = schedule(json!({}));
    longest.metadata.name = Some("n".repeat(45));
    let (target, image) = (target(json!({}), json!({})), image());
    let plan = Plan::new("@daily", "Etc/UTC", "a").unwrap();
    let ground = Ground {
        schedule: &longest,
        target: &target,
        image: &image,
    };
    assert!(ground.cron_job(&plan, None).name_any().len() <= 52);
    let name = crate::backup::job_name(&longest.name_any(), crate::names::Role::Backup, "x");
    assert!(name.len() <= 63, "{name}");
}

#[test]
fn what_marks_the_parent_never_reaches_a_child() {
    let (cron_job, job) = built(json!({}), json!({}), json!({}));
    let template = cron_job.spec.clone().unwrap().job_template;
    let marked = foreign();
    let inner = template.spec.clone().unwrap().template.metadata.unwrap();
    let metas = [
        &cron_job.metadata,
        template.metadata.as_ref().unwrap(),
        &inner,
        &job.metadata,
    ];
    for meta in metas {
        let labels = meta.labels.clone().unwrap_or_default();
        assert_eq!(labels["app.kubernetes.io/managed-by"], crate::names::MANAGER);
        let annotations = meta.annotations.clone().unwrap_or_default();
        for key in labels.keys().chain(annotations.keys()) {
            let foreign = marked.get(key).is_some() && key != "app.kubernetes.io/managed-by";
            assert!(!foreign, "{key}");
        }
    }
}

#[test]
fn the_command_says_what_is_wanted() {
    let (_, job) = built(json!({}), json!({}), json!({}));
    let plain = args(job.spec.as_ref().unwrap());
    assert_eq!(
        plain[..4],
        [
            "backup",
            "team.orders",
            "--allow-concurrent",
            "--repo=s3://backups/team"
        ]
    );
    assert!(plain.iter().any(|word| word.contains("host=shop-rw")), "{plain:?}");
    assert!(plain.iter().any(|word| word == "$(RUN_ID)"));
    assert!(plain.iter().any(|word| word == "--source-snapshot"));
    assert!(!plain.iter().any(|word| word.starts_with("--max-rate")));
    let limited = json!({"limits": {"concurrentBackups": 2, "maxRate": "1Mi"}});
    let (cron_job, job) = built(json!({"from": "PreferStandby", "maxRate": "50Mi"}), limited, json!({}));
    let words = args(job.spec.as_ref().unwrap());
    assert!(words.iter().any(|word| word.contains("host=shop-ro")), "{words:?}");
    assert!(words.iter().any(|word| word == "--max-rate=1048576"), "{words:?}");
    // It waits for its turn.
    assert_eq!(job.spec.unwrap().suspend, Some(true));
    assert_eq!(cron_job.spec.unwrap().job_template.spec.unwrap().suspend, Some(true));
}

#[test]
fn the_schedules_settings_go_before_the_deployments() {
    let pinned = json!({"engine": {"image": "mine:2", "imagePullPolicy": "Always"},
        "podTemplate": {"nodeSelector": {"disk": "slow"}}});
    let (_, job) = built(json!({}), json!({}), pinned.clone());
    let pod = job.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.containers[0].image.as_deref(), Some("mine:2"));
    assert_eq!(pod.containers[0].image_pull_policy.as_deref(), Some("Always"));
    assert_eq!(pod.node_selector.unwrap()["disk"], "slow");
    let (_, job) = built(
        json!({"podTemplate": {"nodeSelector": {"disk": "fast"}}}),
        json!({}),
        pinned,
    );
    assert_eq!(
        job.spec.unwrap().template.spec.unwrap().node_selector.unwrap()["disk"],
        "fast"
    );
}

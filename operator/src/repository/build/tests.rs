//! What is made, and whose it is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use crate::repository::access::in_namespace;
use crate::repository::decide::Step;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

fn repository(spec: Value) -> Repository {
    let mut spec = spec;
    spec["url"] = spec.get("url").cloned().unwrap_or(json!("s3://backups/a"));
    serde_json::from_value(json!({
        "apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
        // As Argo CD, Flux and Helm mark what is theirs.
        "metadata": {"name": "main", "namespace": "team", "uid": "u-1", "generation": 3,
            "labels": {"app.kubernetes.io/instance": "argo", "kustomize.toolkit.fluxcd.io/name": "flux",
                "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"argocd.argoproj.io/tracking-id": "argo", "meta.helm.sh/release-name": "helm"}},
        "spec": spec,
    }))
    .unwrap()
}

fn steps() -> Vec<Step> {
    vec![
        Step::Probe {
            attempt: 2,
            after: None,
        },
        Step::Create {
            attempt: 0,
            after: "probe-1".into(),
        },
        Step::Sync {
            attempt: 0,
            asked: Some("today".into()),
            news: "b1".into(),
        },
    ]
}

fn entropy() -> Entropy {
    Entropy::draw().unwrap()
}

/// Every child, as JSON.
fn children(repository: &Repository) -> Vec<Value> {
    let access = in_namespace(repository, "team", false);
    let image = Image {
        name: "engine:1".into(),
        pull_policy: "IfNotPresent".into(),
    };
    let ground = Ground {
        repository,
        access: &access,
        image: &image,
        surroundings: Surroundings::default(),
    };
    let now = Timestamp::UNIX_EPOCH;
    let mut all: Vec<Value> = steps()
        .iter()
        .map(|step| serde_json::to_value(job(&ground, step, now).unwrap()).unwrap())
        .collect();
    assert_eq!(job(&ground, &Step::Wait(Duration::ZERO), now), None);
    all.push(serde_json::to_value(check(&ground, "5 4 * * *", false)).unwrap());
    all.extend(kek(repository, entropy()).map(|secret| serde_json::to_value(secret).unwrap()));
    all.push(serde_json::to_value(signing(repository, "team", entropy())).unwrap());
    all.push(serde_json::to_value(signing(repository, "qa", entropy())).unwrap());
    all.push(serde_json::to_value(network_policy(repository, "operators", "monitoring")).unwrap());
    all
}

#[test]
fn jobs_and_the_cron_job_go_with_it_and_no_secret_does() {
    let all = children(&repository(json!({})));
    let kinds: Vec<_> = all.iter().map(|child| child["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "Job",
            "Job",
            "Job",
            "CronJob",
            "Secret",
            "Secret",
            "Secret",
            "NetworkPolicy"
        ]
    );
    for child in &all {
        let owners = &child["metadata"]["ownerReferences"];
        if child["kind"] == "Secret" {
            assert_eq!(*owners, Value::Null, "{child:#}");
            assert_eq!(child["immutable"], true);
        } else {
            assert_eq!(owners[0]["uid"], "u-1", "{child:#}");
            assert_eq!(owners[0]["controller"], true);
        }
    }
}

#[test]
fn nothing_of_its_labels_and_annotations_reaches_a_child() {
    for child in children(&repository(json!({}))) {
        let text = child.to_string();
        for theirs in ["argo", "flux", "elm"] {
            assert!(!text.contains(theirs), "{theirs}: {child:#}");
        }
    }
}

#[test]
fn a_claim_is_mounted_and_never_owned() {
    let spec = json!({"url": "file:///repository/a", "persistentVolumeClaim": {"claimName": "bk"}});
    for child in children(&repository(spec)) {
        assert_ne!(child["kind"], "PersistentVolumeClaim");
        if child["kind"] == "Job" {
            let text = child["spec"]["template"]["spec"]["volumes"].to_string();
            assert!(text.contains(r#""claimName":"bk""#), "{text}");
        }
    }
}

#[test]
fn what_the_engine_is_told() {
    let commands = |spec| -> Vec<String> {
        let all = children(&repository(spec));
        let args = |child: &Value| {
            let args = &child["spec"]["template"]["spec"]["containers"][0]["args"];
            let words: Vec<&str> = args.as_array().unwrap().iter().filter_map(Value::as_str).collect();
            words
                .into_iter()
                .take_while(|word| *word != "--credentials-dir")
                .collect::<Vec<_>>()
                .join(" ")
        };
        all.iter().filter(|child| child["kind"] == "Job").map(args).collect()
    };
    assert_eq!(
        commands(json!({"caRef": {"kind": "ConfigMap", "name": "ca"}})),
        ["probe", "init", "sync"].map(|word| {
            let trial = if word == "probe" { " --prove-writes" } else { "" };
            format!("repo {word} s3://backups/a?ca_file=/etc/pg-hardstorage/store/ca.crt{trial}")
        })
    );
    assert_eq!(
        commands(json!({"accessMode": "ReadOnly"}))[0],
        "repo probe s3://backups/a",
        "not even a trial is written"
    );
    assert_eq!(
        commands(json!({"encryption": {"none": {}}}))[1],
        "repo init s3://backups/a --no-encryption"
    );
}

#[test]
fn a_key_of_the_users_own_is_not_made_and_two_keys_differ() {
    let own = repository(json!({"encryption": {"secretRef": {"name": "mine", "key": "k"}}}));
    assert_eq!(kek(&own, entropy()), None);
    assert_eq!(kek(&repository(json!({"encryption": {"none": {}}})), entropy()), None);
    let managed = repository(json!({"encryption": {"managed": {"secretName": "vault"}}}));
    let key = |secret: Option<k8s_openapi::api::core::v1::Secret>| secret.unwrap().data.unwrap()["kek"].0.clone();
    let (first, second) = (kek(&managed, entropy()), kek(&managed, entropy()));
    assert_eq!(first.as_ref().unwrap().metadata.name.as_deref(), Some("vault"));
    let (first, second) = (key(first), key(second));
    assert_eq!(first.len(), 32);
    assert_ne!(first, second);
}

#[test]
fn a_job_tells_which_run_it_is_and_the_same_step_has_the_same_name() {
    let all = children(&repository(json!({})));
    let again = children(&repository(json!({})));
    for (one, other) in all.iter().zip(&again) {
        assert_eq!(one["metadata"]["name"], other["metadata"]["name"]);
        assert!(one["metadata"]["name"].as_str().unwrap().len() <= 63);
    }
    let notes = |index: usize| all[index]["metadata"]["annotations"].clone();
    assert_eq!(
        notes(0),
        json!({"hardstorage.dev/generation": "3", "hardstorage.dev/attempt": "2"})
    );
    assert_eq!(notes(1)["hardstorage.dev/after"], "probe-1");
    assert_eq!(notes(2)["hardstorage.dev/sync-now"], "today");
    assert_eq!(notes(2)["hardstorage.dev/news"], "b1");
    // Their pods and those of the checks are of one repository, for a claim that one node mounts.
    for child in &all[..4] {
        assert_eq!(child["metadata"]["labels"]["hardstorage.dev/repository"], "main");
    }
}

#[test]
fn a_check_starts_late_rather_than_never() {
    let cron = children(&repository(json!({"maintenance": {"timeZone": "Europe/Berlin"}})))[3].clone();
    assert_eq!(cron["metadata"]["name"], "main-check");
    assert_eq!(cron["spec"]["schedule"], "5 4 * * *");
    assert_eq!(cron["spec"]["timeZone"], "Europe/Berlin");
    assert_eq!(cron["spec"]["concurrencyPolicy"], "Forbid");
    assert_eq!(cron["spec"]["startingDeadlineSeconds"], 3600);
    let container = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"][1], "check");
    assert!(!cron.to_string().contains("signing"), "a check signs nothing");
}

#[test]
fn the_operator_may_ask_the_pods_of_every_job() {
    let all = children(&repository(json!({})));
    let policy = all.last().unwrap();
    assert_eq!(policy["metadata"]["name"], "main-repository-report");
    let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
    let cron = &all[3]["spec"]["jobTemplate"]["spec"];
    for pod in all[..3].iter().map(|job| &job["spec"]).chain([cron]) {
        let labels = &pod["template"]["metadata"]["labels"];
        assert!(wanted.iter().all(|(name, value)| &labels[name] == value), "{labels:#}");
    }
    let from = policy["spec"]["ingress"][0]["from"].to_string();
    assert!(from.contains("operators") && from.contains("monitoring"), "{from}");
}

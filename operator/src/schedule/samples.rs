//! Objects for the tests of this folder.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]

use hardstorage_crds::{BackupSchedule, Repository};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::access::{HostAccess, RepositoryAccess, SecretKey, SourceAccess};
use crate::backup::target::Target;
use crate::pod::Surroundings;
use crate::repository::Resolved;

/// A schedule `nightly` of Deployment `orders`, with the marks that Argo, Flux and Helm leave.
pub fn schedule(more: Value) -> BackupSchedule {
    let mut spec = json!({"deploymentRef": {"name": "orders"}, "schedule": "@daily-random"});
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().cloned().unwrap_or_default());
    serde_json::from_value(
        json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "nightly", "namespace": "team", "uid": "uid-nightly", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": foreign(), "annotations": foreign()},
        "spec": spec}),
    )
    .unwrap()
}

/// Labels of tools that prune what bears them.
pub fn foreign() -> Value {
    json!({"argocd.argoproj.io/instance": "app", "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "x",
        "kustomize.toolkit.fluxcd.io/name": "y"})
}

/// A Job that the CronJob of `nightly` made.
pub fn schedule_job(name: &str, second: u32) -> Job {
    serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "team", "uid": format!("uid-{name}"),
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            "labels": {"hardstorage.dev/role": "backup", "hardstorage.dev/schedule": "nightly"}},
        "spec": {"template": {}}}))
    .unwrap()
}

/// What `nightly` backs up.
pub fn target(repository: Value, deployment: Value) -> Target {
    let mut spec = json!({"url": "s3://backups/team"});
    spec.as_object_mut()
        .unwrap()
        .extend(repository.as_object().cloned().unwrap_or_default());
    let repository: Repository = serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1",
        "kind": "Repository", "metadata": {"name": "main", "namespace": "team"}, "spec": spec,
        "status": {"repositoryID": "01"}}))
    .unwrap();
    let mut spec = json!({"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"}});
    spec.as_object_mut()
        .unwrap()
        .extend(deployment.as_object().cloned().unwrap_or_default());
    let deployment = serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment",
        "metadata": {"name": "orders", "namespace": "team", "uid": "uid-orders", "labels": foreign()}, "spec": spec}))
    .unwrap();
    let source = |host: &str| SourceAccess {
        hosts: vec![HostAccess::named(host, 5432)],
        user: Some("streaming_replica".into()),
        database: "postgres".into(),
        ..SourceAccess::default()
    };
    Target {
        deployment,
        name: "team.orders".into(),
        repository: Resolved {
            repository,
            access: RepositoryAccess {
                namespace: "team".into(),
                name: "main".into(),
                url: "s3://backups/team".into(),
                credentials: None,
                service_account: None,
                ca: None,
                kek: None,
                signing: SecretKey {
                    secret: "main-signing".into(),
                    key: "signing-key".into(),
                },
                claim: None,
                shared_claim: false,
                read_only: false,
            },
        },
        source: source("shop-rw"),
        standby: Some(source("shop-ro")),
        snapshot: Some("orders-source".into()),
        surroundings: Surroundings::default(),
    }
}

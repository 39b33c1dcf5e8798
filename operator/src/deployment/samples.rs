//! Objects for the tests of this folder.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]

use hardstorage_crds::ProtectedDeployment;
use serde_json::{Value, json};

use crate::access::{RepositoryAccess, SecretKey};

/// A Deployment on a CloudNativePG Cluster `shop`.
pub fn deployment(namespace: &str, name: &str) -> ProtectedDeployment {
    with_spec(
        namespace,
        name,
        json!({"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"}}),
    )
}

/// A Deployment with this spec.
pub fn with_spec(namespace: &str, name: &str, spec: Value) -> ProtectedDeployment {
    serde_json::from_value(json!({
        "apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{namespace}-{name}"), "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1",
            "labels": {"argocd.argoproj.io/instance": "app", "helm.sh/chart": "x", "kustomize.toolkit.fluxcd.io/name": "y"},
            "annotations": {"argocd.argoproj.io/tracking-id": "z"}},
        "spec": spec}))
    .unwrap()
}

/// A repository in S3 as a pod sees it.
pub fn repository() -> RepositoryAccess {
    RepositoryAccess {
        namespace: "team".into(),
        name: "main".into(),
        url: "s3://backups/team".into(),
        credentials: None,
        service_account: None,
        ca: None,
        kek: Some(SecretKey {
            secret: "main-kek".into(),
            key: "kek".into(),
        }),
        signing: SecretKey {
            secret: "main-signing".into(),
            key: "signing-key".into(),
        },
        claim: None,
        shared_claim: false,
        read_only: false,
    }
}

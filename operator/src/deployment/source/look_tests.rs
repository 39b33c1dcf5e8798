//! Sources as the API server shows them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use crate::deployment::samples::{deployment, with_spec};
use crate::scripted::{Answers, Exchange, ok, refused, scripted};
use http::Method;
use jiff::Timestamp;

const CLUSTER: &str = "/apis/postgresql.cnpg.io/v1/namespaces/team/clusters/shop";
const SNAPSHOT: &str = "/api/v1/namespaces/team/configmaps/orders-source";
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusters.postgresql.cnpg.io";

async fn looked(script: Vec<Exchange>, deployment: ProtectedDeployment) -> SourceFacts {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
    let facts = look(&context, &deployment).await;
    drop(context);
    server.await.unwrap();
    facts.unwrap()
}

fn reason_of(facts: &SourceFacts) -> &'static str {
    match &facts.state {
        State::Ready => "Ready",
        State::Hibernated => "Hibernated",
        State::Progressing { reason, .. } | State::Missing { reason, .. } => reason,
    }
}

#[tokio::test]
async fn a_cluster_and_every_way_not_to_find_it() {
    let healthy: Value = serde_json::from_str(include_str!("samples/healthy.json")).unwrap();
    let no = |path, code| {
        refused(
            Method::GET,
            path,
            code,
            if code == 404 { "NotFound" } else { "Forbidden" },
        )
    };
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": CLUSTERS}, "spec": {"group": "postgresql.cnpg.io", "scope": "Namespaced",
        "names": {"kind": "Cluster", "plural": "clusters"}, "versions": []}});
    let cases = [
        (vec![ok(Method::GET, CLUSTER, healthy)], "Ready"),
        (vec![no(CLUSTER, 404), no(CRD, 404)], reason::CLOUD_NATIVE_PG_MISSING),
        (
            vec![no(CLUSTER, 404), ok(Method::GET, CRD, crd)],
            reason::CLUSTER_MISSING,
        ),
        (vec![no(CLUSTER, 404), no(CRD, 403)], reason::CLUSTER_MISSING),
        (vec![no(CLUSTER, 403)], reason::CLUSTER_FORBIDDEN),
    ];
    for (script, wanted) in cases {
        let facts = looked(script, deployment("team", "orders")).await;
        assert_eq!(reason_of(&facts), wanted);
        assert_eq!(facts.access.is_some(), wanted == "Ready");
    }
}

fn on_patroni(flavor: &str) -> ProtectedDeployment {
    let source = json!({"patroni": {"scope": "orders", "flavor": flavor, "tls": {"mode": "Require"},
        "credentials": {"secretRef": {"name": "repl"}}, "rest": {"url": "http://127.0.0.1:1"}}});
    with_spec(
        "team",
        "orders",
        json!({"source": source, "repositoryRef": {"name": "main"}}),
    )
}

fn pod(name: &str, role: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "team", "labels": {"cluster-name": "orders", "role": role}},
        "status": {"podIP": "127.0.0.1"}})
}

fn pods(items: Value) -> Exchange {
    ok(
        Method::GET,
        "/api/v1/namespaces/team/pods?&labelSelector=cluster-name%3Dorders%2Crole+in+%28primary%2Cmaster%29",
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}),
    )
}

#[tokio::test]
async fn the_leader_is_found_by_the_label_that_it_bears() {
    let service = "/api/v1/namespaces/team/services/orders-leader";
    for role in ["primary", "master"] {
        let script = vec![
            pods(json!([pod("orders-1", role)])),
            refused(Method::GET, service, 404, "NotFound"),
        ];
        let facts = looked(script, on_patroni("Plain")).await;
        assert_eq!(reason_of(&facts), "Ready");
        let leader = facts.leader.unwrap();
        assert_eq!(
            (leader.selector["role"].as_str(), leader.pod.as_deref()),
            (role, Some("orders-1"))
        );
        assert!(
            facts
                .access
                .unwrap()
                .conninfo()
                .starts_with("host=orders-leader port=5432")
        );
    }
    let script = vec![
        pods(json!([])),
        refused(Method::GET, SNAPSHOT, 404, "NotFound"),
        refused(Method::GET, service, 404, "NotFound"),
    ];
    let facts = looked(script, on_patroni("Plain")).await;
    assert_eq!(reason_of(&facts), reason::NO_LEADER);
    assert!(facts.access.is_some(), "the Service leads to the next leader by itself");
}

/// So that a restore needs no more than a repository and a key.
#[tokio::test]
async fn image_user_and_size_of_the_leader_are_kept() {
    let mut leader = pod("orders-1", "primary");
    leader["spec"] = json!({
    "securityContext": {"runAsUser": 999, "fsGroup": 998},
    "volumes": [{"name": "config", "configMap": {}}, {"name": "data", "persistentVolumeClaim": {"claimName": "data-orders-1"}}],
    "containers": [
        {"name": "metrics", "image": "metrics:1", "volumeMounts": [{"name": "config", "mountPath": "/c"}]},
        {"name": "patroni", "image": "patroni:18", "securityContext": {"runAsUser": 70},
            "volumeMounts": [{"name": "config", "mountPath": "/c"}, {"name": "data", "mountPath": "/data"}]},
    ]});
    let claim = json!({"metadata": {"name": "data-orders-1"}, "spec": {"resources": {"requests": {"storage": "5Gi"}}}});
    let service = "/api/v1/namespaces/team/services/orders-leader";
    let path = "/api/v1/namespaces/team/persistentvolumeclaims/data-orders-1";
    let script = |claim: Exchange| {
        vec![
            pods(json!([leader])),
            claim,
            refused(Method::GET, service, 404, "NotFound"),
        ]
    };
    let facts = looked(
        script(refused(Method::GET, path, 403, "Forbidden")),
        on_patroni("Plain"),
    )
    .await;
    assert_eq!(reason_of(&facts), "Ready");
    let snapshot = looked(script(ok(Method::GET, path, claim)), on_patroni("Plain"))
        .await
        .snapshot
        .unwrap();
    assert_eq!(
        snapshot,
        json!({"schema": "pg_hardstorage.source.v1", "type": "Patroni", "scope": "orders", "flavor": "Plain",
            "image": "patroni:18", "uid": 70, "gid": 998, "claimSize": "5Gi"})
    );
}

fn our_service(selector: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders-leader", "namespace": "team",
        "ownerReferences": [{"apiVersion": "x", "kind": "Deployment", "name": "orders", "uid": "uid-team-orders",
            "controller": true}]},
        "spec": {"selector": selector}})
}

/// Otherwise it would lead nowhere from each failover on until we look again.
#[tokio::test]
async fn while_nobody_leads_the_service_stays_as_it_was() {
    let path = "/api/v1/namespaces/team/services/orders-leader";
    for (before, wanted) in [("master", "master"), ("primary", "primary"), ("replica", "primary")] {
        let service = our_service(json!({"cluster-name": "orders", "role": before}));
        let kept = json!({"metadata": {"name": "orders-source"}, "data": {"source.json": r#"{"scope": "x", "image": "p:1"}"#}});
        let script = vec![
            pods(json!([])),
            ok(Method::GET, SNAPSHOT, kept),
            ok(Method::GET, path, service),
        ];
        let facts = looked(script, on_patroni("Plain")).await;
        assert_eq!(facts.leader.unwrap().selector["role"], wanted, "{before}");
        let snapshot = facts.snapshot.unwrap();
        assert_eq!(
            (&snapshot["image"], &snapshot["scope"]),
            (&json!("p:1"), &json!("orders"))
        );
    }
}

#[tokio::test]
async fn a_service_of_somebody_else_leads_nobody_knows_where() {
    let path = "/api/v1/namespaces/team/services/orders-leader";
    let mut theirs = our_service(json!({"app": "theirs"}));
    theirs["metadata"]["ownerReferences"] = json!([]);
    let script = vec![pods(json!([pod("orders-1", "primary")])), ok(Method::GET, path, theirs)];
    let facts = looked(script, on_patroni("Plain")).await;
    assert_eq!((reason_of(&facts), &facts.access), (reason::SERVICE_TAKEN, &None));
}

#[tokio::test]
async fn a_certificate_of_another_name_waits_for_the_services_address() {
    let source = json!({"patroni": {"scope": "orders", "flavor": "Crunchy"}});
    let object = with_spec(
        "team",
        "orders",
        json!({"source": source, "repositoryRef": {"name": "main"}}),
    );
    let list = ok(
        Method::GET,
        "/api/v1/namespaces/team/pods?",
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [
            {"metadata": {"name": "o-1", "labels": {"postgres-operator.crunchydata.com/role": "master"}}}]}),
    );
    let path = "/api/v1/namespaces/team/services/orders-leader";
    let facts = looked(vec![list, refused(Method::GET, path, 404, "NotFound")], object.clone()).await;
    assert_eq!((reason_of(&facts), &facts.access), (reason::CLUSTER_NOT_READY, &None));
    assert!(facts.leader.is_some(), "the Service is made from it");
    let list = ok(
        Method::GET,
        "/api/v1/namespaces/team/pods?",
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [{"metadata": {"name": "o-1"}}]}),
    );
    let mut service = our_service(json!({}));
    service["spec"]["clusterIP"] = json!("10.9.8.7");
    let facts = looked(vec![list, ok(Method::GET, path, service)], object).await;
    let access = facts.access.unwrap();
    assert!(
        access.conninfo().starts_with("host=orders-primary hostaddr=10.9.8.7"),
        "{}",
        access.conninfo()
    );
}

#[test]
fn versions_by_number() {
    assert_eq!(
        (version(180_006).as_str(), version(150_019).as_str()),
        ("18.6", "15.19")
    );
}

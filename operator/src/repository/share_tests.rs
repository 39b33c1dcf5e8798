//! Copies in the namespaces of others: what is in them, whom they reach, and when they go.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::super::samples::{at, repository};
use super::*;
use crate::scripted::{Answers, Asked, Exchange, ok, refused, scripted};
use http::Method;
use serde_json::{Value, json};

const STORE: &str = "/api/v1/namespaces/team/secrets/s3";
const KEK: &str = "/api/v1/namespaces/team/secrets/main-kek";

fn spec(share: bool) -> Value {
    json!({"credentials": {"secretRef": {"name": "s3"}}, "allowedNamespaces": {"from": "All"}, "shareCredentials": share})
}

fn shared() -> Value {
    json!({"conditions": [{"type": "CredentialsShared", "status": "True", "reason": "Shared", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
}

fn consumers(namespaces: &[&str]) -> Consumers {
    Consumers {
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        unclear: BTreeSet::new(),
    }
}

fn secret(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "team", "uid": "s",
        "labels": {"argocd.argoproj.io/instance": "theirs"}}, "data": data})
}

fn copies(list: &[(&str, &str)]) -> Value {
    let items: Vec<Value> = list
        .iter()
        .map(|(namespace, name)| json!({"metadata": {"namespace": namespace, "name": name, "uid": "c"}}))
        .collect();
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items})
}

fn listed(found: &[(&str, &str)]) -> [Exchange; 2] {
    [
        ok(Method::GET, "/api/v1/secrets?&labelSelector=", copies(found)),
        ok(Method::GET, "/api/v1/configmaps?&labelSelector=", copies(&[])),
    ]
}

async fn run(spec: Value, status: Value, consumers: Consumers, script: Vec<Exchange>) -> (Sharing, Asked) {
    let repository = repository(spec, status);
    let (context, server) = scripted(script, Answers::default(), at(0));
    let sharing = share(&context, &repository, &consumers, &Signers::default())
        .await
        .unwrap();
    drop(context);
    (sharing, server.await.unwrap())
}

#[tokio::test]
async fn a_consumer_gets_a_copy_of_what_it_mounts_and_a_key_of_its_own() {
    let made = |name: &str| format!("/api/v1/namespaces/qa/secrets/hardstorage.team.main.{name}");
    let mut script = vec![
        ok(Method::POST, "/api/v1/namespaces/qa/secrets", Value::Null),
        ok(
            Method::GET,
            STORE,
            secret(
                "s3",
                json!({"access-key-id": "aWQ=", "secret-access-key": "eA==", "other": "bm8="}),
            ),
        ),
        ok(Method::PATCH, &made("store"), Value::Null),
        ok(Method::GET, KEK, secret("main-kek", json!({"kek": "a2V5"}))),
        ok(Method::PATCH, &made("kek"), Value::Null),
    ];
    script.extend(listed(&[
        ("qa", "hardstorage.team.main.store"),
        ("qa", "hardstorage.team.main.kek"),
    ]));
    let (sharing, asked) = run(spec(true), Value::Null, consumers(&["qa"]), script).await;
    assert_eq!(sharing.problem, None);
    assert_eq!(sharing.namespaces, BTreeSet::from(["qa".to_owned()]));
    let store = &asked[2].2;
    assert_eq!(
        store["data"],
        json!({"access-key-id": "aWQ=", "secret-access-key": "eA=="})
    );
    for (_, _, body) in asked.iter().filter(|(method, ..)| *method != Method::GET) {
        assert_eq!(body["metadata"]["ownerReferences"], Value::Null);
        assert!(!body.to_string().contains("argocd"), "{body:#}");
    }
    assert_eq!(asked[0].2["metadata"]["name"], "hardstorage.team.main.signing");
    assert!(asked[5].1.contains("repository-namespace%3Dteam"), "{}", asked[5].1);
}

#[tokio::test]
async fn copies_go_when_nobody_is_to_have_them() {
    let found = [
        ("qa", "hardstorage.team.main.store"),
        ("dev", "hardstorage.team.main.store"),
        ("odd", "hardstorage.team.main.store"),
    ];
    let gone = |namespace: &str| {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/hardstorage.team.main.store");
        ok(Method::DELETE, &path, json!({"kind": "Status", "status": "Success"}))
    };
    // Withdrawn altogether.
    let [secrets, maps] = listed(&found);
    let script = vec![secrets, gone("qa"), gone("dev"), gone("odd"), maps];
    let (sharing, asked) = run(spec(false), shared(), Consumers::default(), script).await;
    assert_eq!(sharing, Sharing::default());
    assert_eq!(asked[1].2["preconditions"]["uid"], "c");
    // One namespace less; what a namespace has whose object cannot be read stays.
    let [secrets, maps] = listed(&found);
    let there = |path: &str, name: &str| ok(Method::GET, path, secret(name, json!({})));
    let put = |what: &str| {
        let path = format!("/api/v1/namespaces/qa/secrets/hardstorage.team.main.{what}");
        ok(Method::PATCH, &path, Value::Null)
    };
    let script = vec![
        refused(Method::POST, "/api/v1/namespaces/qa/secrets", 409, "AlreadyExists"),
        there(STORE, "s3"),
        put("store"),
        there(KEK, "main-kek"),
        put("kek"),
        secrets,
        gone("dev"),
        maps,
    ];
    let some = Consumers {
        unclear: BTreeSet::from(["odd".to_owned()]),
        ..consumers(&["qa"])
    };
    let (sharing, _) = run(spec(true), shared(), some, script).await;
    assert_eq!(sharing.problem, None);
}

#[tokio::test]
async fn what_was_never_shared_asks_for_no_right() {
    let (sharing, asked) = run(spec(false), Value::Null, Consumers::default(), vec![]).await;
    assert_eq!((sharing, asked.len()), (Sharing::default(), 0));
}

#[tokio::test]
async fn without_the_right_the_condition_says_so_and_nothing_stops() {
    let script = vec![
        refused(Method::POST, "/api/v1/namespaces/qa/secrets", 403, "Forbidden"),
        refused(Method::GET, STORE, 403, "Forbidden"),
        refused(Method::GET, KEK, 403, "Forbidden"),
        refused(Method::GET, "/api/v1/secrets", 403, "Forbidden"),
    ];
    let (sharing, _) = run(spec(true), Value::Null, consumers(&["qa"]), script).await;
    assert_eq!(sharing.problem.unwrap().0, "Forbidden");
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_told() {
    let mut script = vec![
        ok(Method::POST, "/api/v1/namespaces/qa/secrets", Value::Null),
        refused(Method::GET, STORE, 404, "NotFound"),
        ok(Method::GET, KEK, secret("main-kek", json!({"kek": "a2V5"}))),
        ok(
            Method::PATCH,
            "/api/v1/namespaces/qa/secrets/hardstorage.team.main.kek",
            Value::Null,
        ),
    ];
    script.extend(listed(&[]));
    let (sharing, _) = run(spec(true), Value::Null, consumers(&["qa"]), script).await;
    let (reason, message) = sharing.problem.unwrap();
    assert_eq!(
        (reason, message.as_str()),
        ("SecretMissing", "Secret team/s3 is not there")
    );
}

#[tokio::test]
async fn a_signing_key_that_was_there_is_believed_for_a_while() {
    let repository = repository(spec(false), Value::Null);
    let script = vec![refused(
        Method::POST,
        "/api/v1/namespaces/team/secrets",
        409,
        "AlreadyExists",
    )];
    let (context, server) = scripted(script, Answers::default(), at(0));
    let signers = Signers::default();
    signer(&context, &repository, "team", &signers).await.unwrap();
    signer(&context, &repository, "team", &signers).await.unwrap();
    assert!(signers.believes("u-1", "team", at(3_599)));
    assert!(!signers.believes("u-1", "team", at(3_600)));
    drop(context);
    server.await.unwrap();
}

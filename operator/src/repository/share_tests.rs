//! Copies in the namespaces of others: what is in them, whom they reach, and when they go.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

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

/// What the condition remembers.
fn shared(list: &str, version: &str) -> Value {
    json!({"conditions": [{"type": "CredentialsShared", "status": "True", "reason": "Shared",
        "message": format!("copies lie in {list} (version {version})"), "lastTransitionTime": at(0)}]})
}

fn consumers(namespaces: &[&str]) -> Consumers {
    Consumers {
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        referring: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        unclear: BTreeSet::new(),
    }
}

fn secret(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "team", "uid": "s",
        "labels": {"argocd.argoproj.io/instance": "theirs"}}, "data": data})
}

fn copy(namespace: &str, kind: &str, what: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{kind}/hardstorage.team.main.{what}")
}

fn deleted(namespace: &str, what: &str) -> Exchange {
    ok(
        Method::DELETE,
        &copy(namespace, "secrets", what),
        json!({"kind": "Status", "status": "Success"}),
    )
}

/// There are no certificates to copy, and none stay from before.
fn no_certificates(namespace: &str) -> [Exchange; 2] {
    ["secrets", "configmaps"].map(|kind| refused(Method::DELETE, &copy(namespace, kind, "ca"), 404, "NotFound"))
}

/// All copies in a namespace are removed.
fn gone(namespace: &str) -> Vec<Exchange> {
    let mut script = vec![deleted(namespace, "store"), deleted(namespace, "kek")];
    script.extend(no_certificates(namespace));
    script
}

fn secrets(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

/// Something is created in a namespace.
fn made(namespace: &str) -> Exchange {
    ok(Method::POST, &secrets(namespace), Value::Null)
}

/// One of that name is there.
fn exists(namespace: &str) -> Exchange {
    refused(Method::POST, &secrets(namespace), 409, "AlreadyExists")
}

fn read() -> [Exchange; 2] {
    let data = json!({"access-key-id": "aWQ=", "secret-access-key": "eA==", "other": "bm8="});
    [
        ok(Method::GET, STORE, secret("s3", data)),
        ok(Method::GET, KEK, secret("main-kek", json!({"kek": "a2V5"}))),
    ]
}

/// The version of what [`read`] answers.
async fn version() -> String {
    let (context, server) = scripted(read().into(), Answers::default(), at(0));
    let bundle = copies::read(&context, &repository(spec(true), Value::Null))
        .await
        .unwrap();
    drop(context);
    server.await.unwrap();
    bundle.version
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
    let mut script = vec![made("qa")];
    script.extend(read());
    script.extend([made("qa"), made("qa")]);
    script.extend(no_certificates("qa"));
    let (sharing, asked) = run(spec(true), Value::Null, consumers(&["qa"]), script).await;
    assert_eq!(sharing.problem, None);
    assert_eq!(sharing.namespaces, BTreeSet::from(["qa".to_owned()]));
    assert_eq!(asked[0].2["metadata"]["name"], "hardstorage.team.main.signing");
    let (store, kek) = (&asked[3].2, &asked[4].2);
    assert_eq!(store["metadata"]["name"], "hardstorage.team.main.store");
    assert_eq!(
        store["data"],
        json!({"access-key-id": "aWQ=", "secret-access-key": "eA=="})
    );
    assert_eq!(kek["data"], json!({"kek": "a2V5"}));
    for body in [&asked[0].2, store, kek] {
        assert_eq!(body["metadata"]["ownerReferences"], Value::Null);
        assert!(!body.to_string().contains("argocd"), "{body:#}");
    }
}

#[tokio::test]
async fn a_copy_that_is_up_to_date_is_left_alone_and_another_is_made_again() {
    let version = version().await;
    let mut script = vec![exists("qa")];
    script.extend(read());
    let (same, _) = run(spec(true), shared("qa", &version), consumers(&["qa"]), script).await;
    assert_eq!((same.version.as_str(), same.problem), (version.as_str(), None));
    let mut script = vec![exists("qa")];
    script.extend(read());
    script.extend([exists("qa"), deleted("qa", "store"), made("qa")]);
    script.extend([exists("qa"), deleted("qa", "kek"), made("qa")]);
    script.extend(no_certificates("qa"));
    let (rotated, _) = run(spec(true), shared("qa", "0000000"), consumers(&["qa"]), script).await;
    assert_eq!(rotated.version, version);
}

#[tokio::test]
async fn copies_go_when_nobody_is_to_have_them() {
    // Withdrawn altogether, also where nobody remembers them.
    let script = ["dev", "lab", "odd", "qa"].into_iter().flat_map(gone).collect();
    let referring = Consumers {
        referring: BTreeSet::from(["lab".to_owned()]),
        ..Consumers::default()
    };
    let (sharing, _) = run(spec(false), shared("dev, odd, qa", "1"), referring, script).await;
    assert_eq!(
        (sharing.wanted, sharing.namespaces.len(), sharing.problem),
        (false, 0, None)
    );
    // One namespace less; what a namespace has whose object cannot be read stays.
    let version = version().await;
    let mut script = vec![exists("qa")];
    script.extend(read());
    script.extend(gone("dev"));
    let some = Consumers {
        unclear: BTreeSet::from(["odd".to_owned()]),
        ..consumers(&["qa"])
    };
    let (sharing, asked) = run(spec(true), shared("dev, odd, qa", &version), some, script).await;
    assert_eq!(sharing.problem, None);
    assert_eq!(sharing.namespaces, BTreeSet::from(["odd".to_owned(), "qa".to_owned()]));
    let mut read = asked.iter().filter(|(method, ..)| method == Method::GET);
    assert!(
        read.all(|(_, uri, _)| uri.starts_with("/api/v1/namespaces/team/")),
        "a consumer's Secrets are read"
    );
}

#[tokio::test]
async fn where_copies_lie_is_remembered_until_they_are_gone() {
    let mut script = vec![refused(
        Method::DELETE,
        &copy("dev", "secrets", "store"),
        403,
        "Forbidden",
    )];
    script.extend(["odd", "qa"].into_iter().flat_map(gone));
    let (sharing, _) = run(spec(false), shared("dev, odd, qa", "1"), Consumers::default(), script).await;
    let mut conditions = Conditions::new(&[], Some(1), at(0));
    sharing.say(&mut conditions);
    let said = conditions.finish();
    assert_eq!(
        (said[0].status.as_str(), said[0].reason.as_str()),
        ("False", "Forbidden")
    );
    let again = shared_before(&repository(spec(false), json!({"conditions": said})));
    assert_eq!(again, (BTreeSet::from(["dev".to_owned()]), "1".to_owned()));
}

#[tokio::test]
async fn what_is_no_longer_mounted_goes() {
    let by_identity = json!({"credentials": {"serviceAccountName": "backup"}, "allowedNamespaces": {"from": "All"},
        "encryption": {"none": {}}, "shareCredentials": true});
    let mut script = vec![made("qa")];
    script.extend(gone("qa"));
    let (sharing, _) = run(by_identity, shared("qa", "1"), consumers(&["qa"]), script).await;
    assert_eq!(sharing.problem, None);
}

#[tokio::test]
async fn what_was_never_shared_asks_for_no_right() {
    let (sharing, asked) = run(spec(false), Value::Null, Consumers::default(), vec![]).await;
    assert_eq!((sharing, asked.len()), (Sharing::default(), 0));
}

#[tokio::test]
async fn without_the_right_the_condition_says_so_and_nothing_stops() {
    let no_right = |method, path: &str| refused(method, path, 403, "Forbidden");
    let script = vec![no_right(Method::POST, &secrets("qa")), no_right(Method::GET, STORE)];
    let (sharing, _) = run(spec(true), Value::Null, consumers(&["qa"]), script).await;
    assert_eq!(sharing.problem.unwrap().0, "Forbidden");
    let mut script = vec![made("dev"), made("qa")];
    script.extend(read());
    script.extend([no_right(Method::POST, &secrets("dev")), made("qa"), made("qa")]);
    script.extend(no_certificates("qa"));
    let (sharing, _) = run(spec(true), Value::Null, consumers(&["dev", "qa"]), script).await;
    assert_eq!(sharing.namespaces, BTreeSet::from(["qa".to_owned()]));
    assert!(sharing.problem.unwrap().1.contains("dev"));
}

#[tokio::test]
async fn a_secret_that_is_gone_is_told_and_takes_no_copy_with_it() {
    let [_, kek] = read();
    let mut script = vec![made("qa"), refused(Method::GET, STORE, 404, "NotFound"), kek];
    script.extend([exists("qa"), deleted("qa", "kek"), made("qa")]);
    script.extend(no_certificates("qa"));
    let (sharing, asked) = run(spec(true), shared("qa", "1"), consumers(&["qa"]), script).await;
    assert_eq!(
        sharing.problem.unwrap(),
        ("SecretMissing", "not there: Secret team/s3".to_owned())
    );
    assert!(
        asked
            .iter()
            .all(|(method, uri, _)| method != Method::DELETE || !uri.contains("main.store"))
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

#[test]
fn the_list_of_many_namespaces_is_read_again_whole() {
    let sharing = Sharing {
        wanted: true,
        namespaces: (0..300).map(|number| format!("namespace-of-team-{number}")).collect(),
        version: "abc".into(),
        problem: Some(("SecretMissing", "not there".into())),
    };
    let mut conditions = Conditions::new(&[], Some(1), at(0));
    sharing.say(&mut conditions);
    let status = json!({"conditions": conditions.finish()});
    let (namespaces, version) = shared_before(&repository(spec(true), status));
    assert_eq!((namespaces, version.as_str()), (sharing.namespaces, "abc"));
}

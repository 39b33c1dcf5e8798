//! Who is let in, under which names, and with which Secrets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use serde_json::{Value, json};

fn repository(spec: Value, status: Value) -> Repository {
    let mut spec = spec;
    spec["url"] = spec.get("url").cloned().unwrap_or(json!("s3://backups/a"));
    serde_json::from_value(json!({
        "apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
        "metadata": {"name": "main", "namespace": "team"}, "spec": spec, "status": status,
    }))
    .unwrap()
}

fn ready() -> Value {
    json!({"repositoryID": "0194f3a2"})
}

fn ask(repository: &Repository, namespace: &str, name: &str, intent: Intent) -> Result<RepositoryAccess, Refusal> {
    let labels = BTreeMap::from([("team".to_owned(), namespace.to_owned())]);
    let consumer = Consumer {
        namespace,
        namespace_labels: &labels,
        name_in_repository: name,
        intent,
    };
    access(repository, &consumer, false)
}

#[test]
fn who_is_let_in() {
    use Intent::{Read, Write};
    let all = json!({"from": "All"});
    let some = json!({"from": "Selector", "selector": {"matchLabels": {"team": "qa"}}});
    let grants = json!([{"namespace": "qa", "deployments": ["team.orders"], "verbs": ["read"]}]);
    let cases = [
        ("own namespace, own name", json!({}), "team", "team.orders", Write, None),
        ("own namespace, any name", json!({}), "team", "qa.orders", Write, None),
        (
            "nobody said that it may",
            json!({}),
            "qa",
            "qa.orders",
            Write,
            Some("NamespaceNotAllowed"),
        ),
        ("all", json!({"allowedNamespaces": all}), "qa", "qa.orders", Write, None),
        (
            "selected",
            json!({"allowedNamespaces": some}),
            "qa",
            "qa.orders",
            Write,
            None,
        ),
        (
            "not selected",
            json!({"allowedNamespaces": some}),
            "dev",
            "dev.x",
            Write,
            Some("NamespaceNotAllowed"),
        ),
        (
            "a selector that nobody can read",
            json!({"allowedNamespaces": {"from": "Selector", "selector":
                {"matchExpressions": [{"key": "team", "operator": "Resembles"}]}}}),
            "qa",
            "qa.x",
            Write,
            Some("NamespaceNotAllowed"),
        ),
        (
            "a word of a later version",
            json!({"allowedNamespaces": {"from": "Most"}}),
            "qa",
            "qa.x",
            Read,
            Some("NamespaceNotAllowed"),
        ),
        (
            "another's name",
            json!({"allowedNamespaces": all}),
            "qa",
            "team.orders",
            Write,
            Some("NameNotAllowed"),
        ),
        (
            "a name that only looks like its own",
            json!({"allowedNamespaces": all}),
            "qa",
            "qa2.orders",
            Write,
            Some("NameNotAllowed"),
        ),
        (
            "a namespace that begins like another",
            json!({"allowedNamespaces": all}),
            "q",
            "qa.orders",
            Write,
            Some("NameNotAllowed"),
        ),
        (
            "a grant",
            json!({"allowedNamespaces": all, "grants": grants}),
            "qa",
            "team.orders",
            Read,
            None,
        ),
        (
            "a grant is for reading",
            json!({"allowedNamespaces": all, "grants": grants}),
            "qa",
            "team.orders",
            Write,
            Some("NameNotAllowed"),
        ),
        (
            "a grant for another name",
            json!({"allowedNamespaces": all, "grants": grants}),
            "qa",
            "team.users",
            Read,
            Some("NameNotAllowed"),
        ),
        (
            "a grant admits nobody",
            json!({"grants": grants}),
            "qa",
            "team.orders",
            Read,
            Some("NamespaceNotAllowed"),
        ),
        (
            "reading only",
            json!({"accessMode": "ReadOnly"}),
            "team",
            "team.x",
            Write,
            Some("RepositoryReadOnly"),
        ),
        (
            "reading what is for reading",
            json!({"accessMode": "ReadOnly"}),
            "team",
            "team.x",
            Read,
            None,
        ),
        (
            "a claim cannot be mounted elsewhere",
            json!({"url": "file:///repository", "persistentVolumeClaim": {"claimName": "bk"}, "allowedNamespaces": all}),
            "qa",
            "qa.x",
            Write,
            Some("ClaimNotShared"),
        ),
        (
            "a Secret cannot either",
            json!({"credentials": {"secretRef": {"name": "s3"}}, "allowedNamespaces": all}),
            "qa",
            "qa.x",
            Write,
            Some("CredentialsNotShared"),
        ),
    ];
    for (what, spec, namespace, name, intent, refused) in cases {
        let answer = ask(&repository(spec, ready()), namespace, name, intent);
        let reason = answer.as_ref().err().map(|refusal| refusal.reason.as_str());
        assert_eq!(reason, refused, "{what}: {answer:?}");
    }
}

#[test]
fn what_is_not_there_yet_is_waited_for_and_what_is_stalled_is_not_used() {
    let new = ask(&repository(json!({}), Value::Null), "team", "team.x", Intent::Write).unwrap_err();
    assert_eq!((new.reason.as_str(), new.waits), ("RepositoryNotReady", true));
    let condition = |type_: &str, status: &str, reason: &str| {
        json!({"type": type_, "status": status, "reason": reason, "message": "it says why",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let with = |condition: Value| repository(json!({}), json!({"repositoryID": "01", "conditions": [condition]}));
    for (reason, wanted) in [
        ("KeyMissing", "RepositoryKeyMissing"),
        ("RepositoryVanished", "RepositoryVanished"),
    ] {
        let refusal = ask(
            &with(condition("Stalled", "True", reason)),
            "team",
            "team.x",
            Intent::Write,
        );
        let refusal = refusal.unwrap_err();
        assert_eq!((refusal.reason.as_str(), refusal.waits), (wanted, false));
        assert!(refusal.message.contains("it says why"), "{}", refusal.message);
    }
    // A store that does not answer at the moment starts nothing anew, and stops nothing.
    let silent = with(condition("Reachable", "False", "UnreachableStore"));
    assert!(ask(&silent, "team", "team.x", Intent::Write).is_ok());
}

#[test]
fn its_own_namespace_has_its_own_secrets() {
    let spec = json!({"credentials": {"secretRef": {"name": "s3", "keys": {"accessKeyID": "id"}}},
        "caRef": {"kind": "ConfigMap", "name": "ca", "key": "bundle.pem"}});
    let access = ask(&repository(spec, ready()), "team", "team.x", Intent::Write).unwrap();
    let store = access.credentials.unwrap();
    assert_eq!(
        (store.name.as_str(), store.keys.unwrap().access_key_id.as_str()),
        ("s3", "id")
    );
    assert_eq!(access.ca.unwrap().name, "ca");
    assert_eq!(access.kek.unwrap().secret, "main-kek");
    assert_eq!(access.signing.secret, "main-signing");
    assert_eq!((access.namespace.as_str(), access.name.as_str()), ("team", "main"));
}

#[test]
fn another_namespace_has_copies_or_what_it_brings_itself() {
    let mut spec = json!({"credentials": {"secretRef": {"name": "s3"}}, "allowedNamespaces": {"from": "All"},
        "caRef": {"kind": "Secret", "name": "ca"}, "shareCredentials": true});
    let shared = ask(&repository(spec.clone(), ready()), "qa", "qa.x", Intent::Write).unwrap();
    assert_eq!(shared.credentials.unwrap().name, "hardstorage.team.main.store");
    assert_eq!(shared.kek.unwrap().secret, "hardstorage.team.main.kek");
    assert_eq!(shared.ca.unwrap().name, "hardstorage.team.main.ca");
    assert_eq!(shared.signing.secret, "hardstorage.team.main.signing");
    spec["shareCredentials"] = json!(false);
    spec["credentials"] = json!({"serviceAccountName": "backup"});
    let own = ask(&repository(spec, ready()), "qa", "qa.x", Intent::Write).unwrap();
    assert_eq!(own.service_account.as_deref(), Some("backup"));
    assert_eq!(own.kek.unwrap().secret, "main-kek");
    assert_eq!(own.signing.secret, "hardstorage.team.main.signing");
}

#[test]
fn every_kind_of_key() {
    let key = |encryption: Value| {
        ask(
            &repository(json!({"encryption": encryption}), ready()),
            "team",
            "team.x",
            Intent::Read,
        )
        .unwrap()
        .kek
        .map(|key| format!("{}/{}", key.secret, key.key))
    };
    assert_eq!(key(json!({"managed": {}})).as_deref(), Some("main-kek/kek"));
    assert_eq!(
        key(json!({"managed": {"secretName": ""}})).as_deref(),
        Some("main-kek/kek")
    );
    assert_eq!(
        key(json!({"managed": {"secretName": "mine"}})).as_deref(),
        Some("mine/kek")
    );
    assert_eq!(
        key(json!({"secretRef": {"name": "own", "key": "k"}})).as_deref(),
        Some("own/k")
    );
    assert_eq!(key(json!({"none": {}})), None);
}

#[test]
fn what_the_api_server_has_against_a_job_is_told() {
    let error = |code| {
        let status = kube::core::Status::failure("its words", "a reason").with_code(code);
        Error::from(kube::Error::Api(Box::new(status)))
    };
    for code in [400, 403, 422] {
        let refusal = Refusal::of_job(error(code)).unwrap();
        assert_eq!((refusal.reason.as_str(), refusal.waits), ("ChildRefused", false));
        assert!(refusal.text().contains("its words; "), "{}", refusal.text());
    }
    for code in [404, 409, 429, 500] {
        assert!(Refusal::of_job(error(code)).is_err(), "{code} goes away by itself");
    }
}

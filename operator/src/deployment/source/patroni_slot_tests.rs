//! Slots by Patroni's REST API, by its annotation, and by the user's hand: against a server that answers as Patroni does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::patroni_config::merge;
use super::*;
use crate::scripted::{Answers, Exchange, ok, refused, scripted};
use http::Method;

#[derive(Clone)]
struct Fake {
    config: Arc<Mutex<Value>>,
    password: Option<&'static str>,
}

async fn change_config(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Json(change): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let sent = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    if let Some(wanted) = fake.password
        && sent.as_deref() != Some(wanted)
    {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let mut config = fake.config.lock().unwrap();
    merge(&mut config, &change);
    Ok(Json(config.clone()))
}

/// A Patroni with this configuration; its URL.
async fn patroni(config: Value, password: Option<&'static str>) -> (String, Fake) {
    let fake = Fake {
        config: Arc::new(Mutex::new(config)),
        password,
    };
    let read = |State(fake): State<Fake>| async move { Json(fake.config.lock().unwrap().clone()) };
    let router = Router::new()
        .route("/config", get(read).patch(change_config))
        .with_state(fake.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://127.0.0.1:{port}"), fake)
}

fn provider() {
    // Another test may have been faster.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

async fn tended(spec: Value, script: Vec<Exchange>, patch: bool) -> SlotWord {
    provider();
    let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
    let mut context = Arc::try_unwrap(context).unwrap_or_else(|_| panic!("shared"));
    let mut settings = (*context.settings).clone();
    settings.patroni_patch_config = patch;
    context.settings = Arc::new(settings);
    let word = tend(&context, "team", &serde_json::from_value(spec).unwrap(), None, "ours").await;
    drop(context);
    server.await.unwrap();
    word.unwrap()
}

#[tokio::test]
async fn one_key_is_added_by_rest() {
    let before = json!({"ttl": 30, "slots": {"theirs": {"type": "physical"}}});
    let (url, fake) = patroni(before, None).await;
    let spec = json!({"scope": "orders", "rest": {"url": url}});
    for _ in 0..2 {
        let word = tended(spec.clone(), vec![], false).await;
        assert_eq!((word.is, word.reason), (Is::True, "Permanent"));
    }
    assert_eq!(
        *fake.config.lock().unwrap(),
        json!({"ttl": 30, "slots": {"theirs": {"type": "physical"}, "ours": {"type": "physical"}}})
    );
}

#[tokio::test]
async fn user_and_password_come_from_the_secret_that_the_spec_names() {
    // for-tests:secret
    let (url, fake) = patroni(json!({}), Some("Basic Zm9yLXRlc3RzOnNlY3JldA==")).await;
    let spec = json!({"scope": "orders", "rest": {"url": url, "credentials": {"secretRef": {"name": "rest"}}}});
    let path = "/api/v1/namespaces/team/secrets/rest";
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rest", "namespace": "team"},
        "data": {"username": "Zm9yLXRlc3Rz", "password": "c2VjcmV0"}});
    let word = tended(spec.clone(), vec![ok(Method::GET, path, secret)], false).await;
    assert_eq!(word.is, Is::True, "{word:?}");
    assert!(fake.config.lock().unwrap()["slots"]["ours"].is_object());
    // Not allowed to read it: it is said, and nothing is asked without.
    let objects = [
        refused(Method::GET, path, 403, "Forbidden"),
        refused(
            Method::GET,
            "/api/v1/namespaces/team/endpoints/orders-config",
            403,
            "Forbidden",
        ),
        refused(
            Method::GET,
            "/api/v1/namespaces/team/configmaps/orders-config",
            404,
            "NotFound",
        ),
    ];
    let word = tended(spec, objects.into(), false).await;
    assert_eq!((word.is, word.reason), (Is::Unknown, "PatroniUnreachable"));
    assert!(word.message.contains("may not read Secret rest"), "{}", word.message);
}

#[tokio::test]
async fn a_refusal_is_told_with_what_to_write_and_the_annotation_is_touched_only_when_allowed() {
    let (url, fake) = patroni(json!({}), Some("Basic other")).await;
    let spec = json!({"scope": "orders", "rest": {"url": url}});
    let word = tended(spec.clone(), vec![], false).await;
    assert_eq!((word.is, word.reason), (Is::False, "SlotNotPermanent"));
    assert!(word.message.contains("HTTP 401") && word.message.contains("patronictl edit-config orders"));
    let path = "/api/v1/namespaces/team/endpoints/orders-config";
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "orders-config",
        "namespace": "team", "resourceVersion": "42",
        "annotations": {"config": "{\"ttl\":30}", "initialize": "7"}}});
    let script = vec![
        ok(Method::GET, path, endpoints.clone()),
        ok(Method::PATCH, path, endpoints),
    ];
    provider();
    let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
    let mut context = Arc::try_unwrap(context).unwrap_or_else(|_| panic!("shared"));
    let mut settings = (*context.settings).clone();
    settings.patroni_patch_config = true;
    context.settings = Arc::new(settings);
    let word = tend(&context, "team", &serde_json::from_value(spec).unwrap(), None, "ours")
        .await
        .unwrap();
    drop(context);
    let asked = server.await.unwrap();
    assert_eq!(word.is, Is::True);
    let sent = &asked[1].2["metadata"];
    assert_eq!(sent["resourceVersion"], "42");
    let config: Value = serde_json::from_str(sent["annotations"]["config"].as_str().unwrap()).unwrap();
    assert_eq!(config, json!({"ttl": 30, "slots": {"ours": {"type": "physical"}}}));
    assert_eq!(sent["annotations"].as_object().unwrap().len(), 1);
    assert_eq!(*fake.config.lock().unwrap(), json!({}));
}

/// The chart's value and the rights do not go together: a condition, and not a Deployment without a status.
#[tokio::test]
async fn what_the_api_server_refuses_is_told_too() {
    let (url, _fake) = patroni(json!({}), Some("Basic other")).await;
    let spec = json!({"scope": "orders", "rest": {"url": url}});
    let path = "/api/v1/namespaces/team/endpoints/orders-config";
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "orders-config",
        "namespace": "team", "resourceVersion": "42", "annotations": {"config": "{}"}}});
    let script = vec![
        ok(Method::GET, path, endpoints),
        refused(Method::PATCH, path, 403, "cannot patch endpoints"),
    ];
    let word = tended(spec, script, true).await;
    assert_eq!((word.is, word.reason), (Is::False, "SlotNotPermanent"));
    assert!(word.message.contains("cannot patch endpoints"), "{}", word.message);
}

#[tokio::test]
async fn objects_of_other_operators_are_never_changed() {
    let (url, fake) = patroni(json!({}), None).await;
    let zalando = json!({"scope": "orders", "flavor": "Zalando", "rest": {"url": url}});
    let word = tended(zalando.clone(), vec![], true).await;
    assert_eq!((word.is, word.reason), (Is::False, "SlotNotPermanent"));
    assert!(word.message.contains("kind: postgresql\n") && word.message.contains("      ours:\n"));
    assert_eq!(*fake.config.lock().unwrap(), json!({}));
    // Written by the user, it is fine.
    *fake.config.lock().unwrap() = json!({"slots": {"ours": {"type": "physical"}}});
    assert_eq!(tended(zalando, vec![], true).await.is, Is::True);
    // Crunchy's object says that slots are off.
    let config = json!({"postgresql": {"use_slots": false}}).to_string();
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "orders-ha-config",
        "namespace": "team", "annotations": {"config": config}}});
    let path = "/api/v1/namespaces/team/endpoints/orders-ha-config";
    let crunchy = json!({"scope": "orders", "flavor": "Crunchy"});
    let word = tended(crunchy, vec![ok(Method::GET, path, endpoints)], true).await;
    assert_eq!((word.is, word.reason), (Is::False, "SlotNotPermanent"));
    assert!(word.message.contains("use_slots: true"), "{}", word.message);
}

#[tokio::test]
async fn it_is_forgotten_again() {
    provider();
    let (url, fake) = patroni(json!({"slots": {"ours": {"type": "physical"}, "theirs": {}}}), None).await;
    let forgotten = |spec: Value| async move {
        let (context, server) = scripted(vec![], Answers::default(), Timestamp::UNIX_EPOCH);
        let spec: Patroni = serde_json::from_value(spec).unwrap();
        let said = forget(&context, "team", &spec, None, "ours").await.unwrap();
        drop(context);
        server.await.unwrap();
        said
    };
    let manual = json!({"scope": "orders", "slotManagement": "Manual", "rest": {"url": url}});
    assert!(forgotten(manual).await.unwrap().contains("take the slot ours out"));
    assert_eq!(forgotten(json!({"scope": "orders", "rest": {"url": url}})).await, None);
    assert_eq!(*fake.config.lock().unwrap(), json!({"slots": {"theirs": {}}}));
}

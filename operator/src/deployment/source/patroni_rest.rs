//! Patroni's REST API: what the leader says of itself, and its configuration, read and changed.
//!
//! It is asked like an API server, by the client that is here for that: TLS with the authority that the user names, and
//! user and password where the API wants them. Those are the only Secret that the operator ever reads, and only when the
//! spec names it.

use std::time::Duration;

use hardstorage_crds::{CaKind, CaRef, PasswordCredentials, PasswordKeys, PatroniRest};
use hyper::{Method, Request};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::apply;
use crate::context::Context;
use crate::error::Error;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why it could not be asked, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unasked(pub String);

impl From<String> for Unasked {
    fn from(text: String) -> Unasked {
        Unasked(text)
    }
}

/// A member that answers.
pub struct Rest {
    client: Client,
    url: String,
}

impl Rest {
    /// Prepares to ask: the URL of the spec, or port 8008 of the leader.
    pub async fn connect(
        context: &Context,
        namespace: &str,
        rest: Option<&PatroniRest>,
        leader: Option<&str>,
    ) -> Result<Rest, Unasked> {
        let chosen = rest.and_then(|rest| rest.url.clone()).filter(|url| !url.is_empty());
        let url = match (chosen, leader) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(ip)) if ip.contains(':') => format!("http://[{ip}]:8008"),
            (None, Some(ip)) => format!("http://{ip}:8008"),
            (None, None) => return Err(Unasked("there is no leader to ask".to_owned())),
        };
        let uri = url.parse().map_err(|error| Unasked(format!("{url}: {error}")))?;
        let mut config = Config::new(uri);
        config.connect_timeout = Some(PATIENCE);
        config.read_timeout = Some(PATIENCE);
        config.proxy_url = None;
        if let Some(ca) = rest.and_then(|rest| rest.ca_ref.as_ref()) {
            config.root_cert = Some(authority(context, namespace, ca).await?);
        }
        if let Some(wanted) = rest.and_then(|rest| rest.credentials.as_ref()) {
            let (user, password) = credentials(context, namespace, wanted).await?;
            config.auth_info = serde_json::from_value(json!({"username": user, "password": password}))
                .map_err(|error| Unasked(error.to_string()))?;
        }
        let client = Client::try_from(config).map_err(|error| Unasked(format!("{url}: {error}")))?;
        Ok(Rest { client, url })
    }

    /// `GET /patroni`: role, version, system identifier.
    pub async fn member(&self) -> Result<Value, Unasked> {
        self.ask(Method::GET, "/patroni", Vec::new()).await
    }

    /// `GET /config`.
    pub async fn config(&self) -> Result<Value, Unasked> {
        self.ask(Method::GET, "/config", Vec::new()).await
    }

    /// `PATCH /config`: Patroni merges it.
    pub async fn change(&self, change: &Value) -> Result<Value, Unasked> {
        let body = serde_json::to_vec(change).map_err(|error| Unasked(error.to_string()))?;
        self.ask(Method::PATCH, "/config", body).await
    }

    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Value, Unasked> {
        let said = format!("{method} {}{path}", self.url);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body)
            .map_err(|error| Unasked(format!("{said}: {error}")))?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request_text(request)).await;
        let text = match answer {
            Ok(Ok(text)) => text,
            Ok(Err(kube::Error::Api(status))) => return Err(Unasked(format!("{said}: HTTP {}", status.code))),
            Ok(Err(error)) => return Err(Unasked(format!("{said}: {error}"))),
            Err(_) => return Err(Unasked(format!("{said}: no answer in {PATIENCE:?}"))),
        };
        serde_json::from_str(&text).map_err(|error| Unasked(format!("{said}: {error}")))
    }
}

async fn authority(context: &Context, namespace: &str, ca: &CaRef) -> Result<Vec<Vec<u8>>, Unasked> {
    let what = format!("{} {}", ca.kind, ca.name);
    let pem = if ca.kind == CaKind::Secret {
        let found = apply::get::<Secret>(context, namespace, &ca.name).await;
        let data = found
            .map_err(|error| unread(&what, &error))?
            .and_then(|secret| secret.data);
        data.and_then(|mut data| data.remove(&ca.key)).map(|bytes| bytes.0)
    } else {
        let found = apply::get::<ConfigMap>(context, namespace, &ca.name).await;
        let data = found.map_err(|error| unread(&what, &error))?.and_then(|map| map.data);
        data.and_then(|mut data| data.remove(&ca.key)).map(String::into_bytes)
    };
    let pem = pem.ok_or_else(|| Unasked(format!("{what} has no {}", ca.key)))?;
    CertificateDer::pem_slice_iter(&pem)
        .map(|one| one.map(|certificate| certificate.as_ref().to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Unasked(format!("{what}: {} holds no certificates: {error}", ca.key)))
}

async fn credentials(
    context: &Context,
    namespace: &str,
    wanted: &PasswordCredentials,
) -> Result<(String, String), Unasked> {
    let Some(secret) = &wanted.secret else {
        return Err(Unasked("rest.credentials names no Secret".to_owned()));
    };
    let keys = secret.keys.clone().unwrap_or_else(PasswordKeys::default);
    let what = format!("Secret {}", secret.name);
    let found = apply::get::<Secret>(context, namespace, &secret.name).await;
    let data = found
        .map_err(|error| unread(&what, &error))?
        .and_then(|secret| secret.data)
        .unwrap_or_default();
    let text = |key: &str| {
        let bytes = data.get(key).ok_or_else(|| Unasked(format!("{what} has no {key}")))?;
        String::from_utf8(bytes.0.clone()).map_err(|_| Unasked(format!("{key} of {what} is no text")))
    };
    Ok((text(&keys.username)?, text(&keys.password)?))
}

fn unread(what: &str, error: &Error) -> Unasked {
    if error.is_forbidden() {
        return Unasked(format!(
            "the operator may not read {what}: let it by a Role, or set slotManagement to Manual"
        ));
    }
    Unasked(format!("{what}: {error}"))
}

//! One question to the REST API of one member: the connection, TLS, user and password, and what is no answer.
//!
//! Each question has a connection of its own and a few seconds in all, because a stream waits meanwhile. Nothing is followed
//! elsewhere: user and password go only where they were meant to go.

use std::sync::Arc;
use std::time::Duration;

use hardstorage_report::{Error, Result, code};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

/// The longest wait for one answer, with all that it takes to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer.
const LONGEST: usize = 4 << 20;

/// One member.
pub(super) struct Rest {
    pub(super) url: Url,
    pub(super) login: Option<HeaderValue>,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Rest {
    /// `GET`.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// `PATCH`.
    pub(super) async fn patch(&self, path: &str, change: &Value) -> Result<Value> {
        self.ask(Method::PATCH, path, change.to_string().into()).await
    }

    /// What is not Patroni.
    pub(super) fn foreign(&self, what: &str) -> Error {
        Error::new(code::engine::PATRONI_FOREIGN, format!("{}: {what}", self.url))
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let doing = format!("{method} {}{path}", self.url.as_str().trim_end_matches('/'));
        let answer = tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
        let answer = answer.unwrap_or_else(|_| {
            let waited = format!("no answer in {} s", PATIENCE.as_secs());
            Err(Error::new(code::engine::PATRONI_UNREACHABLE, waited))
        });
        let (status, text) = answer.map_err(|error| error.context(&doing))?;
        let code = match status.as_u16() {
            200 => match serde_json::from_slice(&text) {
                Ok(found @ Value::Object(_)) => return Ok(found),
                _ => return Err(self.foreign("the answer is no JSON object")),
            },
            401 | 403 => code::engine::PATRONI_AUTH,
            // Patroni itself says so when it cannot read its store, or somebody else changes the configuration.
            409 | 429 | 500.. => code::engine::PATRONI_UNREACHABLE,
            _ => code::engine::PATRONI_FOREIGN,
        };
        Err(Error::new(code, format!("{doing}: HTTP {}", status.as_u16())))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let host = match self.url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(self.foreign("the URL names no host")),
        };
        let port = self.url.port_or_known_default().unwrap_or_default();
        let request = self.request(method, path, body)?;
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
        let Some(config) = &self.tls else {
            return talk(stream, request).await;
        };
        let name = ServerName::try_from(host).map_err(untrusted)?;
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.map_err(|error| {
            let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if cause.is_some() {
                untrusted(error)
            } else {
                unreachable(error)
            }
        })?;
        talk(stream, request).await
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let path = format!("{}{path}", self.url.path().trim_end_matches('/'));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.url[url::Position::BeforeHost..url::Position::AfterPort])
            .header(CONTENT_TYPE, "application/json");
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login);
        }
        request.body(Full::new(body)).map_err(unreachable)
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await.map_err(|error| {
        if error.is_parse() {
            Error::new(code::engine::PATRONI_FOREIGN, "the answer is not HTTP").source(error)
        } else {
            unreachable(error)
        }
    })?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let body =
        body.map_err(|error| Error::new(code::engine::PATRONI_UNREACHABLE, "the answer breaks off").source(error))?;
    Ok((status, body.to_bytes()))
}

fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(code::engine::PATRONI_UNREACHABLE, "it cannot be reached").source(error)
}

fn untrusted(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(code::engine::PATRONI_AUTH, "TLS failed").source(error)
}

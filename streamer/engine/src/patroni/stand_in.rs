//! A server that answers as Patroni does, or as a test wants it to, and remembers what it was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hardstorage_report::SystemId;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::Patroni;

/// The cluster that it looks after.
pub(crate) const SYSTEM: SystemId = SystemId(7_712_188_176_470_106_131);

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// What Patroni would.
    Itself,
    /// A status without more.
    Status(u16),
    /// A body with status 200.
    Body(&'static str),
    /// These bytes.
    Raw(&'static str),
    /// Nothing, for ever.
    Silence,
}

#[derive(Default)]
struct State {
    config: Value,
    /// By path, or by method and path.
    answers: BTreeMap<String, Answer>,
    asked: Vec<Asked>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) what: String,
    /// The header.
    pub(crate) login: Option<String>,
    /// The body.
    pub(crate) body: String,
}

/// The server; it ends with the value.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _task: AbortOnDropHandle<()>,
}

/// Signs certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        Authority {
            pem,
            issuer: rcgen::Issuer::new(parameters, key),
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &self.issuer).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl StandIn {
    pub(crate) async fn start() -> StandIn {
        StandIn::with(None).await
    }

    /// With TLS, by a certificate of this authority.
    pub(crate) async fn secure(authority: &Authority) -> StandIn {
        StandIn::with(Some(authority.acceptor())).await
    }

    async fn with(acceptor: Option<TlsAcceptor>) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            config: json!({"ttl": 30, "slots": {"theirs": {"type": "physical"}}}),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, acceptor) = (Arc::clone(&shared), acceptor.clone());
                tokio::spawn(async move {
                    // A client that does not trust us hangs up.
                    match acceptor {
                        None => serve(stream, &state).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => serve(stream, &state).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        StandIn {
            address,
            state,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// One who asks it.
    pub(crate) fn client(&self) -> Patroni {
        Patroni::new(&[self.url()], None, None).unwrap()
    }

    /// One who asks it by TLS.
    pub(crate) fn secure_client(&self, authority: Option<PathBuf>) -> Patroni {
        Patroni::new(&[format!("https://{}/", self.address)], None, authority).unwrap()
    }

    /// From now on this is answered to `path`, or to `METHOD path`.
    pub(crate) fn answer(&self, what: &str, answer: Answer) {
        self.state().answers.insert(what.to_owned(), answer);
    }

    pub(crate) fn configure(&self, config: Value) {
        self.state().config = config;
    }

    pub(crate) fn config(&self) -> Value {
        self.state().config.clone()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// Waits for something that happens beside.
    pub(crate) async fn until(&self, there: impl Fn() -> bool) {
        let waiting = async {
            while !there() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<State>) -> Option<()> {
    let mut text = Vec::new();
    let asked = loop {
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
        if let Some(asked) = parsed(&String::from_utf8_lossy(&text)) {
            break asked;
        }
    };
    let answer = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        let path = asked.what.split(' ').nth(1)?;
        let wanted = state.answers.get(&asked.what).or_else(|| state.answers.get(path));
        match wanted.cloned().unwrap_or(Answer::Itself) {
            Answer::Itself => itself(&mut state, &asked),
            Answer::Status(status) => response(status, ""),
            Answer::Body(body) => response(200, body),
            Answer::Raw(text) => text.to_owned(),
            Answer::Silence => String::new(),
        }
    };
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

fn parsed(text: &str) -> Option<Asked> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").map_or(0, |length| length.parse().unwrap());
    (body.len() >= length).then(|| Asked {
        what: head.split(' ').take(2).collect::<Vec<_>>().join(" "),
        login: header("authorization"),
        body: body.to_owned(),
    })
}

fn itself(state: &mut State, asked: &Asked) -> String {
    match asked.what.as_str() {
        "GET /config" => response(200, &state.config.to_string()),
        "GET /cluster" => response(
            200,
            &json!({"members": [{"name": "PG-1"}, {"name": "pg2"}]}).to_string(),
        ),
        "GET /patroni" => response(
            200,
            &json!({"state": "running", "database_system_identifier": SYSTEM}).to_string(),
        ),
        "PATCH /config" => {
            let change: Value = serde_json::from_str(&asked.body).unwrap();
            let fields = change["slots"].as_object().unwrap();
            for (name, slot) in fields {
                state.config["slots"][name] = slot.clone();
            }
            response(200, &state.config.to_string())
        }
        _ => response(404, ""),
    }
}

fn response(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.0 {status} Patroni\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

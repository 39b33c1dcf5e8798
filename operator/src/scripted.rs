//! An API server that answers by script: each request must be the next one of the script, and the script must be used
//! up. It shows that what is applied is what was built, and what the operator does about conflict, forbidden and gone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use clap::Parser as _;
use hardstorage_report::RunReport;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::metrics::Metrics;
use crate::report::{Reports, ServedCatalog, Unheard};
use crate::settings::Settings;

/// One exchange: what must be asked, and what is answered.
pub struct Exchange {
    /// The method.
    pub method: Method,
    /// The path and the beginning of the query.
    pub path: String,
    /// The status.
    pub status: u16,
    /// The body; an apply is answered with what was sent when it is null.
    pub body: Value,
}

/// An exchange that goes well.
pub fn ok(method: Method, path: &str, body: Value) -> Exchange {
    Exchange {
        method,
        path: path.to_owned(),
        status: 200,
        body,
    }
}

/// A refusal, as the API server words it.
pub fn refused(method: Method, path: &str, status: u16, reason: &str) -> Exchange {
    Exchange {
        method,
        path: path.to_owned(),
        status,
        body: json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason,
            "code": status, "metadata": {}}),
    }
}

/// What was asked, in order.
pub type Asked = Vec<(Method, String, Value)>;

/// A context whose API server follows the script; the handle gives what was asked, and fails when it was not the script.
pub fn scripted(script: Vec<Exchange>, reports: Answers, now: Timestamp) -> (Arc<Context>, JoinHandle<Asked>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let server = tokio::spawn(async move {
        let mut asked = Vec::new();
        for exchange in script {
            let next = tokio::time::timeout(std::time::Duration::from_secs(5), handle.next_request()).await;
            let (request, answer) = next
                .unwrap_or_else(|_| panic!("nobody asked {} {}", exchange.method, exchange.path))
                .unwrap_or_else(|| panic!("the client is gone before {} {}", exchange.method, exchange.path));
            let (method, uri) = (request.method().clone(), request.uri().to_string());
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            let sent: Value = if sent.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&sent).unwrap()
            };
            assert!(
                method == exchange.method && uri.starts_with(&exchange.path),
                "asked {method} {uri}, the script says {} {}\n{sent:#}",
                exchange.method,
                exchange.path
            );
            let body = if exchange.body.is_null() {
                sent.clone()
            } else {
                exchange.body
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            let status = StatusCode::from_u16(exchange.status).unwrap();
            answer.send_response(Response::builder().status(status).body(body).unwrap());
            asked.push((method, uri, sent));
        }
        if let Some((request, _)) = handle.next_request().await {
            panic!("asked beyond the script: {} {}", request.method(), request.uri());
        }
        asked
    });
    let client = Client::new(service, "team");
    let settings = Settings::parse_from(["operator", "--engine-image", "engine:1"]);
    let clock = Arc::new(move || now);
    let context = Context::with_clock(client, settings, Arc::new(reports), Metrics::default(), clock);
    (Arc::new(context), server)
}

/// Answers for engine pods, by address.
#[derive(Default)]
pub struct Answers {
    /// Their reports.
    pub reports: HashMap<String, RunReport>,
    /// Their catalogues.
    pub catalogs: HashMap<String, ServedCatalog>,
    /// The runs that were told to be heard.
    pub heard: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Reports for Answers {
    async fn report(&self, ip: &str) -> Result<RunReport, Unheard> {
        self.reports
            .get(ip)
            .cloned()
            .ok_or_else(|| Unheard(format!("{ip} does not answer")))
    }

    async fn catalog(&self, ip: &str) -> Result<ServedCatalog, Unheard> {
        self.catalogs
            .get(ip)
            .cloned()
            .ok_or_else(|| Unheard(format!("{ip} does not answer")))
    }

    async fn heard(&self, _ip: &str, run: &str) -> Result<(), Unheard> {
        self.heard.lock().unwrap().push(run.to_owned());
        Ok(())
    }
}

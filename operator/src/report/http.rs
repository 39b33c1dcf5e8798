//! The asking, with limits: a pod that answers slowly, or too much, must not hold up the others.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{CatalogPage, RunReport};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

use super::{Reports, ServedCatalog, Unheard};
use crate::names::REPORT_PORT;

/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer; a page of the catalogue has about 100 KiB.
const LARGEST: usize = 4 << 20;
/// Backups in a page.
const PAGE: usize = 200;
/// Pages of one catalogue: more than anybody keeps, and an end.
const PAGES: usize = 500;

/// Asks over HTTP.
pub struct HttpReports {
    client: Client<HttpConnector, Empty<Bytes>>,
    port: u16,
}

impl Default for HttpReports {
    fn default() -> Self {
        HttpReports::on_port(REPORT_PORT)
    }
}

impl HttpReports {
    /// Asks another port than the usual one.
    pub fn on_port(port: u16) -> HttpReports {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PATIENCE));
        HttpReports {
            client: Client::builder(TokioExecutor::new())
                // A connection that waits for the next question has buffers as large as the largest answer was, and there are
                // a thousand pods.
                .pool_max_idle_per_host(0)
                .build(connector),
            port,
        }
    }

    async fn ask(&self, method: Method, ip: &str, path: &str) -> Result<(StatusCode, Bytes), Unheard> {
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_owned()
        };
        let uri = format!("http://{host}:{}{path}", self.port);
        let failed = |what: &dyn std::fmt::Display| Unheard(format!("{method} {uri}: {what}"));
        let request = Request::builder()
            .method(method.clone())
            .uri(&uri)
            .body(Empty::new())
            .map_err(|error| failed(&error))?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| failed(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            Ok((status, body.map_err(|error| failed(&error))?.to_bytes()))
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(failed(&format!("no answer in {PATIENCE:?}"))),
        }
    }

    async fn read<T: DeserializeOwned>(&self, ip: &str, path: &str) -> Result<T, Unheard> {
        let (status, body) = self.ask(Method::GET, ip, path).await?;
        if status != StatusCode::OK {
            return Err(Unheard(format!("GET {path} of {ip}: {status}")));
        }
        serde_json::from_slice(&body).map_err(|error| Unheard(format!("GET {path} of {ip}: {error}")))
    }
}

#[async_trait]
impl Reports for HttpReports {
    async fn report(&self, ip: &str) -> Result<RunReport, Unheard> {
        self.read(ip, "/v1/report").await
    }

    async fn catalog(&self, ip: &str) -> Result<ServedCatalog, Unheard> {
        let mut whole: Option<ServedCatalog> = None;
        let mut offset = Some(0);
        let mut pages = 0;
        while let Some(at) = offset {
            let page: CatalogPage = self.read(ip, &format!("/v1/catalog?offset={at}&limit={PAGE}")).await?;
            pages += 1;
            let so_far = whole.get_or_insert_with(|| ServedCatalog {
                etag: page.etag.clone(),
                repository_id: page.repository_id.clone(),
                backups: Vec::new(),
            });
            if so_far.etag != page.etag || pages > PAGES {
                return Err(Unheard(format!("the catalogue of {ip} changed while it was read")));
            }
            so_far.backups.extend(page.backups);
            // An end is an end also for a pod that would page for ever.
            offset = page.next.filter(|next| *next > at);
        }
        whole.ok_or_else(|| Unheard(format!("{ip} has no catalogue")))
    }

    async fn heard(&self, ip: &str, run: &str) -> Result<(), Unheard> {
        let (status, _) = self.ask(Method::POST, ip, &format!("/v1/heard?run={run}")).await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(Unheard(format!("POST /v1/heard of {ip}: {status}")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use axum::extract::Query;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::json;
    use std::collections::HashMap;

    async fn serve(router: Router) -> HttpReports {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        HttpReports::on_port(port)
    }

    fn record(number: usize) -> serde_json::Value {
        json!({"backup_id": format!("a.full.20260101T00000{number}Z.0000"), "file_count": 0, "logical_bytes": 0,
            "stored_bytes": 0, "reuse": 0.0, "held": false, "deleted": false, "damaged": false})
    }

    #[tokio::test]
    async fn pages_are_put_together_only_when_they_belong_together() {
        let page = |changes: bool| {
            get(move |Query(query): Query<HashMap<String, String>>| async move {
                let offset: usize = query["offset"].parse().unwrap();
                let etag = if changes {
                    format!("tag-{offset}")
                } else {
                    "tag".to_owned()
                };
                Json(
                    json!({"schema": "pg_hardstorage.catalog.v1", "etag": etag, "repository_id": "ab", "total": 2,
                    "next": (offset == 0).then_some(1), "backups": [record(offset)]}),
                )
            })
        };
        let steady = serve(Router::new().route("/v1/catalog", page(false))).await;
        let whole = steady.catalog("127.0.0.1").await.unwrap();
        assert_eq!((whole.backups.len(), whole.etag.as_str()), (2, "tag"));
        let changing = serve(Router::new().route("/v1/catalog", page(true))).await;
        assert!(changing.catalog("127.0.0.1").await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_report_is_an_error() {
        let router = Router::new()
            .route("/v1/report", get(|| async { "no json" }))
            .route("/v1/heard", post(|| async { StatusCode::CONFLICT }));
        let reports = serve(router).await;
        assert!(reports.report("127.0.0.1").await.is_err());
        assert!(reports.heard("127.0.0.1", "run").await.is_err());
        assert!(reports.catalog("127.0.0.1").await.unwrap_err().0.contains("404"));
    }
}

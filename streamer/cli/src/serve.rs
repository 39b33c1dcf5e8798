//! What a run tells while it lasts: `GET /v1/report`, `/v1/catalog`, `/status`, `/metrics`, `/healthz`, `POST /v1/heard`.
//!
//! A scheduler pulls; nothing is pushed. When the run is over the report goes on being served until somebody has
//! said that it was heard, or a limit: the result of a Job must not die with its pod.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hardstorage_engine::catalogue::tag;
use hardstorage_engine::wal::Monitor;
use hardstorage_report::{
    Catalog, CatalogTag, Error, Event, EventSink, Result, RunReport, RunState, StreamStatus, code,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// The newest warnings that a report keeps.
const WARNINGS: usize = 20;
/// The longest termination message that Kubernetes keeps is 4 KiB; this leaves room.
const TERMINATION_LIMIT: usize = 3 << 10;

/// A run that can be asked. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live(Arc<Shared>);

struct Shared {
    report: Mutex<RunReport>,
    stream: Mutex<Option<Arc<Monitor>>>,
    catalog: Mutex<Option<Arc<Tagged>>>,
    heard: Notify,
}

/// A catalogue with its tag.
struct Tagged {
    etag: String,
    catalog: Catalog,
}

impl Live {
    /// A run that has begun.
    pub(crate) fn new(command: &str, run_id: Option<String>) -> Live {
        Live(Arc::new(Shared {
            report: Mutex::new(RunReport::new(command, run_id, env!("CARGO_PKG_VERSION"))),
            stream: Mutex::new(None),
            catalog: Mutex::new(None),
            heard: Notify::new(),
        }))
    }

    fn report(&self) -> MutexGuard<'_, RunReport> {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the state of a stream.
    pub(crate) fn follow(&self, stream: Arc<Monitor>) {
        *self.0.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    fn stream_status(&self) -> Option<StreamStatus> {
        let stream = self.0.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.as_ref().map(|monitor| monitor.status())
    }

    /// Shows this catalogue from now on.
    pub(crate) fn show(&self, catalog: Catalog) {
        let etag = tag(&catalog);
        *self.0.catalog.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Tagged { etag, catalog }));
    }

    fn catalog(&self) -> Option<Arc<Tagged>> {
        self.0.catalog.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The report as it is now.
    pub(crate) fn snapshot(&self) -> RunReport {
        let mut report = self.report().clone();
        report.stream = self.stream_status();
        report.catalog = self.catalog().map(|shown| CatalogTag {
            etag: shown.etag.clone(),
            backups: shown.catalog.len(),
        });
        report
    }

    /// Ends the run with its result. A result that says no (a damaged backup, say) is a failed run with a result.
    pub(crate) fn finish(&self, result: Value, good: bool) {
        let mut report = self.report();
        report.state = if good { RunState::Succeeded } else { RunState::Failed };
        report.result = Some(result);
    }

    /// Ends the run with an error.
    pub(crate) fn fail(&self, error: &Error) {
        let mut report = self.report();
        report.state = RunState::Failed;
        report.error = Some(error.into());
        report.reachable = error.reach().cloned();
    }

    /// Waits until the result was heard, or for so long.
    pub(crate) async fn linger(&self, limit: Duration) {
        // Nobody came: the termination message and the repository still tell what happened.
        let _ = tokio::time::timeout(limit, self.0.heard.notified()).await;
    }

    /// The report cut to what a termination message may hold: whole members are left out, never half a document.
    pub(crate) fn termination_message(&self) -> String {
        let mut report = self.snapshot();
        let fits = |report: &RunReport| {
            serde_json::to_string(report)
                .ok()
                .filter(|text| text.len() <= TERMINATION_LIMIT)
        };
        if let Some(text) = fits(&report) {
            return text;
        }
        report.warnings.clear();
        report.progress = Value::Null;
        if let Some(text) = fits(&report) {
            return text;
        }
        // Lists and what others have written have no limit; what they lie beside has one.
        if let Some(Value::Object(result)) = &mut report.result {
            result.retain(|name, member| !member.is_array() && name != "source_snapshot");
        }
        if let Some(text) = fits(&report) {
            return text;
        }
        report.result = report
            .result
            .as_ref()
            .and_then(|result| result.get("backup_id"))
            .map(|id| json!({"backup_id": id}));
        report.stream = None;
        report.catalog = None;
        if let Some(error) = &mut report.error {
            error.message = error.message.chars().take(500).collect();
        }
        fits(&report).unwrap_or_else(|| "{}".to_owned())
    }
}

impl EventSink for Live {
    fn emit(&self, event: Event) {
        let mut report = self.report();
        if event.name.ends_with(".progress") {
            report.progress = event.body;
        } else if event.severity >= hardstorage_report::Severity::Warning {
            if report.warnings.len() == WARNINGS {
                report.warnings.remove(0);
            }
            report.warnings.push(event);
        }
    }
}

/// The largest page.
const PAGE: usize = 1000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct Heard {
    run: Option<String>,
}

/// A server at work.
pub(crate) struct Served {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The longest wait for answers that are on their way when a run ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

impl Served {
    /// Ends it after the answers that are on their way: whoever said that it heard the result is told that we know.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        // A client that reads nothing must not keep the process.
        let _ = tokio::time::timeout(LAST_ANSWERS, self.task).await;
    }
}

/// Serves a run until its end.
pub(crate) async fn serve(address: SocketAddr, live: Live) -> Result<Served> {
    let failed = |error: std::io::Error| Error::new(code::cli::IO, format!("listen on {address}")).source(error);
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = Router::new()
        .route(
            "/v1/report",
            get(|State(live): State<Live>| async move { Json(live.snapshot()) }),
        )
        .route("/v1/catalog", get(catalog))
        .route("/status", get(status))
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v1/heard", post(heard))
        .with_state(live);
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::warn!(%error, "the report is not served any more");
        }
    });
    Ok(Served {
        address: bound,
        stop,
        task,
    })
}

async fn catalog(State(live): State<Live>, Query(page): Query<Page>) -> Response {
    match live.catalog() {
        Some(shown) => {
            let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
            Json(shown.catalog.page(&shown.etag, page.offset, limit)).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn status(State(live): State<Live>) -> Response {
    match live.stream_status() {
        Some(status) => Json(status).into_response(),
        None => Json(live.snapshot()).into_response(),
    }
}

async fn scrape(State(live): State<Live>) -> Response {
    let stream = live.stream_status();
    let body = metrics::encode(&live.snapshot().command, stream.as_ref().as_slice(), |_| {});
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response()
}

async fn heard(State(live): State<Live>, Query(heard): Query<Heard>) -> StatusCode {
    let known = live.report().run_id.clone();
    if heard.run != known {
        return StatusCode::NOT_FOUND;
    }
    if live.report().state == RunState::Running {
        return StatusCode::CONFLICT;
    }
    live.0.heard.notify_one();
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use hardstorage_report::Severity;

    #[test]
    fn a_termination_message_is_always_small_and_whole() {
        let live = Live::new("backup", Some("run-1".into()));
        for number in 0..30 {
            live.emit(
                Event::new(Severity::Warning, "backup.page_damaged").body(Value::String(format!("{number:0300}"))),
            );
        }
        live.fail(&Error::new(code::cli::INTERNAL, "x".repeat(10_000)));
        let text = live.termination_message();
        assert!(text.len() <= TERMINATION_LIMIT);
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["run_id"], "run-1");
        assert_eq!(document["error"]["code"], "internal");
        assert_eq!(live.snapshot().warnings.len(), WARNINGS);
    }

    #[test]
    fn a_long_list_does_not_cost_the_rest_of_a_result() {
        let live = Live::new("restore", Some("run-1".into()));
        let warnings: Vec<String> = (0..40).map(|number| format!("{number:0200}")).collect();
        live.finish(
            json!({"backup_id": "x", "target": {"kind": "latest"}, "warnings": warnings}),
            true,
        );
        let read = |live: &Live| serde_json::from_str::<Value>(&live.termination_message()).unwrap();
        let document = read(&live);
        assert_eq!(
            document["result"],
            json!({"backup_id": "x", "target": {"kind": "latest"}})
        );
        live.finish(json!({"backup_id": "x", "text": "x".repeat(10_000)}), true);
        assert_eq!(read(&live)["result"], json!({"backup_id": "x"}));
    }

    #[tokio::test]
    async fn heard_ends_the_wait_only_for_the_right_run_and_after_the_end() {
        let live = Live::new("backup", Some("run-1".into()));
        let ask = |run: &str| {
            heard(
                State(live.clone()),
                Query(Heard {
                    run: Some(run.to_owned()),
                }),
            )
        };
        assert_eq!(ask("run-1").await, StatusCode::CONFLICT);
        live.finish(Value::Null, true);
        assert_eq!(ask("run-2").await, StatusCode::NOT_FOUND);
        assert_eq!(ask("run-1").await, StatusCode::NO_CONTENT);
        // Only the word that it was heard can end this wait.
        tokio::time::timeout(Duration::from_mins(1), live.linger(Duration::from_hours(1)))
            .await
            .unwrap();
    }
}

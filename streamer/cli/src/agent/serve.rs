//! `/metrics`, `/status` and `/healthz` of the agent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hardstorage_report::{Error, Result, code};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::ask::with_streams;
use super::metrics;
use super::view::View;

/// The loop comes by every few seconds; after so long it is taken for dead.
const DEAD: Duration = Duration::from_mins(1);

/// When the loop came by last. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    begun: Instant,
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// It comes by now.
    pub(crate) fn new() -> Pulse {
        Pulse {
            begun: Instant::now(),
            last: Arc::new(AtomicU64::new(0)),
        }
    }

    /// It comes by.
    pub(crate) fn beat(&self) {
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    fn is_alive(&self) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(last) < DEAD
    }
}

#[derive(Clone)]
struct Shown {
    view: watch::Receiver<Arc<View>>,
    pulse: Pulse,
}

impl Shown {
    async fn now(&self) -> View {
        let view = View::clone(&self.view.borrow());
        with_streams(view).await
    }
}

/// A server at work; it ends with this value.
pub(crate) struct Served {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

/// Serves until the value is dropped.
pub(crate) async fn serve(address: SocketAddr, view: watch::Receiver<Arc<View>>, pulse: Pulse) -> Result<Served> {
    let failed = |error: std::io::Error| {
        Error::new(code::cli::IO, format!("listen on {address}"))
            .source(error)
            .hint("choose another address with --listen, or agent.listen in the configuration")
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = Router::new()
        .route(
            "/status",
            get(|State(shown): State<Shown>| async move { Json(shown.now().await) }),
        )
        .route("/metrics", get(scrape))
        .route("/healthz", get(health))
        .with_state(Shown { view, pulse });
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "the status is not served any more");
        }
    });
    Ok(Served {
        address: bound,
        _task: AbortOnDropHandle::new(task),
    })
}

async fn scrape(State(shown): State<Shown>) -> Response {
    let body = metrics::encode(&shown.now().await);
    ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], body).into_response()
}

async fn health(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    if shown.pulse.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the supervisor does not move\n")
    }
}

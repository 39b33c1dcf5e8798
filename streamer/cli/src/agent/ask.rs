//! Asks the streams what they say of themselves. All at once and not for long: one that hangs is left out.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use futures::future::join_all;
use hardstorage_report::StreamStatus;
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::view::View;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer.
const LONGEST: usize = 1 << 20;

/// The view with the words of its streams.
pub(super) async fn with_streams(mut view: View) -> View {
    let streams = view.deployments.values_mut().filter_map(|one| one.stream.as_mut());
    let asked = streams.filter_map(|stream| stream.address.map(|address| (stream, address)));
    join_all(asked.map(|(stream, address)| async move {
        stream.status = tokio::time::timeout(PATIENCE, status(address)).await.ok().flatten();
    }))
    .await;
    view
}

/// What a stream says; none when it is no answer.
async fn status(address: SocketAddr) -> Option<StreamStatus> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get("/status")
        .header("host", "localhost")
        .body(Body::empty())
        .ok()?;
    let answer = sender.send_request(request).await.ok()?;
    let body = Limited::new(answer.into_body(), LONGEST)
        .collect()
        .await
        .ok()?
        .to_bytes();
    serde_json::from_slice(&body).ok()
}

//! As much of HTTP as it takes to ask a status endpoint or to tell Patroni something: one request, one answer, the
//! connection closed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Asks `http://ADDRESS/PATH`; the status code and the body. Errors are those of the connection.
pub fn get(address: impl Into<SocketAddr>, path: &str) -> io::Result<(u16, String)> {
    exchange(address.into(), &format!("GET {path}"), "", Duration::from_secs(10))
}

/// Sends a document by `method` and waits so long for the answer.
pub(crate) fn send(
    address: impl Into<SocketAddr>,
    method: &str,
    path: &str,
    document: &Value,
    patience: Duration,
) -> io::Result<(u16, String)> {
    exchange(
        address.into(),
        &format!("{method} {path}"),
        &document.to_string(),
        patience,
    )
}

fn exchange(address: SocketAddr, what: &str, body: &str, patience: Duration) -> io::Result<(u16, String)> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    socket.set_read_timeout(Some(patience))?;
    // 1.0, so that the body ends with the connection and is never chunked.
    write!(
        socket,
        "{what} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {answer:.200}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(malformed)?;
    Ok((status, body.to_owned()))
}

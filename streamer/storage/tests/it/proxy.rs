//! A line between client and server that damages what passes: one byte changed behind a marker, so many times.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes behind which damage is done.
pub const MARKER: &[u8] = b"<<damage-the-next-byte>>";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

pub struct Proxy {
    pub address: SocketAddr,
    left: Arc<AtomicUsize>,
}

impl Proxy {
    /// Damages the first `times` passages of the marker in this direction.
    pub async fn start(server: SocketAddr, direction: Direction, times: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicUsize::new(times));
        let shared = left.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(server).await.unwrap();
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                let none = Arc::new(AtomicUsize::new(0));
                let (up, down) = match direction {
                    Direction::ToServer => (shared.clone(), none),
                    Direction::ToClient => (none, shared.clone()),
                };
                tokio::spawn(pump(client_read, server_write, up));
                tokio::spawn(pump(server_read, client_write, down));
            }
        });
        Proxy { address, left }
    }

    /// How often damage is still to be done.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

async fn pump(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    left: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 64 << 10];
    // The end of what has passed, so that a marker cut in two is found.
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let passed = tail.len();
        tail.extend_from_slice(&buffer[..read]);
        let places: Vec<usize> = tail
            .windows(MARKER.len())
            .enumerate()
            .filter(|(_, window)| *window == MARKER)
            .map(|(at, _)| at + MARKER.len())
            .filter(|at| (passed..tail.len()).contains(at))
            .collect();
        for place in places {
            if left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok()
            {
                buffer[place - passed] ^= 1;
            }
        }
        let keep = tail.len().saturating_sub(MARKER.len());
        tail.drain(..keep);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // The other side learns that this one has ended; it may be gone already.
    let _ = to.shutdown().await;
}

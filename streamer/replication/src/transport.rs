//! A byte stream to one address of one server: TCP or a Unix socket, plain or with TLS.
//!
//! The answer to the SSL request is read as the one byte that it is, and nothing after it: what somebody slipped into
//! the plain stream behind it (CVE-2021-23222) reaches the TLS handshake, which fails on it, and never the protocol.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use bytes::BytesMut;
use hardstorage_report::{Error, Result, Retry, code};
use postgres_protocol::message::frontend;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::conninfo::{Address, Host, Settings};
use crate::tls;
use crate::wire::BoxStream;

/// Where one attempt goes.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix(OsString),
}

/// How one attempt is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    Plain,
    /// TLS, or plain if the server has none.
    Offered,
    Required,
}

/// What the login needs to know about the stream below it.
#[derive(Debug)]
pub(crate) enum Protection {
    /// No TLS.
    Plain,
    /// TLS.
    Tls {
        /// The hash for SCRAM's channel binding, where the certificate has one.
        binding: Option<Vec<u8>>,
        client_certificate: bool,
    },
}

/// An open stream.
pub(crate) struct Transport {
    pub(crate) stream: BoxStream,
    pub(crate) protection: Protection,
    /// The socket, where nothing lies between it and the stream's bytes.
    pub(crate) socket: Option<OwnedFd>,
    /// Our own end, as the server sees it when nobody translates addresses.
    pub(crate) local: Option<SocketAddr>,
}

fn unreachable(message: impl Into<String>) -> Error {
    Error::new(code::replication::UNREACHABLE, message).retry(Retry::Now)
}

/// Every address of a host, in the resolver's order.
pub(crate) async fn resolve(host: &Host) -> Result<Vec<Endpoint>> {
    match &host.address {
        Address::Unix(directory) => Ok(vec![Endpoint::Unix(socket_name(directory, host.port))]),
        Address::Ip(ip) => Ok(vec![Endpoint::Tcp(SocketAddr::new(*ip, host.port))]),
        Address::Name(name) => {
            let found: Vec<Endpoint> = tokio::net::lookup_host((name.as_str(), host.port))
                .await
                .map_err(|error| unreachable(format!("the host name {name} cannot be resolved")).source(error))?
                .map(Endpoint::Tcp)
                .collect();
            if found.is_empty() {
                return Err(unreachable(format!("the host name {name} has no address")));
            }
            Ok(found)
        }
    }
}

/// A leading `@` is the NUL byte of Linux's abstract name space.
fn socket_name(directory: &Path, port: u16) -> OsString {
    let mut name = directory.as_os_str().as_bytes().to_vec();
    if let Some(first) = name.first_mut().filter(|first| **first == b'@') {
        *first = 0;
    }
    name.extend_from_slice(format!("/.s.PGSQL.{port}").as_bytes());
    OsString::from_vec(name)
}

/// Connects, and negotiates TLS where it is wanted.
pub(crate) async fn open(
    settings: &Settings,
    host: &Host,
    endpoint: &Endpoint,
    encryption: Encryption,
) -> Result<Transport> {
    match endpoint {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path)
                .await
                .map_err(|error| unreachable(format!("no connection to the socket {host}")).source(error))?;
            Ok(Transport {
                socket: another(&stream),
                stream: Box::new(stream),
                protection: Protection::Plain,
                local: None,
            })
        }
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| unreachable(format!("no connection to {address}")).source(error))?;
            configure(&stream, settings)
                .map_err(|error| unreachable("the socket's options cannot be set").source(error))?;
            let local = stream.local_addr().ok();
            let (stream, protection, socket): (BoxStream, _, _) = match encryption {
                Encryption::Plain => plain(stream),
                Encryption::Offered | Encryption::Required => {
                    negotiate(settings, host, *address, stream, encryption == Encryption::Offered).await?
                }
            };
            Ok(Transport {
                stream,
                protection,
                socket,
                local,
            })
        }
    }
}

fn plain(stream: TcpStream) -> (BoxStream, Protection, Option<OwnedFd>) {
    let socket = another(&stream);
    (Box::new(stream), Protection::Plain, socket)
}

/// Another descriptor of the socket. Without one it is read through the runtime only.
fn another(stream: &impl AsFd) -> Option<OwnedFd> {
    stream.as_fd().try_clone_to_owned().ok()
}

fn configure(stream: &TcpStream, settings: &Settings) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(stream, true)?;
    if let Some(keepalives) = settings.keepalives {
        sockopt::set_socket_keepalive(stream, true)?;
        if let Some(idle) = keepalives.idle {
            sockopt::set_tcp_keepidle(stream, idle)?;
        }
        if let Some(interval) = keepalives.interval {
            sockopt::set_tcp_keepintvl(stream, interval)?;
        }
        if let Some(count) = keepalives.count {
            sockopt::set_tcp_keepcnt(stream, count)?;
        }
    }
    #[cfg(target_os = "linux")]
    if settings.tcp_user_timeout > 0 {
        sockopt::set_tcp_user_timeout(stream, settings.tcp_user_timeout)?;
    }
    Ok(())
}

async fn negotiate(
    settings: &Settings,
    host: &Host,
    address: SocketAddr,
    mut stream: TcpStream,
    optional: bool,
) -> Result<(BoxStream, Protection, Option<OwnedFd>)> {
    // libpq verifies the name, and the address only where no name is given at all.
    let (tls_settings, name) = (settings.tls.clone(), host.name.clone());
    let prepared = tokio::task::spawn_blocking(move || tls::prepare(&tls_settings, &name, address.ip()))
        .await
        .map_err(|error| Error::new(code::cli::INTERNAL, "reading the TLS files was interrupted").source(error))??;
    if !prepared.is_direct() && !ask_for_tls(&mut stream).await? {
        if optional {
            return Ok(plain(stream));
        }
        return Err(Error::new(
            code::replication::TLS,
            "the server does not offer TLS, and sslmode demands it",
        )
        .hint("switch ssl on in the server's configuration, or use a weaker sslmode"));
    }
    let session = prepared.handshake(stream).await?;
    let protection = Protection::Tls {
        binding: session.binding,
        client_certificate: session.client_certificate,
    };
    Ok((Box::new(session.stream), protection, None))
}

/// Sends the SSL request and reads the one byte that answers it.
async fn ask_for_tls(stream: &mut TcpStream) -> Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let ended = |error: std::io::Error| unreachable("the connection ended at the request for TLS").source(error);
    stream.write_all(&request).await.map_err(ended)?;
    match stream.read_u8().await.map_err(ended)? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // The words of an error before the handshake are not authenticated, so they are not shown (CVE-2024-10977).
        b'E' => Err(unreachable("the server answered the request for TLS with an error").retry(Retry::Later)),
        other => Err(Error::new(
            code::replication::PROTOCOL,
            format!(
                "the server answered the request for TLS with the byte '{}'",
                other.escape_ascii()
            ),
        )
        .hint("check that a PostgreSQL server listens at this host and port")),
    }
}

//! From the startup message to ReadyForQuery: who we are, and the proof of it.
//!
//! The steps are a straight line, so that nothing can be skipped: once SCRAM has begun, only its own next message is
//! accepted, and the server's signature is checked before its AuthenticationOk counts. `channel_binding=require` is
//! checked at every way that ends in Ok.

use bytes::{Bytes, BytesMut};
use hardstorage_report::{Error, Result, Retry, code};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;

use crate::ServerError;
use crate::conninfo::{ChannelBinding, Secret};
use crate::message::{Authentication, Message, protocol};
use crate::transport::Protection;
use crate::wire::Wire;

/// What the login says and knows.
pub(crate) struct Login<'a> {
    pub(crate) parameters: &'a [(&'a str, &'a str)],
    pub(crate) user: &'a str,
    pub(crate) password: Option<&'a Secret>,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) protection: &'a Protection,
}

/// What a backend is known by.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) process_id: i32,
    pub(crate) secret: Bytes,
}

/// Why a login failed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The server said no.
    Server {
        error: Box<ServerError>,
        /// Whether it had asked for a proof before. What it refuses without asking, `pg_hba.conf` refuses.
        asked: bool,
    },
    /// It asks for a password and there is none.
    NoPassword,
    /// Anything else, on either side.
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Other(error)
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(code::replication::AUTH, message)
}

/// Logs in. The wire is then at the first command.
pub(crate) async fn login(wire: &mut Wire, login: &Login<'_>) -> Result<Backend, Refusal> {
    let mut buffer = BytesMut::new();
    frontend::startup_message(login.parameters.iter().copied(), &mut buffer).map_err(not_sendable)?;
    wire.send(&buffer).await;
    authenticate(wire, login).await?;
    let mut backend = Backend {
        process_id: 0,
        secret: Bytes::new(),
    };
    loop {
        match wire.recv().await? {
            Message::BackendKeyData { process_id, secret } => backend = Backend { process_id, secret },
            Message::ReadyForQuery(_) => return Ok(backend),
            // The role and the limits are checked after the proof.
            Message::ErrorResponse(error) => return Err(Refusal::Server { error, asked: true }),
            other => return Err(unexpected("before it was ready", &other).into()),
        }
    }
}

async fn authenticate(wire: &mut Wire, login: &Login<'_>) -> Result<(), Refusal> {
    let request = loop {
        match wire.recv().await? {
            Message::Authentication(request) => break request,
            Message::ErrorResponse(error) => return Err(Refusal::Server { error, asked: false }),
            Message::NegotiateProtocolVersion { newest, unrecognized } => check_version(newest, &unrecognized)?,
            other => return Err(unexpected("before authentication", &other).into()),
        }
    };
    let bound = match request {
        Authentication::Ok => {
            check_bound(login, false)?;
            return Ok(());
        }
        Authentication::CleartextPassword => {
            check_bound(login, false)?;
            send_password(wire, password(login)?).await?;
            false
        }
        Authentication::Md5Password { salt } => {
            check_bound(login, false)?;
            let hash = md5_hash(login.user.as_bytes(), password(login)?, salt);
            send_password(wire, hash.as_bytes()).await?;
            false
        }
        Authentication::Sasl { mechanisms } => scram(wire, login, &mechanisms).await?,
        Authentication::Unsupported(number) => {
            return Err(refused(format!(
                "the server asks for authentication method {number}, which is not supported"
            ))
            .hint("use scram-sha-256, md5, password, cert, peer or trust in pg_hba.conf (not gss, sspi or oauth)")
            .into());
        }
        Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
            return Err(protocol("the server goes on with a SASL exchange that it did not begin").into());
        }
    };
    match recv(wire).await? {
        Authentication::Ok => Ok(check_bound(login, bound)?),
        _ => Err(protocol("the server asks for a second proof").into()),
    }
}

/// The next step of an exchange that the server has begun.
async fn recv(wire: &mut Wire) -> Result<Authentication, Refusal> {
    match wire.recv().await? {
        Message::Authentication(step) => Ok(step),
        Message::ErrorResponse(error) => Err(Refusal::Server { error, asked: true }),
        other => Err(unexpected("during authentication", &other).into()),
    }
}

fn password<'a>(login: &Login<'a>) -> Result<&'a [u8], Refusal> {
    login.password.map(Secret::expose).ok_or(Refusal::NoPassword)
}

async fn send_password(wire: &mut Wire, password: &[u8]) -> Result<()> {
    let mut buffer = BytesMut::new();
    frontend::password_message(password, &mut buffer).map_err(not_sendable)?;
    wire.send(&buffer).await;
    Ok(())
}

/// Runs SCRAM, to the server's own proof. Tells whether the channel was bound.
async fn scram(wire: &mut Wire, login: &Login<'_>, mechanisms: &[String]) -> Result<bool, Refusal> {
    let (mechanism, binding) = choose(mechanisms, login.channel_binding, login.protection)?;
    let bound = mechanism == SCRAM_SHA_256_PLUS;
    let mut scram = ScramSha256::new(password(login)?, binding);
    let mut buffer = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut buffer).map_err(not_sendable)?;
    wire.send(&buffer).await;
    let Authentication::SaslContinue(challenge) = recv(wire).await? else {
        return Err(protocol("the server breaks off the SCRAM exchange").into());
    };
    scram
        .update(&challenge)
        .map_err(|error| refused("the server's SCRAM challenge is not acceptable").source(error))?;
    buffer.clear();
    frontend::sasl_response(scram.message(), &mut buffer).map_err(not_sendable)?;
    wire.send(&buffer).await;
    let Authentication::SaslFinal(proof) = recv(wire).await? else {
        return Err(protocol("the server does not end the SCRAM exchange").into());
    };
    scram.finish(&proof).map_err(|error| {
        refused("the server does not prove that it knows the password")
            .hint("another server may answer in its place: check host and port, and use sslmode=verify-full")
            .source(error)
    })?;
    Ok(bound)
}

/// The mechanism and its channel binding, by libpq's rules.
fn choose(
    mechanisms: &[String],
    wanted: ChannelBinding,
    protection: &Protection,
) -> Result<(&'static str, sasl::ChannelBinding)> {
    let offered = |name: &str| mechanisms.iter().any(|mechanism| mechanism == name);
    let hash = match protection {
        Protection::Tls { binding, .. } => Some(binding),
        Protection::Plain => None,
    };
    if offered(SCRAM_SHA_256_PLUS) {
        match hash {
            None => {
                // Only somebody in the middle who ended the TLS of a server would pass this on.
                return Err(refused(
                    "the server offers SCRAM-SHA-256-PLUS on a connection without TLS",
                ));
            }
            Some(Some(hash)) if wanted != ChannelBinding::Disable => {
                return Ok((
                    SCRAM_SHA_256_PLUS,
                    sasl::ChannelBinding::tls_server_end_point(hash.clone()),
                ));
            }
            Some(_) => {}
        }
    }
    if wanted == ChannelBinding::Require {
        return Err(unbound(if hash.is_none() {
            "there is no TLS on it"
        } else if offered(SCRAM_SHA_256_PLUS) {
            "the signature of the server's certificate has no hash to bind to"
        } else {
            "the server does not offer it"
        }));
    }
    if !offered(SCRAM_SHA_256) {
        return Err(refused(format!(
            "the server offers no SASL mechanism that is supported ({})",
            mechanisms.join(", ")
        ))
        .hint("use scram-sha-256 in pg_hba.conf"));
    }
    // `y` says "I could, you seem not to": the server fails if it did offer and somebody took that out. It is
    // therefore not for a client that was told not to bind, or cannot.
    let binding = match hash {
        Some(Some(_)) if wanted == ChannelBinding::Prefer => sasl::ChannelBinding::unrequested(),
        _ => sasl::ChannelBinding::unsupported(),
    };
    Ok((SCRAM_SHA_256, binding))
}

fn unbound(why: &str) -> Error {
    refused(format!(
        "the connection cannot be bound to its channel, and channel_binding demands it: {why}"
    ))
    .hint("use TLS and scram-sha-256, or channel_binding=prefer")
}

fn check_bound(login: &Login<'_>, bound: bool) -> Result<()> {
    if login.channel_binding == ChannelBinding::Require && !bound {
        return Err(unbound("the server asks for no proof that could be bound"));
    }
    Ok(())
}

/// We ask for 3.0 without options, which every server speaks: only a message that asks for nothing else is harmless.
fn check_version(newest: i32, unrecognized: &[String]) -> Result<()> {
    if unrecognized.is_empty() && (newest >= 3 << 16 || newest == 0) {
        return Ok(());
    }
    Err(protocol("the server does not speak protocol version 3.0"))
}

fn unexpected(when: &str, message: &Message) -> Error {
    // Only the kind: a message of authentication may hold a secret.
    let kind = match message {
        Message::Authentication(_) => "another step of authentication",
        Message::ReadyForQuery(_) => "ReadyForQuery",
        Message::BackendKeyData { .. } => "BackendKeyData",
        _ => "a message of another exchange",
    };
    protocol(format!("the server sent {kind} {when}"))
}

/// Only a NUL character or an enormous value cannot be sent.
fn not_sendable(error: std::io::Error) -> Error {
    Error::new(code::usage::CONNINFO, "user, password or another value cannot be sent")
        .retry(Retry::Never)
        .source(error)
}

#[cfg(test)]
mod tests;

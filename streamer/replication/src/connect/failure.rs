//! Failed attempts: what each means, whether another way or another host may help, and one error for all of them.
//!
//! A refusal is judged by its SQLSTATE, by when it came, and by the name of the server's function (`auth_failed`), which
//! is never translated; never by its words.

use std::net::SocketAddr;

use hardstorage_report::{Code, Error, Retry, code};

use super::ConnectMode;
use crate::auth::Refusal;
use crate::conninfo::{Address, Host};
use crate::server_error::During;
use crate::transport::{Encryption, Endpoint, Protection};

/// What was tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) host: &'a Host,
    pub(super) user: &'a str,
    pub(super) dbname: Option<&'a str>,
    pub(super) mode: ConnectMode,
    /// The address, where the host has several.
    pub(super) endpoint: Option<&'a Endpoint>,
}

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    place: String,
    error: Error,
    /// The server refused before anything secret was sent to it.
    before_proof: bool,
    /// It came over TLS.
    over_tls: bool,
}

impl Attempt<'_> {
    fn place(&self) -> String {
        match self.endpoint {
            Some(Endpoint::Tcp(address)) => format!("{} ({})", self.host, address.ip()),
            _ => self.host.to_string(),
        }
    }
}

impl Failure {
    pub(super) fn new(attempt: &Attempt<'_>, error: Error) -> Failure {
        Failure {
            place: attempt.place(),
            error,
            before_proof: false,
            over_tls: false,
        }
    }

    /// A login that failed.
    pub(super) fn refused(
        attempt: &Attempt<'_>,
        refusal: Refusal,
        protection: &Protection,
        local: Option<SocketAddr>,
        passfile: Option<&str>,
    ) -> Failure {
        let mut before_proof = false;
        let error = match refusal {
            Refusal::Other(error) => lost_during_login(error),
            Refusal::NoPassword => Error::new(
                code::replication::AUTH,
                "the server asks for a password and none is given",
            ),
            Refusal::Server { error, asked } => {
                before_proof = !asked;
                let login_refused = error.sqlstate == "28000";
                // A proof that was asked for, or one that needs no question (peer, ident, cert), was not accepted.
                let proof_refused = asked || error.routine.as_deref() == Some("auth_failed");
                let doing = format!("the server refuses user {}", attempt.user);
                if login_refused && proof_refused {
                    Error::new(code::replication::AUTH, doing)
                        .hint("check that the role may log in, and what the method in pg_hba.conf asks of it")
                        .source(*error)
                } else if login_refused {
                    Error::new(code::replication::HBA, doing)
                        .hint(missing_line(attempt, protection, local))
                        .source(*error)
                } else {
                    let error = (*error).into_error(During::Connect, doing);
                    if error.is(code::replication::ROLE) {
                        let role = attempt.user.replace('"', "\"\"");
                        error.hint(format!("ALTER ROLE \"{role}\" REPLICATION"))
                    } else {
                        error
                    }
                }
            }
        };
        let error = match passfile {
            Some(warning) if error.is(code::replication::AUTH) => error.hint(warning),
            _ => error,
        };
        Failure {
            place: attempt.place(),
            error,
            before_proof,
            over_tls: matches!(protection, Protection::Tls { .. }),
        }
    }

    /// Whether the rest of the hosts is not asked. Anything but a refusal may be different elsewhere.
    pub(super) fn ends_search(&self) -> bool {
        use code::replication::{AUTH, HBA, ROLE, TLS};
        [AUTH, HBA, ROLE, TLS, code::usage::CONNINFO, code::cli::INTERNAL].contains(&self.error.code())
    }

    /// Whether the same address with the other kind of connection may answer differently.
    pub(super) fn other_encryption_may_help(&self, tried: Encryption) -> bool {
        match tried {
            Encryption::Plain => self.before_proof,
            // Where the server has no TLS, the offered way was the plain one already. A handshake that fails is no end
            // either: prefer means that TLS is not insisted on.
            Encryption::Offered => (self.before_proof && self.over_tls) || self.error.is(code::replication::TLS),
            Encryption::Required => false,
        }
    }

    /// Two ways to one address failed: the later says more, unless the way itself was not open to it.
    pub(super) fn and_then(self, second: Failure) -> Failure {
        use code::replication::{HBA, TLS, UNREACHABLE};
        let not_open = [HBA, TLS, UNREACHABLE].contains(&second.error.code());
        let (kept, other) = if not_open { (self, second) } else { (second, self) };
        if kept.error.code() == other.error.code() {
            return kept;
        }
        let hint = format!(
            "{}; the other way, with or without TLS, failed too: {}",
            kept.error.hint_text(),
            other.error
        );
        Failure {
            error: kept.error.hint(hint),
            ..kept
        }
    }
}

/// With TLS 1.3 a server tells that it refuses our certificate only after the handshake, when we read.
fn lost_during_login(error: Error) -> Error {
    let mut cause = std::error::Error::source(&error);
    while let Some(here) = cause {
        let tls = here
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref()?.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return Error::new(
                code::replication::TLS,
                format!("the server ended the TLS session with the alert {alert:?}"),
            )
            .hint("it refuses the client certificate (sslcert, sslkey); the server's log tells why");
        }
        cause = here.source();
    }
    error
}

/// The line for `pg_hba.conf` that would let this connection in.
fn missing_line(attempt: &Attempt<'_>, protection: &Protection, local: Option<SocketAddr>) -> String {
    let database = match attempt.mode {
        ConnectMode::Physical => "replication",
        ConnectMode::Database => attempt.dbname.unwrap_or(attempt.user),
    };
    let user = attempt.user;
    let line = match (&attempt.host.address, local) {
        (Address::Unix(_), _) => format!("local {database} {user} scram-sha-256"),
        (_, Some(local)) => {
            let ip = local.ip().to_canonical();
            format!(
                "host {database} {user} {ip}/{} scram-sha-256",
                if ip.is_ipv4() { 32 } else { 128 }
            )
        }
        (_, None) => format!("host {database} {user} ADDRESS scram-sha-256"),
    };
    let also = match protection {
        Protection::Tls {
            client_certificate: false,
            ..
        } => "; a line that asks for a client certificate wants sslcert and sslkey",
        Protection::Tls { .. } => "",
        Protection::Plain if matches!(attempt.host.address, Address::Unix(_)) => "",
        Protection::Plain => "; a hostssl line wants sslmode=require",
    };
    format!("add `{line}` to pg_hba.conf and reload{also}")
}

/// One error for everything that was tried.
pub(super) fn sum_up(mut failures: Vec<Failure>) -> Error {
    let telling = |failure: &Failure| !failure.error.is(code::replication::UNREACHABLE);
    let chosen = failures.iter().rposition(telling).unwrap_or(0);
    if failures.len() == 1 || failures.is_empty() {
        return match failures.pop() {
            Some(failure) => failure.error.context(format_args!("connect to {}", failure.place)),
            None => Error::new(code::usage::CONNINFO, "no host is named"),
        };
    }
    let words: Vec<String> = failures
        .iter()
        .map(|failure| format!("{}: {}", failure.place, failure.error))
        .collect();
    // A search that ended is not worth another try; otherwise the host that is only not ready sets the pace.
    let retry = match failures.last() {
        Some(last) if last.ends_search() => last.error.retry_advice(),
        _ => most_hopeful(failures.iter().map(|failure| failure.error.retry_advice())),
    };
    let chosen = failures.swap_remove(chosen);
    let code: Code = chosen.error.code();
    Error::new(code, format!("no server can be used: {}", words.join("; ")))
        .hint(chosen.error.hint_text())
        .retry(retry)
}

fn most_hopeful(advice: impl Iterator<Item = Retry>) -> Retry {
    let mut best = Retry::Never;
    for advice in advice {
        match advice {
            Retry::Later => return Retry::Later,
            Retry::Now => best = Retry::Now,
            Retry::Never => {}
        }
    }
    best
}

//! Opening a connection: each host in turn, each of its addresses, with or without TLS, until one is what is asked for.
//!
//! As libpq does it: a host that cannot be reached, that is starting up or that is not the wanted kind of server leads to
//! the next one; a refused login ends the search, because the next host would be asked with the same password. One
//! difference: `sslmode=prefer` and `allow` try again with the other kind of connection only when the server refused
//! before any password was sent; libpq would repeat a wrong password too.
//! Source: `fe-connect.c` (PQconnectPoll), `libpq.sgml` ("Specifying Multiple Hosts").

mod failure;

use std::time::Duration;

use bytes::Bytes;
use hardstorage_report::{Error, Result, Retry, code};

use crate::auth::{self, Backend, Login};
use crate::conninfo::{Address, ConnInfo, Environment, Host, Secret, Settings, SslMode, TargetAttrs};
use crate::passfile;
use crate::transport::{self, Encryption, Endpoint, Protection};
use crate::wire::Wire;
use failure::{Attempt, Failure};

/// What kind of walsender is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectMode {
    /// `replication=true`: base backups and WAL. Wants a `replication` line in `pg_hba.conf`.
    Physical,
    /// `replication=database`: a walsender that also answers SQL in the database of the connection string. Wants a line
    /// for that database.
    Database,
}

/// An open, authenticated connection at its first command.
#[derive(Debug)]
pub struct Connected {
    /// The wire; its parameters hold what the server reported (`server_version`, `in_hot_standby` and so on).
    pub wire: Wire,
    /// The backend's process id.
    pub process_id: i32,
    /// The secret for a cancel request.
    pub secret: Bytes,
    /// The host of the list that answered.
    pub host: Host,
    /// Whether it runs over TLS.
    pub encrypted: bool,
    /// What a person should know although it went well, for example a password file that others can read.
    pub warnings: Vec<String>,
}

/// Opens a connection. With several hosts the error names what each of them answered.
///
/// Errors: [`code::usage::CONNINFO`], [`code::replication::UNREACHABLE`] (with retry advice),
/// [`code::replication::AUTH`], [`code::replication::HBA`], [`code::replication::ROLE`], [`code::replication::TLS`],
/// [`code::replication::SENDERS_FULL`], [`code::replication::PROTOCOL`], [`code::replication::SERVER`].
pub async fn connect(conninfo: &ConnInfo, mode: ConnectMode, environment: &Environment) -> Result<Connected> {
    connect_avoiding(conninfo, mode, environment, None).await
}

/// The same with one host of the list asked last: it was what is asked for by all that a login tells, and was not what is
/// wanted.
pub async fn connect_avoiding(
    conninfo: &ConnInfo,
    mode: ConnectMode,
    environment: &Environment,
    avoided: Option<&Host>,
) -> Result<Connected> {
    let mut settings = conninfo.settings(environment)?;
    // Stable: the others keep their order.
    settings.hosts.sort_by_key(|host| Some(host) == avoided);
    let passes: &[TargetAttrs] = match settings.target {
        TargetAttrs::PreferStandby => &[TargetAttrs::Standby, TargetAttrs::Any],
        _ => &[settings.target],
    };
    let mut failures = Vec::new();
    for target in passes {
        failures.clear();
        for host in &settings.hosts {
            match try_host(&settings, host, mode, *target, &mut failures).await {
                Some(connected) => return Ok(connected),
                None if failures.last().is_some_and(Failure::ends_search) => return Err(failure::sum_up(failures)),
                None => {}
            }
        }
    }
    Err(failure::sum_up(failures))
}

/// Tries every address of a host.
async fn try_host(
    settings: &Settings,
    host: &Host,
    mode: ConnectMode,
    target: TargetAttrs,
    failures: &mut Vec<Failure>,
) -> Option<Connected> {
    let attempt = |endpoint| Attempt {
        host,
        user: &settings.user,
        mode,
        dbname: settings.dbname.as_deref(),
        endpoint,
    };
    let endpoints = match within(settings.connect_timeout, transport::resolve(host)).await {
        Ok(endpoints) => endpoints,
        Err(error) => {
            failures.push(Failure::new(&attempt(None), error));
            return None;
        }
    };
    for endpoint in &endpoints {
        let attempt = attempt(Some(endpoint).filter(|_| endpoints.len() > 1));
        let opened = within(settings.connect_timeout, async {
            Ok(try_endpoint(settings, host, endpoint, &attempt).await)
        })
        .await
        .map_err(|error| Failure::new(&attempt, error));
        match opened.and_then(|opened| opened) {
            Ok(connected) => match check_target(&connected.wire, target) {
                Ok(()) => return Some(connected),
                Err(error) => failures.push(Failure::new(&attempt, error)),
            },
            Err(failure) => {
                let ends_search = failure.ends_search();
                failures.push(failure);
                if ends_search {
                    return None;
                }
            }
        }
    }
    None
}

/// Ends an attempt that lasts too long.
async fn within<T>(limit: Option<Duration>, doing: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(limit) = limit else { return doing.await };
    tokio::time::timeout(limit, doing).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s (connect_timeout)", limit.as_secs());
        Err(Error::new(code::replication::UNREACHABLE, message).retry(Retry::Now))
    })
}

/// Tries one address, with and without TLS as `sslmode` has it.
async fn try_endpoint(
    settings: &Settings,
    host: &Host,
    endpoint: &Endpoint,
    attempt: &Attempt<'_>,
) -> Result<Connected, Failure> {
    let ways: &[Encryption] = match (endpoint, settings.tls.mode) {
        // libpq knows no TLS on Unix sockets: sslmode does not count there.
        (Endpoint::Unix(_), _) | (_, SslMode::Disable) => &[Encryption::Plain],
        (_, SslMode::Allow) => &[Encryption::Plain, Encryption::Required],
        (_, SslMode::Prefer) => &[Encryption::Offered, Encryption::Plain],
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Encryption::Required],
    };
    let mut before: Option<Failure> = None;
    for encryption in ways {
        match try_once(settings, host, endpoint, *encryption, attempt).await {
            Ok(connected) => return Ok(connected),
            Err(failure) => {
                let again = failure.other_encryption_may_help(*encryption);
                let failure = match before.take() {
                    Some(first) => first.and_then(failure),
                    None => failure,
                };
                if !again {
                    return Err(failure);
                }
                before = Some(failure);
            }
        }
    }
    Err(before.unwrap_or_else(|| Failure::new(attempt, Error::new(code::cli::INTERNAL, "no way to connect was tried"))))
}

async fn try_once(
    settings: &Settings,
    host: &Host,
    endpoint: &Endpoint,
    encryption: Encryption,
    attempt: &Attempt<'_>,
) -> Result<Connected, Failure> {
    let transport = transport::open(settings, host, endpoint, encryption)
        .await
        .map_err(|error| Failure::new(attempt, error))?;
    let (password, mut warnings) = password(settings, host, attempt.mode);
    let mut parameters = vec![("user", settings.user.as_str())];
    match attempt.mode {
        ConnectMode::Physical => parameters.push(("replication", "true")),
        ConnectMode::Database => {
            parameters.push(("replication", "database"));
            parameters.push(("database", settings.dbname.as_deref().unwrap_or(&settings.user)));
        }
    }
    parameters.push(("application_name", &settings.application_name));
    parameters.push(("client_encoding", "UTF8"));
    if let Some(options) = &settings.options {
        parameters.push(("options", options));
    }
    let login = Login {
        parameters: &parameters,
        user: &settings.user,
        password: password.as_ref(),
        channel_binding: settings.channel_binding,
        protection: &transport.protection,
    };
    let mut wire = Wire::new(transport.stream).over(transport.socket);
    match auth::login(&mut wire, &login).await {
        Ok(Backend { process_id, secret }) => Ok(Connected {
            wire,
            process_id,
            secret,
            host: host.clone(),
            encrypted: matches!(transport.protection, Protection::Tls { .. }),
            warnings: std::mem::take(&mut warnings),
        }),
        Err(refusal) => Err(Failure::refused(
            attempt,
            refusal,
            &transport.protection,
            transport.local,
            warnings.pop().as_deref(),
        )),
    }
}

/// The password for a host, and why its file was not used: `password`, else `PGPASSWORD`, else the file.
fn password(settings: &Settings, host: &Host, mode: ConnectMode) -> (Option<Secret>, Vec<String>) {
    if settings.password.is_some() {
        return (settings.password.clone(), Vec::new());
    }
    let Some(path) = &settings.passfile else {
        return (None, Vec::new());
    };
    let address;
    let name = match &host.address {
        Address::Unix(directory) if host.name.is_empty() || directory.as_os_str() == "/tmp" => "localhost",
        Address::Ip(ip) if host.name.is_empty() => {
            address = ip.to_string();
            &address
        }
        _ => &host.name,
    };
    let dbname = settings.dbname.as_deref().unwrap_or(&settings.user);
    // PostgreSQL's own clients look for `replication`, newer ones for the database of the connection string.
    let databases: &[&str] = match mode {
        ConnectMode::Physical => &["replication", dbname],
        ConnectMode::Database => &[dbname],
    };
    let wanted = passfile::Wanted {
        host: name,
        port: host.port,
        databases,
        user: &settings.user,
    };
    let found = passfile::lookup(path, &wanted);
    (found.password, found.warning.into_iter().collect())
}

/// Whether the server is what `target_session_attrs` asks for, by what it reported at the login: every supported version
/// reports both parameters, to a walsender too.
fn check_target(wire: &Wire, target: TargetAttrs) -> Result<()> {
    if target == TargetAttrs::Any {
        return Ok(());
    }
    let reported = |name: &str| match wire.parameters().get(name).map(String::as_str) {
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        _ => Err(
            Error::new(code::replication::PROTOCOL, format!("the server did not report {name}"))
                .hint("target_session_attrs needs a direct connection to PostgreSQL 14 or newer"),
        ),
    };
    let standby = reported("in_hot_standby")?;
    let read_only = standby || reported("default_transaction_read_only")?;
    let (met, is) = match target {
        TargetAttrs::Primary => (!standby, "a standby"),
        TargetAttrs::Standby => (standby, "a primary"),
        TargetAttrs::ReadWrite => (!read_only, "read-only"),
        TargetAttrs::ReadOnly => (read_only, "read-write"),
        TargetAttrs::Any | TargetAttrs::PreferStandby => (true, ""),
    };
    if met {
        return Ok(());
    }
    Err(Error::new(
        code::replication::UNREACHABLE,
        format!("the server is {is}, and target_session_attrs asks for another"),
    )
    .hint("name every server of the cluster, or change target_session_attrs")
    .retry(Retry::Later))
}

//! A deployment: whether its server answers and can be streamed from, whether somebody streams, and whether what lies in
//! the repository protects it.

use std::time::{Duration, Instant};

use hardstorage_engine::inspect::{ArchiverView, SlotView, inspect};
use hardstorage_engine::preflight::judge;
use hardstorage_engine::source::ServerIdentity;
use hardstorage_report::{DeploymentName, Error, Lsn, Result, code};
use hardstorage_repository::Repository;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::issue::{Issue, Weight};
use super::judge::{judge_server, judge_status, start};
use crate::app::App;
use crate::args::PatroniArgs;
use crate::commands::preflight::ask;
use crate::commands::status::{DeploymentStatus, one_status};

/// How long a server may take to answer everything.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longer than a stream waits with what it has, unless it was told another `--flush-interval`.
const ARRIVAL: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_secs(1);

/// What there is.
#[derive(Debug, Serialize)]
pub(super) struct DeploymentLook {
    pub(super) deployment: DeploymentName,
    pub(super) server: Option<ServerLook>,
    /// What the repository holds; none when that could not be read.
    pub(super) status: Option<DeploymentStatus>,
}

/// Its server.
#[derive(Debug, Serialize)]
pub(super) struct ServerLook {
    #[serde(flatten)]
    pub(super) identity: ServerIdentity,
    pub(super) slot: String,
    pub(super) slot_exists: bool,
    /// What only SQL tells; none where this role may not ask by SQL.
    pub(super) slot_view: Option<SlotView>,
    /// Whether its archive_command is `wal push`: then it needs no stream.
    pub(super) pushes: bool,
    /// How that fares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) archiver: Option<ArchiverView>,
    /// Why SQL was not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sql_problem: Option<String>,
    /// How far its clock is ahead of this machine's.
    pub(super) clock_ahead_ms: Option<i64>,
}

/// Looks at one.
pub(super) async fn look(
    app: &App,
    name: DeploymentName,
    given: Option<&str>,
    repository: Option<&Repository>,
    oldest: SignedDuration,
    issues: &mut Vec<Issue>,
) -> DeploymentLook {
    if let Err(error) = patroni(app, &name, issues).await {
        issues.push(Issue::of(&error, name.as_str()));
    }
    let server = match server(app, &name, given, issues).await {
        Ok(server) => server,
        Err(error) => {
            issues.push(Issue::of(&error, name.as_str()));
            None
        }
    };
    let mut status = None;
    let position = server.as_ref().map(|server| server.identity.flush_lsn);
    if let Some(repository) = repository {
        match arrived(repository, &name, server.as_ref(), position, issues).await {
            Ok(found) => {
                judge_status(&found, server.as_ref(), oldest, Timestamp::now(), issues);
                status = Some(found);
            }
            Err(error) => issues.push(Issue::of(&error, name.as_str())),
        }
    }
    DeploymentLook {
        deployment: name,
        server,
        status,
    }
}

/// Whether Patroni keeps the slot. What keeps us from asking is no more than a warning: the stream goes on without.
async fn patroni(app: &App, name: &DeploymentName, issues: &mut Vec<Issue>) -> Result<()> {
    let Some(patroni) = app.patroni(&PatroniArgs::default(), name)? else {
        return Ok(());
    };
    let (subject, slot) = (name.as_str(), app.slot(None, name)?);
    match patroni.keeps(&slot).await {
        Ok(true) => {}
        Ok(false) => issues.push(Issue::warning(
            "patroni.slot_unknown",
            subject,
            format!("Patroni does not know the slot {slot}: after a failover the new primary may lack WAL"),
            start(subject),
        )),
        Err(error) => issues.push(Issue {
            severity: Weight::Warning,
            ..Issue::of(&error, subject)
        }),
    }
    Ok(())
}

/// What the repository holds. A role for replication only cannot see whether anybody streams; that what the server has
/// written arrives can be seen all the same.
async fn arrived(
    repository: &Repository,
    name: &DeploymentName,
    server: Option<&ServerLook>,
    position: Option<Lsn>,
    issues: &mut Vec<Issue>,
) -> Result<DeploymentStatus> {
    let first = one_status(repository, name.clone(), position).await?;
    let blind = server.is_some_and(|server| server.slot_exists && server.slot_view.is_none());
    if !blind || first.wal_lag_bytes.is_none_or(|bytes| bytes == 0) {
        return Ok(first);
    }
    let deadline = Instant::now() + ARRIVAL;
    while Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
        let now = one_status(repository, name.clone(), position).await?;
        if now.durable_lsn > first.durable_lsn {
            return Ok(now);
        }
    }
    let waited = ARRIVAL.as_secs();
    let message = format!("the server has written WAL, and none of it has arrived in the repository for {waited} s");
    issues.push(Issue::error(
        "stream.not_running",
        name.as_str(),
        message,
        start(name.as_str()),
    ));
    Ok(first)
}

async fn server(
    app: &App,
    name: &DeploymentName,
    given: Option<&str>,
    issues: &mut Vec<Issue>,
) -> Result<Option<ServerLook>> {
    let subject = name.as_str();
    if given.is_none() && app.deployment(name).pg_connection.is_none() {
        issues.push(Issue::warning(
            "config.no_connection",
            subject,
            "it is not known how to reach its server, so nothing was asked there",
            format!("give --pg-connection, or set it in {}", app.config_file.display()),
        ));
        return Ok(None);
    }
    let slot = app.slot(None, name)?;
    let stream = app.source_from(given, name)?;
    // Not the stream's own name: the server counts connections by it.
    let source = stream.named("pg_hardstorage_doctor")?;
    let asked = tokio::time::timeout(PATIENCE, ask(&source, stream.application_name(), &slot));
    let (identity, facts) = asked.await.map_err(|_| {
        let waited = format!("{} has not answered within {} s", source.redacted(), PATIENCE.as_secs());
        Error::new(code::replication::UNREACHABLE, waited)
    })??;
    issues.extend(
        judge(&facts)
            .into_iter()
            .filter_map(|finding| Issue::of_finding(finding, subject)),
    );
    // Many roles are let in for replication only.
    let (mut view, sql_problem) = match inspect(&source, &slot).await {
        Ok(view) => (Some(view), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let server = ServerLook {
        identity,
        slot_exists: facts.slot_exists,
        pushes: facts.pushes(),
        archiver: view
            .as_mut()
            .and_then(|view| view.archiver.take())
            .filter(|_| facts.pushes()),
        sql_problem,
        clock_ahead_ms: view
            .as_ref()
            .map(|view| i64::try_from(view.clock_ahead.as_millis()).unwrap_or(i64::MAX)),
        slot_view: view.and_then(|view| view.slot),
        slot,
    };
    judge_server(&server, subject, issues);
    Ok(Some(server))
}

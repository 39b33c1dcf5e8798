//! `doctor`: is anything wrong? It looks at this machine, asks every repository and every server, and says of each thing
//! that is wrong what to do. It changes nothing, and what keeps it from looking somewhere is one of the issues.

mod deployment;
mod issue;
mod judge;
mod machine;
mod repository;

use std::collections::{BTreeMap, BTreeSet};

use hardstorage_report::{ByteSize, DeploymentName, Result};
use hardstorage_repository::Repository;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use self::deployment::DeploymentLook;
use self::issue::Issue;
use self::machine::{Keys, Place};
use self::repository::RepositoryLook;
use super::columns::{age, dash};
use crate::app::App;
use crate::args::DoctorArgs;
use crate::printer::Report;

/// The exit code of `--exit-on-issues`.
const ISSUES: u8 = 10;

/// Everything that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct DoctorResult {
    /// Whose directories are used: a user's, or the service's.
    mode: &'static str,
    paths: Vec<Place>,
    /// Whether there is a configuration.
    configured: bool,
    keyring: Keys,
    repositories: Vec<RepositoryLook>,
    deployments: Vec<DeploymentLook>,
    /// Errors first.
    issues: Vec<Issue>,
    generated: Timestamp,
}

impl Report for DoctorResult {
    fn text(&self) -> String {
        let mut out = format!("Mode: {}\n\nPATHS\n", self.mode);
        let width = self
            .paths
            .iter()
            .map(|place| place.path.as_os_str().len())
            .max()
            .unwrap_or(0);
        for place in &self.paths {
            let state = place
                .mode
                .as_deref()
                .map_or("missing".to_owned(), |mode| format!("exists  {mode}"));
            out.push_str(&format!(
                "  {:<8} {:<width$}  {state}\n",
                place.name,
                place.path.display()
            ));
        }
        let status = if self.configured {
            "configured"
        } else {
            "not configured"
        };
        out.push_str(&format!("\nCONFIG\n  Status: {status}\n\nKEYSTORE\n"));
        out.push_str(&format!("  Dir:         {}\n", self.keyring.directory.display()));
        for (name, key) in [
            ("Signing key:", &self.keyring.signer_fingerprint),
            ("KEK:", &self.keyring.kek_fingerprint),
        ] {
            let shown = key.as_ref().map_or("- none".to_owned(), |key| format!("✓ {key}"));
            out.push_str(&format!("  {name:<12} {shown}\n"));
        }
        out.push_str("\nREPOS\n");
        for repository in &self.repositories {
            out.push_str(&of_repository(repository));
        }
        out.push_str("\nDEPLOYMENTS\n");
        for deployment in &self.deployments {
            out.push_str(&of_deployment(deployment, self.generated));
        }
        out.push_str("\nISSUES\n");
        if self.issues.is_empty() {
            out.push_str("✓ none\n");
        }
        for issue in &self.issues {
            out.push_str(&issue.text());
        }
        out
    }
}

fn of_repository(one: &RepositoryLook) -> String {
    let mut facts = vec![
        if one.reachable {
            "reachable"
        } else {
            "✗ not reachable"
        }
        .to_owned(),
    ];
    match (one.encrypted, one.key_fits) {
        (Some(false), _) => facts.push("not encrypted".to_owned()),
        (Some(true), Some(true)) => facts.push("encrypted, ✓ the key is at hand".to_owned()),
        (Some(true), _) => facts.push("encrypted, ✗ its key is not at hand".to_owned()),
        (None, _) => {}
    }
    facts.extend(one.free_bytes.map(|free| format!("{} free", ByteSize(free))));
    format!("  {} — {}\n", one.url, facts.join(", "))
}

fn of_deployment(one: &DeploymentLook, now: Timestamp) -> String {
    let mut out = format!("  {}\n", one.deployment);
    match &one.server {
        Some(server) => {
            let held = match &server.slot_view {
                Some(view) if view.active => "in use",
                Some(_) => "✗ nobody streams from it",
                None if server.slot_exists => {
                    "exists; whether somebody streams from it takes a role that may ask by SQL"
                }
                None if server.pushes => "none, and none is needed: archive_command is wal push",
                None => "✗ missing",
            };
            out.push_str(&format!(
                "    PostgreSQL {}, timeline {}, slot {} ({held})\n",
                server.identity.version, server.identity.timeline, server.slot
            ));
        }
        None => out.push_str("    ✗ its server was not asked, or has not answered\n"),
    }
    if let Some(status) = &one.status {
        out.push_str(&format!(
            "    {} backups, the newest {} old; {} of WAL to come\n",
            status.backup_count,
            dash(status.latest_stopped_at.map(|at| age(now, at))),
            dash(status.wal_lag_bytes.map(ByteSize)),
        ));
        if let Some(at) = status.wal_arrived_at {
            out.push_str(&format!("    the newest WAL came {} ago\n", age(now, at)));
        }
        if let Some(window) = &status.recoverable {
            out.push_str(&format!(
                "    every moment from {} to {} can be restored\n",
                window.from, window.to
            ));
        }
    }
    out
}

/// Runs it.
pub(crate) async fn run(app: &App, args: DoctorArgs) -> u8 {
    let fails = args.exit_on_issues;
    match look(app, args).await {
        Ok(result) => {
            let code = if fails && !result.issues.is_empty() { ISSUES } else { 0 };
            app.printer.result("doctor", &result);
            code
        }
        Err(error) => {
            app.printer.error("doctor", &error);
            error.exit_code()
        }
    }
}

async fn look(app: &App, args: DoctorArgs) -> Result<DoctorResult> {
    let mut issues = Vec::new();
    let configured = !app.config.deployments.is_empty();
    let keyring = machine::keys(app, &mut issues);
    let urls: BTreeSet<String> = match (&args.source.repo.repo, &args.deployment) {
        (Some(url), _) => [url.clone()].into(),
        (None, Some(name)) => app.deployment(name).repo.into_iter().collect(),
        (None, None) => app
            .config
            .deployments
            .values()
            .filter_map(|one| one.repo.clone())
            .collect(),
    };
    if urls.is_empty() {
        issues.push(Issue::warning(
            "config.no_repository",
            args.deployment.as_ref().map_or("config", DeploymentName::as_str),
            format!("no repository is known: {} names none", app.config_file.display()),
            "pg_hardstorage init sets everything up; or give --repo URL",
        ));
    }
    let mut repositories = Vec::new();
    let mut opened: BTreeMap<String, Repository> = BTreeMap::new();
    for url in urls {
        let own_key = keyring.kek_fingerprint.as_deref();
        let (found, repository) = repository::look(app, &url, own_key, &mut issues).await;
        repositories.push(found);
        opened.extend(repository.map(|repository| (url, repository)));
    }
    let mut deployments = Vec::new();
    let oldest = SignedDuration::try_from(args.max_backup_age).unwrap_or(SignedDuration::MAX);
    for (name, url) in asked_about(app, &args, &opened, &mut issues).await {
        let repository = url.and_then(|url| opened.get(&url));
        let given = args.source.pg_connection.as_deref();
        deployments.push(deployment::look(app, name, given, repository, oldest, &mut issues).await);
    }
    issues.sort_by_key(|issue| issue.severity);
    Ok(DoctorResult {
        mode: app.paths.mode(),
        paths: machine::places(app),
        configured,
        keyring,
        repositories,
        deployments,
        issues,
        generated: Timestamp::now(),
    })
}

/// Each deployment that is asked about, and its repository: the one that is named, or what is configured and what lies in
/// the repositories.
async fn asked_about(
    app: &App,
    args: &DoctorArgs,
    opened: &BTreeMap<String, Repository>,
    issues: &mut Vec<Issue>,
) -> BTreeMap<DeploymentName, Option<String>> {
    let given = args.source.repo.repo.as_ref();
    if let Some(name) = &args.deployment {
        let url = given.cloned().or_else(|| app.deployment(name).repo);
        return [(name.clone(), url)].into();
    }
    let mut there = Vec::new();
    for (url, repository) in opened {
        match repository.deployments().await {
            Ok(names) => there.push((url.as_str(), names)),
            Err(error) => issues.push(Issue::of(&error, url)),
        }
    }
    let configured = app.config.deployments.iter();
    located(
        configured.map(|(name, one)| (name.clone(), given.or(one.repo.as_ref()).cloned())),
        there,
    )
}

/// What is configured, where it says, and what is not, or says nothing of a repository, where it lies.
fn located<'a>(
    configured: impl Iterator<Item = (DeploymentName, Option<String>)>,
    there: impl IntoIterator<Item = (&'a str, Vec<DeploymentName>)>,
) -> BTreeMap<DeploymentName, Option<String>> {
    let mut all: BTreeMap<DeploymentName, Option<String>> = configured.collect();
    for (url, names) in there {
        for name in names {
            all.entry(name).or_default().get_or_insert_with(|| url.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests;

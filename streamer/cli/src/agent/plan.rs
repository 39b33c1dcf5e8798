//! The configuration as what the agent has to do. Made as a whole or not at all: one mistake and the old plan stays.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hardstorage_engine::source::{Source, slot_name};
use hardstorage_replication::{ConnInfo, Environment};
use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_schedule::named_zone;
use hardstorage_storage::Location;
use jiff::tz::TimeZone;

use super::schedule::When;
use super::task::TaskName;
use crate::config::{Config, DeploymentConfig, PatroniConfig};

/// Not 9187: beside a server, that is where its exporter for Prometheus is.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9817);
const MAX_CONCURRENT: u16 = 2;
const SPREAD: Duration = Duration::from_mins(5);

/// One deployment.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its name.
    pub(crate) name: DeploymentName,
    /// Its repository's URL.
    pub(crate) repo: String,
    /// Whether its WAL is streamed.
    pub(crate) stream: bool,
    /// When each task runs.
    pub(crate) tasks: BTreeMap<TaskName, When>,
    /// What was missed is made up so long after the beginning.
    pub(crate) spread: Duration,
    connection: String,
    slot: Option<String>,
    patroni: Option<PatroniConfig>,
}

impl Target {
    /// Whether a stream that was started for this one is right for the other one.
    pub(crate) fn streams_as(&self, other: &Target) -> bool {
        let of = |target: &Target| {
            (
                target.stream,
                target.repo.clone(),
                target.connection.clone(),
                target.slot.clone(),
                target.patroni.clone(),
            )
        };
        of(self) == of(other)
    }

    /// The command of a task.
    pub(crate) fn words(&self, task: TaskName) -> Vec<String> {
        (task.task().words)(&self.name, &self.repo)
    }
}

/// Everything that the configuration says.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What is looked after.
    pub(crate) targets: BTreeMap<DeploymentName, Target>,
    /// Where metrics and status are served.
    pub(crate) listen: SocketAddr,
    /// So many backups at once, and so many other tasks.
    pub(crate) max_concurrent: usize,
    /// When each task is taken for hung.
    pub(crate) limits: BTreeMap<TaskName, Duration>,
}

impl Plan {
    /// Reads it; `file` is for messages.
    pub(crate) fn new(config: &Config, file: &Path) -> Result<Plan> {
        let bad = |what: String| Error::new(code::cli::CONFIG, format!("{}: {what}", file.display()));
        if config.deployments.is_empty() {
            return Err(bad("there is no deployment to look after".to_owned())
                .hint("`pg_hardstorage init` adds one; each needs pg_connection and repo"));
        }
        let agent = &config.agent;
        let spread = agent.spread.map_or(SPREAD, |span| span.0);
        let mut targets = BTreeMap::new();
        for (name, entry) in &config.deployments {
            let target = target(config, name, entry, spread).map_err(|error| {
                // What is wrong with a connection or a URL has a code of its own; where it stands is said all the same.
                error.context(format!("{}: {name}", file.display()))
            })?;
            targets.insert(name.clone(), target);
        }
        Ok(Plan {
            targets,
            listen: agent.listen.unwrap_or(LISTEN),
            max_concurrent: usize::from(agent.max_concurrent.map_or(MAX_CONCURRENT, u16::from)),
            limits: TaskName::all()
                .map(|name| (name, agent.limits.get(&name).map_or(name.task().limit, |span| span.0)))
                .collect(),
        })
    }
}

fn target(config: &Config, name: &DeploymentName, entry: &DeploymentConfig, spread: Duration) -> Result<Target> {
    let bad = |what: String| Error::new(code::cli::CONFIG, what);
    let missing = |what: &str| bad(format!("{what} is missing")).hint(format!("set {what} of {name}"));
    let connection = entry.pg_connection.as_deref().ok_or_else(|| missing("pg_connection"))?;
    let repo = entry.repo.as_deref().ok_or_else(|| missing("repo"))?;
    // A mistake is found now and not in the night.
    Location::parse(repo)?;
    Source::new(
        ConnInfo::parse(connection)?,
        Environment::of_process(),
        &slot_name(name),
    )?;
    entry.patroni.clone().unwrap_or_default().patroni()?;
    let zone = match entry.timezone.as_ref().or(config.timezone.as_ref()) {
        Some(zone) => named_zone(zone).map_err(bad)?,
        None => TimeZone::system(),
    };
    let mut tasks = BTreeMap::new();
    for task in TaskName::all() {
        let words = entry.schedule.get(&task).or_else(|| config.schedule.get(&task));
        let words = words.map_or(task.task().default, String::as_str);
        let when = When::read(words, zone.clone(), name.as_str())
            .map_err(|problem| bad(format!("schedule of {}: {problem}", task.as_str())))?;
        if task.task().makes_backups && matches!(when, When::AfterBackup) {
            return Err(bad("a backup cannot follow a backup".to_owned()));
        }
        tasks.insert(task, when);
    }
    let seconds = hardstorage_schedule::spread(name.as_str(), spread.as_secs());
    Ok(Target {
        name: name.clone(),
        stream: entry.stream.unwrap_or(true),
        tasks,
        spread: Duration::from_secs(seconds),
        repo: repo.to_owned(),
        connection: connection.to_owned(),
        slot: entry.slot.clone(),
        patroni: entry.patroni.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Plan> {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x.yaml");
        std::fs::write(&file, text).unwrap();
        Plan::new(&Config::load(&file, true)?, Path::new("x.yaml"))
    }

    const DB1: &str = "deployments: {db1: {pg_connection: 'host=h user=u', repo: 'file:///r'";

    fn shown(plan: &Plan, name: &str) -> Vec<String> {
        let target = &plan.targets[&name.parse::<DeploymentName>().unwrap()];
        target.tasks.values().map(When::shown).collect()
    }

    #[test]
    fn what_is_not_said_has_a_default_and_what_is_said_nearer_wins() {
        let quiet = plan(&format!("{DB1}}}}}")).unwrap();
        let words = shown(&quiet, "db1");
        assert!(
            words[0].starts_with("@nightly (") && words[2].starts_with("@weekly-random ("),
            "{words:?}"
        );
        assert_eq!((words[1].as_str(), words[4].as_str()), ("after-backup", "off"));
        assert!(words[3].starts_with("@daily-random ("), "{words:?}");
        assert_eq!((quiet.listen, quiet.max_concurrent), (LISTEN, 2));
        let text = format!(
            "schedule: {{backup: 0 3 * * *, check: off, scrub: off}}\n{DB1}, schedule: {{backup: 0 4 * * *, verify: '@monthly'}}}}, \
             db2: {{pg_connection: 'host=h user=u', repo: 'file:///r', stream: false}}}}"
        );
        let plan = plan(&text).unwrap();
        assert_eq!(
            shown(&plan, "db1"),
            ["0 4 * * *", "after-backup", "off", "off", "@monthly (0 0 1 * *)"]
        );
        assert_eq!(shown(&plan, "db2"), ["0 3 * * *", "after-backup", "off", "off", "off"]);
        let [db1, db2] = ["db1", "db2"].map(|name| &plan.targets[&name.parse::<DeploymentName>().unwrap()]);
        assert!(db1.stream && !db2.stream && !db1.streams_as(db2) && db1.streams_as(db1));
        let named = format!("{DB1}, patroni: {{urls: ['http://h:8008']}}}}}}");
        let named = self::plan(&named).unwrap();
        assert!(!named.targets[&db1.name].streams_as(db1));
    }

    #[test]
    fn one_mistake_refuses_the_whole() {
        for (text, wanted) in [
            ("", "no deployment"),
            ("deployments: {db1: {repo: 'file:///r'}}", "pg_connection is missing"),
            (
                "deployments: {db1: {pg_connection: 'host=h user=u'}}",
                "repo is missing",
            ),
            (
                &format!("{DB1}, schedule: {{backup: after-backup}}}}}}"),
                "cannot follow",
            ),
            (
                &format!("{DB1}, schedule: {{backup: sometimes}}}}}}"),
                "schedule of backup",
            ),
            (&format!("{DB1}, timezone: Mars/Olympus}}}}"), "Mars/Olympus"),
            (
                "deployments: {db1: {pg_connection: 'host=h port=x', repo: 'file:///r'}}",
                "db1",
            ),
            (
                &format!("{DB1}, patroni: {{urls: ['10.0.0.1:8008']}}}}}}"),
                "URL of Patroni",
            ),
            (
                "deployments: {db1: {pg_connection: 'host=h user=u', repo: 'nfs://r'}}",
                "db1",
            ),
        ] {
            let error = plan(text).expect_err(text);
            assert_eq!(error.exit_code(), 2, "{text}: {error}");
            assert!(error.to_string().contains(wanted), "{text}: {error}");
        }
    }
}

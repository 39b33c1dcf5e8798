//! `pg_hardstorage.yaml` and its drop-ins. An unknown field is an error: a misspelt retention is a lost backup.
//!
//! Flags win over drop-ins, later drop-ins over earlier ones, drop-ins over the file. Never holds a password: `init`
//! moves one into a passfile.

mod patroni;
mod schedule;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hardstorage_engine::retention::GfsPolicy;
use hardstorage_report::{DeploymentName, Error, Result, code};
use serde::{Deserialize, Serialize};

pub(crate) use self::patroni::PatroniConfig;
pub(crate) use self::schedule::AgentConfig;
use self::schedule::Span;
use crate::agent::TaskName;

/// The schema that this program reads and writes.
pub(crate) const SCHEMA: &str = "pg_hardstorage.config.v1";

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Always [`SCHEMA`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<String>,
    /// The keyring's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keyring: Option<PathBuf>,
    /// The time zone of the schedules; the machine's own when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timezone: Option<String>,
    /// When the agent runs what, for every deployment that says nothing else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) schedule: BTreeMap<TaskName, String>,
    /// How the agent works.
    #[serde(default, skip_serializing_if = "AgentConfig::is_default")]
    pub(crate) agent: AgentConfig,
    /// What is protected, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) deployments: BTreeMap<DeploymentName, DeploymentConfig>,
}

/// One deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeploymentConfig {
    /// How to reach PostgreSQL, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pg_connection: Option<String>,
    /// The repository's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repo: Option<String>,
    /// The replication slot; `pg_hardstorage_<deployment>` when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slot: Option<String>,
    /// Patroni, where it looks after the servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) patroni: Option<PatroniConfig>,
    /// Which backups stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention: Option<RetentionConfig>,
    /// Whether the agent streams its WAL; it does when not told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<bool>,
    /// The time zone of its schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timezone: Option<String>,
    /// When the agent runs what.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) schedule: BTreeMap<TaskName, String>,
}

/// Which backups stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionConfig {
    /// Always `gfs`.
    #[serde(default)]
    pub(crate) policy: Policy,
    /// The newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_last: Option<u32>,
    /// Days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_daily: Option<u32>,
    /// Weeks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_weekly: Option<u32>,
    /// Months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_monthly: Option<u32>,
    /// Years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_yearly: Option<u32>,
    /// Continuous WAL of the last so long; from the oldest backup on when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_wal: Option<Span>,
}

/// The kinds of policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    /// Grandfather, father, son.
    #[default]
    Gfs,
}

impl RetentionConfig {
    /// The defaults, spelt out for the person who reads the file.
    pub(crate) fn written_out() -> RetentionConfig {
        let default = GfsPolicy::default();
        RetentionConfig {
            policy: Policy::Gfs,
            keep_last: None,
            keep_daily: Some(default.keep_daily),
            keep_weekly: Some(default.keep_weekly),
            keep_monthly: Some(default.keep_monthly),
            keep_yearly: Some(default.keep_yearly),
            keep_wal: None,
        }
    }

    /// The policy with its defaults filled in.
    pub(crate) fn gfs(&self) -> GfsPolicy {
        let default = GfsPolicy::default();
        GfsPolicy {
            keep_last: self.keep_last.unwrap_or(default.keep_last),
            keep_daily: self.keep_daily.unwrap_or(default.keep_daily),
            keep_weekly: self.keep_weekly.unwrap_or(default.keep_weekly),
            keep_monthly: self.keep_monthly.unwrap_or(default.keep_monthly),
            keep_yearly: self.keep_yearly.unwrap_or(default.keep_yearly),
        }
    }
}

fn parse(text: &str, path: &Path) -> Result<Config> {
    let bad = |what: String| Error::new(code::cli::CONFIG, format!("{}: {what}", path.display()));
    let config: Config = if text.trim().is_empty() {
        Config::default()
    } else {
        // Where and what, on one line: the lines around it may hold a password that somebody wrote there.
        serde_saphyr::from_str(text).map_err(|error| bad(error.without_snippet().to_string()))?
    };
    match config.schema.as_deref() {
        None | Some(SCHEMA) => Ok(config),
        Some(other) => Err(bad(format!("the schema is {other:?}, this program reads {SCHEMA:?}"))),
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(code::cli::CONFIG, format!("read {}", path.display())).source(error)),
    }
}

fn merge(base: &mut Config, over: Config) {
    fn take<T>(base: &mut Option<T>, over: Option<T>) {
        if over.is_some() {
            *base = over;
        }
    }
    // Destructured, so that a new field cannot be forgotten here.
    let Config {
        schema,
        keyring,
        timezone,
        schedule,
        agent,
        deployments,
    } = over;
    take(&mut base.schema, schema);
    take(&mut base.keyring, keyring);
    take(&mut base.timezone, timezone);
    base.schedule.extend(schedule);
    base.agent.merge(agent);
    for (
        name,
        DeploymentConfig {
            pg_connection,
            repo,
            slot,
            patroni,
            retention,
            stream,
            timezone,
            schedule,
        },
    ) in deployments
    {
        let entry = base.deployments.entry(name).or_default();
        take(&mut entry.pg_connection, pg_connection);
        take(&mut entry.repo, repo);
        take(&mut entry.slot, slot);
        take(&mut entry.patroni, patroni);
        take(&mut entry.retention, retention);
        take(&mut entry.stream, stream);
        take(&mut entry.timezone, timezone);
        entry.schedule.extend(schedule);
    }
}

impl Config {
    /// Reads the file and `conf.d/*.yaml` beside it. A file that was named must exist; the default one may not.
    pub(crate) fn load(file: &Path, must_exist: bool) -> Result<Config> {
        let mut config = match read(file)? {
            Some(text) => parse(&text, file)?,
            None if must_exist => {
                return Err(Error::new(
                    code::cli::CONFIG,
                    format!("{} does not exist", file.display()),
                )
                .hint("correct the path that --config or PG_HARDSTORAGE_CONFIG names, or make the file with `pg_hardstorage init`"));
            }
            None => Config::default(),
        };
        for path in drop_ins(file)? {
            if let Some(text) = read(&path)? {
                merge(&mut config, parse(&text, &path)?);
            }
        }
        Ok(config)
    }

    /// Adds or changes one deployment in the file, and nothing else of it. The file is replaced in one step.
    pub(crate) fn save_deployment(file: &Path, name: &DeploymentName, entry: DeploymentConfig) -> Result<()> {
        let mut config = match read(file)? {
            Some(text) => parse(&text, file)?,
            None => Config::default(),
        };
        let mut over = Config::default();
        over.deployments.insert(name.clone(), entry);
        merge(&mut config, over);
        config.save(file)
    }

    /// Writes the file anew, in one step.
    pub(crate) fn save(mut self, file: &Path) -> Result<()> {
        self.schema = Some(SCHEMA.to_owned());
        let text = serde_saphyr::to_string(&self)
            .map_err(|error| Error::new(code::cli::INTERNAL, "write the configuration").source(error))?;
        replace_file(file, text.as_bytes())
            .map_err(|error| Error::new(code::cli::IO, format!("write {}", file.display())).source(error))
    }
}

fn drop_ins(file: &Path) -> Result<Vec<PathBuf>> {
    let folder = file.with_file_name("conf.d");
    let failed = |error| Error::new(code::cli::CONFIG, format!("read {}", folder.display())).source(error);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a private file so that a reader sees the old or the new one, and a power cut leaves one of them.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    private_folder(folder)?;
    let temporary = folder.join(format!(".pg_hardstorage.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(folder)?.sync_all()
}

/// Creates a folder that only its owner can enter; one that exists is left as it is.
pub(crate) fn private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests;

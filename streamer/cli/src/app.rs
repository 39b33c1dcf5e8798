//! What every command starts from: configuration, keys, repository and source, resolved once.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hardstorage_engine::patroni::Patroni;
use hardstorage_engine::source::Source;
use hardstorage_replication::{ConnInfo, Environment};
use hardstorage_report::{DeploymentName, Error, Event, EventSink, Result, Severity, code};
use hardstorage_repository::{Access, Deployment, KeyFiles, Keyring, Mode, Repository};
use hardstorage_storage::{Credentials, DynStore, OpenOptions};
use jiff::tz::TimeZone;

use crate::args::{GlobalArgs, PatroniArgs, RepoArg, SourceArgs};
use crate::config::{Config, DeploymentConfig};
use crate::paths::Paths;
use crate::printer::Printer;
use crate::signals::Stop;

/// One invocation.
pub(crate) struct App {
    /// Prints.
    pub(crate) printer: Arc<Printer>,
    /// Where files lie.
    pub(crate) paths: Paths,
    /// The configuration file in use.
    pub(crate) config_file: PathBuf,
    /// What it says.
    pub(crate) config: Config,
    keyring_given: Option<PathBuf>,
    keyring_dir: PathBuf,
    credentials_dir: Option<PathBuf>,
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A path that stays true when the working directory and HOME are others.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::new(code::cli::IO, format!("resolve {}", path.display())).source(error))
}

fn keyring_dir(given: Option<&Path>, config: &Config, paths: &Paths) -> Result<PathBuf> {
    match (given, config.keyring.as_deref()) {
        (Some(dir), _) | (None, Some(dir)) => absolute(dir),
        (None, None) => Ok(paths.keyring(&env)),
    }
}

impl App {
    /// Reads the configuration. The printer comes back with an error, so that it is printed as was asked.
    pub(crate) fn new(global: &GlobalArgs) -> Result<App, (Arc<Printer>, Error)> {
        let printer = Arc::new(Printer::new(
            global.output,
            global.quiet,
            global.verbose,
            TimeZone::system(),
        ));
        App::with(global, printer.clone()).map_err(|error| (printer, error))
    }

    fn with(global: &GlobalArgs, printer: Arc<Printer>) -> Result<App> {
        let paths = Paths::from_env(&env, Paths::is_service(rustix::process::geteuid()));
        let config_file = absolute(&global.config.clone().unwrap_or_else(|| paths.config_file()))?;
        let config = Config::load(&config_file, global.config.is_some())?;
        let keyring_dir = keyring_dir(global.keyring.as_deref(), &config, &paths)?;
        let credentials_dir = global.credentials_dir.as_deref().map(absolute).transpose()?;
        Ok(App {
            printer,
            paths,
            config_file,
            config,
            keyring_given: global.keyring.clone(),
            keyring_dir,
            credentials_dir,
        })
    }

    /// The signals of this process.
    pub(crate) fn stop() -> Result<Stop> {
        Stop::on_signals().map_err(|error| Error::new(code::cli::INTERNAL, "follow signals").source(error))
    }

    /// What the configuration says of a deployment.
    pub(crate) fn deployment(&self, name: &DeploymentName) -> DeploymentConfig {
        self.config.deployments.get(name).cloned().unwrap_or_default()
    }

    /// How far back continuous WAL is kept, when the configuration says so.
    pub(crate) fn keep_wal(&self, name: &DeploymentName) -> Option<Duration> {
        Some(self.deployment(name).retention?.keep_wal?.0)
    }

    /// The repository's URL: the flag, else the deployment's, else the only one that is configured.
    pub(crate) fn repo_url(&self, arg: &RepoArg, deployment: Option<&DeploymentName>) -> Result<String> {
        if let Some(url) = &arg.repo {
            return Ok(url.clone());
        }
        if let Some(url) = deployment.and_then(|name| self.deployment(name).repo) {
            return Ok(url);
        }
        let mut urls: Vec<&String> = self
            .config
            .deployments
            .values()
            .filter_map(|entry| entry.repo.as_ref())
            .collect();
        urls.sort();
        urls.dedup();
        match (deployment, urls.as_slice()) {
            (None, [url]) => Ok((*url).clone()),
            (Some(name), _) => {
                let known: Vec<&str> = self.config.deployments.keys().map(DeploymentName::as_str).collect();
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                Err(
                    Error::new(code::usage::INVALID, format!("no repository is known for {name}")).hint(format!(
                        "give --repo URL; configured in {}: {known}",
                        self.config_file.display()
                    )),
                )
            }
            (None, _) => Err(
                Error::new(code::usage::INVALID, "it is not clear which repository is meant").hint("give --repo URL"),
            ),
        }
    }

    /// Opens a store.
    pub(crate) async fn store(&self, url: &str, create: bool, read_only: bool) -> Result<DynStore> {
        let options = OpenOptions {
            create,
            read_only,
            ..self.store_options(url)
        };
        hardstorage_storage::open(url, &options).await
    }

    /// Opens a store for one who has time.
    pub(crate) async fn slow_store(
        &self,
        url: &str,
        max_rate: Option<NonZeroU64>,
        read_only: bool,
    ) -> Result<DynStore> {
        let options = OpenOptions {
            max_rate,
            read_only,
            ..self.store_options(url)
        };
        hardstorage_storage::open(url, &options).await
    }

    fn store_options(&self, url: &str) -> OpenOptions {
        let credentials = match &self.credentials_dir {
            Some(dir) if url.starts_with("s3:") && dir.join("access-key-id").exists() => {
                Credentials::Directory(dir.clone())
            }
            _ => Credentials::Chain,
        };
        OpenOptions {
            credentials,
            ..OpenOptions::default()
        }
    }

    /// Opens a repository to read or to write.
    pub(crate) async fn repository(&self, url: &str, mode: Mode) -> Result<Repository> {
        let store = self.store(url, false, false).await?;
        Repository::open(store, Access::new(self.keyring().kek()?, mode)).await
    }

    /// The same for who opens this deployment right after: its key comes with the answers that open the repository.
    pub(crate) async fn repository_of(&self, url: &str, mode: Mode, name: &DeploymentName) -> Result<Repository> {
        let store = self.store(url, false, false).await?;
        let mut access = Access::new(self.keyring().kek()?, mode);
        access.deployment = Some(name.clone());
        Repository::open(store, access).await
    }

    /// Opens a deployment that is in its repository, to read.
    pub(crate) async fn existing(&self, repo: &RepoArg, name: &DeploymentName) -> Result<Deployment> {
        let url = self.repo_url(repo, Some(name))?;
        let repository = self.repository_of(&url, Mode::Read, name).await?;
        repository.deployment(name).await
    }

    /// The keys of this user or service.
    pub(crate) fn keyring(&self) -> Keyring {
        match &self.credentials_dir {
            Some(dir) => Keyring::from_files(KeyFiles {
                kek: Some(dir.join("kek")),
                signing: Some(dir.join("signing-key")),
            }),
            None => Keyring::open(self.keyring_dir.clone()),
        }
    }

    /// The keyring's directory, for messages and for the restore_command.
    pub(crate) fn keyring_dir(&self) -> &Path {
        &self.keyring_dir
    }

    /// The same for a configuration that was read later.
    pub(crate) fn keyring_of(&self, config: &Config) -> Result<PathBuf> {
        keyring_dir(self.keyring_given.as_deref(), config, &self.paths)
    }

    /// The directory with single credentials, when one was given.
    pub(crate) fn credentials_dir(&self) -> Option<&Path> {
        self.credentials_dir.as_deref()
    }

    /// The server of a deployment.
    pub(crate) fn source(&self, arg: &SourceArgs, deployment: &DeploymentName) -> Result<Source> {
        self.source_from(arg.pg_connection.as_deref(), deployment)
    }

    /// The server from a connection string or the configuration.
    pub(crate) fn source_from(&self, given: Option<&str>, deployment: &DeploymentName) -> Result<Source> {
        let configured = self.deployment(deployment).pg_connection;
        let text = given.map(str::to_owned).or(configured).ok_or_else(|| {
            Error::new(
                code::usage::CONNINFO,
                format!("it is not known how to reach the server of {deployment}"),
            )
            .hint(format!(
                "give --pg-connection, or set it in {}",
                self.config_file.display()
            ))
        })?;
        let conninfo = ConnInfo::parse(&text)?;
        let environment = Environment::of_process();
        let slot = hardstorage_engine::source::slot_name(deployment);
        match &self.credentials_dir {
            Some(dir) => Source::with_credentials(conninfo, environment, &slot, dir.clone()),
            None => Source::new(conninfo, environment, &slot),
        }
    }

    /// The slot of a deployment: the flag, else the configuration, else the name's own.
    pub(crate) fn slot(&self, given: Option<&str>, deployment: &DeploymentName) -> Result<String> {
        let slot = given
            .map(str::to_owned)
            .or_else(|| self.deployment(deployment).slot)
            .unwrap_or_else(|| hardstorage_engine::source::slot_name(deployment));
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if slot.is_empty() || slot.len() > 63 || !slot.bytes().all(fits) {
            return Err(Error::new(
                code::usage::INVALID,
                format!("{slot:?} is not the name of a replication slot"),
            )
            .hint("a slot's name holds lower-case letters, digits and underscores, at most 63"));
        }
        Ok(slot)
    }

    /// Patroni of a deployment: what the flags say, else the configuration.
    pub(crate) fn patroni(&self, given: &PatroniArgs, deployment: &DeploymentName) -> Result<Option<Patroni>> {
        let known = self.deployment(deployment).patroni.unwrap_or_default();
        known.under(given).patroni()
    }

    /// Tells something.
    pub(crate) fn tell(&self, severity: Severity, name: &str, body: serde_json::Value) {
        self.printer.emit(Event::new(severity, name).body(body));
    }
}

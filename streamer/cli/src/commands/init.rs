//! `init`: from nothing to a protected server in one command.

use std::io::{IsTerminal, Write};

use hardstorage_engine::backup::BackupResult;
use hardstorage_engine::source::identify;
use hardstorage_replication::ConnInfo;
use hardstorage_report::{ByteSize, DeploymentName, Error, Result, Severity, SystemId, Timeline, code};
use hardstorage_repository::{InitOptions, Mode, Probe, RepoConfig, Repository, Surroundings};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

use super::run::{Running, reported, zero};
use crate::app::App;
use crate::args::{CheckpointArg, InitArgs, RunArgs, SourceArgs, TakeArgs};
use crate::config::{Config, DeploymentConfig, RetentionConfig, private_folder};
use crate::printer::Report;

/// What was set up.
#[derive(Debug, Serialize)]
pub(crate) struct InitResult {
    deployment: DeploymentName,
    pg_version: String,
    system_id: SystemId,
    timeline: Timeline,
    repo_url: String,
    repo_id: String,
    repo_created: bool,
    config_path: PathBuf,
    keyring_path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    passfile_path: Option<PathBuf>,
    encryption_enabled: bool,
    kek_generated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_backup: Option<BackupResult>,
}

impl Report for InitResult {
    fn text(&self) -> String {
        let mut out = format!(
            "✓ pg_hardstorage initialized\n\
             Deployment:  {}\n\
             PostgreSQL:  {}\n\
             Cluster ID:  {}\n\
             Timeline:    {}\n\
             Repository:  {}{}\n\
             Config:      {}\n\
             Keyring:     {}\n",
            self.deployment,
            self.pg_version,
            self.system_id,
            self.timeline,
            self.repo_url,
            if self.repo_created { "" } else { " (was there before)" },
            self.config_path.display(),
            self.keyring_path.display(),
        );
        let kek = self.keyring_path.join("kek.bin");
        out.push_str(&match (self.encryption_enabled, self.kek_generated) {
            (false, _) => "Encryption:  none\n".to_owned(),
            (true, true) => format!("Encryption:  AES-256-GCM (KEK generated at {})\n", kek.display()),
            (true, false) => "Encryption:  AES-256-GCM\n".to_owned(),
        });
        if let Some(backup) = &self.first_backup {
            out.push_str(&format!(
                "First backup: {}\n  logical:  {}\n  stored:   {}\n  duration: {:.1} s\n",
                backup.backup_id,
                ByteSize(backup.logical_bytes),
                ByteSize(backup.stored_bytes),
                backup.duration_ms as f64 / 1000.0,
            ));
        }
        if self.encryption_enabled {
            out.push_str("\n! Copy the key elsewhere, or nothing can be restored: pg_hardstorage keyring export DIR\n");
        }
        out.push_str(&format!(
            "\nNext steps:\n  1. Look after it, always:     pg_hardstorage agent\n     or only stream its WAL:    pg_hardstorage wal stream {0}\n  2. See that it is protected:  pg_hardstorage status {0}\n",
            self.deployment
        ));
        out
    }
}

/// Runs it.
pub(crate) async fn run(app: &App, args: InitArgs) -> u8 {
    reported(
        app,
        "init",
        &RunArgs::default(),
        |running| init(app, args, running),
        zero,
    )
    .await
}

async fn init(app: &App, args: InitArgs, running: Running) -> Result<InitResult> {
    let name = args.deployment.clone();
    let url = app.repo_url(&args.source.repo, Some(&name))?;
    app.tell(Severity::Info, "init.probe.starting", json!({"deployment": name}));
    let source = app.source(&args.source, &name)?;
    let mut connection = source.connect().await?;
    let server = identify(&mut connection).await?;
    connection.close().await;
    app.tell(
        Severity::Notice,
        "init.probe.ok",
        json!({
            "pg_version": server.version,
            "system_id": server.system_id,
            "timeline": server.timeline,
        }),
    );
    confirm(&args, &name, &url)?;
    let (repository, repo_created, kek_generated) = repository(app, &url, args.no_encryption).await?;
    let repo_id = hex::encode(repository.descriptor().repository_id);
    app.tell(
        Severity::Notice,
        "init.repo.ready",
        json!({"repo_id": repo_id, "url": url}),
    );
    let encryption_enabled = repository.kek_fingerprint().is_some();
    if encryption_enabled {
        app.tell(
            Severity::Notice,
            "init.kek.ready",
            json!({
                "generated": kek_generated,
                "path": app.keyring().kek_path(),
            }),
        );
    }
    let passfile_path = save(app, &args, &name, &url)?;
    app.tell(
        Severity::Notice,
        "init.config.written",
        json!({"deployment": name, "path": app.config_file}),
    );
    let first_backup = if args.skip_backup {
        None
    } else {
        app.tell(Severity::Info, "init.backup.starting", json!({"deployment": name}));
        let take = TakeArgs::plain(name.clone(), args.source.clone());
        let backup = super::backup_take::take(app, &repository, &name, source, &take, running).await?;
        app.tell(
            Severity::Notice,
            "init.backup.ok",
            json!({
                "backup_id": backup.backup_id,
                "duration_ms": backup.duration_ms,
            }),
        );
        Some(backup)
    };
    Ok(InitResult {
        deployment: name,
        pg_version: server.version,
        system_id: server.system_id,
        timeline: server.timeline,
        repo_url: url,
        repo_id,
        repo_created,
        config_path: app.config_file.clone(),
        keyring_path: app.keyring_dir().to_owned(),
        passfile_path,
        encryption_enabled,
        kek_generated,
        first_backup,
    })
}

fn confirm(args: &InitArgs, name: &DeploymentName, url: &str) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(code::usage::INVALID, "there is nobody to ask").hint("use --yes in scripts"));
    }
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "Protect {name} with the repository {url}? [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| std::io::stdin().read_line(&mut answer));
    match read {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) => Err(Error::new(code::cli::INTERRUPTED, "nothing was changed")),
        Err(error) => Err(Error::new(code::cli::IO, "ask").source(error)),
    }
}

/// Opens the repository, or makes it. A key is made only for a repository that is made now.
async fn repository(app: &App, url: &str, no_encryption: bool) -> Result<(Repository, bool, bool)> {
    let store = app.store(url, true, false).await?;
    if !matches!(Repository::probe(&store).await?, Probe::Absent) {
        return Ok((app.repository(url, Mode::Write).await?, false, false));
    }
    let keyring = app.keyring();
    let (kek, generated) = match (no_encryption, keyring.kek()?) {
        (true, _) => (None, false),
        (false, Some(kek)) => (Some(kek), false),
        (false, None) => (Some(keyring.create_kek(&Surroundings::default())?), true),
    };
    let options = InitOptions {
        kek,
        single_writer: false,
        config: RepoConfig::default(),
        created_by: super::version_line(),
        surroundings: Surroundings::default(),
    };
    match Repository::init(store, options).await {
        Ok(repository) => Ok((repository, true, generated)),
        // Another was faster: its repository is the one.
        Err(error) if error.is(code::repository::EXISTS) => {
            Ok((app.repository(url, Mode::Write).await?, false, generated))
        }
        Err(error) => Err(error),
    }
}

/// Writes the configuration, and a password into a file of its own beside it.
fn save(app: &App, args: &InitArgs, name: &DeploymentName, url: &str) -> Result<Option<PathBuf>> {
    let folder = app
        .config_file
        .parent()
        .map_or_else(|| app.paths.config.clone(), PathBuf::from);
    private_folder(&folder)
        .map_err(|error| Error::new(code::cli::IO, format!("make {}", folder.display())).source(error))?;
    let mut passfile = None;
    let pg_connection = match &args.source.pg_connection {
        Some(text) => {
            let mut conninfo = ConnInfo::parse(text)?;
            if let Some(password) = conninfo.take_password() {
                let path = folder.join(format!("{name}.pgpass"));
                // Every host of the connection: the file is this deployment's alone.
                let mut line = b"*:*:*:*:".to_vec();
                for byte in password.expose() {
                    if matches!(byte, b':' | b'\\') {
                        line.push(b'\\');
                    }
                    line.push(*byte);
                }
                line.push(b'\n');
                crate::config::replace_file(&path, &line)
                    .map_err(|error| Error::new(code::cli::IO, format!("write {}", path.display())).source(error))?;
                conninfo = conninfo.with("passfile", &path.to_string_lossy())?;
                passfile = Some(path);
            }
            Some(conninfo.without_password())
        }
        None => None,
    };
    let entry = DeploymentConfig {
        pg_connection,
        repo: Some(url.to_owned()),
        slot: None,
        retention: Some(RetentionConfig::written_out()),
        ..DeploymentConfig::default()
    };
    Config::save_deployment(&app.config_file, name, entry)?;
    Ok(passfile)
}

impl TakeArgs {
    /// A plain backup of a deployment.
    fn plain(name: DeploymentName, source: SourceArgs) -> TakeArgs {
        TakeArgs {
            deployment: Some(name),
            source,
            label: None,
            annotations: Vec::new(),
            checkpoint: CheckpointArg::Fast,
            max_rate: None,
            jobs: None,
            allow_concurrent: false,
            accept_new_system: false,
            source_snapshot: None,
            run: RunArgs::default(),
        }
    }
}

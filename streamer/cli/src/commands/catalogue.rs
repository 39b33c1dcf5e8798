//! `status`, `list` and `show`: what there is, and whether it protects.

use std::collections::BTreeSet;

use hardstorage_engine::restore::both_zones;
use hardstorage_engine::source::{identify, slot_name};
use hardstorage_engine::wal::{frontiers, lineages};
use hardstorage_engine::window::{RecoverableWindow, recoverable_window};
use hardstorage_report::{BackupId, ByteSize, DeploymentName, Error, Lsn, Result, Timeline, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{BackupKind, CatalogEntry, Content, Deployment, Manifest, Mode, Repository};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::app::App;
use crate::args::{BackupChoice, ListArgs, ShowArgs, StatusArgs};
use crate::printer::Report;

fn dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// How long ago, in the largest unit that fits.
fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// One backup of a list.
#[derive(Debug, Serialize)]
pub(crate) struct BackupLine {
    pub(crate) backup_id: BackupId,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<BackupKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pg_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_lsn: Option<Lsn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Timeline>,
    file_count: u64,
    logical_bytes: u64,
    stored_bytes: u64,
    reuse: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    held: bool,
    deleted: bool,
    damaged: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl BackupLine {
    /// From an entry of the catalogue; nothing for a name that holds no backup.
    pub(crate) fn of(entry: &CatalogEntry) -> Option<BackupLine> {
        let (manifest, problem) = match &entry.content {
            Content::Committed(stored) => (Some(&stored.manifest), None),
            Content::Broken(error) => (None, Some(error.to_string())),
            Content::Void(_) | Content::Absent => return None,
        };
        let state = entry.state.as_ref().ok();
        let totals = manifest.map(|manifest| manifest.totals).unwrap_or_default();
        let pages = totals.new_pages + totals.reused_pages;
        Some(BackupLine {
            backup_id: entry.backup_id.clone(),
            kind: manifest.map(|manifest| manifest.kind),
            pg_version: manifest.map(|manifest| manifest.server.version.clone()),
            started_at: manifest.map(|manifest| manifest.times.started_at),
            stopped_at: manifest.map(|manifest| manifest.times.stopped_at),
            duration_ms: manifest.map(|manifest| {
                manifest
                    .times
                    .stopped_at
                    .duration_since(manifest.times.started_at)
                    .as_millis()
                    .max(0) as u64
            }),
            stop_lsn: manifest.map(|manifest| manifest.wal.stop_lsn),
            timeline: manifest.map(|manifest| manifest.wal.timeline),
            file_count: totals.files,
            logical_bytes: totals.logical_bytes,
            stored_bytes: totals.stored_bytes,
            reuse: if pages == 0 {
                0.0
            } else {
                totals.reused_pages as f64 / pages as f64
            },
            run_id: manifest.and_then(|manifest| manifest.writer.run_id.clone()),
            held: state.is_some_and(|state| state.held.is_some()),
            deleted: state.is_some_and(|state| state.deleted.is_some() || state.purged.is_some()),
            damaged: !entry.damage.is_empty() || manifest.is_some_and(|manifest| !manifest.damaged_pages.is_empty()),
            problem: problem.or_else(|| entry.state.as_ref().err().map(ToString::to_string)),
        })
    }

    /// Whether it is marked deleted, or purged.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }

    fn marks(&self) -> String {
        let marks = [
            (self.held, "held"),
            (self.deleted, "deleted"),
            (self.damaged, "damaged"),
            (self.problem.is_some(), "unreadable"),
        ];
        let set: Vec<&str> = marks.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
        set.join(",")
    }
}

/// The backups of a deployment, newest first.
#[derive(Debug, Serialize)]
pub(crate) struct ListResult {
    deployment: DeploymentName,
    count: usize,
    pub(crate) backups: Vec<BackupLine>,
}

impl Report for ListResult {
    fn text(&self) -> String {
        let mut out = format!("Backups for {} ({}):\n", self.deployment, self.count);
        let width = self
            .backups
            .iter()
            .map(|line| line.backup_id.as_str().len())
            .max()
            .unwrap_or(9)
            .max(9);
        out.push_str(&format!(
            "{:<width$}  {:<5} {:<17} {:>7} {:>10} {:>10} {:>7} {:>9}  {}\n",
            "BACKUP ID", "TYPE", "WHEN (UTC)", "FILES", "SIZE", "STORED", "REUSE", "DURATION", "STATE"
        ));
        for line in &self.backups {
            let when = line
                .stopped_at
                .map(|at| at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M").to_string());
            out.push_str(&format!(
                "{:<width$}  {:<5} {:<17} {:>7} {:>10} {:>10} {:>6.1}% {:>9}  {}\n",
                line.backup_id.as_str(),
                line.kind.map_or("-", kind_word),
                dash(when),
                line.file_count,
                ByteSize(line.logical_bytes).to_string(),
                ByteSize(line.stored_bytes).to_string(),
                line.reuse * 100.0,
                dash(line.duration_ms.map(|ms| format!("{ms}ms"))),
                line.marks(),
            ));
        }
        out
    }
}

fn kind_word(kind: BackupKind) -> &'static str {
    match kind {
        BackupKind::Full => "full",
        BackupKind::Incremental => "incr",
    }
}

/// The deployments of a repository.
#[derive(Debug, Serialize)]
pub(crate) struct DeploymentsResult {
    repo_url: String,
    deployments: Vec<DeploymentName>,
}

impl Report for DeploymentsResult {
    fn text(&self) -> String {
        let mut out = format!("Deployments in {} ({}):\n", self.repo_url, self.deployments.len());
        for name in &self.deployments {
            out.push_str(&format!("{name}\n"));
        }
        out
    }
}

/// `list DEPLOYMENT`.
pub(crate) async fn list(app: &App, args: &ListArgs, name: DeploymentName) -> Result<ListResult> {
    let deployment = open(app, &args.repo, &name).await?;
    let catalog = deployment.backups().await?;
    let lines = catalog.entries.iter().rev().filter_map(BackupLine::of);
    let backups: Vec<BackupLine> = lines.filter(|line| args.include_deleted || !line.deleted).collect();
    Ok(ListResult {
        deployment: name,
        count: backups.len(),
        backups,
    })
}

/// `list`.
pub(crate) async fn list_deployments(app: &App, args: &ListArgs) -> Result<DeploymentsResult> {
    let url = app.repo_url(&args.repo, None)?;
    let repository = app.repository(&url, Mode::Read).await?;
    Ok(DeploymentsResult {
        deployments: repository.deployments().await?,
        repo_url: url,
    })
}

/// Opens a deployment that exists.
pub(crate) async fn open(app: &App, repo: &crate::args::RepoArg, name: &DeploymentName) -> Result<Deployment> {
    let url = app.repo_url(repo, Some(name))?;
    app.repository(&url, Mode::Read).await?.deployment(name).await
}

/// A whole manifest.
#[derive(Debug, Serialize)]
pub(crate) struct ShowResult {
    #[serde(flatten)]
    manifest: Manifest,
    manifest_hash: String,
    complete: bool,
    held: Option<String>,
    deleted: Option<String>,
    #[serde(skip)]
    zone: TimeZone,
}

impl Report for ShowResult {
    fn text(&self) -> String {
        let m = &self.manifest;
        let at = |time: Timestamp| both_zones(time, &self.zone);
        let mut out = format!(
            "Backup {}\n\
             Deployment      {}\n\
             Type            {}\n\
             PostgreSQL      {}\n\
             Cluster ID      {}\n\
             Start LSN       {}\n\
             Stop LSN        {}\n\
             Timeline        {}\n\
             Started         {}\n\
             Stopped         {}\n\
             Complete        {}\n\
             Page checksums  {:?}\n\
             Tablespaces     {}\n\
             Files           {}\n\
             Logical bytes   {}\n\
             Stored          {} in {} new packs of {} needed\n\
             Pages           {} new, {} reused, {} zero\n\
             Ancestor        {}\n\
             Signature       ed25519 / fingerprint {}\n\
             Data key        {}\n\
             Manifest hash   {}\n\
             Written by      {} on {} (writer {})\n",
            m.backup_id,
            m.deployment,
            kind_word(m.kind),
            m.server.version,
            m.lineage.system_id,
            m.wal.start_lsn,
            m.wal.stop_lsn,
            m.wal.timeline,
            at(m.times.started_at),
            at(m.times.stopped_at),
            if self.complete {
                "yes: the WAL that makes it consistent is in the repository"
            } else {
                "NO: WAL is missing"
            },
            m.server.data_checksums,
            m.tablespaces.len() + 1,
            m.totals.files,
            ByteSize(m.totals.logical_bytes),
            ByteSize(m.totals.stored_bytes),
            m.totals.new_packs,
            m.totals.needed_packs,
            m.totals.new_pages,
            m.totals.reused_pages,
            m.totals.zero_pages,
            dash(m.ancestor.as_ref().map(|ancestor| &ancestor.backup_id)),
            m.signer,
            hex::encode(m.data_key_id),
            self.manifest_hash,
            m.writer.tool,
            m.writer.host,
            m.writer.id,
        );
        let optional = [
            ("Label", &m.label),
            ("Run", &m.writer.run_id),
            ("Held", &self.held),
            ("Deleted", &self.deleted),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                out.push_str(&format!("{name:<15} {value}\n"));
            }
        }
        for (key, value) in &m.annotations {
            out.push_str(&format!("Annotation      {key}={value}\n"));
        }
        for file in &m.external_files {
            let state = file.note.as_deref().unwrap_or("included");
            out.push_str(&format!("Outside PGDATA  {} ({state})\n", file.path));
        }
        for page in &m.damaged_pages {
            out.push_str(&format!(
                "DAMAGED         {} block {}: {}\n",
                page.path,
                dash(page.block),
                page.reason
            ));
        }
        out
    }
}

/// `show DEPLOYMENT BACKUP`.
pub(crate) async fn show(app: &App, args: ShowArgs) -> Result<ShowResult> {
    let deployment = open(app, &args.repo, &args.deployment).await?;
    let catalog = deployment.backups().await?;
    let missing = |what: String| Error::new(code::repository::BACKUP_MISSING, what);
    let id = match args.backup {
        BackupChoice::Id(id) => id,
        BackupChoice::Latest => {
            let latest = catalog.latest().map(|entry| entry.backup_id.clone());
            latest.ok_or_else(|| missing(format!("{} has no backup", args.deployment)))?
        }
    };
    if id.deployment() != args.deployment.as_str() {
        return Err(missing(format!(
            "{id} is a backup of {}, not of {}",
            id.deployment(),
            args.deployment
        )));
    }
    let stored = Manifest::load(&deployment, &id).await?.committed(&id)?;
    let state = catalog.get(&id).and_then(|entry| entry.state.as_ref().ok());
    let mark = |mark: &hardstorage_repository::Mark| format!("{} ({})", mark.at, mark.reason);
    let m = &stored.manifest;
    let archive = WalArchive::new(deployment.clone(), m.lineage, m.server.wal_segment_size);
    Ok(ShowResult {
        complete: archive
            .is_covered(m.wal.timeline, m.wal.start_lsn, m.wal.stop_lsn)
            .await?,
        manifest_hash: hex::encode(stored.hash),
        held: state.and_then(|state| state.held.as_ref()).map(mark),
        deleted: state.and_then(|state| state.deleted.as_ref()).map(mark),
        manifest: stored.manifest,
        zone: app.printer.zone().clone(),
    })
}

/// One deployment of the status.
#[derive(Debug, Serialize)]
struct DeploymentStatus {
    deployment: DeploymentName,
    backup_count: usize,
    healthy: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    latest_backup_id: Option<BackupId>,
    latest_stopped_at: Option<Timestamp>,
    latest_stop_lsn: Option<Lsn>,
    timeline: Option<Timeline>,
    /// End of the durable WAL.
    durable_lsn: Option<Lsn>,
    /// Bytes of the server's WAL that are not durable yet; unknown without a connection.
    wal_lag_bytes: Option<u64>,
    recoverable: Option<RecoverableWindow>,
    /// Seconds from the latest recoverable moment to now: what a loss of the server would cost.
    rpo_seconds: Option<i64>,
    gaps: usize,
    held: usize,
    deleted: usize,
}

/// Every deployment.
#[derive(Debug, Serialize)]
pub(crate) struct StatusResult {
    repo_url: String,
    deployments: Vec<DeploymentStatus>,
    /// Whether the key was ever copied elsewhere; unknown without encryption.
    key_exported: Option<bool>,
    generated: Timestamp,
    #[serde(skip)]
    zone: TimeZone,
}

impl Report for StatusResult {
    fn text(&self) -> String {
        let mut out = format!(
            "{:<20} {:>7} {:<6} {:<44} {:>4} {:>12} {:>4} {:>9} {:>8}\n",
            "DEPLOYMENT", "BACKUPS", "HEALTH", "LATEST", "AGE", "STOP LSN", "TLI", "WAL LAG", "RPO"
        );
        for line in &self.deployments {
            out.push_str(&format!(
                "{:<20} {:>7} {:<6} {:<44} {:>4} {:>12} {:>4} {:>9} {:>8}\n",
                line.deployment.as_str(),
                line.backup_count,
                if line.healthy { "✓" } else { "✗" },
                dash(line.latest_backup_id.as_ref()),
                dash(line.latest_stopped_at.map(|at| age(self.generated, at))),
                dash(line.latest_stop_lsn),
                dash(line.timeline),
                dash(line.wal_lag_bytes.map(ByteSize)),
                dash(line.rpo_seconds.map(|seconds| format!("{seconds}s"))),
            ));
        }
        for line in &self.deployments {
            if let Some(window) = &line.recoverable {
                out.push_str(&format!(
                    "{}: every moment from {} to {} can be recovered\n",
                    line.deployment,
                    both_zones(window.from, &self.zone),
                    both_zones(window.to, &self.zone)
                ));
            }
            for problem in &line.problems {
                out.push_str(&format!("{}: ✗ {problem}\n", line.deployment));
            }
        }
        if self.key_exported == Some(false) {
            out.push_str(
                "! The key was never exported. Without it nothing can be restored: pg_hardstorage keyring export DIR\n",
            );
        }
        out
    }
}

/// How long a server may take to answer before its lag counts as unknown.
const ASK: std::time::Duration = std::time::Duration::from_secs(3);

/// `status [DEPLOYMENT]`.
pub(crate) async fn status(app: &App, args: StatusArgs) -> Result<StatusResult> {
    let url = app.repo_url(&args.repo, args.deployment.as_ref())?;
    let repository = app.repository(&url, Mode::Read).await?;
    let names = match args.deployment {
        Some(name) => vec![name],
        None => repository.deployments().await?,
    };
    let mut deployments = Vec::with_capacity(names.len());
    for name in names {
        deployments.push(one_status(app, &repository, name).await?);
    }
    let key_exported = match (repository.kek_fingerprint(), app.keyring().kek()?) {
        (Some(_), Some(kek)) => Some(app.keyring().is_exported(&kek)?),
        _ => None,
    };
    Ok(StatusResult {
        repo_url: url,
        deployments,
        key_exported,
        generated: Timestamp::now(),
        zone: app.printer.zone().clone(),
    })
}

async fn one_status(app: &App, repository: &Repository, name: DeploymentName) -> Result<DeploymentStatus> {
    let deployment = repository.deployment(&name).await?;
    let catalog = deployment.backups().await?;
    let lines: Vec<BackupLine> = catalog.entries.iter().filter_map(BackupLine::of).collect();
    let alive: Vec<&BackupLine> = lines.iter().filter(|line| !line.deleted).collect();
    let mut problems: Vec<String> = alive
        .iter()
        .filter_map(|line| {
            line.problem
                .as_ref()
                .map(|problem| format!("{}: {problem}", line.backup_id))
        })
        .collect();
    problems.extend(
        alive
            .iter()
            .filter(|line| line.damaged)
            .map(|line| format!("{} is damaged", line.backup_id)),
    );
    let latest = catalog
        .latest()
        .and_then(CatalogEntry::manifest)
        .map(|stored| &stored.manifest);
    let lineage = match latest {
        Some(manifest) => Some(manifest.lineage),
        None => lineages(&deployment).await?.into_iter().next_back(),
    };
    let recoverable = match lineage {
        Some(lineage) => recoverable_window(&deployment, lineage).await?,
        None => None,
    };
    let (mut gaps, mut durable) = (0, None);
    if let Some(manifest) = latest {
        let archive = WalArchive::new(deployment.clone(), manifest.lineage, manifest.server.wal_segment_size);
        gaps = archive
            .gaps()
            .await?
            .iter()
            .filter(|gap| gap.to > manifest.wal.stop_lsn)
            .count();
        durable = frontiers(&archive)
            .await?
            .into_iter()
            .max_by_key(|(timeline, _)| *timeline)
            .map(|(_, end)| end);
    }
    if latest.is_none() {
        problems.push("there is no backup".to_owned());
    } else if recoverable.is_none() {
        problems.push("no backup has the WAL that makes it consistent".to_owned());
    }
    if gaps > 0 {
        problems.push(format!(
            "{gaps} gap(s) in the WAL behind the newest backup: take a new one"
        ));
    }
    let wal_lag_bytes = match (tokio::time::timeout(ASK, server_position(app, &name)).await, durable) {
        (Ok(Some(end)), Some(durable)) => Some(durable.bytes_until(end)),
        _ => None,
    };
    let now = Timestamp::now();
    Ok(DeploymentStatus {
        backup_count: alive.len(),
        healthy: problems.is_empty(),
        problems,
        latest_backup_id: latest.map(|manifest| manifest.backup_id.clone()),
        latest_stopped_at: latest.map(|manifest| manifest.times.stopped_at),
        latest_stop_lsn: latest.map(|manifest| manifest.wal.stop_lsn),
        timeline: recoverable
            .as_ref()
            .map(|window| window.timeline)
            .or(latest.map(|manifest| manifest.wal.timeline)),
        durable_lsn: durable,
        wal_lag_bytes,
        rpo_seconds: recoverable
            .as_ref()
            .map(|window| now.duration_since(window.to).as_secs().max(0)),
        recoverable,
        gaps,
        held: lines.iter().filter(|line| line.held).count(),
        deleted: lines.iter().filter(|line| line.deleted).count(),
        deployment: name,
    })
}

/// How far the server is, when it is configured and answers; its silence is no error of the status.
async fn server_position(app: &App, name: &DeploymentName) -> Option<Lsn> {
    let source = app
        .source_from(None, name)
        .ok()?
        .named(&format!("{}_status", slot_name(name)))
        .ok()?;
    let mut connection = source.connect().await.ok()?;
    let server = identify(&mut connection).await.ok()?;
    connection.close().await;
    Some(server.flush_lsn)
}

/// The deployments that are configured or in the repository.
pub(crate) async fn known_deployments(app: &App, repository: &Repository) -> Result<BTreeSet<DeploymentName>> {
    let mut names: BTreeSet<DeploymentName> = repository.deployments().await?.into_iter().collect();
    names.retain(|name| app.config.deployments.is_empty() || app.config.deployments.contains_key(name));
    Ok(names)
}

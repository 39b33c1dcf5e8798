//! `repo init|probe|check|usage|sync`: the repository as a whole.

use std::collections::{BTreeMap, BTreeSet};

use hardstorage_engine::verify::{VerifyPlan, run_verify};
use hardstorage_report::{BackupId, ByteSize, DeploymentName, Error, Result, code};
use hardstorage_repository::{InitOptions, Mode, Probe, RepoConfig, Repository, Surroundings};
use hardstorage_storage::{DynStore, ListRequest};
use serde::Serialize;

use super::backup_take::default_jobs;
use super::catalogue::BackupLine;
use super::run::{Running, reported, zero};
use super::version_line;
use crate::app::App;
use crate::args::{RepoArg, RepoCommand};
use crate::printer::Report;

/// What was made.
#[derive(Debug, Serialize)]
struct InitResult {
    url: String,
    id: String,
    encrypted: bool,
    kek_generated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kek_path: Option<std::path::PathBuf>,
    create_only_proven: bool,
}

impl Report for InitResult {
    fn text(&self) -> String {
        let mut out = format!(
            "✓ Repository initialised\nURL:         {}\nID:          {}\n",
            self.url, self.id
        );
        match (&self.kek_path, self.encrypted) {
            (Some(path), true) => {
                let word = if self.kek_generated { "generated" } else { "used" };
                out.push_str(&format!(
                    "Encryption:  AES-256-GCM (KEK {word} at {})\n",
                    path.display()
                ));
                out.push_str(
                    "\n! Copy the key elsewhere, or nothing can be restored: pg_hardstorage keyring export DIR\n",
                );
            }
            _ => out.push_str("Encryption:  none\n"),
        }
        if !self.create_only_proven {
            out.push_str("! The store does not keep create-only writes: run one writer at a time\n");
        }
        out
    }
}

/// What lies at a URL.
#[derive(Debug, Serialize)]
struct ProbeResult {
    url: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kek_fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deployments: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<String>,
}

impl Report for ProbeResult {
    fn text(&self) -> String {
        let mut out = format!("{}: {}\n", self.url, self.state);
        if let Some(id) = &self.id {
            out.push_str(&format!("ID:           {id}\n"));
        }
        if let Some(encrypted) = self.encrypted {
            out.push_str(&format!("Encrypted:    {}\n", if encrypted { "yes" } else { "no" }));
        }
        if let Some(fingerprint) = &self.kek_fingerprint {
            out.push_str(&format!("KEK:          {fingerprint}\n"));
        }
        if !self.deployments.is_empty() {
            out.push_str(&format!("Deployments:  {}\n", self.deployments.join(", ")));
        }
        for example in &self.examples {
            out.push_str(&format!("holds:        {example}\n"));
        }
        out
    }
}

/// A problem that the check found.
#[derive(Debug, Serialize)]
struct Problem {
    deployment: DeploymentName,
    backup_id: BackupId,
    code: String,
    message: String,
}

/// The verdict over a repository.
#[derive(Debug, Serialize)]
struct CheckResult {
    url: String,
    ok: bool,
    read_data: bool,
    deployments: usize,
    backups: usize,
    problems: Vec<Problem>,
}

impl Report for CheckResult {
    fn text(&self) -> String {
        let depth = if self.read_data {
            "every stored byte"
        } else {
            "structure"
        };
        let mut out = format!(
            "{} {} ({depth}): {} deployment(s), {} backup(s)\n",
            if self.ok { "✓" } else { "✗" },
            self.url,
            self.deployments,
            self.backups
        );
        for problem in &self.problems {
            out.push_str(&format!(
                "✗ {} {}: {}\n",
                problem.code, problem.backup_id, problem.message
            ));
        }
        out
    }
}

/// Sizes of one deployment.
#[derive(Debug, Default, Serialize)]
struct Usage {
    backups: usize,
    logical_bytes: u64,
    pack_bytes: u64,
    wal_bytes: u64,
    other_bytes: u64,
    objects: u64,
    /// Bytes added by backups that are marked deleted; what of them is still shared stays.
    reclaimable_at_most: u64,
}

#[derive(Debug, Serialize)]
struct UsageResult {
    url: String,
    deployments: BTreeMap<String, Usage>,
    total_bytes: u64,
}

impl Report for UsageResult {
    fn text(&self) -> String {
        let mut out = format!(
            "{:<24} {:>7} {:>10} {:>10} {:>10} {:>10} {:>12}\n",
            "DEPLOYMENT", "BACKUPS", "LOGICAL", "PACKS", "WAL", "OBJECTS", "RECLAIMABLE"
        );
        for (name, usage) in &self.deployments {
            out.push_str(&format!(
                "{name:<24} {:>7} {:>10} {:>10} {:>10} {:>10} {:>12}\n",
                usage.backups,
                ByteSize(usage.logical_bytes).to_string(),
                ByteSize(usage.pack_bytes).to_string(),
                ByteSize(usage.wal_bytes).to_string(),
                usage.objects,
                format!("<= {}", ByteSize(usage.reclaimable_at_most)),
            ));
        }
        out.push_str(&format!("Total: {}\n", ByteSize(self.total_bytes)));
        out
    }
}

/// The catalogue as a report.
#[derive(Debug, Serialize)]
struct SyncResult {
    url: String,
    id: String,
    deployments: BTreeMap<DeploymentName, Vec<BackupLine>>,
}

impl Report for SyncResult {
    fn text(&self) -> String {
        let mut out = format!("Repository {} ({})\n", self.id, self.url);
        for (name, backups) in &self.deployments {
            out.push_str(&format!("{name}: {} backup(s)\n", backups.len()));
            for backup in backups {
                out.push_str(&format!("  {}\n", backup.backup_id));
            }
        }
        out
    }
}

/// Runs one of them.
pub(crate) async fn run(app: &App, command: RepoCommand) -> u8 {
    match command {
        RepoCommand::Init {
            url,
            no_encryption,
            single_writer,
        } => super::answer(app, "repo init", init(app, url, no_encryption, single_writer)).await,
        RepoCommand::Probe { url, run } => {
            let work = |_: Running| async move { probe(app, url).await };
            reported(app, "repo probe", &run, work, zero).await
        }
        RepoCommand::Check {
            url,
            repo,
            deployment,
            read_data,
            run,
        } => {
            let work = |running: Running| async move {
                check(app, &chosen(app, url, &repo)?, deployment, read_data, running).await
            };
            let exit = |result: &CheckResult| {
                if result.ok {
                    0
                } else {
                    code::repository::OBJECT_CORRUPT.info().exit
                }
            };
            reported(app, "repo check", &run, work, exit).await
        }
        RepoCommand::Usage { url, repo } => {
            super::answer(app, "repo usage", async { usage(app, &chosen(app, url, &repo)?).await }).await
        }
        RepoCommand::Sync { url, repo, run } => {
            let work = |_: Running| async move { sync(app, &chosen(app, url, &repo)?).await };
            reported(app, "repo sync", &run, work, zero).await
        }
    }
}

fn chosen(app: &App, url: Option<String>, repo: &RepoArg) -> Result<String> {
    match url {
        Some(url) => Ok(url),
        None => app.repo_url(repo, None),
    }
}

/// Order matters: what is there is looked at before a key is made, and a key is made only for what is made now.
async fn init(app: &App, url: String, no_encryption: bool, single_writer: bool) -> Result<InitResult> {
    let store = app.store(&url, true, false).await?;
    if let Probe::Present(_) = Repository::probe(&store).await? {
        return Err(Error::new(
            code::repository::EXISTS,
            format!("{url} holds a repository already"),
        ));
    }
    let keyring = app.keyring();
    let surroundings = Surroundings::default();
    let (kek, kek_generated) = match (no_encryption, keyring.kek()?) {
        (true, _) => (None, false),
        (false, Some(kek)) => (Some(kek), false),
        (false, None) => (Some(keyring.create_kek(&surroundings)?), true),
    };
    let encrypted = kek.is_some();
    let options = InitOptions {
        kek,
        single_writer,
        config: RepoConfig::default(),
        created_by: version_line(),
        surroundings,
    };
    let repository = Repository::init(store, options).await?;
    Ok(InitResult {
        url,
        id: hex::encode(repository.descriptor().repository_id),
        encrypted,
        kek_generated,
        kek_path: keyring.kek_path().filter(|_| encrypted).map(std::path::Path::to_owned),
        create_only_proven: repository.create_only_proven(),
    })
}

async fn probe(app: &App, url: String) -> Result<ProbeResult> {
    let store = app.store(&url, false, true).await?;
    let mut result = ProbeResult {
        url,
        state: "absent",
        id: None,
        encrypted: None,
        kek_fingerprint: None,
        deployments: Vec::new(),
        examples: Vec::new(),
    };
    match Repository::probe(&store).await? {
        Probe::Absent => {}
        Probe::Foreign {
            examples,
            looks_like_ours,
        } => {
            result.state = if looks_like_ours { "descriptor lost" } else { "foreign" };
            result.examples = examples;
        }
        Probe::Present(facts) => {
            result.state = "present";
            result.id = Some(hex::encode(facts.descriptor.repository_id));
            result.encrypted = Some(facts.kek_fingerprint.is_some());
            result.kek_fingerprint = facts.kek_fingerprint;
            result.deployments = facts.deployments;
        }
    }
    Ok(result)
}

async fn check(
    app: &App,
    url: &str,
    only: Option<DeploymentName>,
    read_data: bool,
    running: Running,
) -> Result<CheckResult> {
    let repository = app.repository(url, Mode::Read).await?;
    let names = match only {
        Some(name) => vec![name],
        None => repository.deployments().await?,
    };
    let stop = App::stop()?;
    let mut result = CheckResult {
        url: url.to_owned(),
        ok: true,
        read_data,
        deployments: names.len(),
        backups: 0,
        problems: Vec::new(),
    };
    for name in names {
        let deployment = repository.deployment(&name).await?;
        let catalog = deployment.backups().await?;
        let backups: Vec<BackupLine> = catalog.entries.iter().filter_map(BackupLine::of).collect();
        for backup in backups.iter().filter(|backup| !backup.is_deleted()) {
            result.backups += 1;
            let plan = VerifyPlan {
                backup: Some(backup.backup_id.clone()),
                structure_only: !read_data,
                jobs: default_jobs(),
                run_id: None,
            };
            let verdict = run_verify(&deployment, &plan, running.sink.clone(), stop.drain.clone()).await;
            let failure = match verdict {
                // Backups without a stream have holes between them; `wal audit` judges continuity.
                Ok(verdict) => verdict.own_failure(),
                Err(error) if error.is(code::cli::INTERRUPTED) => return Err(error),
                Err(error) => Some(error),
            };
            if let Some(error) = failure {
                result.problems.push(Problem {
                    deployment: name.clone(),
                    backup_id: backup.backup_id.clone(),
                    code: error.code().to_string(),
                    message: error.to_string(),
                });
            }
        }
    }
    result.ok = result.problems.is_empty();
    Ok(result)
}

/// The deployment in an object's key, and what the object is.
fn classify(key: &str) -> Option<(&str, &str)> {
    let mut parts = key.split('/');
    let folder = parts.next()?;
    let deployment = parts.next()?;
    parts.next()?;
    Some((deployment, folder))
}

async fn usage(app: &App, url: &str) -> Result<UsageResult> {
    let repository = app.repository(url, Mode::Read).await?;
    let mut deployments: BTreeMap<String, Usage> = BTreeMap::new();
    let mut total_bytes = 0;
    let store: &DynStore = repository.store();
    let mut request = ListRequest::under("");
    loop {
        let page = store.list(&request).await?;
        for object in &page.objects {
            total_bytes += object.size;
            if let Some((deployment, folder)) = classify(object.key.as_str()) {
                let usage = deployments.entry(deployment.to_owned()).or_default();
                usage.objects += 1;
                match folder {
                    "packs" => usage.pack_bytes += object.size,
                    "wal" => usage.wal_bytes += object.size,
                    _ => usage.other_bytes += object.size,
                }
            }
        }
        match page.next {
            Some(next) => request = request.after(next),
            None => break,
        }
    }
    let known: BTreeSet<DeploymentName> = repository.deployments().await?.into_iter().collect();
    deployments.retain(|name, _| name.parse().is_ok_and(|name| known.contains(&name)));
    for name in known {
        let catalog = repository.deployment(&name).await?.backups().await?;
        let usage = deployments.entry(name.to_string()).or_default();
        for entry in &catalog.entries {
            let Some(stored) = entry.manifest() else { continue };
            if entry.is_usable() {
                usage.backups += 1;
                usage.logical_bytes += stored.manifest.totals.logical_bytes;
            } else {
                usage.reclaimable_at_most += stored.manifest.totals.stored_bytes;
            }
        }
    }
    Ok(UsageResult {
        url: url.to_owned(),
        deployments,
        total_bytes,
    })
}

async fn sync(app: &App, url: &str) -> Result<SyncResult> {
    let repository = app.repository(url, Mode::Read).await?;
    let mut deployments = BTreeMap::new();
    for name in repository.deployments().await? {
        let catalog = repository.deployment(&name).await?.backups().await?;
        deployments.insert(name, catalog.entries.iter().rev().filter_map(BackupLine::of).collect());
    }
    Ok(SyncResult {
        url: url.to_owned(),
        id: hex::encode(repository.descriptor().repository_id),
        deployments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_belong_to_a_deployment_or_to_all() {
        assert_eq!(classify("packs/db1/aa/00"), Some(("db1", "packs")));
        assert_eq!(classify("config/00000001.json"), None);
        assert_eq!(classify("HARDSTORAGE"), None);
    }
}

//! The Jobs of a Deployment: retention, the end of its slot, and marking its backups as deleted.

use hardstorage_crds::{Duration, ProtectedDeployment, Retention};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;

use crate::access::{RepositoryAccess, SourceAccess};
use crate::deployment::identity;
use crate::deployment::retention::OF_NAME;
use crate::job::{self, JobPlan};
use crate::names::{self, Role};
use crate::pod::{DefaultResources, EnginePod, Image, Life, Surroundings};

/// What every Job has.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// Whose it is.
    pub deployment: &'a ProtectedDeployment,
    /// The image.
    pub image: Image,
    /// Where it will run.
    pub surroundings: Surroundings,
}

/// A collection that is cut off is gone on with by the next one.
const COLLECT_SECONDS: i64 = 4 * 3600;

/// What a Job does.
struct Work<'a> {
    role: Role,
    seed: &'a str,
    command: Vec<String>,
    repository: Option<&'a RepositoryAccess>,
    source: Option<&'a SourceAccess>,
    signs: bool,
    linger: u32,
    active_deadline: i64,
}

impl Run<'_> {
    fn job(&self, work: Work<'_>) -> Job {
        let labels = identity::labels(self.deployment, work.role);
        let pod = EnginePod {
            command: work.command,
            labels: labels.clone(),
            image: self.image.clone(),
            life: Life::Once { linger: work.linger },
            run_id: None,
            repository: work.repository,
            signs: work.signs,
            source: work.source,
            snapshot: None,
            data: None,
            resources: None,
            default_resources: DefaultResources::LOOK,
            template: self.deployment.spec.pod_template.as_ref(),
            surroundings: self.surroundings,
        };
        job::build(JobPlan {
            namespace: self.deployment.namespace().unwrap_or_default(),
            name: names::job(&self.deployment.name_any(), work.role, work.seed),
            labels,
            owner: identity::owner(self.deployment),
            backoff_limit: 2,
            active_deadline: work.active_deadline,
            suspend: false,
            pod: pod.build(),
        })
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Applies the retention to one name, and gives back the space of what went.
pub fn rotate(run: &Run<'_>, repository: &RepositoryAccess, name: &str, retention: &Retention, seed: &str) -> Job {
    let mut command = words(&["rotate", name, "--repo", &repository.engine_url(), "--apply"]);
    for (option, count) in [
        ("--keep-last", retention.keep_last),
        ("--keep-daily", retention.keep_daily),
        ("--keep-weekly", retention.keep_weekly),
        ("--keep-monthly", retention.keep_monthly),
        ("--keep-yearly", retention.keep_yearly),
    ] {
        command.extend([option.to_owned(), count.max(0).to_string()]);
    }
    command.push("--collect".to_owned());
    if let Some(window) = retention.keep_wal.as_ref().and_then(Duration::get) {
        command.extend(["--keep-wal".to_owned(), format!("{}s", window.as_secs())]);
    }
    let mut job = run.job(Work {
        role: Role::Rotate,
        seed,
        command,
        repository: Some(repository),
        source: None,
        signs: true,
        linger: 30,
        active_deadline: COLLECT_SECONDS,
    });
    job.labels_mut().insert(OF_NAME.to_owned(), names::short_hash(name));
    job
}

/// Drops the slot.
pub fn slot_drop(run: &Run<'_>, source: &SourceAccess, seed: &str, active_deadline: i64) -> Job {
    let (name, slot) = (identity::current_name(run.deployment), identity::slot(run.deployment));
    run.job(Work {
        role: Role::SlotDrop,
        seed,
        command: words(&["slot", "drop", &name, "--slot", &slot]),
        repository: None,
        source: Some(source),
        signs: false,
        linger: 30,
        active_deadline,
    })
}

/// Reads the catalogue, to see which backups are there.
pub fn sync(run: &Run<'_>, repository: &RepositoryAccess, seed: &str) -> Job {
    run.job(Work {
        role: Role::Sync,
        seed,
        command: words(&["repo", "sync", &repository.engine_url()]),
        repository: Some(repository),
        source: None,
        signs: false,
        linger: 300,
        active_deadline: 1800,
    })
}

/// Marks a backup as deleted.
pub fn tombstone(run: &Run<'_>, repository: &RepositoryAccess, name: &str, backup: &str) -> Job {
    let reason = "its Deployment was deleted with deletion.data: Delete";
    let url = repository.engine_url();
    run.job(Work {
        role: Role::Tombstone,
        seed: backup,
        command: words(&[
            "backup", "delete", name, backup, "--repo", &url, "--yes", "--reason", reason,
        ]),
        repository: Some(repository),
        source: None,
        signs: true,
        linger: 30,
        active_deadline: 1800,
    })
}

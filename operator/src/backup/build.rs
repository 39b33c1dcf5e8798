//! The Jobs of backups: taking one, and marking one as deleted. Pure.
//!
//! What is built here is what the CronJob of a schedule has in its template and what a wish becomes, so that a backup is
//! the same whoever asked for it.

use std::collections::BTreeMap;
use std::time::Duration;

use hardstorage_crds::{BackupFrom, BackupSchedule, Checkpoint, PodTemplate, Rate, Resources};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;

use super::target::{Target, duration};
use crate::access::RepositoryAccess;
use crate::job::{self, JobPlan};
use crate::names::{self, Role, label};
use crate::pod::{DefaultResources, EnginePod, Image, Life, Surroundings};

/// How long a pod answers after its result, until it was heard.
const LINGER: u32 = 30;
/// How long marking a backup as deleted may take.
const TOMBSTONE_SECONDS: i64 = 15 * 60;
/// After so long the Job of a deletion goes by itself.
const LEFT_BEHIND: i32 = 24 * 3600;
/// The most of a parent's name in a Job's.
const PARENT: usize = 45;

/// How a run is to go: the schedule's settings, or the usual ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Manner {
    /// How long a pod may wait for a node.
    pub pending: Duration,
    /// How long all tries may take.
    pub active: Duration,
    /// How often a failure is tried again.
    pub backoff_limit: i32,
    /// What the container asks for and may take.
    pub resources: Option<Resources>,
    /// Settings of the pods, when they are not the Deployment's.
    pub pod_template: Option<PodTemplate>,
}

impl Manner {
    /// That of a schedule, or the usual one without.
    pub fn of(schedule: Option<&BackupSchedule>) -> Manner {
        let spec = schedule.map(|schedule| &schedule.spec);
        Manner {
            pending: duration(spec.map(|spec| &spec.pending_deadline), Duration::from_mins(15)),
            active: duration(spec.map(|spec| &spec.active_deadline), Duration::from_hours(24)),
            backoff_limit: spec.map_or(2, |spec| spec.backoff_limit),
            resources: spec.and_then(|spec| spec.resources.clone()),
            pod_template: spec.and_then(|spec| spec.pod_template.clone()),
        }
    }
}

/// A backup that is to be taken.
#[derive(Debug, Clone)]
pub struct Taking<'a> {
    /// Of what, and where to.
    pub target: &'a Target,
    /// The operator's engine; the Deployment may stay with another one.
    pub image: Image,
    /// How it goes.
    pub manner: Manner,
    /// Which server it is read from.
    pub from: BackupFrom,
    /// How the server makes its checkpoint.
    pub checkpoint: Checkpoint,
    /// A name for people.
    pub label: Option<String>,
    /// Bytes per second at most.
    pub max_rate: Rate,
    /// The schedule that it belongs to.
    pub schedule: Option<String>,
    /// The Backup that asked for it.
    pub backup: Option<String>,
    /// The id of the run; none for that of its Job.
    pub run_id: Option<String>,
}

impl Taking<'_> {
    /// The Job.
    pub fn plan(&self, name: String, owner: Option<OwnerReference>) -> JobPlan {
        let repository = &self.target.repository.repository;
        let limits = repository.spec.limits.clone().unwrap_or_default();
        JobPlan {
            namespace: self.target.deployment.namespace().unwrap_or_default(),
            name,
            labels: self.job_labels(),
            owner,
            backoff_limit: self.manner.backoff_limit,
            active_deadline: i64::try_from(self.manner.active.as_secs()).unwrap_or(i64::MAX).max(1),
            // It waits for its turn, which the operator knows.
            suspend: limits.concurrent_backups > 0,
            pod: self.pod().build(),
        }
    }

    /// The labels of the Job: those of its pods, and the namespace of the repository whose turns it waits for.
    pub fn job_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert(
            label::REPOSITORY_NAMESPACE.to_owned(),
            self.target.repository.access.namespace.clone(),
        );
        labels
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = names::own_labels(Role::Backup);
        let mut put = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
        put(label::DEPLOYMENT, &self.target.deployment.name_any());
        put(label::REPOSITORY, &self.target.repository.access.name);
        if let Some(schedule) = &self.schedule {
            put(label::SCHEDULE, schedule);
        }
        if let Some(backup) = &self.backup {
            put(label::BACKUP, backup);
        }
        labels
    }

    fn pod(&self) -> EnginePod<'_> {
        let deployment = &self.target.deployment.spec;
        let engine = deployment.engine.clone().unwrap_or_default();
        let pinned = engine.image.filter(|image| !image.is_empty()).map(|name| Image {
            name,
            pull_policy: engine.image_pull_policy.as_str().to_owned(),
        });
        let standby = self.target.standby.as_ref();
        let source = match self.from {
            BackupFrom::PreferStandby => standby.unwrap_or(&self.target.source),
            _ => &self.target.source,
        };
        EnginePod {
            command: self.command(),
            labels: self.labels(),
            image: pinned.unwrap_or_else(|| self.image.clone()),
            life: Life::Once { linger: LINGER },
            run_id: self.run_id.clone(),
            repository: Some(&self.target.repository.access),
            signs: true,
            source: Some(source),
            snapshot: self.target.snapshot.clone(),
            data: None,
            resources: self.manner.resources.as_ref(),
            default_resources: DefaultResources::BACKUP,
            template: self.manner.pod_template.as_ref().or(deployment.pod_template.as_ref()),
            surroundings: self.target.surroundings,
        }
    }

    fn command(&self) -> Vec<String> {
        let access = &self.target.repository.access;
        // A pod that was killed leaves a session that looks alive for an hour, and no other pod can tell: it would be refused
        // as the second of two. That each run has one pod at a time is the Job controller's business, and how many runs a
        // repository bears that of its limits.
        let mut words = ["backup", &self.target.name, "--allow-concurrent"]
            .map(str::to_owned)
            .to_vec();
        let mut option = |name: &str, value: &str| words.push(format!("--{name}={value}"));
        option("repo", &access.engine_url());
        if self.checkpoint == Checkpoint::Spread {
            option("checkpoint", "spread");
        }
        if let Some(label) = self.label.as_deref().filter(|label| !label.is_empty()) {
            // Kubernetes puts the values of variables into arguments; a name for people has none.
            option("label", &label.replace('$', "$$"));
        }
        if let Some(rate) = self.rate() {
            option("max-rate", &rate.to_string());
        }
        words
    }

    /// The lower of what is wanted and what the repository allows.
    fn rate(&self) -> Option<u64> {
        let limits = self.target.repository.repository.spec.limits.clone();
        let allowed = limits.and_then(|limits| limits.max_rate.get().ok().flatten());
        let wanted = self.max_rate.get().ok().flatten();
        wanted.into_iter().chain(allowed).min()
    }
}

/// A Job's name of at most 63 characters for a parent of any length.
pub fn job_name(parent: &str, role: Role, seed: &str) -> String {
    let cut: String = parent.chars().take(PARENT).collect();
    names::job(cut.trim_end_matches(['-', '.']), role, seed)
}

/// Marking one backup as deleted.
#[derive(Debug, Clone)]
pub struct Tombstone<'a> {
    /// The Backup object.
    pub namespace: &'a str,
    /// Its name.
    pub backup: &'a str,
    /// The repository.
    pub repository: &'a RepositoryAccess,
    /// The name in it.
    pub name: &'a str,
    /// The backup's id.
    pub id: &'a str,
    /// The engine.
    pub image: Image,
    /// Where it runs.
    pub surroundings: Surroundings,
}

impl Tombstone<'_> {
    /// The Job. Nothing owns it: it must outlive the deletion that it is part of. So it alone has an end of its own, for the
    /// case that its object goes before we take it away.
    pub fn job(&self, name: String) -> Job {
        let mut job = job::build(self.plan(name));
        if let Some(spec) = &mut job.spec {
            spec.ttl_seconds_after_finished = Some(LEFT_BEHIND);
        }
        job
    }

    fn plan(&self, name: String) -> JobPlan {
        let mut labels = names::own_labels(Role::Tombstone);
        labels.insert(label::BACKUP.to_owned(), self.backup.to_owned());
        labels.insert(label::REPOSITORY.to_owned(), self.repository.name.clone());
        let words = ["backup", "delete", self.name, self.id, "--yes"];
        let mut command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        command.push(format!("--repo={}", self.repository.engine_url()));
        command.push(format!(
            "--reason=Backup {}/{} was deleted with its data",
            self.namespace, self.backup
        ));
        let pod = EnginePod {
            command,
            labels: labels.clone(),
            image: self.image.clone(),
            life: Life::Once { linger: LINGER },
            run_id: None,
            repository: Some(self.repository),
            signs: true,
            source: None,
            snapshot: None,
            data: None,
            resources: None,
            default_resources: DefaultResources::LOOK,
            template: None,
            surroundings: self.surroundings,
        };
        JobPlan {
            namespace: self.namespace.to_owned(),
            name,
            labels,
            owner: None,
            backoff_limit: 3,
            active_deadline: TOMBSTONE_SECONDS,
            suspend: false,
            pod: pod.build(),
        }
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;

//! What a schedule is judged by. It reads only.

use hardstorage_crds::{Backup, BackupSchedule};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::history::missing;
use crate::apply;
use crate::backup::mirror;
use crate::backup::target::{self, Target};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::{Role, label};
use crate::repository::Refusal;

/// Everything that was found.
#[derive(Debug)]
pub struct Fetched {
    /// What it backs up, or why that cannot be told.
    pub target: Result<Target, Refusal>,
    /// The CronJob of its name.
    pub cron_job: Option<CronJob>,
    /// The Jobs of its runs.
    pub jobs: Vec<Job>,
    /// The Backup objects of its runs; every one of the namespace when a Job has none yet, whose name must be nobody else's.
    pub backups: Vec<Backup>,
    /// The Jobs of the Deployment's retention.
    pub rotations: Vec<Job>,
}

impl Fetched {
    /// The Backup objects of this schedule's runs.
    pub fn runs(&self, schedule: &BackupSchedule) -> Vec<Backup> {
        let name = schedule.name_any();
        let its =
            |backup: &&Backup| backup.spec.recorded.is_none() && backup.labels().get(label::SCHEDULE) == Some(&name);
        self.backups.iter().filter(its).cloned().collect()
    }

    /// Whether the CronJob of its name is somebody else's.
    pub fn name_taken(&self, schedule: &BackupSchedule) -> bool {
        self.cron_job.as_ref().is_some_and(|cron_job| {
            let owners = cron_job.owner_references();
            !owners
                .iter()
                .any(|owner| Some(&owner.uid) == schedule.metadata.uid.as_ref())
        })
    }
}

/// Looks.
pub async fn fetch(context: &Context, schedule: &BackupSchedule) -> Result<Fetched> {
    let namespace = schedule.namespace().ok_or(Error::Incomplete("namespace"))?;
    let name = schedule.name_any();
    let deployment = &schedule.spec.deployment_ref.name;
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    let of = |role: Role, key: &str, value: &str| {
        ListParams::default().labels(&format!("{}={},{key}={value}", label::ROLE, role.as_str()))
    };
    let target = target::look(context, &namespace, deployment).await?;
    let cron_job = apply::get(context, &namespace, &name).await?;
    let runs = jobs.list(&of(Role::Backup, label::SCHEDULE, &name)).await?.items;
    let rotations = jobs.list(&of(Role::Rotate, label::DEPLOYMENT, deployment)).await?.items;
    let mut backups = mirror::objects_of_schedule(context, &namespace, &name).await?;
    if !missing(schedule, None, &runs, &backups).is_empty() {
        backups = mirror::objects(context, &namespace).await?;
    }
    Ok(Fetched {
        target,
        cron_job,
        jobs: runs,
        backups,
        rotations,
    })
}

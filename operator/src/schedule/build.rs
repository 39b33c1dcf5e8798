//! The CronJob of a schedule, and the Job of a run beside it. Pure.

use hardstorage_crds::{BackupSchedule, Checkpoint};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job, JobTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::backup::target::{Target, duration};
use crate::backup::{Manner, Taking};
use crate::job;
use crate::names::annotation;
use crate::pod::Image;
use hardstorage_schedule::Plan;

/// Its own limits are out of the way: the operator removes Jobs once their result is stored.
const HISTORY: i32 = 100;

/// What the runs of a schedule are built from.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The schedule.
    pub schedule: &'a BackupSchedule,
    /// What it backs up.
    pub target: &'a Target,
    /// The engine.
    pub image: &'a Image,
}

impl<'a> Ground<'a> {
    fn taking(&self) -> Taking<'a> {
        let spec = &self.schedule.spec;
        Taking {
            target: self.target,
            image: self.image.clone(),
            manner: Manner::of(Some(self.schedule)),
            from: spec.from.clone(),
            checkpoint: Checkpoint::Fast,
            label: None,
            max_rate: spec.max_rate.clone(),
            schedule: Some(self.schedule.name_any()),
            backup: None,
            run_id: None,
        }
    }

    /// The CronJob. `run_now` is the value of that annotation for which a run was started: it is remembered here.
    pub fn cron_job(&self, plan: &Plan, run_now: Option<&str>) -> CronJob {
        let spec = &self.schedule.spec;
        let deadline = duration(Some(&spec.starting_deadline), std::time::Duration::from_hours(1));
        let taking = self.taking();
        let job = taking.plan(String::new(), None);
        let labels = job.labels.clone();
        let remembered = run_now.map(|value| [(annotation::RUN_NOW.to_owned(), value.to_owned())].into());
        CronJob {
            metadata: ObjectMeta {
                namespace: self.schedule.namespace(),
                name: Some(self.schedule.name_any()),
                labels: Some(labels.clone()),
                annotations: remembered,
                owner_references: self.schedule.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(CronJobSpec {
                schedule: plan.fields.clone(),
                time_zone: Some(spec.time_zone.clone()),
                suspend: Some(spec.suspend),
                concurrency_policy: Some("Forbid".to_owned()),
                // Without it a hundred missed starts end a CronJob for ever; below ten seconds it may never start.
                starting_deadline_seconds: Some(i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX).max(10)),
                successful_jobs_history_limit: Some(HISTORY),
                failed_jobs_history_limit: Some(HISTORY),
                job_template: JobTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(labels),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(job::spec(job)),
                },
            }),
            ..CronJob::default()
        }
    }

    /// A run beside the CronJob's. The schedule owns it: the CronJob's controller takes what it did not make itself for a
    /// stranger.
    pub fn job(&self, name: String) -> Job {
        job::build(self.taking().plan(name, self.schedule.controller_owner_ref(&())))
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;

//! The CronJob that checks a repository.

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use super::{Ground, labels, pod};
use crate::job::{JobPlan, spec};
use crate::names::Role;

/// A check reads every manifest and looks for every pack.
const CHECK_SECONDS: i64 = 12 * 3600;
/// Without it a hundred missed starts end a CronJob for ever.
const STARTING_SECONDS: i64 = 3600;
/// Its own limits are out of the way: the operator removes Jobs once their result is stored.
const HISTORY: i32 = 10;
/// How long a pod answers after its result, until it was heard.
const LINGER: u32 = 30;

/// Its name.
pub fn check_name(repository: &str) -> String {
    format!("{repository}-check")
}

/// The CronJob; `fields` are the five fields of its schedule. Whether it rests is the user's, or that there is nothing to
/// check.
pub fn check(ground: &Ground<'_>, fields: &str, rests: bool) -> CronJob {
    let repository = ground.repository;
    let labels = labels(repository, Role::Check);
    let maintenance = repository.spec.maintenance.clone().unwrap_or_default();
    let job = spec(JobPlan {
        namespace: repository.namespace().unwrap_or_default(),
        name: String::new(),
        labels: labels.clone(),
        owner: None,
        backoff_limit: 1,
        active_deadline: CHECK_SECONDS,
        suspend: false,
        pod: pod(ground, Role::Check, &["repo", "check"], LINGER).build(),
    });
    CronJob {
        metadata: ObjectMeta {
            namespace: repository.namespace(),
            name: Some(check_name(&repository.name_any())),
            labels: Some(labels.clone()),
            owner_references: repository.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(CronJobSpec {
            schedule: fields.to_owned(),
            time_zone: Some(maintenance.time_zone),
            suspend: Some(rests),
            concurrency_policy: Some("Forbid".to_owned()),
            starting_deadline_seconds: Some(STARTING_SECONDS),
            successful_jobs_history_limit: Some(HISTORY),
            failed_jobs_history_limit: Some(HISTORY),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(job),
            },
        }),
        ..CronJob::default()
    }
}

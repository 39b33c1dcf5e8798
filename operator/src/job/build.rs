//! The Job around an engine pod. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::pod::ENGINE_CONTAINER;

/// Exit codes that another try cannot change: usage, authentication, preflight, not found, conflict, verification.
pub(super) const FINAL: [i32; 6] = [2, 3, 4, 6, 7, 9];

/// A Job to be.
#[derive(Debug, Clone)]
pub struct JobPlan {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels: those of [`crate::names::own_labels`] and whose it is.
    pub labels: BTreeMap<String, String>,
    /// Who owns it: one of our objects in the same namespace. A Job holds no data, so it may go with its owner.
    pub owner: Option<OwnerReference>,
    /// How often a failure is tried again.
    pub backoff_limit: i32,
    /// Seconds that all tries together may take.
    pub active_deadline: i64,
    /// Whether it waits until it is let go: the turn of a backup.
    pub suspend: bool,
    /// The pod.
    pub pod: PodTemplateSpec,
}

/// The Job. It has no TTL: the operator deletes it once its result is stored.
pub fn build(plan: JobPlan) -> Job {
    Job {
        metadata: ObjectMeta {
            namespace: Some(plan.namespace.clone()),
            name: Some(plan.name.clone()),
            labels: Some(plan.labels.clone()),
            owner_references: plan.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec(plan)),
        ..Job::default()
    }
}

/// What a CronJob's template and a Job share.
pub fn spec(plan: JobPlan) -> JobSpec {
    JobSpec {
        backoff_limit: Some(plan.backoff_limit),
        active_deadline_seconds: Some(plan.active_deadline),
        suspend: plan.suspend.then_some(true),
        pod_failure_policy: Some(PodFailurePolicy {
            rules: vec![
                PodFailurePolicyRule {
                    action: "FailJob".to_owned(),
                    on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                        container_name: Some(ENGINE_CONTAINER.to_owned()),
                        operator: "In".to_owned(),
                        values: FINAL.to_vec(),
                    }),
                    ..PodFailurePolicyRule::default()
                },
                // A drained node is nobody's fault and costs no try.
                PodFailurePolicyRule {
                    action: "Ignore".to_owned(),
                    on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                        type_: "DisruptionTarget".to_owned(),
                        status: "True".to_owned(),
                    }]),
                    ..PodFailurePolicyRule::default()
                },
            ],
        }),
        template: plan.pod,
        ..JobSpec::default()
    }
}

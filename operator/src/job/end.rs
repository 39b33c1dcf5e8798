//! The end of a Job: how the Job controller says so, and how we note on it that its result is stored.

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::annotation;

/// The condition that says that a Job is over, well or not.
pub fn ending(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True")
}

/// Whether a Job has ended well: the engine said so by its exit code, whatever was heard of it.
pub fn is_complete(job: &Job) -> bool {
    ending(job).is_some_and(|end| end.type_ == "Complete")
}

/// Writes an annotation on a Job of ours, on this very one.
pub async fn mark(context: &Context, job: &Job, name: &str, value: &str) -> Result<()> {
    let namespace = job.namespace().ok_or(Error::Incomplete("namespace"))?;
    let api: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({"metadata": {"uid": job.uid(), "annotations": {name: value}}});
    api.patch(&job.name_any(), &PatchParams::default(), &Patch::Merge(&body))
        .await?;
    Ok(())
}

/// Notes on a Job that its result is stored, and how it ended. One that is gone, or made anew, needs no note.
pub async fn mark_stored(context: &Context, job: &Job, word: &str) -> Result<()> {
    match mark(context, job, annotation::STORED, word).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        outcome => outcome,
    }
}

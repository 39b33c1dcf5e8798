//! Marks every backup of a Deployment as deleted, because its spec says so in as many words. What is there the repository
//! tells: a Job reads its catalogue, and one for each backup marks it. The list stands on the first Job, so that it is the
//! same after a restart. Those on hold stay.

use std::time::Duration;

use hardstorage_report::RunState;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;

use super::build::{Run, sync, tombstone};
use super::delete::Progress;
use super::{identity, retain};
use crate::access::RepositoryAccess;
use crate::apply;
use crate::context::Context;
use crate::error::Result;
use crate::job::{self, Observed};
use crate::names::{self, Role};
use crate::repository::{Intent, resolve};

/// On the Job that reads the catalogue: the backups to mark.
const LIST: &str = "hardstorage.dev/backups";
/// Jobs at the same time.
const AT_ONCE: usize = 4;
/// As many as fit into an annotation; an object with more is let go, and says what is left.
const MOST: usize = 2000;
/// How long a pod may wait for a node.
const PENDING: Duration = Duration::from_mins(15);

/// Takes the next step; how far it has come.
pub async fn erase(context: &Context, run: &Run<'_>) -> Result<Progress> {
    let deployment = run.deployment;
    let namespace = deployment.namespace().unwrap_or_default();
    let reference = &deployment.spec.repository_ref;
    let name = identity::name(deployment);
    let resolved = resolve(context, &namespace, reference, &name, Intent::Write).await?;
    let repository = match resolved {
        Ok(resolved) => resolved.access,
        Err(refusal) if refusal.waits => return Ok(Progress::Running),
        Err(refusal) => return Ok(Progress::Failed(refusal.text())),
    };
    let Some(reading) = retain::jobs(context, deployment, Role::Sync).await?.into_iter().next() else {
        let seed = deployment.uid().unwrap_or_default();
        apply::create_once(context, &sync(run, &repository, &seed)).await?;
        return Ok(Progress::Running);
    };
    let Some(list) = reading.annotations().get(LIST) else {
        return take_list(context, run, &reading).await;
    };
    let backups: Vec<String> = serde_json::from_str(list)?;
    mark_all(context, run, &repository, &backups).await
}

/// Takes the list from the catalogue.
async fn take_list(context: &Context, run: &Run<'_>, reading: &Job) -> Result<Progress> {
    match job::observe(context, reading, PENDING).await? {
        Observed::Waiting(..) | Observed::Running(_) => return Ok(Progress::Running),
        Observed::Ended { report, .. } if report.state == RunState::Succeeded => {}
        Observed::Ended { report, .. } => {
            let why = report
                .error
                .as_ref()
                .map_or_else(String::new, |error| format!("{}: {}", error.code, error.message));
            job::heard(context, reading).await?;
            return Ok(Progress::Failed(why));
        }
        Observed::Failed { reason, message, .. } => {
            return Ok(Progress::Failed(format!("{}: {message}", reason.as_str())));
        }
    }
    let Some(catalog) = job::catalog(context, reading).await? else {
        // Its pod is gone, and the catalogue with it: another reads it again.
        apply::delete(context, reading).await?;
        return Ok(Progress::Running);
    };
    let names = identity::all_names(run.deployment);
    let mut backups: Vec<&str> = catalog
        .backups
        .iter()
        .filter(|record| !record.deleted && !record.held)
        .filter(|record| names.iter().any(|name| name == record.backup_id.deployment()))
        .map(|record| record.backup_id.as_str())
        .collect();
    backups.truncate(MOST);
    job::mark(context, reading, LIST, &serde_json::to_string(&backups)?).await?;
    job::heard(context, reading).await?;
    Ok(Progress::Running)
}

async fn mark_all(
    context: &Context,
    run: &Run<'_>,
    repository: &RepositoryAccess,
    backups: &[String],
) -> Result<Progress> {
    let made = retain::jobs(context, run.deployment, Role::Tombstone).await?;
    let object = run.deployment.name_any();
    let (mut running, mut failed) = (0, Vec::new());
    let mut to_make = Vec::new();
    for backup in backups {
        let name = names::job(&object, Role::Tombstone, backup);
        match made.iter().find(|job| job.name_any() == name) {
            None => to_make.push(backup),
            Some(job) => match ended(context, job).await? {
                None => running += 1,
                Some(Ok(())) => {}
                Some(Err(why)) => failed.push(format!("{backup}: {why}")),
            },
        }
    }
    for backup in to_make.iter().take(AT_ONCE.saturating_sub(running)) {
        let name = deployment_of(backup, run);
        apply::create_once(context, &tombstone(run, repository, &name, backup)).await?;
    }
    if running > 0 || !to_make.is_empty() {
        return Ok(Progress::Running);
    }
    if failed.is_empty() && backups.len() < MOST {
        return Ok(Progress::Done);
    }
    if failed.is_empty() {
        return Ok(Progress::Failed(format!("there were more than {MOST}")));
    }
    Ok(Progress::Failed(failed.join("; ")))
}

/// The name in the repository that a backup belongs to.
fn deployment_of(backup: &str, run: &Run<'_>) -> String {
    let names = identity::all_names(run.deployment);
    let of = |name: &&String| {
        backup
            .strip_prefix(name.as_str())
            .is_some_and(|rest| rest.starts_with('.'))
    };
    // The longest: `team.orders` begins `team.orders.77` too.
    let found = names.iter().filter(of).max_by_key(|name| name.len());
    found.cloned().unwrap_or_else(|| identity::name(run.deployment))
}

/// None while it runs.
async fn ended(context: &Context, job: &Job) -> Result<Option<std::result::Result<(), String>>> {
    Ok(match job::observe(context, job, PENDING).await? {
        Observed::Waiting(..) | Observed::Running(_) => None,
        Observed::Ended { report, .. } => {
            job::heard(context, job).await?;
            match &report.error {
                Some(error) => Some(Err(error.code.clone())),
                None => Some(Ok(())),
            }
        }
        Observed::Failed { exit_code: Some(0), .. } => Some(Ok(())),
        Observed::Failed { reason, .. } => Some(Err(reason.as_str().to_owned())),
    })
}

#[cfg(test)]
#[path = "erase_tests.rs"]
mod tests;

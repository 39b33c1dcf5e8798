//! Carries out the retention: makes its Jobs, takes their results, removes what another has replaced.

use std::time::Duration;

use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ListParams};
use kube::{Resource as _, ResourceExt as _};

use super::build::{Run, rotate};
use super::fetch::{Facts, pinned};
use super::identity;
use super::plan::Plan;
use super::retention::{Outcome, RESULT, Step, newest, step};
use crate::apply;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::{self, Observed};
use crate::names::{Role, label};
use crate::pod::Image;

/// How long a pod may wait for a node.
const PENDING: Duration = Duration::from_mins(15);

/// Looks at the retention of every name of a Deployment; whether there was nothing to do.
pub async fn run(context: &Context, deployment: &ProtectedDeployment, facts: &Facts, plan: &Plan) -> Result<bool> {
    // What cannot be written to needs no retention; without a catalogue nobody knows whether there is anything.
    let (Ok(repository), Some(catalog), None) = (&facts.repository, &facts.catalog, &facts.collision) else {
        return Ok(true);
    };
    let mut rests = true;
    let retention = deployment.spec.retention.clone().unwrap_or_default();
    let jobs = jobs(context, deployment, Role::Rotate).await?;
    let current = plan.name(deployment);
    let mut all = identity::all_names(deployment);
    if !all.contains(&current) {
        all.push(current.clone());
    }
    for name in all {
        let last = newest(&name, &catalog.backups).map(|record| record.backup_id.as_str().to_owned());
        let object = deployment.name_any();
        let is_current = name == current;
        // The plain name of an object that has always had another one holds nothing.
        if !is_current && !plan.lineages.iter().any(|lineage| lineage.name == name) {
            continue;
        }
        let step = step(
            &object,
            &name,
            is_current,
            last.as_deref(),
            &retention,
            &jobs,
            context.now(),
        );
        rests &= step == Step::Rest;
        match step {
            Step::Rest => {}
            Step::Run(seed) => {
                let run = run_of(context, deployment, facts);
                apply::create_once(context, &rotate(&run, repository, &name, &retention, &seed)).await?;
            }
            Step::Observe(job) => observe(context, deployment, &job).await?,
            Step::Remove(job) => apply::delete(context, &*job).await?,
        }
    }
    Ok(rests)
}

/// What every Job of a Deployment has.
pub fn run_of<'a>(context: &Context, deployment: &'a ProtectedDeployment, facts: &Facts) -> Run<'a> {
    let image = context.settings.engine();
    Run {
        deployment,
        image: Image {
            name: pinned(deployment).unwrap_or(image.name),
            ..image
        },
        surroundings: facts.namespace.surroundings,
    }
}

/// The Jobs of a Deployment with a role.
pub async fn jobs(context: &Context, deployment: &ProtectedDeployment, role: Role) -> Result<Vec<Job>> {
    let namespace = deployment.namespace().ok_or(Error::Incomplete("namespace"))?;
    let selector = format!(
        "{}={},{}={}",
        label::ROLE,
        role.as_str(),
        label::DEPLOYMENT,
        deployment.name_any()
    );
    let api: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    let list = api.list(&ListParams::default().labels(&selector)).await?;
    let uid = deployment.uid();
    let ours = |job: &Job| {
        let owners = job.metadata.owner_references.as_deref().unwrap_or_default();
        owners.iter().any(|owner| Some(&owner.uid) == uid.as_ref())
    };
    Ok(list.items.into_iter().filter(ours).collect())
}

async fn observe(context: &Context, deployment: &ProtectedDeployment, job: &Job) -> Result<()> {
    let outcome = match job::observe(context, job, PENDING).await? {
        Observed::Waiting(..) | Observed::Running(_) => return Ok(()),
        Observed::Ended { report, .. } => Outcome::of(&report),
        Observed::Failed { reason, message, .. } => {
            Outcome::lost(reason.as_str(), format!("{message}; {}", reason.hint()))
        }
    };
    job::mark(context, job, RESULT, &serde_json::to_string(&outcome)?).await?;
    job::heard(context, job).await?;
    if let Some(code) = &outcome.code {
        let note = format!(
            "{code}: {}; no backup was harmed",
            outcome.message.clone().unwrap_or_default()
        );
        context
            .tell(&deployment.object_ref(&()), true, "RetentionFailed", &note)
            .await;
    } else if outcome.tombstoned > 0 {
        let note = format!(
            "{} backups stay, {} were marked as deleted",
            outcome.kept, outcome.tombstoned
        );
        context
            .tell(&deployment.object_ref(&()), false, "RetentionApplied", &note)
            .await;
    }
    Ok(())
}

//! What there is of and around a Repository.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::guarded::Guarded;
use hardstorage_crds::{NamespacesFrom, ProtectedDeployment, Repository};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::access::admits;
use super::build::{check_name, kek_name};
use super::news::News;
use super::outcome::{Check, Init, Probe, Runs, Sync};
use super::resolve::{ClaimFacts, claim};
use super::restoring::restoring;
use super::share::Consumers;
use crate::apply;
use crate::backup::mirror;
use crate::context::Context;
use crate::controllers;
use crate::error::Result;
use crate::job::{Observed, observe};
use crate::names::{self, Role, label};
use crate::namespace::NamespaceFacts;

/// How long a pod that only looks may wait for a node before that is what the condition says.
const PENDING_LOOK: Duration = Duration::from_mins(2);
/// The same for a check, which nobody waits for.
const PENDING_CHECK: Duration = Duration::from_mins(15);

/// All of it.
#[derive(Debug)]
pub struct Fetched {
    /// The claim of a volume.
    pub claim: ClaimFacts,
    /// Its namespace.
    pub home: NamespaceFacts,
    /// Looks at the URL.
    pub probe: Runs<Probe>,
    /// Creations.
    pub init: Runs<Init>,
    /// Readings of the catalogue.
    pub sync: Runs<Sync>,
    /// Checks.
    pub check: Runs<Check>,
    /// The CronJob of its checks.
    pub cron: Option<CronJob>,
    /// Whether the Secret with its key, which was there, is not there any more.
    pub key_gone: bool,
    /// Who uses it.
    pub users: Users,
}

/// The Deployments that use it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// Namespaces of others.
    pub consumers: Consumers,
    /// Names that a Deployment shows in the Repository's own namespace.
    pub shown_here: BTreeSet<String>,
    /// Names that a Deployment shows in another one.
    pub shown_elsewhere: BTreeSet<String>,
    /// What they tell of new backups.
    pub news: News,
}

/// Looks at everything.
pub async fn fetch(context: &Context, repository: &Repository) -> Result<Fetched> {
    let namespace = repository.namespace().unwrap_or_default();
    let name = repository.name_any();
    let cron = apply::get::<CronJob>(context, &namespace, &check_name(&name)).await?;
    let jobs = jobs(context, &namespace, &name).await?;
    let uid = repository.uid();
    let (ours, checks) = (
        uid.as_deref(),
        cron.as_ref().and_then(|cron| cron.metadata.uid.as_deref()),
    );
    let now = context.now();
    Ok(Fetched {
        probe: Runs::of(look(context, &jobs, Role::Probe, ours).await?, now),
        init: Runs::of(look(context, &jobs, Role::Init, ours).await?, now),
        sync: Runs::of(look(context, &jobs, Role::Sync, ours).await?, now),
        check: Runs::of(look(context, &jobs, Role::Check, checks).await?, now),
        claim: claim(context, repository).await?,
        cron: cron.clone(),
        home: NamespaceFacts::look(context, &namespace).await?,
        key_gone: key_gone(context, repository).await?,
        users: users(context, repository).await?,
    })
}

/// We may not read it. What was never seen is a matter of a look at the store.
async fn key_gone(context: &Context, repository: &Repository) -> Result<bool> {
    let has_key = repository
        .status
        .as_ref()
        .is_some_and(|status| status.kek_fingerprint.is_some());
    match kek_name(repository).filter(|_| has_key) {
        Some(secret) => Ok(apply::is_there(context, &secret).await? == Some(false)),
        None => Ok(false),
    }
}

async fn jobs(context: &Context, namespace: &str, name: &str) -> Result<Vec<Job>> {
    let roles = [Role::Probe, Role::Init, Role::Sync, Role::Check].map(Role::as_str);
    let selector = format!("{}={name},{} in ({})", label::REPOSITORY, label::ROLE, roles.join(","));
    let api: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    Ok(api.list(&ListParams::default().labels(&selector)).await?.items)
}

/// The Jobs of a role that belong to this very owner, each with what was observed of it.
async fn look(context: &Context, jobs: &[Job], role: Role, owner: Option<&str>) -> Result<Vec<(Job, Observed)>> {
    let limit = if role == Role::Check {
        PENDING_CHECK
    } else {
        PENDING_LOOK
    };
    let mut out = Vec::new();
    for job in jobs {
        let is_role = job.labels().get(label::ROLE).map(String::as_str) == Some(role.as_str());
        let is_ours = job.owner_references().iter().any(|one| Some(one.uid.as_str()) == owner);
        if is_role && is_ours && job.metadata.deletion_timestamp.is_none() {
            out.push((job.clone(), observe(context, job, limit).await?));
        }
    }
    Ok(out)
}

/// Who uses it, of what the operator can see.
async fn users(context: &Context, repository: &Repository) -> Result<Users> {
    let api = controllers::api::<Guarded<ProtectedDeployment>>(context);
    let list = api.list(&ListParams::default()).await?;
    let home = repository.namespace().unwrap_or_default();
    let mut users = Users::default();
    for guard in list.items {
        let Some(namespace) = guard.namespace() else { continue };
        match guard.0 {
            Ok(deployment) if refers_to(&deployment, repository) => {
                let names = names_of(&deployment);
                users.news.deployment(&namespace, &deployment, &names);
                let shown = if namespace == home {
                    &mut users.shown_here
                } else {
                    users.consumers.namespaces.insert(namespace);
                    &mut users.shown_elsewhere
                };
                shown.extend(names);
            }
            Ok(_) => {}
            Err(_) => {
                users.consumers.unclear.insert(namespace);
            }
        }
    }
    users.consumers.namespaces.extend(restoring(context, repository).await?);
    for namespace in users.news.silent() {
        let backups = mirror::objects(context, &namespace).await?;
        users.news.runs(&namespace, &backups);
    }
    let allowed = repository.spec.allowed_namespaces.as_ref();
    let by_label = allowed.is_some_and(|allowed| allowed.from == NamespacesFrom::Selector);
    let referring = users.consumers.namespaces;
    let mut admitted = BTreeSet::new();
    for namespace in &referring {
        let labels = if by_label {
            NamespaceFacts::look(context, namespace).await?.labels
        } else {
            NamespaceFacts::default().labels
        };
        if admits(allowed, &labels) {
            admitted.insert(namespace.clone());
        }
    }
    users.consumers.namespaces = admitted;
    users.consumers.referring = referring;
    Ok(users)
}

/// Whether a Deployment uses this Repository.
pub fn refers_to(deployment: &ProtectedDeployment, repository: &Repository) -> bool {
    let reference = &deployment.spec.repository_ref;
    let namespace = reference.namespace.clone().or_else(|| deployment.namespace());
    reference.name == repository.name_any() && namespace == repository.namespace()
}

/// The names in the repository that a Deployment shows: its own, and those of the clusters that it protected before.
fn names_of(deployment: &ProtectedDeployment) -> BTreeSet<String> {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment
        .spec
        .name_in_repository
        .clone()
        .filter(|name| !name.is_empty());
    let default = || names::name_in_repository(&deployment.namespace().unwrap_or_default(), &deployment.name_any());
    let own = status.name_in_repository.or(wanted).unwrap_or_else(default);
    let before = status.lineages.into_iter().map(|lineage| lineage.name);
    before.chain([own]).collect()
}

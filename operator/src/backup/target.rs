//! What a run needs: the Deployment, its repository, its server, followed from a name. It reads only.
//!
//! What is missing is a refusal: a sentence for a condition. It never changes what runs.

use crate::guarded::Guarded;
use hardstorage_crds::{Duration, ProtectedDeployment};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::access::SourceAccess;
use crate::apply;
use crate::context::Context;
use crate::deployment::identity;
use crate::deployment::source::{self, State};
use crate::error::Result;
use crate::namespace::NamespaceFacts;
use crate::pod::Surroundings;
use crate::repository::{Intent, Refusal, Resolved, resolve};

/// Everything that a backup's pod is built from.
#[derive(Debug, Clone)]
pub struct Target {
    /// The Deployment.
    pub deployment: ProtectedDeployment,
    /// The name in the repository under which the next backup lies.
    pub name: String,
    /// The repository.
    pub repository: Resolved,
    /// The server.
    pub source: SourceAccess,
    /// A standby, where one streams.
    pub standby: Option<SourceAccess>,
    /// The ConfigMap with the description of the source, when there is one.
    pub snapshot: Option<String>,
    /// Where the pod runs.
    pub surroundings: Surroundings,
}

/// There is no such Deployment.
pub const DEPLOYMENT_MISSING: &str = "DeploymentMissing";
/// It is being deleted.
pub const DEPLOYMENT_DELETING: &str = "DeploymentDeleting";
/// The cluster sleeps because somebody wants it to.
pub const SOURCE_HIBERNATED: &str = "SourceHibernated";
/// The repository is for reading only.
pub const REPOSITORY_READ_ONLY: &str = "RepositoryReadOnly";

/// Follows the name of a Deployment.
pub async fn look(context: &Context, namespace: &str, name: &str) -> Result<Result<Target, Refusal>> {
    let deployment = match deployment(context, namespace, name).await? {
        Ok(deployment) => deployment,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let in_repository = identity::current_name(&deployment);
    let reference = &deployment.spec.repository_ref;
    let repository = match resolve(context, namespace, reference, &in_repository, Intent::Write).await? {
        Ok(repository) => repository,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let facts = source::look(context, &deployment).await?;
    let source = match (facts.state, facts.access) {
        (State::Ready, Some(access)) => access,
        (state, _) => return Ok(Err(not_ready(state))),
    };
    let snapshot = identity::snapshot_name(name);
    // A pod cannot start without a ConfigMap that it mounts, and a backup without the description is better than none.
    let described = facts.snapshot.is_some() && apply::get::<ConfigMap>(context, namespace, &snapshot).await?.is_some();
    Ok(Ok(Target {
        deployment,
        name: in_repository,
        repository,
        source,
        standby: facts.standby,
        snapshot: described.then_some(snapshot),
        surroundings: NamespaceFacts::look(context, namespace).await?.surroundings,
    }))
}

/// The Deployment alone.
pub async fn deployment(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Result<ProtectedDeployment, Refusal>> {
    // Guarded, so that one that cannot be read is a condition of its users and not an endless error.
    let found = apply::get::<Guarded<ProtectedDeployment>>(context, namespace, name).await?;
    Ok(match found {
        Some(Guarded(Ok(deployment))) if deployment.metadata.deletion_timestamp.is_none() => Ok(deployment),
        Some(Guarded(Ok(_))) => Err(refusal(
            DEPLOYMENT_DELETING,
            format!("Deployment {name} is being deleted"),
            "",
            false,
        )),
        Some(Guarded(Err(error))) => Err(refusal(
            "DeploymentMalformed",
            format!("Deployment {name} cannot be read: {error}"),
            "correct it",
            false,
        )),
        None => Err(refusal(
            DEPLOYMENT_MISSING,
            format!("there is no Deployment {name} of hardstorage.dev in namespace {namespace}"),
            "make it, or correct deploymentRef",
            false,
        )),
    })
}

fn not_ready(state: State) -> Refusal {
    match state {
        State::Ready => refusal("SourceNotReady", "how to reach the server is not known yet", "", true),
        State::Hibernated => refusal(SOURCE_HIBERNATED, "the cluster is hibernated", "", true),
        State::Progressing { reason, message } => refusal(reason, message, "", true),
        State::Missing { reason, message } => refusal(reason, message, "", false),
    }
}

fn refusal(reason: &str, message: impl Into<String>, hint: &str, waits: bool) -> Refusal {
    Refusal {
        reason: reason.to_owned(),
        message: message.into(),
        hint: hint.to_owned(),
        waits,
    }
}

/// A duration of a spec; what does not read as one is the default.
pub fn duration(wanted: Option<&Duration>, default: std::time::Duration) -> std::time::Duration {
    wanted.and_then(Duration::get).unwrap_or(default)
}

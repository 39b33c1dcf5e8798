//! What a Restore restores from: a name in a repository, followed from its source, with what a pod of this namespace needs
//! to read it. A name of another namespace needs a grant.

use hardstorage_crds::Restore;

use crate::backup::target;
use crate::context::Context;
use crate::deployment::identity;
use crate::error::Result;
use crate::names::name_in_repository;
use crate::repository::{Intent, Refusal, Resolved, resolve};

/// A source that was found.
#[derive(Debug, Clone)]
pub struct Source {
    /// The repository.
    pub repository: Resolved,
    /// The name in it.
    pub name: String,
}

/// Follows the source. The outer error is tried again; the inner one is for a condition.
pub async fn source(context: &Context, namespace: &str, restore: &Restore) -> Result<Result<Source, Refusal>> {
    let wanted = &restore.spec.source;
    let (reference, name) = if let Some(repository) = &wanted.repository {
        (repository.reference.clone(), repository.name.clone())
    } else {
        let called = wanted.deployment_ref.as_ref().map(|reference| reference.name.as_str());
        match target::deployment(context, namespace, called.unwrap_or_default()).await? {
            Ok(deployment) => {
                let name = identity::current_name(&deployment);
                (deployment.spec.repository_ref, name)
            }
            Err(refusal) => return Ok(Err(missing(namespace, called.unwrap_or_default(), refusal))),
        }
    };
    let resolved = resolve(context, namespace, &reference, &name, Intent::Read).await?;
    Ok(resolved.map(|repository| Source { repository, name }))
}

/// A Deployment that is gone takes no backup with it: they are found by their name.
fn missing(namespace: &str, deployment: &str, refusal: Refusal) -> Refusal {
    Refusal {
        hint: format!(
            "make it, or name its backups in a repository by source.repository, with name {}",
            name_in_repository(namespace, deployment)
        ),
        ..refusal
    }
}

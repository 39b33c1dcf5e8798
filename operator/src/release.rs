//! `release`: lets go of every object of hardstorage.dev before the operator is removed.
//!
//! Only the operator takes our finalizers off: that of a Deployment, that of a Backup which is to be deleted with its data,
//! and that of a Restore which is not finished. Without it none of them, and no namespace with one, could be deleted. So the
//! operator is stopped first, and the Lease is taken: while it is held, nothing puts a finalizer back. Streams, slots,
//! backups and claims stay as they are; so does the data of a Backup that was waiting for it to be marked as deleted.

use std::fmt::Debug;

use clap::Parser;
use hardstorage_crds::{Backup, ProtectedDeployment, Restore};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::lease::Elector;
use crate::names::{DATA_FINALIZER, FINALIZER, RESTORE_FINALIZER};

/// How often one object is read again when somebody else has changed it in between.
const TRIES: usize = 10;

/// Takes the operator's finalizers off every object of hardstorage.dev, before the operator is removed
#[derive(Debug, Clone, Parser)]
pub struct Release {
    /// The operator's own Deployment (apps/v1): it is scaled to zero first
    #[arg(long)]
    pub stop: Option<String>,
    /// Namespaces to look after; none means all
    #[arg(long, value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Namespace that the operator runs in
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Name of this process as the holder of the Lease
    #[arg(long, env = "POD_NAME", default_value = "release")]
    pub identity: String,
    /// Name of the Lease that the operator holds
    #[arg(long, default_value = "pg-hardstorage-operator")]
    pub lease: String,
}

/// Stops the operator, takes its place, and lets everything go.
pub async fn release(release: Release) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let client = Client::try_default().await?;
    if let Some(name) = &release.stop {
        stop_operator(&client, &release.namespace, name).await?;
    }
    let never = CancellationToken::new();
    let mut elector = Elector::new(client.clone(), &release.namespace, &release.lease, &release.identity);
    elector.acquire(&never).await;
    let (deployments, backups, restores) = tokio::select! {
        freed = all(&client, &release.watch_namespaces) => freed?,
        // Nobody tells it to stop, so it ends only with the loss.
        _ = elector.hold(&never) => {
            return Err("the Lease is lost: an operator runs and would put its finalizers back".into());
        }
    };
    elector.release().await?;
    tracing::info!(
        deployments,
        backups,
        restores,
        "objects of hardstorage.dev are free; streams go on, and all data stays"
    );
    Ok(())
}

async fn all(client: &Client, namespaces: &[String]) -> Result<(usize, usize, usize)> {
    Ok((
        let_go::<ProtectedDeployment>(client, namespaces, FINALIZER).await?,
        let_go::<Backup>(client, namespaces, DATA_FINALIZER).await?,
        let_go::<Restore>(client, namespaces, RESTORE_FINALIZER).await?,
    ))
}

/// Nothing is left to stop when it is gone already.
async fn stop_operator(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let none = json!({"spec": {"replicas": 0}});
    match api
        .patch(name, &PatchParams::default(), &Patch::Merge(&none))
        .await
        .map_err(Error::from)
    {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// How many were let go. Only metadata is read, so that an object with a malformed spec is let go too.
async fn let_go<K>(client: &Client, namespaces: &[String], finalizer: &str) -> Result<usize>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let mut scopes: Vec<Api<K>> = namespaces
        .iter()
        .map(|namespace| Api::namespaced(client.clone(), namespace))
        .collect();
    if scopes.is_empty() {
        scopes.push(Api::all(client.clone()));
    }
    let mut count = 0;
    for scope in scopes {
        let all = match scope
            .list_metadata(&kube::api::ListParams::default())
            .await
            .map_err(Error::from)
        {
            Ok(all) => all,
            // Without the definition there is no object of it.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        for object in all {
            let namespace = object.namespace().ok_or(Error::Incomplete("namespace"))?;
            let home = Api::namespaced(client.clone(), &namespace);
            count += usize::from(free::<K>(&home, object, finalizer).await?);
        }
    }
    Ok(count)
}

/// The resourceVersion is a precondition, because the list is replaced whole.
async fn free<K>(api: &Api<K>, mut object: PartialObjectMeta<K>, finalizer: &str) -> Result<bool>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let mut tries = 0;
    loop {
        if !object.finalizers().iter().any(|one| one == finalizer) {
            return Ok(false);
        }
        let others: Vec<&String> = object.finalizers().iter().filter(|one| *one != finalizer).collect();
        let body = json!({"metadata": {
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "finalizers": others,
        }});
        let name = object.name_any();
        match api
            .patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&body))
            .await
            .map_err(Error::from)
        {
            Ok(_) => return Ok(true),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) if error.is_conflict() && tries < TRIES => {
                tries += 1;
                match api.get_metadata_opt(&name).await? {
                    Some(again) => object = again,
                    None => return Ok(false),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;

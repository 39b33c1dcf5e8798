//! `release`: lets go of every Deployment of hardstorage.dev before the operator is removed.
//!
//! Only the operator takes our finalizer off; without it no Deployment and no namespace with one could be deleted. So the
//! operator is stopped first, and the Lease is taken: while it is held, nothing puts the finalizer back. Streams, slots and
//! backups stay as they are.

use clap::Parser;
use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::lease::Elector;
use crate::names::FINALIZER;

/// How often one object is read again when somebody else has changed it in between.
const TRIES: usize = 10;

/// Takes the operator's finalizer off every Deployment of hardstorage.dev, before the operator is removed
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
    let count = tokio::select! {
        count = let_go(&client, &release.watch_namespaces) => count?,
        // Nobody tells it to stop, so it ends only with the loss.
        _ = elector.hold(&never) => {
            return Err("the Lease is lost: an operator runs and would put its finalizer back".into());
        }
    };
    elector.release().await?;
    tracing::info!(count, "Deployments of hardstorage.dev are free; their streams go on");
    Ok(())
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
async fn let_go(client: &Client, namespaces: &[String]) -> Result<usize> {
    let mut scopes: Vec<Api<ProtectedDeployment>> = namespaces
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
            count += usize::from(free(&Api::namespaced(client.clone(), &namespace), object).await?);
        }
    }
    Ok(count)
}

/// The resourceVersion is a precondition, because the list is replaced whole.
async fn free(api: &Api<ProtectedDeployment>, mut object: PartialObjectMeta<ProtectedDeployment>) -> Result<bool> {
    let mut tries = 0;
    loop {
        if !object.finalizers().iter().any(|one| one == FINALIZER) {
            return Ok(false);
        }
        let others: Vec<&String> = object.finalizers().iter().filter(|one| *one != FINALIZER).collect();
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use crate::scripted::{Answers, ok, refused, scripted};
    use http::Method;
    use jiff::Timestamp;
    use serde_json::Value;

    fn object(name: &str, version: &str, finalizers: &[&str]) -> Value {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": name,
            "namespace": "team", "uid": name, "resourceVersion": version, "finalizers": finalizers}})
    }

    fn list(items: &[Value]) -> Value {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items})
    }

    #[tokio::test]
    async fn only_ours_is_taken_off_and_a_conflict_is_read_again() {
        let all = "/apis/hardstorage.dev/v1alpha1/hsdeployments";
        let one = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsdeployments/orders";
        let theirs = object("shop", "1", &["example.com/theirs"]);
        let both = |version| object("orders", version, &[FINALIZER, "example.com/theirs"]);
        let script = vec![
            ok(Method::GET, all, list(&[theirs, both("1")])),
            refused(Method::PATCH, one, 409, "Conflict"),
            ok(Method::GET, one, both("2")),
            ok(Method::PATCH, one, object("orders", "3", &["example.com/theirs"])),
        ];
        let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(let_go(&context.client, &[]).await.unwrap(), 1);
        drop(context);
        let asked = server.await.unwrap();
        let (_, _, body) = &asked[3];
        assert_eq!(body["metadata"]["finalizers"], json!(["example.com/theirs"]));
        assert_eq!(body["metadata"]["resourceVersion"], "2");
    }

    #[tokio::test]
    async fn without_the_definition_there_is_nothing_to_let_go() {
        let path = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsdeployments";
        let script = vec![refused(Method::GET, path, 404, "NotFound")];
        let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(let_go(&context.client, &["team".to_owned()]).await.unwrap(), 0);
        drop(context);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn what_may_not_be_read_is_no_success() {
        let path = "/apis/hardstorage.dev/v1alpha1/hsdeployments";
        let script = vec![refused(Method::GET, path, 403, "Forbidden")];
        let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
        assert!(let_go(&context.client, &[]).await.unwrap_err().is_forbidden());
        drop(context);
        server.await.unwrap();
    }
}

//! Clusters of CloudNativePG on the API server: read, and made once. Nothing here changes or deletes one.

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::context::Context;
use crate::deployment::source::cloud_native_pg_installed;
use crate::error::{Error, Result};
use crate::names::MANAGER;
use crate::repository::Refusal;

fn api(context: &Context, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusters");
    Api::namespaced_with(context.client.clone(), namespace, &resource)
}

/// The Cluster of a name; a refusal when none can be made here.
pub async fn get(context: &Context, namespace: &str, name: &str) -> Result<Result<Option<Value>, Refusal>> {
    match api(context, namespace).get(name).await.map_err(Error::from) {
        Ok(object) => Ok(Ok(Some(serde_json::to_value(object)?))),
        Err(error) if error.is_not_found() => {
            if cloud_native_pg_installed(context).await? {
                return Ok(Ok(None));
            }
            Ok(Err(refusal(
                "CloudNativePGNotInstalled",
                "CloudNativePG is not installed",
                "install it; the restore then begins by itself",
            )))
        }
        Err(error) if error.is_forbidden() => Ok(Err(refusal(
            "ClusterForbidden",
            "the operator may not read Clusters: its role lacks get on clusters of postgresql.cnpg.io",
            "give it the right; the restore then begins by itself",
        ))),
        Err(error) => Err(error),
    }
}

fn refusal(reason: &str, message: &str, hint: &str) -> Refusal {
    Refusal {
        reason: reason.to_owned(),
        message: message.to_owned(),
        hint: hint.to_owned(),
        waits: true,
    }
}

/// Makes it; that one of its name is there is for the next look.
pub async fn create(context: &Context, namespace: &str, cluster: &Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(cluster.clone())?;
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api(context, namespace)
        .create(&params, &object)
        .await
        .map_err(Error::from)
    {
        Ok(made) => {
            tracing::info!(namespace, name = made.name_any(), "a Cluster was made");
            Ok(())
        }
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

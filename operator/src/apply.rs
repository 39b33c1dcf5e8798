//! How objects are written: server-side apply with one field manager, creation that never overwrites, statuses with the
//! UID as precondition.

use std::fmt::Debug;

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::MANAGER;

/// What a create-only write found.
#[derive(Debug, Clone, PartialEq)]
pub enum Made<K> {
    /// It was made now.
    Created(K),
    /// One of that name was there; it was not touched.
    Exists,
}

/// Applies a child. What we do not say stays as others want it.
pub async fn apply<K>(context: &Context, object: &K) -> Result<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let namespace = object
        .meta()
        .namespace
        .as_deref()
        .ok_or(Error::Incomplete("namespace"))?;
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(K::kind(&()));
    let params = PatchParams::apply(MANAGER).force();
    Ok(api.patch(&object.name_any(), &params, &Patch::Apply(&value)).await?)
}

/// Creates an object, or finds that one of its name is there.
pub async fn create_once<K>(context: &Context, object: &K) -> Result<Made<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let namespace = object
        .meta()
        .namespace
        .as_deref()
        .ok_or(Error::Incomplete("namespace"))?;
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, object).await.map_err(Error::from) {
        Ok(made) => Ok(Made::Created(made)),
        Err(error) if error.is_conflict() => Ok(Made::Exists),
        Err(error) => Err(error),
    }
}

/// Deletes this very object, with its pods; that it is gone already is fine.
pub async fn delete<K>(context: &Context, object: &K) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let namespace = object
        .meta()
        .namespace
        .as_deref()
        .ok_or(Error::Incomplete("namespace"))?;
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api.delete(&object.name_any(), &params).await.map_err(Error::from) {
        Ok(_) => Ok(()),
        // Another object of the name is there now, or none.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads one; `None` when it is not there.
pub async fn get<K>(context: &Context, namespace: &str, name: &str) -> Result<Option<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    Ok(api.get_opt(name).await?)
}

/// Writes a status when it differs from the one that is there. The UID is a precondition: the status of an object that was
/// deleted and made again under its name is not the old one's.
pub async fn write_status<K>(
    context: &Context,
    kind: &'static str,
    object: &K,
    before: &Value,
    status: &Value,
) -> Result<bool>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    if before == status {
        return Ok(false);
    }
    let namespace = object
        .meta()
        .namespace
        .as_deref()
        .ok_or(Error::Incomplete("namespace"))?;
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": object.name_any(), "namespace": namespace, "uid": object.uid()},
        "status": status,
    });
    api.patch_status(
        &object.name_any(),
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(&body),
    )
    .await?;
    context.metrics.wrote(kind);
    Ok(true)
}

/// Adds or removes our finalizer; whether the object was changed. The resourceVersion is a precondition, because the list
/// is replaced whole.
pub async fn set_finalizer<K>(context: &Context, object: &K, finalizer: &str, wanted: bool) -> Result<bool>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let has = object.finalizers().iter().any(|one| one == finalizer);
    if has == wanted {
        return Ok(false);
    }
    let namespace = object
        .meta()
        .namespace
        .as_deref()
        .ok_or(Error::Incomplete("namespace"))?;
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let mut list: Vec<&str> = object
        .finalizers()
        .iter()
        .map(String::as_str)
        .filter(|one| *one != finalizer)
        .collect();
    if wanted {
        list.push(finalizer);
    }
    let body = json!({"metadata": {
        "uid": object.uid(),
        "resourceVersion": object.resource_version(),
        "finalizers": list,
    }});
    match api
        .patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&body))
        .await
        .map_err(Error::from)
    {
        Ok(_) => Ok(true),
        // Gone in between: nothing is left to let go.
        Err(error) if error.is_not_found() && !wanted => Ok(true),
        Err(error) => Err(error),
    }
}

//! Finalizers of ours. The list is replaced whole, so that the resourceVersion is a precondition of each change.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::home;
use crate::context::Context;
use crate::error::Result;

/// Adds or removes one; whether the object was changed.
pub async fn set_finalizer<K>(context: &Context, object: &K, finalizer: &str, wanted: bool) -> Result<bool>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    match put(context, object, finalizer, wanted).await {
        Ok(changed) => Ok(changed.is_some()),
        // Gone in between: nothing is left to let go.
        Err(error) if error.is_not_found() && !wanted => Ok(true),
        Err(error) => Err(error),
    }
}

/// Adds one; the object as it is with it, for what is written on what was seen.
pub async fn with_finalizer<K>(context: &Context, object: &K, finalizer: &str) -> Result<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let changed = put(context, object, finalizer, true).await?;
    Ok(changed.unwrap_or_else(|| object.clone()))
}

/// The object after the change; nothing when it was so already.
async fn put<K>(context: &Context, object: &K, finalizer: &str, wanted: bool) -> Result<Option<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let has = object.finalizers().iter().any(|one| one == finalizer);
    if has == wanted {
        return Ok(None);
    }
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
    let (name, params) = (object.name_any(), PatchParams::default());
    Ok(Some(
        home(context, object)?
            .patch(&name, &params, &Patch::Merge(&body))
            .await?,
    ))
}

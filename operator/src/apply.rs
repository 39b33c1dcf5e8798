//! How objects are written: server-side apply with one field manager, creation that never overwrites, statuses for the
//! object that they were made for.

mod covers;
mod finalizer;
mod status;

use std::fmt::Debug;

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use sha2::{Digest as _, Sha256};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::{MANAGER, annotation};
use covers::covers;

pub use finalizer::{set_finalizer, with_finalizer};
pub use status::{status_written, write_first_status, write_status_of_made, write_status_of_seen};

/// What a create-only write found.
#[derive(Debug, Clone, PartialEq)]
pub enum Made<K> {
    /// It was made now.
    Created(K),
    /// One of that name was there; it was not touched.
    Exists,
}

/// The API of the namespace that an object lies in.
fn home<K>(context: &Context, object: &K) -> Result<Api<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let namespace = object
        .meta()
        .namespace
        .as_deref()
        .ok_or(Error::Incomplete("namespace"))?;
    Ok(Api::namespaced(context.client.clone(), namespace))
}

/// Applies a child. What we do not say stays as others want it.
pub async fn apply<K>(context: &Context, object: &K) -> Result<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let api = home(context, object)?;
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(K::kind(&()));
    let params = PatchParams::apply(MANAGER).force();
    Ok(api.patch(&object.name_any(), &params, &Patch::Apply(&value)).await?)
}

/// Applies a child where it differs from the one that is there; what was applied. A reconcile that changes nothing writes
/// nothing, what somebody else changed is set right, and what we no longer want is taken away: the hash of what the child
/// was built from stands on it.
pub async fn apply_changed<K>(context: &Context, existing: Option<&K>, mut wanted: K) -> Result<Option<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let built_from = hex::encode(Sha256::digest(serde_json::to_vec(&wanted)?));
    wanted
        .annotations_mut()
        .insert(annotation::BUILT_FROM.to_owned(), built_from);
    if let Some(existing) = existing
        && covers(&serde_json::to_value(existing)?, &serde_json::to_value(&wanted)?)
    {
        return Ok(None);
    }
    apply(context, &wanted).await.map(Some)
}

/// Creates an object, or finds that one of its name is there.
pub async fn create_once<K>(context: &Context, object: &K) -> Result<Made<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let api = home(context, object)?;
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

/// Whether an object of that name is there, of a kind that may be created and not read: a creation that the API server only
/// tries. Nothing when it does not tell.
pub async fn is_there<K>(context: &Context, object: &K) -> Result<Option<bool>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let api = home(context, object)?;
    let params = PostParams {
        dry_run: true,
        field_manager: Some(MANAGER.to_owned()),
    };
    match api.create(&params, object).await {
        Ok(_) => Ok(Some(false)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(true)),
        // Rights, quotas and policies of others.
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Deletes this very object, with its pods; that it is gone already is fine.
pub async fn delete<K>(context: &Context, object: &K) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let api = home(context, object)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use crate::scripted::{Answers, ok, scripted};
    use http::Method;
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::Value;

    #[tokio::test]
    async fn what_has_not_changed_is_not_written() {
        let path = "/api/v1/namespaces/team/configmaps/a";
        let map = |data: &str| -> ConfigMap {
            serde_json::from_value(json!({"metadata": {"namespace": "team", "name": "a"}, "data": {"x": data}}))
                .unwrap()
        };
        let patch = || ok(Method::PATCH, path, Value::Null);
        let (context, server) = scripted(
            vec![patch(), patch(), patch()],
            Answers::default(),
            Timestamp::UNIX_EPOCH,
        );
        let first = apply_changed(&context, None, map("1")).await.unwrap().unwrap();
        assert_eq!(apply_changed(&context, Some(&first), map("1")).await.unwrap(), None);
        let mut theirs = first.clone();
        theirs.data.as_mut().unwrap().insert("x".into(), "theirs".into());
        assert!(
            apply_changed(&context, Some(&theirs), map("1"))
                .await
                .unwrap()
                .is_some()
        );
        // A field that we no longer want: what is there covers the rest, and still it is written.
        let mut less = map("1");
        less.data = None;
        assert!(apply_changed(&context, Some(&first), less).await.unwrap().is_some());
        drop(context);
        server.await.unwrap();
    }
}

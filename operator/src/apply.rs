//! How objects are written: server-side apply with one field manager, creation that never overwrites, statuses for the
//! object that they were made for.

mod covers;

use std::fmt::Debug;

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use sha2::{Digest as _, Sha256};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::{MANAGER, annotation};
use covers::covers;

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

/// Writes a status when it differs from the one that is there. The status of an object that was deleted and made again under
/// its name is not the old one's.
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
    put_status(context, kind, object, None, status).await?;
    Ok(true)
}

/// The same, on what was seen and nothing newer: a watch may be behind, and an old view of an object must not be written over
/// what came of it since. A conflict is tried again with a newer view.
pub async fn write_status_of_seen<K>(
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
    put_status(context, kind, object, object.resource_version(), status).await?;
    Ok(true)
}

/// Writes the first status of an object, unless it was changed since it was seen: others write one, too, and theirs says
/// more.
pub async fn write_first_status<K>(context: &Context, kind: &'static str, object: &K, status: &Value) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    match put_status(context, kind, object, object.resource_version(), status).await {
        Err(error) if error.is_conflict() => Ok(()),
        other => other,
    }
}

async fn put_status<K>(
    context: &Context,
    kind: &'static str,
    object: &K,
    version: Option<String>,
    status: &Value,
) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let api = home(context, object)?;
    let mut body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": object.name_any(), "namespace": object.namespace(), "uid": object.uid()},
        "status": status,
    });
    if let Some(version) = version {
        body["metadata"]["resourceVersion"] = version.into();
    }
    let (name, params) = (object.name_any(), PatchParams::apply(MANAGER).force());
    let met = api.patch_status(&name, &params, &Patch::Apply(&body)).await?;
    context.metrics.wrote(kind);
    if met.uid().is_none() || met.uid() == object.uid() {
        return Ok(());
    }
    // The server compares no UID in a status of ours (tried), so that one made again under the name has met it: what was
    // said of the object before is taken away again, and the next look says what is true.
    tracing::warn!(kind, name, "a status met another object of its name and is taken back");
    body["metadata"]["uid"] = json!(met.uid());
    body["metadata"]["resourceVersion"] = json!(met.resource_version());
    body["status"] = json!({});
    match api
        .patch_status(&name, &params, &Patch::Apply(&body))
        .await
        .map_err(Error::from)
    {
        Ok(_) => Ok(()),
        // Somebody has written it anew, or it is gone again.
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// When we wrote the status last: the API server keeps it for each field manager.
pub fn status_written<K: Resource>(object: &K) -> Option<jiff::Timestamp> {
    let managers = object.meta().managed_fields.as_ref()?;
    managers
        .iter()
        .filter(|entry| entry.manager.as_deref() == Some(MANAGER) && entry.subresource.as_deref() == Some("status"))
        .filter_map(|entry| entry.time.as_ref().map(|time| time.0))
        .max()
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
    let api = home(context, object)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use crate::scripted::{Answers, ok, refused, scripted};
    use http::Method;
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[tokio::test]
    async fn a_status_that_met_another_object_of_its_name_is_taken_back() {
        let path = "/api/v1/namespaces/team/configmaps/a/status";
        let seen: ConfigMap =
            serde_json::from_value(json!({"metadata": {"namespace": "team", "name": "a", "uid": "old"}})).unwrap();
        let made_again = json!({"metadata": {"namespace": "team", "name": "a", "uid": "new", "resourceVersion": "8"}});
        for outcome in [
            ok(Method::PATCH, path, made_again.clone()),
            refused(Method::PATCH, path, 409, "Conflict"),
        ] {
            let script = vec![ok(Method::PATCH, path, made_again.clone()), outcome];
            let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
            let status = json!({"phase": "Completed"});
            assert!(
                write_status(&context, "ConfigMap", &seen, &Value::Null, &status)
                    .await
                    .unwrap()
            );
            drop(context);
            let asked = server.await.unwrap();
            assert_eq!(asked[0].2["status"], status);
            let wanted = json!({"namespace": "team", "name": "a", "uid": "new", "resourceVersion": "8"});
            assert_eq!((&asked[1].2["status"], &asked[1].2["metadata"]), (&json!({}), &wanted));
        }
    }

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

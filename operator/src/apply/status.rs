//! How a status is written: for the object that it was made for, and on what was seen of it. A watch may be behind, and what
//! an old view of an object leads to must not be written over what came of it since; the status of one that was deleted and
//! made again under its name is not the old one's.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::home;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::MANAGER;

/// Writes a status when it differs from the one that was seen, on that and nothing newer. A conflict is tried again with a
/// newer view.
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

/// Writes the status of an object that we made just now: whoever has seen it since knows less of it.
pub async fn write_status_of_made<K>(context: &Context, kind: &'static str, object: &K, status: &Value) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    put_status(context, kind, object, None, status).await
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
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
            write_status_of_made(&context, "ConfigMap", &seen, &status)
                .await
                .unwrap();
            drop(context);
            let asked = server.await.unwrap();
            assert_eq!(asked[0].2["status"], status);
            let wanted = json!({"namespace": "team", "name": "a", "uid": "new", "resourceVersion": "8"});
            assert_eq!((&asked[1].2["status"], &asked[1].2["metadata"]), (&json!({}), &wanted));
        }
    }
}

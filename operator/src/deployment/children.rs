//! Applies the children of a Deployment where they differ. What stands in the way is told, never fought: an object of the
//! same name that is not ours is left as it is, since applied over it would be taken along when ours goes; and what the API
//! server refuses, for a policy or a spec that cannot be, is a condition in its words, and not an endless error.

use std::fmt::Debug;

use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::{leader_service, network_policy, snapshot};
use super::fetch::Facts;
use super::plan::Plan;
use crate::apply;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::label;
use crate::repository::Refusal;

/// Applies what differs; the first of what stands in the way.
pub async fn apply(
    context: &Context,
    deployment: &ProtectedDeployment,
    facts: &Facts,
    plan: &Plan,
) -> Result<Option<Refusal>> {
    let namespace = deployment.namespace().ok_or(Error::Incomplete("namespace"))?;
    if facts.collision.is_some() {
        return Ok(None);
    }
    let mut refused = Vec::new();
    if let Some(leader) = &facts.source.leader {
        refused.push(named(context, &namespace, leader_service(deployment, leader)).await?);
    }
    if let Some(content) = &facts.source.snapshot {
        refused.push(named::<ConfigMap>(context, &namespace, snapshot(deployment, content)).await?);
    }
    if let Some(stream) = plan.stream.as_ref().filter(|_| !plan.waits) {
        if let Some(scraper) = &context.settings.scraper_namespace {
            let policy = network_policy(deployment, &context.settings.namespace, scraper);
            refused.push(named::<NetworkPolicy>(context, &namespace, policy).await?);
        }
        let existing = facts.child.as_ref().or(facts.namesake.as_ref());
        // The stream's own word goes before.
        refused.insert(0, one(context, existing, (**stream).clone()).await?);
    }
    Ok(refused.into_iter().flatten().next())
}

async fn named<K>(context: &Context, namespace: &str, wanted: K) -> Result<Option<Refusal>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let existing = apply::get::<K>(context, namespace, &wanted.name_any()).await?;
    one(context, existing.as_ref(), wanted).await
}

async fn one<K>(context: &Context, existing: Option<&K>, wanted: K) -> Result<Option<Refusal>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let what = format!("the {} {}", K::kind(&()), wanted.name_any());
    if let Some(existing) = existing
        && !is_ours(existing, &wanted)
    {
        let goes = existing.meta().deletion_timestamp.is_some();
        return Ok(Some(Refusal {
            reason: "NameOfChildTaken".to_owned(),
            message: format!("{what} is there and was not made for this object; it is left as it is"),
            hint: "delete it, or make this object under another name".to_owned(),
            waits: goes,
        }));
    }
    match apply::apply_changed(context, existing, wanted).await {
        Ok(_) => Ok(None),
        Err(error) => match error.refusal() {
            Some(said) => Ok(Some(Refusal {
                reason: "ChildRefused".to_owned(),
                message: format!("the API server does not take {what}: {said}"),
                hint: "correct what it names: podTemplate and stream.resources come from this object; quotas, policies and \
                       rights are the cluster's"
                    .to_owned(),
                waits: error.is_namespace_going(),
            })),
            None => Err(error),
        },
    }
}

/// Whether an object was made for the one that owns what is wanted, or for one before it that left it behind.
pub fn is_ours<K: Resource>(existing: &K, wanted: &K) -> bool {
    let controller = |of: &K| {
        let owners = of.owner_references().iter();
        owners
            .clone()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| owner.uid.clone())
    };
    match controller(existing) {
        Some(theirs) => controller(wanted) == Some(theirs),
        None => [label::MANAGED_BY, label::DEPLOYMENT].into_iter().all(|key| {
            let value = existing.labels().get(key);
            value.is_some() && value == wanted.labels().get(key)
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::needless_pass_by_value,
        reason = "test code"
    )]
    use super::*;
    use crate::deployment::samples::deployment;
    use crate::deployment::source::Leader;
    use crate::scripted::{Answers, ok, refused, scripted};
    use http::Method;
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    const SERVICE: &str = "/api/v1/namespaces/team/services/orders-leader";

    fn wanted() -> Service {
        let leader = Leader {
            selector: [("role".to_owned(), "primary".to_owned())].into(),
            pod: None,
            ip: None,
        };
        leader_service(&deployment("team", "orders"), &leader)
    }

    fn there(metadata: Value) -> Value {
        let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": {"app": "theirs"}}});
        service["metadata"]["name"] = json!("orders-leader");
        service["metadata"]["namespace"] = json!("team");
        service
    }

    fn owned(uid: &str) -> Value {
        json!([{"apiVersion": "x", "kind": "Deployment", "name": "orders", "uid": uid, "controller": true}])
    }

    #[tokio::test]
    async fn an_object_of_somebody_else_is_left_as_it_is() {
        let ours =
            json!({"app.kubernetes.io/managed-by": "pg-hardstorage-operator", "hardstorage.dev/deployment": "orders"});
        let others =
            json!({"app.kubernetes.io/managed-by": "pg-hardstorage-operator", "hardstorage.dev/deployment": "shop"});
        let cases = [
            (json!({}), Some("NameOfChildTaken")),
            (json!({"labels": {"app": "theirs"}}), Some("NameOfChildTaken")),
            (json!({"labels": others}), Some("NameOfChildTaken")),
            (
                json!({"ownerReferences": owned("of one before")}),
                Some("NameOfChildTaken"),
            ),
            (json!({"ownerReferences": owned("uid-team-orders")}), None),
            // Left behind by an object of the same name that was deleted with --cascade=orphan.
            (json!({"labels": ours}), None),
        ];
        for (metadata, wanted_reason) in cases {
            let mut script = vec![ok(Method::GET, SERVICE, there(metadata.clone()))];
            if wanted_reason.is_none() {
                script.push(ok(Method::PATCH, SERVICE, Value::Null));
            }
            let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
            let refusal = named(&context, "team", wanted()).await.unwrap();
            assert_eq!(
                refusal.map(|refusal| refusal.reason).as_deref(),
                wanted_reason,
                "{metadata}"
            );
            drop(context);
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_the_api_server_refuses_is_said_and_what_goes_away_is_tried_again() {
        for (code, told) in [(422, true), (403, true), (400, true), (409, false), (500, false)] {
            let script = vec![
                refused(Method::GET, SERVICE, 404, "NotFound"),
                refused(Method::PATCH, SERVICE, code, "its words"),
            ];
            let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
            let outcome = named(&context, "team", wanted()).await;
            match outcome {
                Ok(Some(refusal)) if told => assert!(refusal.text().contains("its words"), "{}", refusal.text()),
                Err(_) if !told => {}
                other => panic!("{code}: {other:?}"),
            }
            drop(context);
            server.await.unwrap();
        }
    }
}

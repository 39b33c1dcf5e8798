//! What there is of a cluster that Patroni runs, on the API server. It reads only: a StatefulSet is its owner's to change.

use hardstorage_crds::PatroniDestination;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, PersistentVolumeClaim};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::destination::patroni::{Found, Kept, OBJECTS, member};
use crate::apply;
use crate::context::Context;
use crate::error::Result;

/// Looks at it.
pub async fn look(context: &Context, namespace: &str, wanted: &PatroniDestination) -> Result<Found> {
    let Some(member) = member(wanted) else {
        return Ok(Found::default());
    };
    let stateful_set = apply::get::<StatefulSet>(context, namespace, member.stateful_set).await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let claims = claims.list(&ListParams::default()).await?.items;
    let mut kept = Vec::new();
    for (kind, suffix) in OBJECTS {
        let name = format!("{}{suffix}", member.scope);
        let annotations = if kind == "endpoints" {
            let there = apply::get::<Endpoints>(context, namespace, &name).await?;
            there.map(|there| there.annotations().clone())
        } else {
            let there = apply::get::<ConfigMap>(context, namespace, &name).await?;
            there.map(|there| there.annotations().clone())
        };
        if let Some(annotations) = annotations {
            kept.push(Kept {
                kind,
                name,
                annotations,
            });
        }
    }
    Ok(Found {
        stateful_set,
        claims,
        kept,
    })
}

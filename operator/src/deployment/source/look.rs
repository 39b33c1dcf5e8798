//! Looks at a source. It reads only.

use hardstorage_crds::{CloudNativePg, Patroni, ProtectedDeployment, SourceMode};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::patroni::{LEADER_VALUES, Leader, Members, access, needs_address};
use super::patroni_rest::Rest;
use super::{Kind, SourceFacts, State, cnpg, connection, patroni_member, reason};
use crate::apply;
use crate::context::Context;
use crate::deployment::build;
use crate::deployment::children::is_ours;
use crate::deployment::identity::leader_service;
use crate::error::{Error, Result};

/// The definition of CloudNativePG's Cluster.
const CLUSTERS: &str = "clusters.postgresql.cnpg.io";

/// How the source of a Deployment is now.
pub async fn look(context: &Context, deployment: &ProtectedDeployment) -> Result<SourceFacts> {
    let namespace = deployment.namespace().ok_or(Error::Incomplete("namespace"))?;
    let source = &deployment.spec.source;
    if let Some(wanted) = &source.cloud_native_pg {
        return look_at_cluster(context, &namespace, wanted).await;
    }
    if let Some(wanted) = &source.patroni {
        return look_at_patroni(context, deployment, &namespace, wanted).await;
    }
    if let Some(wanted) = &source.connection {
        return Ok(connection::facts(wanted));
    }
    Ok(missing(
        Kind::Connection,
        reason::INVALID,
        "source names none of cloudNativePG, patroni, connection".to_owned(),
    ))
}

fn missing(kind: Kind, reason: &'static str, message: String) -> SourceFacts {
    SourceFacts::unknown(kind, State::Missing { reason, message })
}

async fn look_at_cluster(context: &Context, namespace: &str, wanted: &CloudNativePg) -> Result<SourceFacts> {
    let kind = GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusters");
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let name = &wanted.cluster;
    let found = api.get(name).await.map_err(Error::from);
    match found {
        Ok(object) => Ok(cnpg::facts(&Cluster::of(&serde_json::to_value(&object)?))),
        Err(error) if error.is_forbidden() => Ok(missing(
            Kind::CloudNativePg,
            reason::CLUSTER_FORBIDDEN,
            format!("the operator may not read the Cluster {name}: its role lacks clusters of postgresql.cnpg.io"),
        )),
        Err(error) if error.is_not_found() && !installed(context).await? => Ok(missing(
            Kind::CloudNativePg,
            reason::CLOUD_NATIVE_PG_MISSING,
            "CloudNativePG is not installed".to_owned(),
        )),
        Err(error) if error.is_not_found() => Ok(missing(
            Kind::CloudNativePg,
            reason::CLUSTER_MISSING,
            format!("there is no Cluster {name} in namespace {namespace}; backups of it stay"),
        )),
        Err(error) => Err(error),
    }
}

/// Rights that end at our namespaces do not let us look; then it is only the Cluster that is missing.
pub async fn installed(context: &Context) -> Result<bool> {
    let api: Api<CustomResourceDefinition> = Api::all(context.client.clone());
    match api.get_opt(CLUSTERS).await.map_err(Error::from) {
        Ok(found) => Ok(found.is_some()),
        Err(error) if error.is_forbidden() => Ok(true),
        Err(error) => Err(error),
    }
}

async fn look_at_patroni(
    context: &Context,
    deployment: &ProtectedDeployment,
    namespace: &str,
    wanted: &Patroni,
) -> Result<SourceFacts> {
    let members = match Members::of(wanted) {
        Ok(members) => members,
        Err(message) => return Ok(missing(Kind::Patroni, reason::INVALID, message)),
    };
    let service = leader_service(&deployment.name_any());
    let pod = leading(context, namespace, &members).await?;
    let recorded = patroni_member::recorded(context, namespace, &deployment.name_any(), pod.as_ref()).await?;
    let there = apply::get::<Service>(context, namespace, &service).await?;
    let found = leader(&members, pod, there.as_ref());
    if there
        .as_ref()
        .is_some_and(|there| !is_ours(there, &build::leader_service(deployment, &found)))
    {
        return Ok(missing(
            Kind::Patroni,
            reason::SERVICE_TAKEN,
            format!(
                "the Service {service} is there and was not made for this object: where it leads is not known; delete it, or \
                 make this object under another name"
            ),
        ));
    }
    let address = there.as_ref().and_then(cluster_ip);
    let waits = needs_address(wanted, &service) && address.is_none();
    let reached = match access(wanted, &service, address.as_deref()) {
        Ok(access) => Some(access),
        Err(_) if waits => None,
        Err(message) => return Ok(missing(Kind::Patroni, reason::INVALID, message)),
    };
    let state = match (&found.pod, waits) {
        (None, _) => State::Progressing {
            reason: reason::NO_LEADER,
            message: format!("no pod bears the labels {}", members.leaders()),
        },
        (Some(_), true) => State::Progressing {
            reason: reason::CLUSTER_NOT_READY,
            message: format!("the Service {service} has no address yet"),
        },
        (Some(_), false) => State::Ready,
    };
    let member = member(context, namespace, wanted, &found).await;
    let text = |field: &str| member.get(field).and_then(Value::as_str).map(str::to_owned);
    let standby = text("role").as_deref() == Some("standby_leader");
    let version = member.get("server_version").and_then(Value::as_u64).map(version);
    let mut facts = SourceFacts {
        access: reached.map(|mut access| {
            access.standby = standby;
            access
        }),
        primary: found.pod.clone(),
        mode: if standby {
            SourceMode::Standby
        } else {
            SourceMode::Primary
        },
        system_identifier: text("database_system_identifier"),
        version,
        ..SourceFacts::unknown(Kind::Patroni, state)
    };
    let mut snapshot = json!({
        "schema": "pg_hardstorage.source.v1",
        "type": Kind::Patroni.as_str(),
        "scope": wanted.scope,
        "flavor": wanted.flavor,
    });
    for (name, value) in recorded {
        snapshot[name] = value;
    }
    facts.snapshot = Some(snapshot);
    facts.leader = Some(found);
    Ok(facts)
}

async fn leading(context: &Context, namespace: &str, members: &Members) -> Result<Option<Pod>> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let list = pods.list(&ListParams::default().labels(&members.leaders())).await?;
    // During a failover two may bear the label for a moment: the one that is not on its way out leads.
    Ok(list
        .items
        .into_iter()
        .min_by_key(|pod| (pod.metadata.deletion_timestamp.is_some(), pod.name_any())))
}

fn leader(members: &Members, pod: Option<Pod>, service: Option<&Service>) -> Leader {
    let role = pod.as_ref().and_then(|pod| pod.labels().get(members.role).cloned());
    // While nobody leads, the Service stays as it was: the next leader bears the same word, and is found at once.
    let before = service.and_then(|service| service.spec.as_ref()?.selector.as_ref()?.get(members.role).cloned());
    let role = role.or(before.filter(|before| LEADER_VALUES.contains(&before.as_str())));
    Leader {
        selector: members.selector(role.as_deref().unwrap_or(LEADER_VALUES[0])),
        ip: pod.as_ref().and_then(|pod| pod.status.as_ref()?.pod_ip.clone()),
        pod: pod.map(|pod| pod.name_any()),
    }
}

fn cluster_ip(service: &Service) -> Option<String> {
    let address = service.spec.as_ref()?.cluster_ip.clone();
    address.filter(|address| !address.is_empty() && address != "None")
}

/// What the leader says of itself. That it does not is no failure: the stream finds out by itself.
async fn member(context: &Context, namespace: &str, patroni: &Patroni, leader: &Leader) -> Value {
    if leader.ip.is_none() {
        return Value::Null;
    }
    let asked = match Rest::connect(context, namespace, patroni.rest.as_ref(), leader.ip.as_deref()).await {
        Ok(rest) => rest.member().await,
        Err(why) => Err(why),
    };
    asked.unwrap_or_else(|why| {
        tracing::debug!(scope = patroni.scope, why = why.0, "Patroni was not asked");
        Value::Null
    })
}

/// 180006 is 18.6.
fn version(number: u64) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;

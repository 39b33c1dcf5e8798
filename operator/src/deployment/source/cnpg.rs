//! A CloudNativePG Cluster as a source. Pure.
//!
//! Everything has the name that the Cluster's own status says. The Service of the primary and `streaming_replica`'s
//! certificate let us in without any change to the Cluster, and CloudNativePG carries slots over to the standbys.
//!
//! Its words mislead at times: a Cluster that sleeps has phase healthy and Ready True, one that switches over as well.
//! So neither counts here: its instances, annotations and the condition of hibernation do, and the stream itself.

use hardstorage_crds::{CaKind, CaRef, SourceMode};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::{Kind, SourceFacts, State, reason};
use crate::access::{HostAccess, SourceAccess};

/// The role that CloudNativePG makes for its own standbys.
const ROLE: &str = "streaming_replica";

/// What a Cluster is for us.
pub fn facts(cluster: &Cluster) -> SourceFacts {
    let standby_source = cluster.is_replica();
    let access = |host: &str, standby: bool| {
        let (ca, certificate) = (cluster.server_ca.clone()?, cluster.replication_tls.clone()?);
        Some(SourceAccess {
            hosts: vec![HostAccess::named(host, 5432)],
            user: Some(ROLE.to_owned()),
            database: "postgres".to_owned(),
            ca: Some(CaRef {
                kind: CaKind::Secret,
                name: ca,
                key: "ca.crt".to_owned(),
            }),
            certificate: Some(certificate),
            standby,
            ..SourceAccess::default()
        })
    };
    let gone = matches!(state(cluster), State::Missing { .. });
    let primary = cluster.write_service.as_deref().filter(|_| !gone);
    // Ready instances other than the primary; whether one streams is seen when it is connected to.
    let has_standby = cluster.ready_instances > 1 && cluster.has_standby_service() && !gone;
    SourceFacts {
        kind: Kind::CloudNativePg,
        state: state(cluster),
        // The same before, during and after a promotion, which then restarts no stream.
        access: primary.and_then(|service| access(service, cluster.may_follow())),
        standby: has_standby
            .then(|| access(&format!("{}-ro", cluster.name), true))
            .flatten(),
        mode: if standby_source {
            SourceMode::Standby
        } else {
            SourceMode::Primary
        },
        primary: cluster.current_primary.clone(),
        version: cluster.version(),
        system_identifier: cluster.system_id.clone(),
        cluster_uid: cluster.uid.clone(),
        snapshot: Some(snapshot(cluster)),
        leader: None,
    }
}

fn state(cluster: &Cluster) -> State {
    let name = &cluster.name;
    let said = [cluster.phase.as_deref(), cluster.phase_reason.as_deref()];
    let said: Vec<&str> = said.into_iter().flatten().collect();
    let said = said.join(": ");
    if cluster.deleting {
        return State::Missing {
            reason: reason::CLUSTER_DELETING,
            message: format!("the Cluster {name} is being deleted; its backups stay"),
        };
    }
    if cluster.hibernated {
        return State::Hibernated;
    }
    if cluster.hibernation_wanted {
        return State::Progressing {
            reason: reason::HIBERNATING,
            message: format!("the Cluster {name} goes to sleep: {said}"),
        };
    }
    if cluster.is_fenced() {
        return State::Progressing {
            reason: reason::FENCED,
            message: format!("the primary of the Cluster {name} is fenced"),
        };
    }
    let (Some(current), Some(_), Some(_), Some(_)) = (
        &cluster.current_primary,
        &cluster.server_ca,
        &cluster.replication_tls,
        &cluster.write_service,
    ) else {
        return State::Progressing {
            reason: reason::CLUSTER_NOT_READY,
            message: format!("the Cluster {name} has no primary yet: {said}"),
        };
    };
    match &cluster.target_primary {
        Some(target) if target != current => State::Progressing {
            reason: reason::SWITCHING_OVER,
            message: format!("the Cluster {name} goes from {current} to {target}"),
        },
        _ => State::Ready,
    }
}

/// What is kept with each backup: enough to make the Cluster again when nothing else is left of it.
fn snapshot(cluster: &Cluster) -> Value {
    json!({
        "schema": "pg_hardstorage.source.v1",
        "type": Kind::CloudNativePg.as_str(),
        "cluster": {
            "apiVersion": "postgresql.cnpg.io/v1",
            "kind": "Cluster",
            "name": cluster.name,
            "uid": cluster.uid,
            "spec": cluster.spec,
        },
        "image": cluster.image,
        "postgresVersion": cluster.version(),
        "systemIdentifier": cluster.system_id,
        "architectures": cluster.architectures,
        "localeProvider": cluster.spec.pointer("/bootstrap/initdb/localeProvider"),
        "claims": claims(&cluster.spec),
    })
}

/// The claims of one instance.
fn claims(spec: &Value) -> Vec<Value> {
    let claim = |role: &str, tablespace: Option<&str>, storage: &Value| {
        let wanted = storage
            .get("size")
            .or_else(|| storage.pointer("/pvcTemplate/resources/requests/storage"));
        let class = storage
            .get("storageClass")
            .or_else(|| storage.pointer("/pvcTemplate/storageClassName"));
        json!({"role": role, "tablespace": tablespace, "size": wanted, "storageClass": class})
    };
    let mut all = Vec::new();
    if let Some(storage) = spec.get("storage") {
        all.push(claim("PG_DATA", None, storage));
    }
    if let Some(storage) = spec.get("walStorage").filter(|storage| storage.is_object()) {
        all.push(claim("PG_WAL", None, storage));
    }
    for tablespace in spec.get("tablespaces").and_then(Value::as_array).into_iter().flatten() {
        let name = tablespace.get("name").and_then(Value::as_str);
        let storage = tablespace.get("storage").unwrap_or(&Value::Null);
        all.push(claim("PG_TABLESPACE", name, storage));
    }
    all
}

#[cfg(test)]
#[path = "cnpg_tests.rs"]
mod tests;

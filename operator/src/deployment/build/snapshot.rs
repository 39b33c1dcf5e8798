//! The ConfigMap with what is known of the source. Each backup takes it along, so that a cluster can be made again when
//! nothing is left of it but a repository and a key.

use std::collections::BTreeMap;

use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use serde_json::Value;

use super::metadata;
use crate::access::path;
use crate::deployment::identity;
use crate::names::Role;

/// The ConfigMap.
pub fn snapshot(deployment: &ProtectedDeployment, content: &Value) -> ConfigMap {
    let labels = identity::labels(deployment, Role::Stream);
    let file = path::SNAPSHOT.rsplit('/').next().unwrap_or_default();
    ConfigMap {
        metadata: metadata(deployment, identity::snapshot_name(&deployment.name_any()), labels),
        data: Some(BTreeMap::from([(file.to_owned(), content.to_string())])),
        ..ConfigMap::default()
    }
}

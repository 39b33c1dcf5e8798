//! The children of a Deployment: one kind a file, all pure. Each has an owner, our own labels, and nothing of the parent's.

mod jobs;
mod leader_service;
mod network_policy;
mod snapshot;
mod stream;

pub use jobs::{Run, rotate, slot_drop, sync, tombstone};
pub use leader_service::leader_service;
pub use network_policy::network_policy;
pub use snapshot::snapshot;
pub use stream::{Moved, StreamPlan, built_for, image_of, stream};

use std::collections::BTreeMap;

use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use super::identity;

fn metadata(deployment: &ProtectedDeployment, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: deployment.namespace(),
        labels: Some(labels),
        owner_references: identity::owner(deployment).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;

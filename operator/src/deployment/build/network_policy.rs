//! Who may ask the engine pods of a Deployment.

use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;

use super::metadata;
use crate::deployment::identity;
use crate::names::{Role, label};
use crate::pod;

/// The policy. `scraper` is the name of a namespace, or a label, as NAME=VALUE, of pods in any.
pub fn network_policy(deployment: &ProtectedDeployment, operator: &str, scraper: &str) -> NetworkPolicy {
    let mut labels = identity::labels(deployment, Role::Stream);
    labels.remove(label::ROLE);
    let name = deployment.name_any();
    let metadata = metadata(deployment, format!("{name}-report"), labels);
    pod::network_policy(metadata, (label::DEPLOYMENT, &name), operator, scraper)
}

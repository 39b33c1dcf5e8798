//! Who may ask the pods of a Repository's own Jobs.

use hardstorage_crds::Repository;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use super::labels;
use crate::names::{Role, label};
use crate::pod;

/// Its name: that of a Deployment of the same name is another.
pub fn network_policy_name(repository: &str) -> String {
    format!("{repository}-repository-report")
}

/// The policy. `scraper` is the name of a namespace, or a label, as NAME=VALUE, of pods in any.
pub fn network_policy(repository: &Repository, operator: &str, scraper: &str) -> NetworkPolicy {
    let name = repository.name_any();
    let mut labels = labels(repository, Role::Probe);
    labels.remove(label::ROLE);
    labels.remove(label::COMPONENT);
    let metadata = ObjectMeta {
        namespace: repository.namespace(),
        name: Some(network_policy_name(&name)),
        labels: Some(labels),
        owner_references: repository.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    pod::network_policy(metadata, (label::REPOSITORY, &name), operator, scraper)
}

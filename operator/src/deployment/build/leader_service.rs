//! The Service that leads to the leader of a Patroni cluster: the label moves with the leader, and the Service with it.

use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use super::metadata;
use crate::deployment::identity;
use crate::deployment::source::Leader;
use crate::names::Role;

/// The Service.
pub fn leader_service(deployment: &ProtectedDeployment, leader: &Leader) -> Service {
    let labels = identity::labels(deployment, Role::Stream);
    Service {
        metadata: metadata(deployment, identity::leader_service(&deployment.name_any()), labels),
        spec: Some(ServiceSpec {
            selector: Some(leader.selector.clone()),
            ports: Some(vec![ServicePort {
                name: Some("postgresql".to_owned()),
                port: 5432,
                target_port: Some(IntOrString::Int(5432)),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

//! Who may ask the engine pods of a Deployment: the operator, and what scrapes metrics. Nobody else connects to them.

use std::collections::BTreeMap;

use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use super::metadata;
use crate::deployment::identity;
use crate::names::{MANAGER, REPORT_PORT, Role, label};

/// The label with a namespace's name that every namespace has.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// The policy. `scraper` is the name of a namespace, or a label, as NAME=VALUE, of pods in any.
pub fn network_policy(deployment: &ProtectedDeployment, operator: &str, scraper: &str) -> NetworkPolicy {
    let mut labels = identity::labels(deployment, Role::Stream);
    labels.remove(label::ROLE);
    let of_namespace = |name: &str| NetworkPolicyPeer {
        namespace_selector: Some(selector(NAMESPACE, name)),
        ..NetworkPolicyPeer::default()
    };
    let scraper = match scraper.split_once('=') {
        Some((name, value)) => NetworkPolicyPeer {
            namespace_selector: Some(LabelSelector::default()),
            pod_selector: Some(selector(name, value)),
            ..NetworkPolicyPeer::default()
        },
        None => of_namespace(scraper),
    };
    NetworkPolicy {
        metadata: metadata(deployment, format!("{}-report", deployment.name_any()), labels),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([
                    (label::MANAGED_BY.to_owned(), MANAGER.to_owned()),
                    (label::DEPLOYMENT.to_owned(), deployment.name_any()),
                ])),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(vec![of_namespace(operator), scraper]),
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::Int(i32::from(REPORT_PORT))),
                    protocol: Some("TCP".to_owned()),
                    ..NetworkPolicyPort::default()
                }]),
            }]),
            ..NetworkPolicySpec::default()
        }),
    }
}

fn selector(name: &str, value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(name.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    }
}

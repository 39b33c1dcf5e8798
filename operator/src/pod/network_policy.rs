//! Who may ask engine pods: the operator, and what scrapes metrics. Nobody else connects to them. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::names::{MANAGER, REPORT_PORT, label};

/// The label with a namespace's name that every namespace has.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// The policy of the engine pods with this label, in the namespace of its metadata. `operator` is the operator's namespace;
/// `scraper` is the name of a namespace, or a label, as NAME=VALUE, of pods in any.
pub fn network_policy(metadata: ObjectMeta, pods: (&str, &str), operator: &str, scraper: &str) -> NetworkPolicy {
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
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([
                    (label::MANAGED_BY.to_owned(), MANAGER.to_owned()),
                    (pods.0.to_owned(), pods.1.to_owned()),
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

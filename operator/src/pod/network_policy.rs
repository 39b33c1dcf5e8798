//! Who may ask engine pods: the operator, and what scrapes metrics. Nobody else connects to them. Pure.

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
    let scraper = match scraper.split_once('=') {
        Some((name, value)) => NetworkPolicyPeer {
            namespace_selector: Some(LabelSelector::default()),
            pod_selector: Some(selector(&[(name, value)])),
            ..NetworkPolicyPeer::default()
        },
        None => of_namespace(scraper),
    };
    policy(metadata, &[pods], vec![of_namespace(operator), scraper], false)
}

/// The policy of engine pods with these labels that reach nobody, and that only the operator asks.
pub fn isolation(metadata: ObjectMeta, pods: &[(&str, &str)], operator: &str) -> NetworkPolicy {
    policy(metadata, pods, vec![of_namespace(operator)], true)
}

fn policy(metadata: ObjectMeta, pods: &[(&str, &str)], from: Vec<NetworkPolicyPeer>, shut_in: bool) -> NetworkPolicy {
    let ours = [(label::MANAGED_BY, MANAGER)];
    let labels: Vec<(&str, &str)> = ours.iter().chain(pods).copied().collect();
    let directions: &[&str] = if shut_in { &["Ingress", "Egress"] } else { &["Ingress"] };
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(&labels)),
            policy_types: Some(directions.iter().map(|&direction| direction.to_owned()).collect()),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(from),
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::Int(i32::from(REPORT_PORT))),
                    protocol: Some("TCP".to_owned()),
                    ..NetworkPolicyPort::default()
                }]),
            }]),
            // A direction without a rule is shut.
            ..NetworkPolicySpec::default()
        }),
    }
}

fn of_namespace(name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(selector(&[(NAMESPACE, name)])),
        ..NetworkPolicyPeer::default()
    }
}

fn selector(labels: &[(&str, &str)]) -> LabelSelector {
    let pairs = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    LabelSelector {
        match_labels: Some(pairs.collect()),
        ..LabelSelector::default()
    }
}

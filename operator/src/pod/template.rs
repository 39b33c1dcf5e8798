//! Where an engine pod runs: what the user's `podTemplate` says, and what its repository's claim demands.

use hardstorage_crds::PodTemplate;
use k8s_openapi::api::core::v1::{Affinity, PodAffinity, PodAffinityTerm, PodTemplateSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

use crate::access::RepositoryAccess;
use crate::names::label;

/// A stream is restarted elsewhere half a minute after its node was lost, not after five.
pub(super) fn lost_nodes() -> Vec<Toleration> {
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .into_iter()
        .map(|key| Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            toleration_seconds: Some(30),
            ..Toleration::default()
        })
        .collect()
}

/// A claim that one node can mount has all of its pods on that node. The first one may go anywhere: it fits its own term.
pub(super) fn beside_the_claim(repository: &RepositoryAccess) -> Option<Affinity> {
    if repository.claim.is_none() || repository.shared_claim {
        return None;
    }
    let labels = BTreeMap::from([(label::REPOSITORY.to_owned(), repository.name.clone())]);
    Some(Affinity {
        pod_affinity: Some(PodAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![PodAffinityTerm {
                label_selector: Some(LabelSelector {
                    match_labels: Some(labels),
                    ..LabelSelector::default()
                }),
                topology_key: "kubernetes.io/hostname".to_owned(),
                ..PodAffinityTerm::default()
            }]),
            ..PodAffinity::default()
        }),
        ..Affinity::default()
    })
}

/// Puts the user's settings over ours. Labels and environment that are ours stay: they say whose the pod is.
pub(super) fn overlay(pod: &mut PodTemplateSpec, wanted: &PodTemplate) {
    let metadata = pod.metadata.get_or_insert_default();
    add(metadata.labels.get_or_insert_default(), wanted.labels.as_ref(), false);
    add(
        metadata.annotations.get_or_insert_default(),
        wanted.annotations.as_ref(),
        true,
    );
    let Some(spec) = &mut pod.spec else { return };
    if let Some(selector) = &wanted.node_selector {
        spec.node_selector = Some(selector.clone());
    }
    if let Some(tolerations) = &wanted.tolerations {
        spec.tolerations
            .get_or_insert_default()
            .extend(tolerations.iter().cloned());
    }
    if let Some(affinity) = &wanted.affinity {
        let ours = spec.affinity.take();
        let mut merged = affinity.clone();
        if let Some(term) = ours.and_then(|ours| ours.pod_affinity) {
            merged
                .pod_affinity
                .get_or_insert_default()
                .required_during_scheduling_ignored_during_execution
                .get_or_insert_default()
                .extend(
                    term.required_during_scheduling_ignored_during_execution
                        .unwrap_or_default(),
                );
        }
        spec.affinity = Some(merged);
    }
    if let Some(spread) = &wanted.topology_spread_constraints {
        spec.topology_spread_constraints = Some(spread.clone());
    }
    if let Some(priority) = &wanted.priority_class_name {
        spec.priority_class_name = Some(priority.clone());
    }
    if let Some(secrets) = &wanted.image_pull_secrets {
        spec.image_pull_secrets = Some(secrets.clone());
    }
    if let (None, Some(account)) = (&spec.service_account_name, &wanted.service_account_name) {
        spec.service_account_name = Some(account.clone());
    }
    if let Some(context) = &wanted.security_context {
        spec.security_context = Some(context.clone());
    }
    let engine = spec.containers.first_mut().and_then(|engine| engine.env.as_mut());
    if let (Some(env), Some(more)) = (engine, &wanted.env) {
        let known: Vec<String> = env.iter().map(|variable| variable.name.clone()).collect();
        env.extend(more.iter().filter(|variable| !known.contains(&variable.name)).cloned());
    }
}

fn add(to: &mut BTreeMap<String, String>, more: Option<&BTreeMap<String, String>>, theirs_win: bool) {
    for (key, value) in more.into_iter().flatten() {
        if theirs_win || !to.contains_key(key) {
            to.insert(key.clone(), value.clone());
        }
    }
}

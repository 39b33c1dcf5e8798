//! As whom an engine pod runs: nobody in particular, with nothing. It conforms to the restricted Pod Security Standard.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

use super::Life;

/// The user and group of the image.
const USER: i64 = 65532;

/// What the cluster is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Whether the namespace chooses users itself (OpenShift): a fixed one would be refused.
    pub assigns_users: bool,
}

pub(super) fn pod(surroundings: Surroundings) -> PodSecurityContext {
    let fixed = !surroundings.assigns_users;
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: fixed.then_some(USER),
        run_as_group: fixed.then_some(USER),
        fs_group: fixed.then_some(USER),
        // The default would walk through a whole repository at each start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

pub(super) fn container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

/// Sidecars of a service mesh keep a Job's pod alive for ever, and an autoscaler that moves a backup loses it.
pub(super) fn annotations(life: Life) -> BTreeMap<String, String> {
    let mut all = vec![
        ("sidecar.istio.io/inject", "false"),
        ("linkerd.io/inject", "disabled"),
        ("kuma.io/sidecar-injection", "disabled"),
    ];
    if life != Life::Always {
        all.push(("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"));
        all.push(("karpenter.sh/do-not-disrupt", "true"));
    }
    all.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

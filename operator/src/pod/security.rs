//! As whom an engine pod runs: nobody in particular, with nothing. It conforms to the restricted Pod Security Standard.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

use super::{EnginePod, Life};

/// The user and group of the image.
pub const USER: i64 = 65532;

/// What the cluster is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Whether the namespace chooses users itself (OpenShift): a fixed one would be refused.
    pub assigns_users: bool,
}

pub(super) fn pod(pod: &EnginePod<'_>) -> PodSecurityContext {
    let fixed = !pod.surroundings.assigns_users;
    let user = pod.data.map(|data| data.user);
    let (uid, gid) = user.map_or((USER, USER), |user| (user.uid, user.gid));
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: fixed.then_some(uid),
        run_as_group: fixed.then_some(gid),
        fs_group: fixed.then_some(gid),
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

//! Whether the first claim of a StatefulSet may be filled. Pure.
//!
//! A cluster that runs, or claims of other members, would go on with the rows of before, and win over what was restored: they
//! are refused, and nothing is touched. What only has to be put away first is waited for.

use hardstorage_crds::{PatroniDestination, Restore};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;

use super::kept::{Kept, in_the_way};
use super::{Member, member};
use crate::repository::Refusal;
use crate::restore::destination::{IN_USE, USED, is_ours, refusal, waits};

/// What there is of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Its StatefulSet.
    pub stateful_set: Option<StatefulSet>,
    /// Claims of the namespace.
    pub claims: Vec<PersistentVolumeClaim>,
    /// What Patroni has kept.
    pub kept: Vec<Kept>,
}

/// Judges it. `pods` are those of others that have not ended.
pub fn judge(restore: &Restore, wanted: &PatroniDestination, found: &Found, pods: &[Pod]) -> Result<(), Refusal> {
    let Some(member) = member(wanted) else {
        return Ok(());
    };
    if let Some(there) = &found.stateful_set {
        sleeps(&member, there)?;
    }
    ended(&member, pods)?;
    alone(restore, &member, &found.claims)?;
    let plan = restore.status.as_ref().and_then(|status| status.plan.as_ref());
    let system = plan
        .and_then(|plan| plan.system_identifier.as_deref())
        .unwrap_or_default();
    let namespace = restore.metadata.namespace.as_deref().unwrap_or_default();
    let (said, commands): (Vec<_>, Vec<_>) = in_the_way(&found.kept, namespace, system).into_iter().unzip();
    if said.is_empty() {
        return Ok(());
    }
    let message = format!(
        "Patroni would not let the restored member lead, because of what it has kept under the scope {}: {}",
        member.scope,
        said.join("; "),
    );
    let hint = format!(
        "if nothing of that cluster runs any more: {}; the restore then begins by itself",
        commands.join("; ")
    );
    Err(waits(refusal("PatroniStateLeft", message, &hint)))
}

/// A StatefulSet that is there has no replicas, and takes a claim of that name.
fn sleeps(member: &Member<'_>, there: &StatefulSet) -> Result<(), Refusal> {
    let (name, template) = (member.stateful_set, member.template);
    let spec = there.spec.as_ref();
    let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    if replicas != 0 {
        return Err(refusal(
            IN_USE,
            format!("the StatefulSet {name} has {replicas} replicas"),
            "nothing was touched; restore under another name, or put this cluster away first: its StatefulSet at 0 replicas, \
             and its claims gone",
        ));
    }
    let templates = spec
        .and_then(|spec| spec.volume_claim_templates.clone())
        .unwrap_or_default();
    if templates.iter().any(|one| one.name_any() == template) {
        return Ok(());
    }
    let names: Vec<String> = templates.iter().map(kube::ResourceExt::name_any).collect();
    let has = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Err(refusal(
        "ClaimNotOfStatefulSet",
        format!("the StatefulSet {name} has no volumeClaimTemplate {template}; it has {has}"),
        "make another Restore, with the one that holds the data",
    ))
}

/// None of its pods is there.
fn ended(member: &Member<'_>, pods: &[Pod]) -> Result<(), Refusal> {
    let prefix = format!("{}-", member.stateful_set);
    let its = |pod: &&Pod| number(&pod.name_any(), &prefix).is_some();
    let going = |pod: &&Pod| pod.metadata.deletion_timestamp.is_some();
    if let Some(pod) = pods.iter().filter(its).find(|pod| !going(pod)) {
        let message = format!("pod {} runs", pod.name_any());
        return Err(refusal(
            IN_USE,
            message,
            "nothing was touched; restore under another name",
        ));
    }
    match pods.iter().find(its) {
        Some(pod) => Err(waits(refusal(
            "PodEnding",
            format!("pod {} is ending", pod.name_any()),
            "",
        ))),
        None => Ok(()),
    }
}

/// No claim of another member is there: its rows are those of before.
fn alone(restore: &Restore, member: &Member<'_>, claims: &[PersistentVolumeClaim]) -> Result<(), Refusal> {
    let uid = restore.metadata.uid.as_deref().unwrap_or_default();
    for claim in claims {
        let name = claim.name_any();
        if number(&name, &member.claims()).is_none() || is_ours(claim.metadata.annotations.as_ref(), uid) {
            continue;
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(waits(refusal(
                "ClaimDeleting",
                format!("the claim {name} is being deleted"),
                "",
            )));
        }
        return Err(refusal(
            USED,
            format!("there is a claim {name}, of a member with the rows of before"),
            "nothing was touched; make another Restore, under another name or when the claims of this cluster are gone",
        ));
    }
    Ok(())
}

/// The number of a member, from the name of its pod or claim.
fn number(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

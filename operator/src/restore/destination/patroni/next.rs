//! What is left to do when the claim is filled, in the words of whoever runs the cluster. Pure.

use hardstorage_crds::{Flavor, NextStep, PatroniDestination, Restore};

use super::member;
use crate::restore::destination::Wanted;

/// One member first: two that start at once race for who makes the cluster, and the one without data makes an empty one.
const ONE_FIRST: &str = "Begin with one member, because two that start at once race for who makes the cluster, and the one \
                         without data would make an empty one";

/// The next step, of a flavor that is known. `wanted` is the place that was filled.
pub fn next(restore: &Restore, to: &PatroniDestination, wanted: &Wanted) -> Option<NextStep> {
    let namespace = restore.metadata.namespace.as_deref().unwrap_or_default();
    let plan = restore.status.as_ref().and_then(|status| status.plan.as_ref());
    let version = plan
        .and_then(|plan| plan.postgres_version.as_deref())
        .unwrap_or_default();
    let major = version.split('.').next().unwrap_or_default();
    let claim = wanted
        .data
        .mounts
        .first()
        .map(|mount| mount.claim.as_str())
        .unwrap_or_default();
    let spec = wanted.claims.first().and_then(|claim| claim.spec.as_ref());
    let size = spec.and_then(|spec| Some(spec.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone()));
    let size = size.unwrap_or_default();
    let modes = spec
        .and_then(|spec| spec.access_modes.clone())
        .unwrap_or_default()
        .join(", ");
    let path = to.path.as_deref().unwrap_or("pgdata");
    let step = match (&to.flavor, member(to)) {
        (Flavor::Crunchy, _) => NextStep {
            text: format!(
                "Make a PostgresCluster with this part, in namespace {namespace}: its operator takes the claim {claim} over. \
                 The first set of instances, with replicas: 1 at first, must ask for exactly this storage, and for the \
                 StorageClass of the claim. From then on deleting the PostgresCluster deletes the claim."
            ),
            manifest: Some(format!(
                "apiVersion: postgres-operator.crunchydata.com/v1beta1\nkind: PostgresCluster\nspec:\n  \
                 postgresVersion: {major}\n  dataSource:\n    volumes:\n      pgDataVolume:\n        pvcName: {claim}\n        \
                 directory: {path}\n  instances:\n  - replicas: 1\n    dataVolumeClaimSpec:\n      \
                 accessModes: [{modes}]\n      resources: {{requests: {{storage: {size}}}}}\n"
            )),
        },
        (Flavor::Zalando, Some(member)) => NextStep {
            text: format!(
                "Make the postgresql object with this part, in namespace {namespace}, without clone and standby: its \
                 StatefulSet takes the claim {claim}. {ONE_FIRST}; when {} leads, raise numberOfInstances. The users' \
                 passwords are those of the backup: keep their Secrets, or set the passwords in {0} to those of new ones.",
                member.first(),
            ),
            manifest: Some(format!(
                "apiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata: {{name: {}}}\nspec:\n  numberOfInstances: 1\n  \
                 postgresql: {{version: \"{major}\"}}\n  volume: {{size: {size}}}\n",
                member.stateful_set,
            )),
        },
        (_, Some(member)) => NextStep {
            text: format!(
                "Apply the StatefulSet {0} with replicas: 1, or: kubectl scale statefulset/{0} -n {namespace} --replicas=1. \
                 It takes the claim {claim}. {ONE_FIRST}; when {1} leads, set the replicas that you want: they are copied \
                 from it.",
                member.stateful_set,
                member.first(),
            ),
            manifest: None,
        },
        (_, None) => return None,
    };
    Some(step)
}

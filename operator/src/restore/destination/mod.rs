//! Where a Restore goes to: what has to be made, what is mounted where, and whether somebody uses it already. Pure.
//!
//! A place that is used is refused, whoever uses it: so an old Restore that is applied again touches nothing.

mod claim;
pub mod cnpg;
pub mod drill;
pub mod patroni;

use hardstorage_crds::{Bytes, ClaimDestination, NextStep, Restore, Size};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use serde_json::Value;

use crate::access::RepositoryAccess;
use crate::names::annotation;
use crate::pod::{DataDirectory, ENGINE_USER, Image, Mount, User};
use crate::repository::Refusal;

/// What somebody uses already.
pub const USED: &str = "DestinationUsed";
/// What a running pod has mounted.
pub const IN_USE: &str = "DestinationInUse";
/// Where a claim is mounted that is no Cluster's.
const FOLDER: &str = "/restore";
/// Where CloudNativePG mounts a volume for WAL.
const WAL: &str = "/var/lib/postgresql/wal";

/// A destination as it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Claims that are made.
    pub claims: Vec<PersistentVolumeClaim>,
    /// What the pod mounts, and as whom it runs.
    pub data: DataDirectory,
    /// PostgreSQL's image, when it recovers the data.
    pub postgres: Option<Image>,
    /// The data directory in the pod.
    pub directory: String,
    /// The directory for WAL in the pod, when it lies elsewhere.
    pub wal_dir: Option<String>,
    /// The Cluster that is made at the end.
    pub cluster: Option<Value>,
}

/// What the Restore wants. `engine` is the engine's image.
pub fn wanted(restore: &Restore, engine: &Image) -> Result<Wanted, Refusal> {
    let spec = &restore.spec;
    let plan = restore.status.as_ref().and_then(|status| status.plan.as_ref());
    let needed = needed(restore);
    let spaces = plan.map(|plan| plan.tablespaces.clone()).unwrap_or_default();
    let postgres = |name: String| Image {
        name,
        pull_policy: "IfNotPresent".to_owned(),
    };
    if let Some(claim) = &spec.destination.persistent_volume_claim {
        return onto_claim(restore, claim, spec.postgres_image.clone().map(postgres), engine);
    }
    if let Some(to) = &spec.destination.patroni {
        let claim = patroni::claim(restore, to, needed)?;
        return onto_claim(restore, &claim, Some(postgres(patroni::image(restore)?)), engine);
    }
    if let Some(drill) = &spec.destination.drill {
        return drill::wanted(restore, drill, needed, engine);
    }
    let new = new_cluster(restore, needed)?;
    let in_pod = |mount: cnpg::Mount| Mount {
        claim: mount.claim,
        path: mount.path,
    };
    let mounts: Vec<Mount> = cnpg::mounts(&new)?.into_iter().map(in_pod).collect();
    let placed = |space: &&String| {
        mounts
            .iter()
            .any(|mount| space.starts_with(&format!("{}/", mount.path)))
    };
    if let Some(space) = spaces.iter().find(|space| !placed(space)) {
        return Err(refusal(
            "TablespacesUnplaced",
            format!("the backup has a tablespace at {space}, and the new Cluster has no volume there"),
            "name the tablespace in template.spec.tablespaces as the source did",
        ));
    }
    let (uid, gid) = new.user()?;
    let wal_dir = mounts
        .iter()
        .any(|mount| mount.path == WAL)
        .then(|| format!("{WAL}/pg_wal"));
    Ok(Wanted {
        claims: cnpg::claims(&new)?,
        data: DataDirectory {
            mounts,
            user: User { uid, gid },
            engine: Some(engine.clone()),
        },
        postgres: Some(postgres(new.image()?)),
        directory: "/var/lib/postgresql/data/pgdata".to_owned(),
        wal_dir,
        cluster: Some(cnpg::cluster(&new)?),
    })
}

/// One claim of any name; `postgres` recovers what is restored, when it is recovered.
fn onto_claim(
    restore: &Restore,
    claim: &ClaimDestination,
    postgres: Option<Image>,
    engine: &Image,
) -> Result<Wanted, Refusal> {
    let plan = restore.status.as_ref().and_then(|status| status.plan.as_ref());
    if let Some(space) = plan.and_then(|plan| plan.tablespaces.first()) {
        return Err(refusal(
            "TablespacesUnplaced",
            format!("the backup has a tablespace at {space}, and a claim has no place for it"),
            "restore into a CloudNativePG Cluster, or with the command line",
        ));
    }
    Ok(Wanted {
        claims: claim::new_claim(restore, claim, needed(restore))?.into_iter().collect(),
        data: DataDirectory {
            mounts: vec![Mount {
                claim: claim.name.clone(),
                path: FOLDER.to_owned(),
            }],
            user: User {
                uid: claim.uid,
                gid: claim.gid,
            },
            engine: postgres.is_some().then(|| engine.clone()),
        },
        postgres,
        directory: format!("{FOLDER}/{}", claim.path),
        wal_dir: None,
        cluster: None,
    })
}

/// What is left to do for somebody else, when it is done.
pub fn next(restore: &Restore, engine: &Image) -> Option<NextStep> {
    let to = restore.spec.destination.patroni.as_ref()?;
    patroni::next(restore, to, &wanted(restore, engine).ok()?)
}

/// Whether the user that the data is for can read the repository. On a claim the files are those of the engine's user alone,
/// and a volume that its pods have mounted gets no other group.
pub fn can_read(restore: &Restore, repository: &RepositoryAccess) -> Result<(), Refusal> {
    let onto = restore.spec.destination.persistent_volume_claim.as_ref();
    // A drill chooses that user.
    if repository.claim.is_none()
        || restore.spec.destination.drill.is_some()
        || onto.is_some_and(|claim| claim.uid == ENGINE_USER)
    {
        return Ok(());
    }
    Err(refusal(
        "RepositoryOnClaim",
        "the repository lies on a claim, where only the engine's own user can read it, and PostgreSQL's user cannot",
        "restore with the command line, or onto a claim with uid 65532",
    ))
}

/// The image of PostgreSQL that the user names, or the one that was recorded with the backup.
fn known_image(restore: &Restore) -> Option<String> {
    let plan = restore.status.as_ref().and_then(|status| status.plan.as_ref());
    let recorded = plan.and_then(|plan| plan.source_snapshot.as_ref()?.get("image")?.as_str());
    let named = restore.spec.postgres_image.as_deref().or(recorded);
    named.filter(|image| !image.is_empty()).map(str::to_owned)
}

fn new_cluster(restore: &Restore, needed: u64) -> Result<cnpg::NewCluster<'_>, Refusal> {
    let Some(wanted) = &restore.spec.destination.cloud_native_pg else {
        return Err(refusal(
            "DestinationUnknown",
            "destination names none of persistentVolumeClaim, cloudNativePG, patroni, drill",
            "this operator may be older than the object",
        ));
    };
    let plan = restore.status.as_ref().and_then(|status| status.plan.as_ref());
    Ok(cnpg::NewCluster {
        namespace: restore.metadata.namespace.as_deref().unwrap_or_default(),
        name: &wanted.cluster,
        uid: restore.metadata.uid.as_deref().unwrap_or_default(),
        restore: restore.metadata.name.as_deref().unwrap_or_default(),
        template: wanted.template.as_ref(),
        snapshot: plan.and_then(|plan| plan.source_snapshot.as_ref()),
        postgres_image: restore.spec.postgres_image.as_deref(),
        needed_bytes: with_reserve(needed),
    })
}

/// A tenth more than what the plan needs.
fn with_reserve(needed: u64) -> u64 {
    needed.saturating_add(needed / 10)
}

/// What is there of a destination.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The claims that it names.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Other claims of a Cluster of its name.
    pub of_the_cluster: Vec<PersistentVolumeClaim>,
    /// The Cluster of its name.
    pub cluster: Option<Value>,
    /// What there is of a cluster that Patroni runs.
    pub patroni: patroni::Found,
    /// Pods of others, in the namespace, that have not ended.
    pub pods: Vec<Pod>,
}

/// Whether an object was made by this very Restore.
pub fn is_ours(annotations: Option<&std::collections::BTreeMap<String, String>>, uid: &str) -> bool {
    annotations
        .and_then(|all| all.get(annotation::RESTORE_UID))
        .map(String::as_str)
        == Some(uid)
}

/// The same of a Cluster.
pub fn cluster_is_ours(cluster: &Value, uid: &str) -> bool {
    let annotations = cluster.pointer("/metadata/annotations");
    annotations
        .and_then(|all| all.get(annotation::RESTORE_UID))
        .and_then(Value::as_str)
        == Some(uid)
}

/// Whether it may be filled.
pub fn judge(restore: &Restore, wanted: &Wanted, found: &Found) -> Result<(), Refusal> {
    let uid = restore.metadata.uid.as_deref().unwrap_or_default();
    if let Some(to) = &restore.spec.destination.patroni {
        patroni::judge(restore, to, &found.patroni, &found.pods)?;
    }
    if let Some(cluster) = &restore.spec.destination.cloud_native_pg {
        if found.cluster.as_ref().is_some_and(|one| !cluster_is_ours(one, uid)) {
            return Err(refusal(
                USED,
                format!("there is a Cluster {}", cluster.cluster),
                "nothing was touched, and no Cluster is restored in place; restore under another name, look at it, and let the \
                 clients go there; or delete this Cluster, and make the Restore anew when its claims are gone",
            ));
        }
        let others = found.of_the_cluster.iter();
        let mut others = others.filter(|claim| !is_ours(claim.metadata.annotations.as_ref(), uid));
        let going = |claim: &&PersistentVolumeClaim| claim.metadata.deletion_timestamp.is_some();
        let leaving = others.clone().find(going).map(kube::ResourceExt::name_any);
        if let Some(claim) = others.find(|claim| !going(claim)) {
            let name = claim.name_any();
            return Err(used(format!(
                "the claim {name} is one of a Cluster {}",
                cluster.cluster
            )));
        }
        // A Cluster of this name was just deleted: its claims follow.
        if let Some(name) = leaving {
            let message = format!("the claim {name} is being deleted");
            return Err(waits(refusal("ClaimDeleting", message, "")));
        }
    }
    for name in wanted.data.mounts.iter().map(|mount| &mount.claim) {
        let there = found.claims.iter().find(|claim| claim.name_any() == *name);
        let is_made = wanted.claims.iter().any(|claim| claim.name_any() == *name);
        match there {
            Some(claim) if claim.metadata.deletion_timestamp.is_some() => {
                let message = format!("the claim {name} is being deleted");
                return Err(waits(refusal("ClaimDeleting", message, "")));
            }
            Some(claim) if is_made && !is_ours(claim.metadata.annotations.as_ref(), uid) => {
                return Err(used(format!(
                    "there is a claim {name}, which this Restore has not made"
                )));
            }
            Some(claim) if !is_made => fits(restore, claim)?,
            None if !is_made => {
                let message = format!("there is no claim {name}");
                let hint = "make it, or let it be made by create";
                return Err(waits(refusal("ClaimMissing", message, hint)));
            }
            _ => {}
        }
        if let Some(pod) = found.pods.iter().find(|pod| mounts(pod, name)) {
            let message = format!("pod {} has the claim {name} mounted", pod.name_any());
            return Err(refusal(IN_USE, message, "restore into another claim"));
        }
    }
    Ok(())
}

/// Whether a pod mounts a claim.
pub fn mounts(pod: &Pod, claim: &str) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let named = volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| volume.persistent_volume_claim.as_ref());
    named.into_iter().any(|one| one.claim_name == claim)
}

/// Whether what is restored fits into a claim that was there.
fn fits(restore: &Restore, claim: &PersistentVolumeClaim) -> Result<(), Refusal> {
    let bound = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
    let asked = || claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref();
    let size = bound.or_else(asked).and_then(|sizes| sizes.get("storage"));
    let size = size.and_then(|size| Size::new(size.0.clone()).get());
    match size {
        Some(size) if size < needed(restore) => Err(too_small(&claim.name_any(), size, needed(restore))),
        // What cannot be read is the engine's matter, which looks at the volume itself.
        _ => Ok(()),
    }
}

fn needed(restore: &Restore) -> u64 {
    let plan = restore.status.as_ref().and_then(|status| status.plan.as_ref());
    let bytes = plan.and_then(|plan| plan.needed_bytes).unwrap_or_default();
    u64::try_from(bytes).unwrap_or_default()
}

fn too_small(claim: &str, size: u64, needed: u64) -> Refusal {
    refusal(
        "ClaimTooSmall",
        format!(
            "the claim {claim} has {}, and data and WAL take {}",
            Bytes::of(size),
            Bytes::of(needed)
        ),
        "make another Restore with a larger claim",
    )
}

fn used(message: String) -> Refusal {
    refusal(
        USED,
        message,
        "nothing was touched; make another Restore with another name",
    )
}

pub(super) fn refusal(reason: &str, message: impl Into<String>, hint: &str) -> Refusal {
    Refusal {
        reason: reason.to_owned(),
        message: message.into(),
        hint: hint.to_owned(),
        waits: false,
    }
}

fn waits(refusal: Refusal) -> Refusal {
    Refusal { waits: true, ..refusal }
}

#[cfg(test)]
mod tests;

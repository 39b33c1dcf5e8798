//! What a backup keeps of the members of a Patroni cluster: the image and the user that its data can be recovered with, and how
//! large its claims are. Members are alike, so that whoever leads says the same.

use k8s_openapi::api::core::v1::{ConfigMap, Container, PersistentVolumeClaim, Pod, PodSpec};
use serde_json::{Map, Value, json};

use crate::access::path;
use crate::apply;
use crate::context::Context;
use crate::deployment::identity::snapshot_name;
use crate::error::Result;

/// What is kept of the leader; while nobody leads, what was kept before.
pub async fn recorded(
    context: &Context,
    namespace: &str,
    deployment: &str,
    leader: Option<&Pod>,
) -> Result<Map<String, Value>> {
    let Some(pod) = leader else {
        let before = apply::get::<ConfigMap>(context, namespace, &snapshot_name(deployment)).await?;
        return Ok(before.as_ref().map(kept_before).unwrap_or_default());
    };
    let Some((mut kept, claim)) = pod.spec.as_ref().and_then(of_pod) else {
        return Ok(Map::new());
    };
    let claim = match apply::get::<PersistentVolumeClaim>(context, namespace, &claim).await {
        // A restore then takes what the data needs, and no stream waits for it.
        Err(error) if error.is_forbidden() => None,
        found => found?,
    };
    kept.extend(
        claim
            .as_ref()
            .and_then(requested)
            .map(|size| ("claimSize".to_owned(), json!(size))),
    );
    Ok(kept)
}

fn kept_before(before: &ConfigMap) -> Map<String, Value> {
    let file = path::SNAPSHOT.rsplit('/').next().unwrap_or_default();
    let text = before.data.as_ref().and_then(|data| data.get(file));
    let mut kept: Map<String, Value> = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    kept.retain(|name, _| ["image", "uid", "gid", "claimSize"].contains(&name.as_str()));
    kept
}

fn requested(claim: &PersistentVolumeClaim) -> Option<String> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Some(requests.get("storage")?.0.clone())
}

/// Image and user of the container that PostgreSQL runs in, and the claim with its data.
fn of_pod(spec: &PodSpec) -> Option<(Map<String, Value>, String)> {
    let claim_of = |volume: &str| {
        let volume = spec.volumes.iter().flatten().find(|one| one.name == volume)?;
        Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())
    };
    let mounted = |container: &Container| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.find_map(|mount| claim_of(&mount.name))
    };
    // PostgreSQL runs where its data is mounted; a helper that sees it too stands behind.
    let mut containers = spec.containers.iter();
    let (container, claim) = containers.find_map(|container| Some((container, mounted(container)?)))?;
    let own = container.security_context.as_ref();
    let all = spec.security_context.as_ref();
    let uid = own.and_then(|own| own.run_as_user);
    let uid = uid.or(all.and_then(|all| all.run_as_user));
    let gid = own.and_then(|own| own.run_as_group);
    let gid = gid.or(all.and_then(|all| all.run_as_group.or(all.fs_group)));
    let mut kept = Map::from_iter([("image".to_owned(), json!(container.image.as_ref()?))]);
    for (name, id) in [("uid", uid), ("gid", gid)] {
        kept.extend(id.map(|id| (name.to_owned(), json!(id))));
    }
    Some((kept, claim))
}

//! The place of a drill: one claim for everything, of a size that the plan gives, recovered by the PostgreSQL that ran the
//! source. It goes with its Restore, because nobody is ever to use what lies in it.

use std::collections::BTreeMap;

use hardstorage_crds::{ClaimAccess, DrillDestination, Restore};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use super::claim::size;
use super::{Wanted, cnpg, known_image};
use crate::names::{annotation, label};
use crate::pod::{DataDirectory, ENGINE_USER, Image, Mount, User};
use crate::repository::Refusal;

/// Where the claim is mounted.
const FOLDER: &str = "/var/lib/postgresql/data";
/// A small database writes more WAL while it is recovered, promoted and stopped than it has.
const LEAST_ROOM: u64 = 256 << 20;

/// The name of the claim.
pub fn claim_name(restore: &Restore) -> String {
    format!("{}-drill", restore.name_any())
}

/// Where a tablespace of the backup is put, by its number in the plan.
pub fn tablespace(number: usize) -> String {
    format!("{FOLDER}/tablespaces/{number}")
}

/// The place.
pub fn wanted(restore: &Restore, drill: &DrillDestination, needed: u64, engine: &Image) -> Result<Wanted, Refusal> {
    let name = claim_name(restore);
    Ok(Wanted {
        claims: vec![claim(restore, drill, &name, needed)?],
        data: DataDirectory {
            mounts: vec![Mount {
                claim: name,
                path: FOLDER.to_owned(),
            }],
            // Any user can run a copy, and this one can read a repository on a claim.
            user: User {
                uid: ENGINE_USER,
                gid: ENGINE_USER,
            },
            engine: Some(engine.clone()),
        },
        postgres: Some(Image {
            name: known_image(restore).ok_or_else(cnpg::unknown_image)?,
            pull_policy: "IfNotPresent".to_owned(),
        }),
        directory: format!("{FOLDER}/pgdata"),
        wal_dir: None,
        cluster: None,
    })
}

fn claim(
    restore: &Restore,
    drill: &DrillDestination,
    name: &str,
    needed: u64,
) -> Result<PersistentVolumeClaim, Refusal> {
    let storage = drill.storage.clone().unwrap_or_default();
    let meta = &restore.metadata;
    let request = match &storage.size {
        Some(_) => size(name, storage.size.as_ref(), needed)?,
        None => size(name, None, needed.saturating_add(LEAST_ROOM))?,
    };
    Ok(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: meta.namespace.clone(),
            labels: Some(BTreeMap::from([(label::RESTORE.to_owned(), restore.name_any())])),
            annotations: Some(BTreeMap::from([(
                annotation::RESTORE_UID.to_owned(),
                meta.uid.clone().unwrap_or_default(),
            )])),
            owner_references: restore.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![ClaimAccess::ReadWriteOnce.to_string()]),
            storage_class_name: storage.storage_class_name,
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(request))])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use crate::restore::samples::{UID, planned, restore};
    use serde_json::{Value, json};

    fn place(drill: &Value, spec: &Value, status: Value) -> Result<Wanted, Refusal> {
        let mut whole = json!({"destination": {"drill": {"keepOnFailure": "1h"}}});
        for (key, value) in drill.as_object().unwrap() {
            whole["destination"]["drill"][key] = value.clone();
        }
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let engine = Image {
            name: "engine:1".into(),
            pull_policy: "Always".into(),
        };
        super::super::wanted(&restore(whole, status), &engine)
    }

    #[test]
    fn one_claim_that_goes_with_its_restore() {
        let wanted = place(&json!({}), &json!({}), planned()).unwrap();
        let claim = serde_json::to_value(&wanted.claims[0]).unwrap();
        assert_eq!(claim["metadata"]["name"], "back-drill");
        assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], UID);
        assert_eq!(claim["metadata"]["annotations"][annotation::RESTORE_UID], UID);
        // 12 MiB and 256 MiB, and a tenth.
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "295Mi");
        assert!(claim["spec"].get("storageClassName").is_none());
        assert!(!claim.to_string().contains("cnpg.io"), "nobody is to adopt it");
        assert_eq!(wanted.postgres.unwrap().name, "postgres:18");
        assert_eq!((wanted.data.mounts.len(), wanted.cluster), (1, None));
        let storage = json!({"storage": {"storageClassName": "fast", "size": "20Gi"}});
        let wanted = place(&storage, &json!({"postgresImage": "mine:18"}), planned()).unwrap();
        let claim = serde_json::to_value(&wanted.claims[0]).unwrap();
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "20Gi");
        assert_eq!(claim["spec"]["storageClassName"], "fast");
        assert_eq!(wanted.postgres.unwrap().name, "mine:18");
    }

    #[test]
    fn what_cannot_be_is_told_before_anything_is_made() {
        let reason = |drill: Value, status: Value| place(&drill, &json!({}), status).unwrap_err().reason;
        assert_eq!(reason(json!({"storage": {"size": "1Mi"}}), planned()), "ClaimTooSmall");
        let mut unknown = planned();
        unknown["plan"]["sourceSnapshot"] = Value::Null;
        assert_eq!(reason(json!({}), unknown), "ImageUnknown");
    }
}

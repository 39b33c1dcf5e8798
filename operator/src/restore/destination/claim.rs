//! The claim that a Restore makes for any PostgreSQL. It has no owner: it is there when the Restore is gone.

use std::collections::BTreeMap;

use hardstorage_crds::{ClaimAccess, ClaimDestination, Restore, Size};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{refusal, too_small, with_reserve};
use crate::names::{annotation, label};
use crate::repository::Refusal;

/// The claim, when it is to be made.
pub fn new_claim(
    restore: &Restore,
    wanted: &ClaimDestination,
    needed: u64,
) -> Result<Option<PersistentVolumeClaim>, Refusal> {
    let Some(create) = &wanted.create else {
        return Ok(None);
    };
    let meta = &restore.metadata;
    let modes: Vec<String> = create.access_modes.iter().map(ClaimAccess::to_string).collect();
    Ok(Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(wanted.name.clone()),
            namespace: meta.namespace.clone(),
            labels: Some(BTreeMap::from([(
                label::RESTORE.to_owned(),
                meta.name.clone().unwrap_or_default(),
            )])),
            annotations: Some(BTreeMap::from([(
                annotation::RESTORE_UID.to_owned(),
                meta.uid.clone().unwrap_or_default(),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(if modes.is_empty() {
                vec![ClaimAccess::ReadWriteOnce.to_string()]
            } else {
                modes
            }),
            storage_class_name: create.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(size(&wanted.name, create.size.as_ref(), needed)?),
                )])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }))
}

/// The size that is wanted, when it is enough; otherwise what is needed and a tenth more, in whole Mi.
pub(super) fn size(claim: &str, wanted: Option<&Size>, needed: u64) -> Result<String, Refusal> {
    let Some(wanted) = wanted else {
        return Ok(format!("{}Mi", with_reserve(needed).div_ceil(1 << 20).max(1)));
    };
    match wanted.get() {
        Some(bytes) if bytes >= needed => Ok(wanted.as_str().to_owned()),
        Some(bytes) => Err(too_small(claim, bytes, needed)),
        None => Err(refusal(
            "SizeInvalid",
            format!("create.size is no quantity: {}", wanted.as_str()),
            "write it like 20Gi",
        )),
    }
}

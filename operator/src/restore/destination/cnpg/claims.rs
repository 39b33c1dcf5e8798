//! The claims of the first instance, as CloudNativePG would have made them, and where its pods mount them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{NewCluster, Role, Volume, refusal};
use crate::names::{annotation, label};
use crate::repository::Refusal;

/// Where an instance's pods mount its data; `pgdata` lies in it.
const DATA: &str = "/var/lib/postgresql/data";
/// Where they mount a volume for WAL; `pg_wal` lies in it.
const WAL: &str = "/var/lib/postgresql/wal";
/// Where they mount tablespaces, each under its name; `data` lies in it.
const TABLESPACES: &str = "/var/lib/postgresql/tablespaces";

/// A claim, and where the pod that fills it mounts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The claim.
    pub claim: String,
    /// The path.
    pub path: String,
}

/// The claims of the first instance. Nobody owns them: CloudNativePG does once it has adopted them.
pub fn claims(of: &NewCluster<'_>) -> Result<Vec<PersistentVolumeClaim>, Refusal> {
    let volumes = of.volumes()?;
    volumes.iter().map(|volume| claim(of, volume, &volumes)).collect()
}

/// Where each of them is mounted: at CloudNativePG's own paths, so that the links that are restored are right already.
pub fn mounts(of: &NewCluster<'_>) -> Result<Vec<Mount>, Refusal> {
    let mount = |volume: &Volume<'_>| Mount {
        claim: claim_name(of.name, volume.role),
        path: match volume.role {
            Role::Data => DATA.to_owned(),
            Role::Wal => WAL.to_owned(),
            // As CloudNativePG makes it: identifiers may have what names of objects may not.
            Role::Tablespace(name) => format!("{TABLESPACES}/{name}"),
        },
    };
    Ok(of.volumes()?.iter().map(mount).collect())
}

fn claim_name(cluster: &str, role: Role<'_>) -> String {
    match role {
        Role::Data => format!("{cluster}-1"),
        Role::Wal => format!("{cluster}-1-wal"),
        // As CloudNativePG makes it: identifiers may have what names of objects may not.
        Role::Tablespace(name) => format!("{cluster}-1-tbs-{}", name.replace(['$', '_'], "-").to_lowercase()),
    }
}

fn claim(of: &NewCluster<'_>, volume: &Volume<'_>, all: &[Volume<'_>]) -> Result<PersistentVolumeClaim, Refusal> {
    let mut labels = BTreeMap::from([
        ("cnpg.io/cluster".to_owned(), of.name.to_owned()),
        ("cnpg.io/instanceName".to_owned(), format!("{}-1", of.name)),
        ("cnpg.io/instanceRole".to_owned(), "primary".to_owned()),
        (label::RESTORE.to_owned(), of.restore.to_owned()),
    ]);
    let role = match volume.role {
        Role::Data => "PG_DATA",
        Role::Wal => "PG_WAL",
        Role::Tablespace(name) => {
            labels.insert("cnpg.io/tablespaceName".to_owned(), name.to_owned());
            "PG_TABLESPACE"
        }
    };
    labels.insert("cnpg.io/pvcRole".to_owned(), role.to_owned());
    Ok(PersistentVolumeClaim {
        metadata: ObjectMeta {
            namespace: Some(of.namespace.to_owned()),
            name: Some(claim_name(of.name, volume.role)),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([
                ("cnpg.io/nodeSerial".to_owned(), "1".to_owned()),
                (annotation::RESTORE_UID.to_owned(), of.uid.to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(claim_spec(volume.storage, of.size(volume, all)?)?),
        ..PersistentVolumeClaim::default()
    })
}

/// The user's template of a claim where there is one, and over it what the storage says by itself.
fn claim_spec(storage: &Value, size: String) -> Result<PersistentVolumeClaimSpec, Refusal> {
    let mut spec: PersistentVolumeClaimSpec = match storage.get("pvcTemplate").filter(|template| template.is_object()) {
        Some(template) => serde_json::from_value(template.clone()).map_err(|error| {
            refusal(
                "TemplateInvalid",
                format!("pvcTemplate cannot be read: {error}"),
                "correct it",
            )
        })?,
        None => PersistentVolumeClaimSpec::default(),
    };
    if let Some(class) = storage.get("storageClass").and_then(Value::as_str) {
        spec.storage_class_name = Some(class.to_owned());
    }
    spec.access_modes
        .get_or_insert_with(|| vec!["ReadWriteOnce".to_owned()]);
    // What a copy of a volume came from is not where this one comes from.
    spec.volume_name = None;
    spec.data_source = None;
    spec.data_source_ref = None;
    let resources = spec.resources.get_or_insert_with(VolumeResourceRequirements::default);
    let requests = resources.requests.get_or_insert_with(BTreeMap::new);
    requests.insert("storage".to_owned(), Quantity(size));
    Ok(spec)
}

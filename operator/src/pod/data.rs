//! What a pod has that fills a data directory: the claims that it is written to, the user that it shall belong to, and the
//! engine's program where the image is not the engine's but the PostgreSQL's that will run on it.

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::volumes::mount;
use super::{Image, security};
use crate::access::path;

/// The volume that the program is brought in.
const PROGRAM: &str = "hardstorage";
/// Where it is mounted.
const FOLDER: &str = "/hardstorage";

/// A claim in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Name of the claim.
    pub claim: String,
    /// Where it is mounted.
    pub path: String,
}

/// Who owns the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: i64,
    /// Group id.
    pub gid: i64,
}

/// A data directory that is filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDirectory {
    /// The claims that it lies on.
    pub mounts: Vec<Mount>,
    /// Who owns it: the pod runs as them, so that nothing has to be given away.
    pub user: User,
    /// The engine's image, when the pod's is PostgreSQL's: an init container copies the program from it.
    pub engine: Option<Image>,
}

/// The engine's program in the pod.
pub(super) fn program(data: Option<&DataDirectory>) -> &'static str {
    match data {
        Some(DataDirectory { engine: Some(_), .. }) => "/hardstorage/pg_hardstorage",
        _ => path::ENGINE,
    }
}

/// The init container that brings the program.
pub(super) fn installs(data: &DataDirectory) -> Option<Vec<Container>> {
    let engine = data.engine.as_ref()?;
    let quantities = |list: &[(&str, &str)]| {
        let pairs = list
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned())));
        Some(pairs.collect())
    };
    Some(vec![Container {
        name: "install".to_owned(),
        image: Some(engine.name.clone()),
        image_pull_policy: Some(engine.pull_policy.clone()),
        command: Some(vec![path::ENGINE.to_owned()]),
        args: Some(["self", "install", FOLDER].map(str::to_owned).to_vec()),
        resources: Some(ResourceRequirements {
            requests: quantities(&[("cpu", "20m"), ("memory", "32Mi")]),
            limits: quantities(&[("memory", "128Mi")]),
            ..ResourceRequirements::default()
        }),
        volume_mounts: Some(vec![mount(PROGRAM, FOLDER, false)]),
        security_context: Some(security::container()),
        ..Container::default()
    }])
}

/// The claims, and the place of the program.
pub(super) fn volumes(data: &DataDirectory) -> Vec<(Volume, VolumeMount)> {
    let mut all: Vec<(Volume, VolumeMount)> = Vec::new();
    for (number, one) in data.mounts.iter().enumerate() {
        let name = format!("data-{number}");
        let volume = Volume {
            name: name.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: one.claim.clone(),
                read_only: Some(false),
            }),
            ..Volume::default()
        };
        all.push((volume, mount(&name, &one.path, false)));
    }
    if data.engine.is_some() {
        let volume = Volume {
            name: PROGRAM.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity("256Mi".to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        };
        all.push((volume, mount(PROGRAM, FOLDER, true)));
    }
    all
}

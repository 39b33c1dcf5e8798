//! The files that an engine pod finds: credentials, certificates, the claim of a repository, a place for temporary files.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    ProjectedVolumeSource, SecretProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use hardstorage_crds::{CaKind, CaRef, PasswordKeys, StoreKeys};

use super::{EnginePod, data};
use crate::access::path;

/// Owner and group: the group is the pod's own.
const MODE: i32 = 0o440;

pub(super) fn volumes(pod: &EnginePod<'_>) -> Vec<(Volume, VolumeMount)> {
    let mut all = vec![
        (
            Volume {
                name: "tmp".to_owned(),
                empty_dir: Some(EmptyDirVolumeSource {
                    size_limit: Some(Quantity("1Gi".to_owned())),
                    ..EmptyDirVolumeSource::default()
                }),
                ..Volume::default()
            },
            mount("tmp", "/tmp", false),
        ),
        projected("credentials", path::CREDENTIALS, credentials(pod)),
    ];
    if let Some(repository) = pod.repository {
        if let Some(ca) = &repository.ca {
            all.push(projected("store-ca", parent(path::STORE_CA), vec![authority(ca)]));
        }
        if let Some(claim) = &repository.claim {
            all.push((
                Volume {
                    name: "repository".to_owned(),
                    persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                        claim_name: claim.clone(),
                        read_only: Some(repository.read_only),
                    }),
                    ..Volume::default()
                },
                mount("repository", path::REPOSITORY, repository.read_only),
            ));
        }
    }
    if let Some(source) = pod.source {
        let mut files = Vec::new();
        files.extend(source.ca.as_ref().map(authority));
        files.extend(
            source
                .certificate
                .as_ref()
                .map(|name| secret(name, &[("tls.crt", "tls.crt"), ("tls.key", "tls.key")])),
        );
        if !files.is_empty() {
            all.push(projected("postgres", path::POSTGRES, files));
        }
    }
    if let Some(name) = &pod.snapshot {
        all.push((
            Volume {
                name: "snapshot".to_owned(),
                config_map: Some(ConfigMapVolumeSource {
                    name: name.clone(),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
            mount("snapshot", parent(path::SNAPSHOT), true),
        ));
    }
    all.extend(pod.data.map(data::volumes).unwrap_or_default());
    all
}

/// One folder with one file for each credential, whatever Secrets they come from.
fn credentials(pod: &EnginePod<'_>) -> Vec<VolumeProjection> {
    let mut files = Vec::new();
    if let Some(repository) = pod.repository {
        if let Some(store) = &repository.credentials {
            let keys = store.keys.clone().unwrap_or_else(StoreKeys::default);
            files.push(secret(
                &store.name,
                &[
                    (&keys.access_key_id, "access-key-id"),
                    (&keys.secret_access_key, "secret-access-key"),
                    (&keys.session_token, "session-token"),
                ],
            ));
        }
        if let Some(kek) = &repository.kek {
            files.push(secret(&kek.secret, &[(&kek.key, "kek")]));
        }
        if pod.signs {
            let signing = &repository.signing;
            files.push(secret(&signing.secret, &[(&signing.key, "signing-key")]));
        }
    }
    if let Some(password) = pod.source.and_then(|source| source.password.as_ref()) {
        let keys = password.keys.clone().unwrap_or_else(PasswordKeys::default);
        files.push(secret(
            &password.name,
            &[(&keys.username, "username"), (&keys.password, "password")],
        ));
    }
    files
}

/// Keys of a Secret as files; neither the Secret nor a key has to be there.
fn secret(name: &str, items: &[(&str, &str)]) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: name.to_owned(),
            items: Some(items.iter().map(|(key, file)| item(key, file)).collect()),
            optional: Some(true),
        }),
        ..VolumeProjection::default()
    }
}

fn authority(ca: &CaRef) -> VolumeProjection {
    if ca.kind == CaKind::Secret {
        return secret(&ca.name, &[(&ca.key, "ca.crt")]);
    }
    VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: ca.name.clone(),
            items: Some(vec![item(&ca.key, "ca.crt")]),
            optional: Some(true),
        }),
        ..VolumeProjection::default()
    }
}

fn item(key: &str, file: &str) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path: file.to_owned(),
        ..KeyToPath::default()
    }
}

fn projected(name: &str, folder: &str, sources: Vec<VolumeProjection>) -> (Volume, VolumeMount) {
    let volume = Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(MODE),
            sources: Some(sources),
        }),
        ..Volume::default()
    };
    (volume, mount(name, folder, true))
}

pub(super) fn mount(name: &str, folder: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: folder.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

fn parent(file: &str) -> &str {
    file.rsplit_once('/').map_or(file, |(folder, _)| folder)
}

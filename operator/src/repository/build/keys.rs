//! Secrets with keys: made once, immutable, without an owner, so that deleting any of our objects, or all of them, leaves
//! every backup readable.

use std::collections::BTreeMap;

use hardstorage_crds::Repository;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::error::{Error, Result};
use crate::names::{MANAGER, label};
use crate::repository::access::{self, SIGNING_KEY};

/// 32 bytes that nobody knows.
pub struct Entropy(Vec<u8>);

impl Entropy {
    /// From the operating system.
    pub fn draw() -> Result<Entropy> {
        let mut bytes = vec![0; 32];
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|_| Error::Incomplete("random bytes of the operating system"))?;
        Ok(Entropy(bytes))
    }
}

/// The key that everything in the repository is encrypted with; none when it is the user's own, or there is none.
pub fn kek(repository: &Repository, entropy: Entropy) -> Option<Secret> {
    let encryption = &repository.spec.encryption;
    if encryption.secret.is_some() {
        return None;
    }
    let key = access::kek(&repository.spec, &repository.name_any())?;
    let home = repository.namespace().unwrap_or_default();
    Some(secret(repository, &home, &key.secret, &key.key, entropy))
}

/// The key with which manifests are signed that a namespace writes.
pub fn signing(repository: &Repository, namespace: &str, entropy: Entropy) -> Secret {
    let name = access::in_namespace(repository, namespace, false).signing.secret;
    secret(repository, namespace, &name, SIGNING_KEY, entropy)
}

/// A Secret of the name that the key has, and empty: to see whether the name is taken.
pub fn kek_name(repository: &Repository) -> Option<Secret> {
    let key = access::kek(&repository.spec, &repository.name_any())?;
    Some(Secret {
        metadata: ObjectMeta {
            namespace: repository.namespace(),
            name: Some(key.secret),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    })
}

fn secret(repository: &Repository, namespace: &str, name: &str, key: &str, entropy: Entropy) -> Secret {
    Secret {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([
                (label::NAME.to_owned(), "pg-hardstorage".to_owned()),
                (label::MANAGED_BY.to_owned(), MANAGER.to_owned()),
                (label::REPOSITORY.to_owned(), repository.name_any()),
            ])),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        data: Some(BTreeMap::from([(key.to_owned(), ByteString(entropy.0))])),
        ..Secret::default()
    }
}

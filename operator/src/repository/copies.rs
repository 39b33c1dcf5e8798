//! Copies of a Repository's credentials in the namespaces of others: what is copied, and how a copy is put and taken away.
//!
//! There the operator may create and delete Secrets and nothing else, because the answer to any other question would show
//! one. So copies are known by their names, and one that is outdated is deleted and made again; whether it is outdated is
//! told by the versions of what it was copied from.

use std::collections::{BTreeMap, BTreeSet};

use hardstorage_crds::{CaKind, Repository, StoreKeys};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};

use super::access::{Copies, kek};
use crate::apply::{self, Made};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::{MANAGER, label, short_hash};

/// What `app.kubernetes.io/component` says of a copy.
const COPY: &str = "credentials-copy";

/// Something to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    kind: CaKind,
    name: String,
    copy: String,
    /// Only these keys of it.
    keys: Vec<String>,
}

/// What a consumer mounts. The signing key is not among it: each namespace has its own.
fn sources(repository: &Repository) -> Vec<Source> {
    let name = repository.name_any();
    let copies = Copies::of(&repository.namespace().unwrap_or_default(), &name);
    let mut out = Vec::new();
    let credentials = repository.spec.credentials.clone().unwrap_or_default();
    if let Some(secret) = credentials.secret {
        let keys = secret.keys.unwrap_or_else(StoreKeys::default);
        out.push(Source {
            kind: CaKind::Secret,
            name: secret.name,
            copy: copies.store,
            keys: vec![keys.access_key_id, keys.secret_access_key, keys.session_token],
        });
    }
    if let Some(key) = kek(&repository.spec, &name) {
        out.push(Source {
            kind: CaKind::Secret,
            name: key.secret,
            copy: copies.kek,
            keys: vec![key.key],
        });
    }
    if let Some(ca) = &repository.spec.ca_ref {
        out.push(Source {
            kind: ca.kind.clone(),
            name: ca.name.clone(),
            copy: copies.ca,
            keys: vec![ca.key.clone()],
        });
    }
    out
}

/// What was read to be copied.
#[derive(Debug, Default)]
pub struct Bundle {
    secrets: Vec<Secret>,
    maps: Vec<ConfigMap>,
    /// Copies that belong to it: one whose source is missing stays, because something may run with it.
    kept: BTreeSet<(bool, String)>,
    /// What is not there.
    pub missing: Vec<String>,
    /// Tells this bundle from any that was read before or after a change.
    pub version: String,
}

/// Reads it, from the Repository's own namespace.
pub async fn read(context: &Context, repository: &Repository) -> Result<Bundle> {
    let home = repository.namespace().unwrap_or_default();
    let mut bundle = Bundle::default();
    let mut versions = Vec::new();
    for source in sources(repository) {
        let is_map = source.kind == CaKind::ConfigMap;
        bundle.kept.insert((is_map, source.copy.clone()));
        let found = if is_map {
            let found = apply::get::<ConfigMap>(context, &home, &source.name).await?;
            found.map(|found| {
                bundle.maps.push(ConfigMap {
                    metadata: metadata(repository, &source),
                    data: Some(chosen(found.data.unwrap_or_default(), &source)),
                    ..ConfigMap::default()
                });
                found.metadata
            })
        } else {
            let found = apply::get::<Secret>(context, &home, &source.name).await?;
            found.map(|found| {
                bundle.secrets.push(Secret {
                    metadata: metadata(repository, &source),
                    type_: Some("Opaque".to_owned()),
                    data: Some(chosen(found.data.unwrap_or_default(), &source)),
                    ..Secret::default()
                });
                found.metadata
            })
        };
        match found {
            Some(found) => versions.push((source.copy, source.keys, found.uid, found.resource_version)),
            None => bundle.missing.push(format!("{} {home}/{}", source.kind, source.name)),
        }
    }
    bundle.version = short_hash(&format!("{versions:?}"));
    Ok(bundle)
}

impl Bundle {
    /// Puts copies of it into a namespace, and takes away what is not in it.
    pub async fn put(&self, context: &Context, repository: &Repository, namespace: &str) -> Result<()> {
        for secret in &self.secrets {
            let mut secret = secret.clone();
            secret.metadata.namespace = Some(namespace.to_owned());
            replace(context, &secret, namespace).await?;
        }
        for map in &self.maps {
            let mut map = map.clone();
            map.metadata.namespace = Some(namespace.to_owned());
            replace(context, &map, namespace).await?;
        }
        take_but(context, repository, namespace, &self.kept).await
    }
}

/// Takes all copies in a namespace away.
pub async fn take(context: &Context, repository: &Repository, namespace: &str) -> Result<()> {
    take_but(context, repository, namespace, &BTreeSet::new()).await
}

async fn take_but(
    context: &Context,
    repository: &Repository,
    namespace: &str,
    kept: &BTreeSet<(bool, String)>,
) -> Result<()> {
    let copies = Copies::of(&repository.namespace().unwrap_or_default(), &repository.name_any());
    for name in [&copies.store, &copies.kek, &copies.ca] {
        if !kept.contains(&(false, name.clone())) {
            remove::<Secret>(context, namespace, name).await?;
        }
    }
    if !kept.contains(&(true, copies.ca.clone())) {
        remove::<ConfigMap>(context, namespace, &copies.ca).await?;
    }
    Ok(())
}

async fn replace<K>(context: &Context, object: &K, namespace: &str) -> Result<()>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    if let Made::Exists = apply::create_once(context, object).await? {
        remove::<K>(context, namespace, &object.name_any()).await?;
        apply::create_once(context, object).await?;
    }
    Ok(())
}

/// That it is not there is what is wanted.
async fn remove<K>(context: &Context, namespace: &str, name: &str) -> Result<()>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    match api.delete(name, &DeleteParams::default()).await.map_err(Error::from) {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn chosen<T>(data: BTreeMap<String, T>, source: &Source) -> BTreeMap<String, T> {
    data.into_iter().filter(|(key, _)| source.keys.contains(key)).collect()
}

fn metadata(repository: &Repository, source: &Source) -> ObjectMeta {
    let labels = [
        (label::NAME, "pg-hardstorage".to_owned()),
        (label::MANAGED_BY, MANAGER.to_owned()),
        (label::COMPONENT, COPY.to_owned()),
        (label::REPOSITORY, repository.name_any()),
        (label::REPOSITORY_NAMESPACE, repository.namespace().unwrap_or_default()),
    ];
    ObjectMeta {
        name: Some(source.copy.clone()),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ..ObjectMeta::default()
    }
}

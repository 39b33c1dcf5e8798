//! What a Repository has in the namespaces of others: a key of their own to sign with, and, where `shareCredentials` says
//! so, copies of its credentials. Copies need the right to read Secrets, which the operator has only when it was given it;
//! without it a condition says so, and nothing else stops.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use hardstorage_crds::condition::repository::CREDENTIALS_SHARED;
use hardstorage_crds::{CaKind, Repository, StoreKeys};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::api::ListParams;

use super::access::{Copies, kek};
use super::build::{Entropy, signing};
use crate::apply;
use crate::condition::{Conditions, Is};
use crate::context::Context;
use crate::controllers;
use crate::error::{Error, Result};
use crate::names::{MANAGER, label};

/// What `app.kubernetes.io/component` says of a copy: only what says so is ever removed.
const COPY: &str = "credentials-copy";
/// So long it is believed that a signing key that was there is there.
const BELIEVED: SignedDuration = SignedDuration::from_hours(1);

/// Who gets what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumers {
    /// Other namespaces that are admitted and use it.
    pub namespaces: BTreeSet<String>,
    /// Namespaces with an object that cannot be read: what they have they keep.
    pub unclear: BTreeSet<String>,
}

/// How the sharing went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Whether copies are wanted.
    pub wanted: bool,
    /// The namespaces that have them.
    pub namespaces: BTreeSet<String>,
    /// Why not all is as it should be: a word and a sentence.
    pub problem: Option<(&'static str, String)>,
}

impl Sharing {
    pub(super) fn say(&self, conditions: &mut Conditions) {
        let list = self.namespaces.iter().cloned().collect::<Vec<_>>().join(", ");
        match (&self.problem, self.wanted) {
            (Some((reason, message)), _) => conditions.set(CREDENTIALS_SHARED, Is::False, reason, message.clone()),
            (None, false) => conditions.set(CREDENTIALS_SHARED, Is::False, NOT_SHARED, ""),
            (None, true) if list.is_empty() => {
                conditions.set(CREDENTIALS_SHARED, Is::True, "Shared", "no other namespace uses it yet");
            }
            (None, true) => {
                conditions.set(CREDENTIALS_SHARED, Is::True, "Shared", format!("copies lie in {list}"));
            }
        }
    }
}

const NOT_SHARED: &str = "NotShared";

/// The signing keys that were there a while ago, so that not every look asks for each.
#[derive(Debug, Default)]
pub struct Signers(Mutex<BTreeMap<(String, String), Timestamp>>);

impl Signers {
    fn believes(&self, repository: &str, namespace: &str, now: Timestamp) -> bool {
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known
            .get(&(repository.to_owned(), namespace.to_owned()))
            .is_some_and(|seen| now.duration_since(*seen) < BELIEVED)
    }

    fn saw(&self, repository: &str, namespace: &str, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.retain(|_, seen| now.duration_since(*seen) < BELIEVED);
        known.insert((repository.to_owned(), namespace.to_owned()), now);
    }
}

/// Makes sure that a namespace has a key to sign with; one that is there is not touched.
pub async fn signer(context: &Context, repository: &Repository, namespace: &str, signers: &Signers) -> Result<()> {
    let uid = repository.uid().unwrap_or_default();
    if !signers.believes(&uid, namespace, context.now()) {
        apply::create_once(context, &signing(repository, namespace, Entropy::draw()?)).await?;
        signers.saw(&uid, namespace, context.now());
    }
    Ok(())
}

/// Brings other namespaces to what they should have.
pub async fn share(
    context: &Context,
    repository: &Repository,
    consumers: &Consumers,
    signers: &Signers,
) -> Result<Sharing> {
    let mut sharing = Sharing {
        wanted: repository.spec.share_credentials,
        ..Sharing::default()
    };
    for namespace in &consumers.namespaces {
        if let Err(error) = signer(context, repository, namespace, signers).await {
            sharing.problem = Some(refusal(error, &format!("make a Secret in {namespace}"))?);
        }
    }
    if sharing.wanted {
        for source in sources(repository) {
            if let Err(problem) = copy(context, repository, &source, &consumers.namespaces).await? {
                sharing.problem = Some(problem);
            }
        }
        sharing.namespaces.clone_from(&consumers.namespaces);
    }
    if (sharing.wanted || was_shared(repository))
        && let Err(error) = withdraw(context, repository, consumers, sharing.wanted).await
    {
        sharing.problem = Some(refusal(error, "list and remove copies of Secrets")?);
    }
    Ok(sharing)
}

/// A refusal becomes what a condition says; anything else is tried again.
fn refusal(error: Error, what: &str) -> Result<(&'static str, String)> {
    if error.is_forbidden() {
        let message = format!("the operator may not {what}: give it a Role, or share nothing");
        return Ok(("Forbidden", message));
    }
    Err(error)
}

/// Whether copies may lie somewhere: the condition remembers.
fn was_shared(repository: &Repository) -> bool {
    let conditions = repository.status.as_ref().map(|status| status.conditions.as_slice());
    let said = conditions
        .unwrap_or_default()
        .iter()
        .find(|one| one.type_ == CREDENTIALS_SHARED);
    said.is_some_and(|said| said.reason != NOT_SHARED)
}

/// Something to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    kind: CaKind,
    name: String,
    copy: String,
    /// Only these keys of it.
    keys: Vec<String>,
}

/// What a consumer mounts. The signing key is not among it: each namespace has its own.
pub(super) fn sources(repository: &Repository) -> Vec<Source> {
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

async fn copy(
    context: &Context,
    repository: &Repository,
    source: &Source,
    namespaces: &BTreeSet<String>,
) -> Result<Result<(), (&'static str, String)>> {
    if namespaces.is_empty() {
        return Ok(Ok(()));
    }
    let home = repository.namespace().unwrap_or_default();
    let missing = || {
        let message = format!("{} {home}/{} is not there", source.kind, source.name);
        Ok(Err(("SecretMissing", message)))
    };
    let outcome = if source.kind == CaKind::ConfigMap {
        match apply::get::<ConfigMap>(context, &home, &source.name).await {
            Ok(Some(found)) => {
                let data = chosen(found.data.unwrap_or_default(), source);
                put_all(context, namespaces, |namespace| ConfigMap {
                    metadata: metadata(repository, source, namespace),
                    data: Some(data.clone()),
                    ..ConfigMap::default()
                })
                .await
            }
            Ok(None) => return missing(),
            Err(error) => Err(error),
        }
    } else {
        match apply::get::<Secret>(context, &home, &source.name).await {
            Ok(Some(found)) => {
                let data = chosen(found.data.unwrap_or_default(), source);
                put_all(context, namespaces, |namespace| Secret {
                    metadata: metadata(repository, source, namespace),
                    type_: Some("Opaque".to_owned()),
                    data: Some(data.clone()),
                    ..Secret::default()
                })
                .await
            }
            Ok(None) => return missing(),
            Err(error) => Err(error),
        }
    };
    match outcome {
        Ok(()) => Ok(Ok(())),
        Err(error) => Ok(Err(refusal(error, "read and copy Secrets")?)),
    }
}

async fn put_all<K>(context: &Context, namespaces: &BTreeSet<String>, build: impl Fn(&str) -> K) -> Result<()>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    for namespace in namespaces {
        apply::apply(context, &build(namespace)).await?;
    }
    Ok(())
}

fn chosen<T>(data: BTreeMap<String, T>, source: &Source) -> BTreeMap<String, T> {
    data.into_iter().filter(|(key, _)| source.keys.contains(key)).collect()
}

fn metadata(repository: &Repository, source: &Source, namespace: &str) -> ObjectMeta {
    let labels = [
        (label::NAME, "pg-hardstorage".to_owned()),
        (label::MANAGED_BY, MANAGER.to_owned()),
        (label::COMPONENT, COPY.to_owned()),
        (label::REPOSITORY, repository.name_any()),
        (label::REPOSITORY_NAMESPACE, repository.namespace().unwrap_or_default()),
    ];
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(source.copy.clone()),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ..ObjectMeta::default()
    }
}

/// Removes copies that nobody is to have any more. Their content is not read for that.
async fn withdraw(context: &Context, repository: &Repository, consumers: &Consumers, wanted: bool) -> Result<()> {
    let selector = format!(
        "{}={MANAGER},{}={COPY},{}={},{}={}",
        label::MANAGED_BY,
        label::COMPONENT,
        label::REPOSITORY,
        repository.name_any(),
        label::REPOSITORY_NAMESPACE,
        repository.namespace().unwrap_or_default()
    );
    let params = ListParams::default().labels(&selector);
    let names: BTreeSet<String> = sources(repository).into_iter().map(|source| source.copy).collect();
    let stays = |object: &ObjectMeta| {
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let name = object.name.as_deref().unwrap_or_default();
        let used = consumers.namespaces.contains(namespace) && names.contains(name);
        wanted && (used || consumers.unclear.contains(namespace))
    };
    let secrets = controllers::api::<Secret>(context).list_metadata(&params).await?;
    for object in secrets.items.iter().filter(|object| !stays(&object.metadata)) {
        apply::delete(context, object).await?;
    }
    let maps = controllers::api::<ConfigMap>(context).list_metadata(&params).await?;
    for object in maps.items.iter().filter(|object| !stays(&object.metadata)) {
        apply::delete(context, object).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;

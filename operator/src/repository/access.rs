//! Who may use a Repository, and what a pod of theirs needs for it. Pure.
//!
//! A namespace is admitted by `allowedNamespaces`. It writes and reads names that begin with its own name and a dot, and
//! reads those that a grant names; the Repository's own namespace does everything. Secrets cannot be mounted across
//! namespaces: another namespace has a workload identity of its own, or copies that `shareCredentials` allows us to make.

use std::collections::BTreeMap;

use hardstorage_crds::condition::STALLED;
use hardstorage_crds::{
    AccessMode, AllowedNamespaces, CaRef, Grant, NamespacesFrom, Repository, RepositorySpec, StoreSecret, Verb,
};
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

use crate::access::{RepositoryAccess, SecretKey};
use crate::error::Error;
use crate::names;

/// What is meant to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// WAL, backups and retention.
    Write,
    /// Listing and restoring.
    Read,
}

/// Who wants to use it.
#[derive(Debug, Clone, Copy)]
pub struct Consumer<'a> {
    /// The namespace of its pods.
    pub namespace: &'a str,
    /// The labels of that namespace: `allowedNamespaces` may select by them.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// The name in the repository that it is about.
    pub name_in_repository: &'a str,
    /// What it wants to do.
    pub intent: Intent,
}

/// Why it may not, or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A word for a condition.
    pub reason: String,
    /// What is the matter.
    pub message: String,
    /// What a person can do.
    pub hint: String,
    /// Whether it goes away by itself, as a Repository that is still being created does.
    pub waits: bool,
}

impl Refusal {
    pub(super) fn new(reason: &str, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal {
            reason: reason.to_owned(),
            message: message.into(),
            hint: hint.into(),
            waits: false,
        }
    }

    /// What the API server says against the Job of a run; without it that is an error, which is tried again.
    pub fn of_job(error: Error) -> Result<Refusal, Error> {
        let Some(said) = error.refusal() else {
            return Err(error);
        };
        Ok(Refusal {
            waits: error.is_namespace_going(),
            ..Refusal::new(
                "ChildRefused",
                format!("the API server does not take its Job: {said}"),
                "correct what it names: podTemplate and resources come from this object; quotas, policies and rights are the \
                 cluster's",
            )
        })
    }

    /// A right that the operator lacks: the API server names verb and resource. Without that it is an error, which is tried
    /// again.
    pub fn of_right(error: Error) -> Result<Refusal, Error> {
        let said = match &error {
            Error::Kube(kube::Error::Api(status)) if status.code == 403 => status.message.clone(),
            _ => return Err(error),
        };
        Ok(Refusal::new(
            "Forbidden",
            format!("the operator lacks a right: {said}"),
            "give it to the operator's ServiceAccount, with the roles of its chart or of config/default",
        ))
    }

    /// Message and hint for a condition.
    pub fn text(&self) -> String {
        if self.hint.is_empty() {
            return self.message.clone();
        }
        format!("{}; {}", self.message, self.hint)
    }
}

/// What a pod of this consumer needs. `shared_claim` is whether the claim of a volume can be mounted by several nodes.
pub fn access(
    repository: &Repository,
    consumer: &Consumer<'_>,
    shared_claim: bool,
) -> Result<RepositoryAccess, Refusal> {
    admitted(repository, consumer)?;
    usable(repository, consumer.intent)?;
    Ok(in_namespace(repository, consumer.namespace, shared_claim))
}

/// Whether the consumer is let in, whatever state the Repository is in.
fn admitted(repository: &Repository, consumer: &Consumer<'_>) -> Result<(), Refusal> {
    let spec = &repository.spec;
    let home = repository.namespace().unwrap_or_default();
    let what = format!("Repository {home}/{}", repository.name_any());
    if consumer.intent == Intent::Write && spec.access_mode != AccessMode::ReadWrite {
        return Err(Refusal::new(
            "RepositoryReadOnly",
            format!("{what} is for reading only"),
            "set its accessMode to ReadWrite, or use another Repository",
        ));
    }
    if consumer.namespace == home {
        return Ok(());
    }
    if !admits(spec.allowed_namespaces.as_ref(), consumer.namespace_labels) {
        return Err(Refusal::new(
            "NamespaceNotAllowed",
            format!("{what} does not admit namespace {}", consumer.namespace),
            "name it in the Repository's allowedNamespaces, or make a Repository in this namespace",
        ));
    }
    if spec.persistent_volume_claim.is_some() {
        return Err(Refusal::new(
            "ClaimNotShared",
            format!("{what} lies on a claim, which no pod of another namespace can mount"),
            "make a Repository in this namespace",
        ));
    }
    let store_secret = spec
        .credentials
        .as_ref()
        .is_some_and(|credentials| credentials.secret.is_some());
    if store_secret && !spec.share_credentials {
        return Err(Refusal::new(
            "CredentialsNotShared",
            format!("{what} has its credentials in a Secret, which no pod of another namespace can mount"),
            "set its shareCredentials, or let it use a workload identity by credentials.serviceAccountName",
        ));
    }
    let name = consumer.name_in_repository;
    let allowed = match consumer.intent {
        Intent::Write => is_own(consumer.namespace, name),
        Intent::Read => may_read(repository, consumer.namespace, name),
    };
    if allowed {
        return Ok(());
    }
    let hint = match consumer.intent {
        Intent::Write => format!("let nameInRepository begin with {}.", consumer.namespace),
        Intent::Read => format!("grant it: grants of {what}"),
    };
    Err(Refusal::new(
        "NameNotAllowed",
        format!("namespace {} may not use the name {name} of {what}", consumer.namespace),
        hint,
    ))
}

/// Whether a namespace with these labels is let in. What cannot be read lets nobody in.
pub(super) fn admits(allowed: Option<&AllowedNamespaces>, labels: &BTreeMap<String, String>) -> bool {
    let Some(allowed) = allowed else { return false };
    match allowed.from {
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => allowed
            .selector
            .clone()
            .and_then(|selector| Selector::try_from(selector).ok())
            .is_some_and(|selector| selector.matches(labels)),
        NamespacesFrom::Same | NamespacesFrom::Other(_) => false,
    }
}

/// Whether a name is one of the namespace's own.
fn is_own(namespace: &str, name: &str) -> bool {
    name.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether another namespace may read a name: its own ones, and those that a grant names.
pub(super) fn may_read(repository: &Repository, namespace: &str, name: &str) -> bool {
    is_own(namespace, name) || granted(repository.spec.grants.as_deref(), namespace, name)
}

fn granted(grants: Option<&[Grant]>, namespace: &str, name: &str) -> bool {
    grants.unwrap_or_default().iter().any(|grant| {
        grant.namespace == namespace
            && grant.deployments.iter().any(|one| one == name)
            && grant.verbs.contains(&Verb::read)
    })
}

/// Whether there is something to use. That the store does not answer at the moment is no reason: it will.
fn usable(repository: &Repository, intent: Intent) -> Result<(), Refusal> {
    let what = format!(
        "Repository {}/{}",
        repository.namespace().unwrap_or_default(),
        repository.name_any()
    );
    let status = repository.status.clone().unwrap_or_default();
    let stalled = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == STALLED && condition.status == "True");
    if let Some(stalled) = stalled {
        return Err(Refusal::new(
            &format!("Repository{}", stalled.reason.trim_start_matches("Repository")),
            format!("{what}: {}", stalled.message),
            "",
        ));
    }
    if status.repository_id.is_none() {
        let verb = if intent == Intent::Write {
            "created"
        } else {
            "looked at"
        };
        return Err(Refusal {
            waits: true,
            ..Refusal::new("RepositoryNotReady", format!("{what} has not been {verb} yet"), "")
        });
    }
    Ok(())
}

/// The Repository as a pod in that namespace sees it, without asking whether it may.
pub(super) fn in_namespace(repository: &Repository, namespace: &str, shared_claim: bool) -> RepositoryAccess {
    let spec = &repository.spec;
    let home = repository.namespace().unwrap_or_default();
    let name = repository.name_any();
    let copies = (namespace != home).then(|| Copies::of(&home, &name));
    let shared = copies.as_ref().filter(|_| spec.share_credentials);
    let credentials = spec.credentials.clone().unwrap_or_default();
    RepositoryAccess {
        url: spec.url.clone(),
        credentials: credentials.secret.map(|secret| StoreSecret {
            name: shared.map_or_else(|| secret.name.clone(), |copies| copies.store.clone()),
            keys: secret.keys,
        }),
        service_account: credentials.service_account_name,
        ca: spec.ca_ref.clone().map(|ca| CaRef {
            name: shared.map_or_else(|| ca.name.clone(), |copies| copies.ca.clone()),
            ..ca
        }),
        kek: kek(spec, &name).map(|key| SecretKey {
            secret: shared.map_or_else(|| key.secret.clone(), |copies| copies.kek.clone()),
            key: key.key,
        }),
        // Each namespace signs with a key of its own: it need not be copied, and losing it loses nothing.
        signing: SecretKey {
            secret: copies
                .as_ref()
                .map_or_else(|| names::signing_secret(&name), |copies| copies.signing.clone()),
            key: SIGNING_KEY.to_owned(),
        },
        claim: spec
            .persistent_volume_claim
            .as_ref()
            .map(|claim| claim.claim_name.clone()),
        shared_claim,
        read_only: spec.access_mode != AccessMode::ReadWrite,
        namespace: home,
        name,
    }
}

/// The key in the Secret that signs manifests.
pub const SIGNING_KEY: &str = "signing-key";
/// The key in the Secret with a key-encryption key that we made.
const KEK: &str = "kek";

/// Where the key-encryption key lies in the Repository's own namespace; nowhere for a repository in clear.
pub(super) fn kek(spec: &RepositorySpec, name: &str) -> Option<SecretKey> {
    if let Some(secret) = &spec.encryption.secret {
        return Some(secret.into());
    }
    if spec.encryption.none.is_some() {
        return None;
    }
    let managed = spec.encryption.managed.clone().unwrap_or_default();
    let secret = managed.secret_name.filter(|secret| !secret.is_empty());
    Some(SecretKey {
        secret: secret.unwrap_or_else(|| names::kek_secret(name)),
        key: KEK.to_owned(),
    })
}

/// What a Repository has in the namespaces of others. A name with dots that begins with ours is nobody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copies {
    /// The access key of the store.
    pub store: String,
    /// The key-encryption key.
    pub kek: String,
    /// The certificates of the store.
    pub ca: String,
    /// The key that this namespace signs with; made, not copied.
    pub signing: String,
}

impl Copies {
    pub(super) fn of(home: &str, name: &str) -> Copies {
        let called = |what: &str| format!("hardstorage.{home}.{name}.{what}");
        Copies {
            store: called("store"),
            kek: called("kek"),
            ca: called("ca"),
            signing: called("signing"),
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;

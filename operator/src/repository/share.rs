//! What a Repository has in the namespaces of others: a key of their own to sign with, and, where `shareCredentials` says
//! so, copies of its credentials. Copies need rights to Secrets, which the operator has only where it was given them; without
//! them a condition says so, and nothing else stops. Where copies lie, and of what, stands in that condition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use hardstorage_crds::Repository;
use hardstorage_crds::condition::Condition;
use hardstorage_crds::condition::repository::CREDENTIALS_SHARED;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::build::{Entropy, signing};
use super::copies;
use crate::apply;
use crate::condition::{Conditions, Is};
use crate::context::Context;
use crate::error::{Error, Result};

/// So long it is believed that a signing key that was there is there.
const BELIEVED: SignedDuration = SignedDuration::from_hours(1);

/// Who gets what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumers {
    /// Other namespaces that are admitted and use it.
    pub namespaces: BTreeSet<String>,
    /// Other namespaces that would use it, admitted or not.
    pub referring: BTreeSet<String>,
    /// Namespaces with an object that cannot be read: what they have they keep.
    pub unclear: BTreeSet<String>,
}

/// How the sharing went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Whether copies are wanted.
    pub wanted: bool,
    /// The namespaces where they lie, or may lie.
    pub namespaces: BTreeSet<String>,
    /// Of what they are copies.
    pub version: String,
    /// Why not all is as it should be: a word and a sentence.
    pub problem: Option<(&'static str, String)>,
}

impl Sharing {
    pub(super) fn say(&self, conditions: &mut Conditions) {
        let list = self.namespaces.iter().cloned().collect::<Vec<_>>().join(", ");
        let lie = if list.is_empty() {
            String::new()
        } else {
            format!("{LIE}{list}{OF}{})", self.version)
        };
        match (&self.problem, self.wanted) {
            (Some((reason, message)), _) if lie.is_empty() => {
                conditions.set_whole(CREDENTIALS_SHARED, Is::False, reason, message.clone());
            }
            (Some((reason, message)), _) => {
                conditions.set_whole(CREDENTIALS_SHARED, Is::False, reason, format!("{message}; {lie}"));
            }
            (None, false) => conditions.set_whole(CREDENTIALS_SHARED, Is::False, NOT_SHARED, ""),
            (None, true) if lie.is_empty() => {
                conditions.set_whole(CREDENTIALS_SHARED, Is::True, "Shared", "no other namespace uses it yet");
            }
            (None, true) => conditions.set_whole(CREDENTIALS_SHARED, Is::True, "Shared", lie),
        }
    }
}

/// What the condition begins its list of namespaces with: it is read again.
const LIE: &str = "copies lie in ";
/// What follows the list.
const OF: &str = " (version ";
const NOT_SHARED: &str = "NotShared";

/// The signing keys that were there a while ago, so that not every look asks for each.
#[derive(Debug, Default)]
pub struct Signers(Mutex<BTreeMap<(String, String), Timestamp>>);

impl Signers {
    fn believes(&self, repository: &str, namespace: &str, now: Timestamp) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&(repository.to_owned(), namespace.to_owned()))
            .is_some_and(|seen| now.duration_since(*seen) < BELIEVED)
    }

    fn saw(&self, repository: &str, namespace: &str, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    let wanted = repository.spec.share_credentials;
    let (lie, version) = shared_before(repository);
    let mut sharing = Sharing {
        wanted,
        namespaces: lie.clone(),
        version,
        problem: None,
    };
    for namespace in &consumers.namespaces {
        if let Err(error) = signer(context, repository, namespace, signers).await {
            sharing.problem = Some(refusal(error, &format!("create a Secret in {namespace}"))?);
        }
    }
    let mut leave = lie;
    if was_shared(repository) {
        leave.extend(consumers.referring.iter().cloned());
    }
    if wanted {
        leave.retain(|namespace| !consumers.namespaces.contains(namespace) && !consumers.unclear.contains(namespace));
        put(context, repository, consumers, &mut sharing).await?;
    }
    for namespace in leave {
        match copies::take(context, repository, &namespace).await {
            Ok(()) => {
                sharing.namespaces.remove(&namespace);
            }
            Err(error) => sharing.problem = Some(refusal(error, &format!("delete Secrets in {namespace}"))?),
        }
    }
    Ok(sharing)
}

/// Puts copies where there are none, or others than there should be.
async fn put(context: &Context, repository: &Repository, consumers: &Consumers, sharing: &mut Sharing) -> Result<()> {
    let unclear = consumers.unclear.intersection(&sharing.namespaces);
    let namespaces: BTreeSet<String> = consumers.namespaces.iter().chain(unclear).cloned().collect();
    if namespaces.is_empty() {
        return Ok(());
    }
    let bundle = match copies::read(context, repository).await {
        Ok(bundle) => bundle,
        Err(error) => {
            let home = repository.namespace().unwrap_or_default();
            sharing.problem = Some(refusal(error, &format!("read Secrets in {home}"))?);
            return Ok(());
        }
    };
    if !bundle.missing.is_empty() {
        sharing.problem = Some(("SecretMissing", format!("not there: {}", bundle.missing.join(", "))));
    }
    let same = bundle.version == sharing.version;
    for namespace in &namespaces {
        if same && sharing.namespaces.contains(namespace) {
            continue;
        }
        match bundle.put(context, repository, namespace).await {
            Ok(()) => {
                sharing.namespaces.insert(namespace.clone());
            }
            // It is tried again, because it is not remembered.
            Err(error) => {
                sharing.problem = Some(refusal(error, &format!("create and delete Secrets in {namespace}"))?);
                sharing.namespaces.remove(namespace);
            }
        }
    }
    sharing.version = bundle.version;
    Ok(())
}

/// A refusal becomes what a condition says; anything else is tried again.
fn refusal(error: Error, what: &str) -> Result<(&'static str, String)> {
    if error.is_forbidden() {
        let message = format!("the operator may not {what}: give it a Role, or share nothing");
        return Ok(("Forbidden", message));
    }
    Err(error)
}

fn said(repository: &Repository) -> Option<&Condition> {
    let conditions = &repository.status.as_ref()?.conditions;
    conditions.iter().find(|one| one.type_ == CREDENTIALS_SHARED)
}

/// Whether copies may lie somewhere.
fn was_shared(repository: &Repository) -> bool {
    said(repository).is_some_and(|said| said.reason != NOT_SHARED)
}

/// Where copies lie, and of what, as the condition remembers.
fn shared_before(repository: &Repository) -> (BTreeSet<String>, String) {
    let list = said(repository).and_then(|said| said.message.split_once(LIE));
    let Some((names, version)) = list.and_then(|(_, list)| list.split_once(OF)) else {
        return <(BTreeSet<String>, String)>::default();
    };
    let names = names.split(", ").map(str::to_owned).collect();
    (names, version.trim_end_matches(')').to_owned())
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;

//! A reference to a Repository, followed for one of our other objects.

use crate::guarded::Guarded;
use hardstorage_crds::{Repository, RepositoryRef};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, ResourceExt as _};

use super::access::{Consumer, Intent, Refusal, access};
use crate::access::RepositoryAccess;
use crate::apply;
use crate::context::Context;
use crate::error::Result;
use crate::namespace::NamespaceFacts;

/// A Repository that was found, and what a pod needs for it.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The object.
    pub repository: Repository,
    /// What the pod needs.
    pub access: RepositoryAccess,
}

/// Follows a reference from `namespace`, for a name in the repository. The outer error is tried again; the inner one is
/// what a condition says, and nothing that runs may be stopped for it.
pub async fn resolve(
    context: &Context,
    namespace: &str,
    reference: &RepositoryRef,
    name_in_repository: &str,
    intent: Intent,
) -> Result<Result<Resolved, Refusal>> {
    let home = reference.namespace.as_deref().unwrap_or(namespace);
    // Guarded, so that one that cannot be read is a condition of its users and not an endless error.
    let api: Api<Guarded<Repository>> = Api::namespaced(context.client.clone(), home);
    let repository = match api.get_opt(&reference.name).await? {
        Some(Guarded(Ok(repository))) => repository,
        Some(Guarded(Err(error))) => {
            return Ok(Err(Refusal::new(
                "RepositoryMalformed",
                format!("Repository {home}/{} cannot be read: {error}", reference.name),
                "correct it",
            )));
        }
        None => {
            return Ok(Err(Refusal::new(
                "RepositoryMissing",
                format!("there is no Repository {} in namespace {home}", reference.name),
                "make it; backups that are there already are found again",
            )));
        }
    };
    // Its own namespace is always let in; others by their labels.
    let labels = if home == namespace {
        NamespaceFacts::default().labels
    } else {
        NamespaceFacts::look(context, namespace).await?.labels
    };
    let consumer = Consumer {
        namespace,
        namespace_labels: &labels,
        name_in_repository,
        intent,
    };
    let claim = claim(context, &repository).await?;
    if let ClaimFacts::Missing(message) = &claim {
        return Ok(Err(Refusal::new(
            "ClaimMissing",
            message.clone(),
            "make the claim, or put it back from its volume",
        )));
    }
    Ok(access(&repository, &consumer, claim == ClaimFacts::Shared).map(|access| Resolved { repository, access }))
}

/// The claim of a `file://` repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClaimFacts {
    /// It needs none.
    NotNeeded,
    /// One node mounts it at a time.
    OneNode,
    /// Any node can mount it.
    Shared,
    /// It is not there, or is going away.
    Missing(String),
}

impl ClaimFacts {
    pub(super) fn of(name: &str, claim: Option<&PersistentVolumeClaim>) -> ClaimFacts {
        let Some(claim) = claim else {
            return ClaimFacts::Missing(format!("there is no PersistentVolumeClaim {name}"));
        };
        if claim.metadata.deletion_timestamp.is_some() {
            return ClaimFacts::Missing(format!("the PersistentVolumeClaim {name} is being deleted"));
        }
        let status = claim.status.clone().unwrap_or_default();
        if status.phase.as_deref() == Some("Lost") {
            return ClaimFacts::Missing(format!("the volume of the PersistentVolumeClaim {name} is lost"));
        }
        // What was bound tells, and until then what is wanted.
        let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
        let modes = status
            .access_modes
            .as_ref()
            .filter(|modes| !modes.is_empty())
            .or(wanted);
        let shared = modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteMany"));
        if shared {
            ClaimFacts::Shared
        } else {
            ClaimFacts::OneNode
        }
    }
}

pub(super) async fn claim(context: &Context, repository: &Repository) -> Result<ClaimFacts> {
    let Some(claim) = &repository.spec.persistent_volume_claim else {
        return Ok(ClaimFacts::NotNeeded);
    };
    let home = repository.namespace().unwrap_or_default();
    let found = apply::get::<PersistentVolumeClaim>(context, &home, &claim.claim_name).await?;
    Ok(ClaimFacts::of(&claim.claim_name, found.as_ref()))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::needless_pass_by_value,
        reason = "test code"
    )]
    use super::*;
    use crate::scripted::{Answers, Exchange, ok, refused, scripted};
    use http::Method;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    const PATH: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrepositories/main";
    const CLAIM: &str = "/api/v1/namespaces/team/persistentvolumeclaims/bk";

    fn repository(spec: Value) -> Value {
        json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
            "metadata": {"name": "main", "namespace": "team"}, "spec": spec, "status": {"repositoryID": "01"}})
    }

    async fn reason(script: Vec<Exchange>, namespace: &str) -> Option<String> {
        let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
        let reference = RepositoryRef {
            name: "main".into(),
            namespace: Some("team".into()),
        };
        let name = format!("{namespace}.orders");
        let answer = resolve(&context, namespace, &reference, &name, Intent::Write).await;
        drop(context);
        server.await.unwrap();
        answer.unwrap().err().map(|refusal| refusal.reason)
    }

    #[tokio::test]
    async fn what_a_condition_says() {
        let s3 = json!({"url": "s3://b/p"});
        let volume = json!({"url": "file:///repository", "persistentVolumeClaim": {"claimName": "bk"}});
        let get = |body| ok(Method::GET, PATH, body);
        let no = |path| refused(Method::GET, path, 404, "NotFound");
        let cases = [
            (vec![get(repository(s3))], "team", None),
            (vec![no(PATH)], "team", Some("RepositoryMissing")),
            (
                vec![get(repository(json!({"url": 7})))],
                "team",
                Some("RepositoryMalformed"),
            ),
            (vec![get(repository(volume)), no(CLAIM)], "team", Some("ClaimMissing")),
        ];
        for (script, namespace, wanted) in cases {
            assert_eq!(reason(script, namespace).await.as_deref(), wanted);
        }
    }

    #[tokio::test]
    async fn another_namespace_is_let_in_by_its_labels() {
        let spec = json!({"url": "s3://b/p", "allowedNamespaces":
            {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}});
        for (labels, wanted) in [
            (json!({"team": "a"}), None),
            (json!({"team": "b"}), Some("NamespaceNotAllowed")),
        ] {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "qa", "labels": labels}});
            let script = vec![
                ok(Method::GET, PATH, repository(spec.clone())),
                ok(Method::GET, "/api/v1/namespaces/qa", namespace),
            ];
            assert_eq!(reason(script, "qa").await.as_deref(), wanted);
        }
    }

    #[test]
    fn every_state_of_a_claim() {
        let claim = |value: Value| ClaimFacts::of("bk", Some(&serde_json::from_value(value).unwrap()));
        assert!(matches!(ClaimFacts::of("bk", None), ClaimFacts::Missing(_)));
        assert!(matches!(
            claim(json!({"status": {"phase": "Lost"}})),
            ClaimFacts::Missing(_)
        ));
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(matches!(claim(going), ClaimFacts::Missing(_)));
        assert_eq!(
            claim(json!({"spec": {"accessModes": ["ReadWriteMany"]}})),
            ClaimFacts::Shared
        );
        let bound = json!({"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"accessModes": ["ReadWriteOnce"]}});
        assert_eq!(claim(bound), ClaimFacts::OneNode);
    }
}

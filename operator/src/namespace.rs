//! What the operator knows of a namespace: who it admits, whether it is going away, and whether it chooses users itself.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::pod::Surroundings;

/// OpenShift writes the users of a namespace here, and refuses pods that name one of their own.
const ASSIGNED_USERS: &str = "openshift.io/sa.scc.uid-range";

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted, or gone.
    pub going: bool,
    /// Where pods in it run.
    pub surroundings: Surroundings,
}

impl NamespaceFacts {
    /// Reads them.
    pub fn of(namespace: &Namespace) -> NamespaceFacts {
        let annotations = namespace.metadata.annotations.as_ref();
        NamespaceFacts {
            labels: namespace.metadata.labels.clone().unwrap_or_default(),
            going: namespace.metadata.deletion_timestamp.is_some(),
            surroundings: Surroundings {
                assigns_users: annotations.is_some_and(|all| all.contains_key(ASSIGNED_USERS)),
            },
        }
    }

    /// Looks at one. Rights that end at our namespaces do not let us: then it has no labels, and so nobody is admitted by
    /// one, and pods run as they do anywhere.
    pub async fn look(context: &Context, name: &str) -> Result<NamespaceFacts> {
        Ok(read(context, name).await?.unwrap_or_default())
    }

    /// Looks at one whose object is being deleted: whether it goes too has to be known, because nothing can be made in it any
    /// more, and what waits for that would hold it up. Where it may not be looked at, a creation that is only tried tells.
    pub async fn look_at_the_end(context: &Context, name: &str) -> Result<NamespaceFacts> {
        match read(context, name).await? {
            Some(facts) => Ok(facts),
            None => Ok(NamespaceFacts {
                going: takes_nothing(context, name).await?,
                ..NamespaceFacts::default()
            }),
        }
    }
}

/// None when it may not be read.
async fn read(context: &Context, name: &str) -> Result<Option<NamespaceFacts>> {
    let api: Api<Namespace> = Api::all(context.client.clone());
    match api.get_opt(name).await.map_err(Error::from) {
        Ok(Some(namespace)) => Ok(Some(NamespaceFacts::of(&namespace))),
        Ok(None) => Ok(Some(NamespaceFacts {
            going: true,
            ..NamespaceFacts::default()
        })),
        Err(error) if error.is_forbidden() => {
            tracing::debug!(namespace = name, "the namespace may not be looked at");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn takes_nothing(context: &Context, name: &str) -> Result<bool> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), name);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let trial = ConfigMap {
        metadata: ObjectMeta {
            generate_name: Some("pg-hardstorage-".to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    match api.create(&params, &trial).await.map_err(Error::from) {
        Ok(_) => Ok(false),
        Err(error) if error.is_namespace_going() || error.is_not_found() => Ok(true),
        // Rights, quotas and policies of others say nothing of it.
        Err(error) if error.refusal().is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use crate::scripted::{Answers, ok, refused, scripted};
    use http::Method;
    use jiff::Timestamp;
    use serde_json::json;

    #[tokio::test]
    async fn every_answer() {
        let path = "/api/v1/namespaces/team";
        let there = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team",
            "labels": {"team": "a"}, "annotations": {ASSIGNED_USERS: "1000/10000"},
            "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let cases = [
            (ok(Method::GET, path, there), (1, true, true)),
            (refused(Method::GET, path, 404, "NotFound"), (0, true, false)),
            (refused(Method::GET, path, 403, "Forbidden"), (0, false, false)),
        ];
        for (exchange, wanted) in cases {
            let (context, server) = scripted(vec![exchange], Answers::default(), Timestamp::UNIX_EPOCH);
            let facts = NamespaceFacts::look(&context, "team").await.unwrap();
            let got = (facts.labels.len(), facts.going, facts.surroundings.assigns_users);
            assert_eq!(got, wanted);
            drop(context);
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_that_may_not_be_looked_at_tells_that_it_goes_when_something_is_to_be_made() {
        let path = "/api/v1/namespaces/team";
        let maps = "/api/v1/namespaces/team/configmaps?&dryRun=All";
        let mut terminating = refused(Method::POST, maps, 403, "Forbidden");
        terminating.body["details"] =
            json!({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]});
        let stays = ok(Method::POST, maps, serde_json::Value::Null);
        let cases = [
            (stays, false),
            (terminating, true),
            (refused(Method::POST, maps, 404, "NotFound"), true),
            (refused(Method::POST, maps, 403, "Forbidden"), false),
        ];
        for (tried, going) in cases {
            let script = vec![refused(Method::GET, path, 403, "Forbidden"), tried];
            let (context, server) = scripted(script, Answers::default(), Timestamp::UNIX_EPOCH);
            let facts = NamespaceFacts::look_at_the_end(&context, "team").await.unwrap();
            assert_eq!(facts.going, going);
            drop(context);
            server.await.unwrap();
        }
    }
}

//! Clusters of PostgreSQL operators that no Deployment of ours names.

use std::collections::BTreeSet;

use hardstorage_crds::ProtectedDeployment;
use kube::ResourceExt as _;
use kube::api::ListParams;
use kube::core::{ApiResource, GroupVersionKind};
use serde::Serialize;

use crate::connect::Session;
use crate::error::Result;
use crate::output::table;

/// A cluster that nobody protects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Its kind, as the operator that it belongs to calls it.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The kinds that are looked for: group, version, kind, plural, and what it is called here.
const KINDS: [(&str, &str, &str, &str, &str); 3] = [
    ("postgresql.cnpg.io", "v1", "Cluster", "clusters", "cnpg"),
    ("acid.zalan.do", "v1", "postgresql", "postgresqls", "zalando"),
    (
        "postgres-operator.crunchydata.com",
        "v1beta1",
        "PostgresCluster",
        "postgresclusters",
        "crunchy",
    ),
];

/// Looks for them. A kind that is not installed, or that this person may not see, has no clusters.
pub async fn clusters(session: &Session, deployments: &[ProtectedDeployment]) -> Result<Vec<Cluster>> {
    let protected: BTreeSet<(String, String)> = deployments.iter().filter_map(named).collect();
    let mut out = Vec::new();
    for (group, version, kind, plural, word) in KINDS {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let list = match session.looked_at_dynamic(&resource).list(&ListParams::default()).await {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => continue,
            Err(error) => return Err(error.into()),
        };
        for object in list.items {
            let namespace = object.namespace().unwrap_or_default();
            let name = object.name_any();
            if !protected.contains(&(namespace.clone(), name.clone())) {
                out.push(Cluster {
                    kind: word,
                    namespace,
                    name,
                });
            }
        }
    }
    Ok(out)
}

/// The cluster that a Deployment names, in its own namespace.
fn named(deployment: &ProtectedDeployment) -> Option<(String, String)> {
    let source = &deployment.spec.source;
    let of_cnpg = source.cloud_native_pg.as_ref().map(|source| source.cluster.clone());
    let of_patroni = source.patroni.as_ref().map(|source| source.scope.clone());
    Some((deployment.namespace()?, of_cnpg.or(of_patroni)?))
}

/// For people.
pub fn text(clusters: &[Cluster]) -> String {
    if clusters.is_empty() {
        return "every cluster is named by a Deployment; `kubectl hardstorage status` tells whether it is protected\n"
            .to_owned();
    }
    let rows: Vec<Vec<String>> = clusters
        .iter()
        .map(|one| vec![one.namespace.clone(), one.name.clone(), one.kind.to_owned()])
        .collect();
    table(&["NAMESPACE", "NAME", "KIND"], &rows)
}

//! Lists of our objects. One that cannot be read is named, and the others are shown.

use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::error::Result;

/// What was found of a kind.
#[derive(Debug)]
pub struct Found<K> {
    /// What could be read.
    pub objects: Vec<K>,
    /// `namespace/name` of what could not, and why.
    pub malformed: Vec<(String, String)>,
}

/// All of a kind.
pub async fn all<K>(api: Api<DeserializeGuard<K>>) -> Result<Found<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let list = api.list(&kube::api::ListParams::default()).await?;
    let mut found = Found {
        objects: Vec::new(),
        malformed: Vec::new(),
    };
    for guard in list.items {
        let name = format!("{}/{}", guard.namespace().unwrap_or_default(), guard.name_any());
        match guard.0 {
            Ok(object) => found.objects.push(object),
            Err(error) => found.malformed.push((name, error.error)),
        }
    }
    Ok(found)
}

//! One of our objects as a watch or a list brings it: read, or not readable and told why, so that one that cannot be read
//! does not stop the others.
//!
//! It is kube's guard without the list of the fields that each manager has written. Who wrote, and when, stays; the list is
//! most of what an object takes in memory, and nobody here reads it. There is one Backup for each backup, and all are held.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// An object, or why it cannot be read.
#[derive(Debug, Clone)]
pub struct Guarded<K>(pub Result<K, InvalidObject>);

impl<'de, K: DeserializeOwned + Resource> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut guarded = Guarded(DeserializeGuard::<K>::deserialize(deserializer)?.0);
        let managers = guarded.meta_mut().managed_fields.iter_mut().flatten();
        managers.for_each(|manager| manager.fields_v1 = None);
        Ok(guarded)
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use hardstorage_crds::Repository;
    use kube::ResourceExt as _;
    use serde_json::json;

    #[test]
    fn one_that_cannot_be_read_has_its_name_and_no_list_of_fields() {
        for (url, readable) in [(json!("s3://a/b"), true), (json!(5), false)] {
            let object = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Repository",
                "metadata": {"name": "main", "namespace": "team", "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]},
                "spec": {"url": url}});
            let guarded: Guarded<Repository> = serde_json::from_value(object).unwrap();
            assert_eq!(guarded.0.is_ok(), readable);
            assert_eq!(guarded.name_any(), "main");
            let managers = guarded.managed_fields();
            assert_eq!(managers[0].manager.as_deref(), Some("kubectl"));
            assert!(managers[0].fields_v1.is_none());
        }
    }
}

//! What a user may say about the pods that run the engine: where they run and as whom, nothing about what they run. Volumes,
//! containers and commands are ours: a pod that is not what the operator built would not be trusted with a report.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, PodSecurityContext, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::reference::object_name;
use crate::rules::{Rule, rule};

/// Settings of the pods made for an object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels for the pods, beside our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations for the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that are no hindrance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// Where the pods should run, beside which pods, and where not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the pods are spread over zones and nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Name of a PriorityClass; default: the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = object_name)]
    pub priority_class_name: Option<String>,
    /// Secrets with which images are pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,
    /// ServiceAccount of the pods; default: one without rights. The one of the credentials goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = object_name)]
    pub service_account_name: Option<String>,
    /// User, groups and SELinux context of the pods, in place of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,
    /// Environment variables for the engine, for example a proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<EnvVar>>,
}

/// What a container asks for and what it may take at most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = no_more_than_the_limit("cpu"), transform = no_more_than_the_limit("memory"))]
pub struct Resources {
    /// What the scheduler sets aside, by resource.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "read_quantities"
    )]
    #[schemars(transform = quantities)]
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// What it may take at most, by resource.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "read_quantities"
    )]
    #[schemars(transform = quantities)]
    pub limits: Option<BTreeMap<String, Quantity>>,
}

/// `cpu: 1` is a number for YAML, and stays one: the API server does not write definitions' quantities anew as it does its
/// own. An object with one would else be an object that nobody can read.
fn read_quantities<'de, D>(deserializer: D) -> Result<Option<BTreeMap<String, Quantity>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Number(serde_json::Number),
    }
    let read: Option<BTreeMap<String, Written>> = Option::deserialize(deserializer)?;
    let text = |written| match written {
        Written::Text(text) => Quantity(text),
        Written::Number(number) => Quantity(number.to_string()),
    };
    Ok(read.map(|all| all.into_iter().map(|(name, written)| (name, text(written))).collect()))
}

/// The pod would be refused, and nobody looks for that at a Deployment of apps/v1 or a Job.
fn no_more_than_the_limit(name: &str) -> Rule {
    let both =
        format!("has(self.requests) && has(self.limits) && '{name}' in self.requests && '{name}' in self.limits");
    rule(
        format!(
            "!({both}) || quantity(string(self.requests['{name}'])).compareTo(quantity(string(self.limits['{name}']))) <= 0"
        ),
        format!("requests.{name} is at most limits.{name}"),
    )
}

/// The rule on the memory of a container that works in a fixed space.
pub(crate) fn memory_of_at_least(least: &str, why: &str) -> Rule {
    rule(
        format!(
            "!has(self.limits) || !('memory' in self.limits) || \
             quantity(string(self.limits['memory'])).compareTo(quantity('{least}')) >= 0"
        ),
        format!("limits.memory is at least {least}: {why}"),
    )
}

/// A map of quantities, without the page of grammar that each of them would bring.
fn quantities(schema: &mut Schema) {
    // What the rules look into has an end.
    schema.insert("maxProperties".into(), json!(16));
    schema.insert(
        "additionalProperties".into(),
        json!({
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
            "x-kubernetes-int-or-string": true,
        }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_without_a_unit_is_a_number_for_yaml() {
        let written = json!({"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"cpu": 1.5, "memory": 134_217_728}});
        let read: Resources = serde_json::from_value(written).unwrap();
        let text = |all: Option<BTreeMap<String, Quantity>>| -> Vec<String> {
            all.unwrap_or_default()
                .into_values()
                .map(|quantity| quantity.0)
                .collect()
        };
        assert_eq!(text(read.requests), ["1", "64Mi"]);
        assert_eq!(text(read.limits), ["1.5", "134217728"]);
        assert_eq!(
            serde_json::from_value::<Resources>(json!({})).unwrap(),
            Resources::default()
        );
    }
}

//! Who may use a repository. A namespace that is admitted writes and restores under its own prefix of names; a grant lets it
//! read others.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::rule;
use crate::words::words;

words! {
    /// Which namespaces.
    closed NamespacesFrom {
        /// The Repository's own.
        Same,
        /// Those that a selector selects.
        Selector,
        /// Every one.
        All,
    }
}

words! {
    /// What is granted.
    closed Verb {
        /// Listing and restoring.
        #[allow(non_camel_case_types)]
        read,
    }
}

/// The namespaces that may use a repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rule(
    "has(self.selector) == (self.from == 'Selector')",
    "allowedNamespaces.selector is given with from: Selector, and only then",
))]
pub struct AllowedNamespaces {
    /// Which namespaces: Same, Selector or All; default Same.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels of the namespaces, for Selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// What one namespace may do with backups of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// The namespace that may.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Names in the repository, as NAMESPACE.NAME. At most 64.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 128)))]
    pub deployments: Vec<String>,
    /// What it may: read.
    #[schemars(length(min = 1, max = 4))]
    pub verbs: Vec<Verb>,
}

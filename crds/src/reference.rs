//! How one object names another, and how credentials are named. A reference is a name in the same namespace unless it says
//! otherwise: Secrets cannot be mounted across namespaces.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::rules::not_both;
use crate::words::words;

/// The name of one of our own objects in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentRef {
    /// Name of a Deployment of `hardstorage.dev` in the same namespace.
    #[schemars(length(min = 1, max = 45))]
    pub name: String,
}

/// The name of a Repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepositoryRef {
    /// Name of a Repository.
    #[schemars(length(min = 1, max = 45))]
    pub name: String,
    /// Its namespace; default: the same. Another one has to admit this one by its `allowedNamespaces`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

words! {
    /// What holds certificates.
    closed CaKind {
        /// A ConfigMap.
        ConfigMap,
        /// A Secret.
        Secret,
    }
}

/// Certificates to trust instead of the system's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaRef {
    /// What holds them: ConfigMap or Secret.
    pub kind: CaKind,
    /// Its name, in the same namespace.
    #[schemars(transform = object_name)]
    pub name: String,
    /// The key in it that holds them, as PEM; default ca.crt.
    #[serde(default = "ca_key")]
    #[schemars(transform = data_key)]
    pub key: String,
}

/// A Secret of type kubernetes.io/tls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateRef {
    /// Name of a Secret with the keys tls.crt and tls.key, in the same namespace.
    #[schemars(transform = object_name)]
    pub name: String,
}

/// Credentials of a store. Without any of them they come from the surroundings (a node's role, an injected token).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = not_both("credentials", "secretRef", "serviceAccountName"))]
pub struct StoreCredentials {
    /// A Secret with an access key.
    #[serde(rename = "secretRef", skip_serializing_if = "Option::is_none")]
    pub secret: Option<StoreSecret>,
    /// A ServiceAccount whose workload identity the store knows, in the namespace of each consumer.
    #[serde(rename = "serviceAccountName", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = object_name)]
    pub service_account_name: Option<String>,
}

/// A Secret with an access key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreSecret {
    /// Name of the Secret, in the same namespace.
    #[schemars(transform = object_name)]
    pub name: String,
    /// Which of its keys hold what; needed only where they are called otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<StoreKeys>,
}

/// Where an access key lies in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StoreKeys {
    /// The key with the access key's id; default access-key-id.
    #[serde(rename = "accessKeyID")]
    #[schemars(transform = data_key)]
    pub access_key_id: String,
    /// The key with the secret; default secret-access-key.
    #[serde(rename = "secretAccessKey")]
    #[schemars(transform = data_key)]
    pub secret_access_key: String,
    /// The key with a session token, which need not be there; default session-token.
    #[serde(rename = "sessionToken")]
    #[schemars(transform = data_key)]
    pub session_token: String,
}

/// Credentials with a user and a password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PasswordCredentials {
    /// A Secret with a user and a password.
    #[serde(rename = "secretRef", skip_serializing_if = "Option::is_none")]
    pub secret: Option<PasswordSecret>,
}

/// A Secret with a user and a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PasswordSecret {
    /// Name of the Secret, in the same namespace.
    #[schemars(transform = object_name)]
    pub name: String,
    /// Which of its keys hold what; needed only where they are called otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<PasswordKeys>,
}

/// Where a user and a password lie in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PasswordKeys {
    /// The key with the user's name; default username.
    #[schemars(transform = data_key)]
    pub username: String,
    /// The key with the password; default password.
    #[schemars(transform = data_key)]
    pub password: String,
}

impl Default for StoreKeys {
    fn default() -> Self {
        StoreKeys {
            access_key_id: "access-key-id".into(),
            secret_access_key: "secret-access-key".into(),
            session_token: "session-token".into(),
        }
    }
}

impl Default for PasswordKeys {
    fn default() -> Self {
        PasswordKeys {
            username: "username".into(),
            password: "password".into(),
        }
    }
}

fn ca_key() -> String {
    "ca.crt".into()
}

/// The name of a Secret, a ConfigMap, a ServiceAccount, a claim.
pub(crate) fn object_name(schema: &mut Schema) {
    schema.insert("minLength".into(), json!(1));
    schema.insert("maxLength".into(), json!(253));
    schema.insert("pattern".into(), json!("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"));
}

/// A key in the data of a Secret or a ConfigMap: a file's name.
pub(crate) fn data_key(schema: &mut Schema) {
    schema.insert("minLength".into(), json!(1));
    schema.insert("maxLength".into(), json!(253));
    schema.insert("pattern".into(), json!("^[A-Za-z0-9._-]+$"));
}

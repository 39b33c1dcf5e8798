//! With which key a repository is encrypted. Which kind of key it is never changes: a repository that was written with a key
//! cannot be read without it, and one in clear does not become secret.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::{data_key, object_name};
use crate::rules::{one_of, rule};

/// Exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(
    transform = one_of("encryption", &["managed", "secretRef", "none"]),
    transform = rule(
        "has(self.managed) == has(oldSelf.managed) && has(self.secretRef) == has(oldSelf.secretRef)",
        "encryption cannot be changed to another kind: what is there can only be read with the key it was written with",
    ),
)]
pub struct Encryption {
    /// The operator makes a key once, in a Secret that nothing owns and that is never changed or deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedKey>,
    /// A key of your own.
    #[serde(rename = "secretRef", skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeySecret>,
    /// Nothing is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none: Option<NoEncryption>,
}

impl Encryption {
    /// The default: a key that the operator makes.
    pub fn managed() -> Encryption {
        Encryption {
            managed: Some(ManagedKey::default()),
            ..Encryption::default()
        }
    }
}

/// A key that the operator makes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedKey {
    /// Name of the Secret; default: the name of the Repository with -kek behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = object_name_or_empty)]
    pub secret_name: Option<String>,
    /// The key's fingerprint (16 hexadecimal digits), written here by you once a copy of the key lies outside of this cluster.
    /// Until then RecoveryKeyExported is False.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9a-f]{16})?$"))]
    pub exported_fingerprint: Option<String>,
}

/// A key of the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeySecret {
    /// Name of the Secret, in the same namespace.
    #[schemars(transform = object_name)]
    pub name: String,
    /// The key in it that holds the key-encryption key; default kek.
    #[serde(default = "kek")]
    #[schemars(transform = data_key)]
    pub key: String,
}

/// No key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoEncryption {}

fn kek() -> String {
    "kek".into()
}

fn object_name_or_empty(schema: &mut schemars::Schema) {
    schema.insert("maxLength".into(), 253.into());
    schema.insert("pattern".into(), "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$".into());
}

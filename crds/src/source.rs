//! Where the WAL and the base backups of a Deployment come from: one of a CloudNativePG Cluster, a Patroni cluster, or
//! hosts. A struct of optional members with a rule, and never changed: another source is another Deployment.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::{CaRef, CertificateRef, PasswordCredentials, object_name};
use crate::rules::one_of;
use crate::words::words;

/// Exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = one_of("source", &["cloudNativePG", "patroni", "connection"]))]
pub struct Source {
    /// A Cluster of CloudNativePG in the same namespace. Names, certificates and the primary come from its status.
    #[serde(rename = "cloudNativePG", skip_serializing_if = "Option::is_none")]
    pub cloud_native_pg: Option<CloudNativePg>,
    /// A cluster that Patroni runs in the same namespace: by itself, by Zalando's operator or by Crunchy's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patroni: Option<Patroni>,
    /// Any other server, by its hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
}

/// A Cluster of CloudNativePG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloudNativePg {
    /// Name of the Cluster.
    #[schemars(transform = object_name)]
    pub cluster: String,
}

words! {
    /// Who runs Patroni.
    closed Flavor {
        /// Nobody: its own StatefulSet or Deployment.
        Plain,
        /// Zalando's operator.
        Zalando,
        /// Crunchy's operator.
        Crunchy,
    }
}

words! {
    /// Who makes the slot outlive a failover.
    closed SlotManagement {
        /// The operator, through Patroni.
        Auto,
        /// The user; a condition shows what to write.
        Manual,
    }
}

/// A cluster that Patroni runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Patroni {
    /// Patroni's scope: the name of the cluster.
    #[schemars(length(min = 1, max = 63))]
    pub scope: String,
    /// Who runs Patroni: Plain, Zalando or Crunchy; default Plain.
    #[serde(default)]
    pub flavor: Flavor,
    /// Labels of the members; default: those that the flavour sets, with the scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Role with REPLICATION; default: the one that the flavour makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PasswordCredentials>,
    /// Patroni's REST API, through which the slot is made permanent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<PatroniRest>,
    /// Who makes the slot permanent: Auto or Manual; default Auto. Zalando's and Crunchy's objects are never changed: with
    /// them a condition shows what to write.
    #[serde(default)]
    pub slot_management: SlotManagement,
    /// How connections to PostgreSQL are secured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Patroni's REST API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatroniRest {
    /// Where it answers; default: port 8008 of the leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^(https?://[^/@?#]+/?)?$"))]
    pub url: Option<String>,
    /// User and password that may change the configuration; default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PasswordCredentials>,
    /// Certificates to trust; default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
}

/// One server, or several of which one is the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// The hosts; the primary among them is found by asking. At most 8.
    #[schemars(length(min = 1, max = 8))]
    pub hosts: Vec<Host>,
    /// Role with REPLICATION.
    #[schemars(length(min = 1, max = 63))]
    pub user: String,
    /// Database for the few questions that are asked in SQL; default postgres.
    #[serde(default = "database")]
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// Password of the role; default: none (a client certificate, or a server that asks for nothing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PasswordCredentials>,
    /// How connections are secured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Name or address.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Port; default 5432.
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

words! {
    /// What is checked of the server's certificate; PostgreSQL's sslmode.
    closed TlsMode {
        /// verify-full: who signed it, and that it names the server.
        VerifyFull,
        /// verify-ca: who signed it.
        VerifyCA,
        /// require: nothing; the connection is encrypted.
        Require,
        /// disable: not encrypted.
        Disable,
    }
}

/// How connections to PostgreSQL are secured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// What is checked: VerifyFull, VerifyCA, Require or Disable; default VerifyFull.
    #[serde(default)]
    pub mode: TlsMode,
    /// Name that the certificate must have; default: the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub server_name: Option<String>,
    /// Certificates to trust; default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// Certificate with which the role proves itself; default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_secret_ref: Option<CertificateRef>,
}

fn database() -> String {
    "postgres".into()
}

fn port() -> i32 {
    5432
}

//! What an engine pod needs to reach a repository and a server, resolved from our objects: names of Secrets and paths in
//! the pod, never their content. The operator reads no credential.

use std::fmt::Write as _;

use hardstorage_crds::{CaRef, KeySecret, PasswordSecret, StoreSecret};

/// Where files lie in an engine pod.
pub mod path {
    /// One file for each credential: the engine's `--credentials-dir`.
    pub const CREDENTIALS: &str = "/etc/pg-hardstorage/credentials";
    /// The certificate authority of the store.
    pub const STORE_CA: &str = "/etc/pg-hardstorage/store/ca.crt";
    /// Certificates for PostgreSQL.
    pub const POSTGRES: &str = "/etc/pg-hardstorage/postgres";
    /// The claim of a `file://` repository.
    pub const REPOSITORY: &str = "/repository";
    /// What a run was told to keep with the backup.
    pub const SNAPSHOT: &str = "/etc/pg-hardstorage/snapshot/source.json";
    /// The engine's program in its image.
    pub const ENGINE: &str = "/usr/local/bin/pg_hardstorage";
}

/// A key in a Secret of the pod's own namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey {
    /// The Secret.
    pub secret: String,
    /// The key in it.
    pub key: String,
}

impl From<&KeySecret> for SecretKey {
    fn from(from: &KeySecret) -> SecretKey {
        SecretKey {
            secret: from.name.clone(),
            key: from.key.clone(),
        }
    }
}

/// A repository as a pod in one namespace sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct RepositoryAccess {
    /// Namespace and name of the Repository.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its URL as the user wrote it.
    pub url: String,
    /// An access key, when the store wants one.
    pub credentials: Option<StoreSecret>,
    /// A ServiceAccount with a workload identity.
    pub service_account: Option<String>,
    /// Certificates to trust.
    pub ca: Option<CaRef>,
    /// The key-encryption key; none for a repository in clear.
    pub kek: Option<SecretKey>,
    /// The key that signs manifests.
    pub signing: SecretKey,
    /// The claim of a `file://` repository.
    pub claim: Option<String>,
    /// Whether the claim can be mounted by several nodes.
    pub shared_claim: bool,
    /// Whether nothing may be written.
    pub read_only: bool,
}

impl RepositoryAccess {
    /// The URL for the engine: with the path of the certificate authority in the pod.
    pub fn engine_url(&self) -> String {
        if self.ca.is_none() {
            return self.url.clone();
        }
        let joint = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{joint}ca_file={}", self.url, path::STORE_CA)
    }
}

/// How a connection to PostgreSQL is secured: libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    /// Who signed it, and that it names the server.
    #[default]
    VerifyFull,
    /// Who signed it.
    VerifyCa,
    /// Nothing is checked; it is encrypted.
    Require,
    /// Not encrypted.
    Disable,
}

impl SslMode {
    /// libpq's word.
    pub fn as_str(self) -> &'static str {
        match self {
            SslMode::VerifyFull => "verify-full",
            SslMode::VerifyCa => "verify-ca",
            SslMode::Require => "require",
            SslMode::Disable => "disable",
        }
    }
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAccess {
    /// Its name: what the certificate is compared with.
    pub name: String,
    /// The address to connect to, where the name is not to be resolved.
    pub address: Option<String>,
    /// The port.
    pub port: u16,
}

impl HostAccess {
    /// A host that is resolved by its name.
    pub fn named(name: impl Into<String>, port: u16) -> HostAccess {
        HostAccess {
            name: name.into(),
            address: None,
            port,
        }
    }
}

/// A server as a pod in its namespace reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceAccess {
    /// Hosts; the primary among several is found by asking.
    pub hosts: Vec<HostAccess>,
    /// The role; none when it comes from the password's Secret.
    pub user: Option<String>,
    /// The database for the few questions in SQL.
    pub database: String,
    /// A Secret with the password, and the user when it has one.
    pub password: Option<PasswordSecret>,
    /// How the connection is secured.
    pub ssl: SslMode,
    /// Certificates to trust.
    pub ca: Option<CaRef>,
    /// A Secret with `tls.crt` and `tls.key` of the role.
    pub certificate: Option<String>,
    /// Whether a standby is meant.
    pub standby: bool,
}

impl SourceAccess {
    /// The connection string, without any password.
    pub fn conninfo(&self) -> String {
        let mut out = String::new();
        let mut put = |key: &str, value: &str| {
            if !out.is_empty() {
                out.push(' ');
            }
            // Writing to a String cannot fail.
            let _ = write!(out, "{key}={}", quoted(value));
        };
        let join = |part: &dyn Fn(&HostAccess) -> String| self.hosts.iter().map(part).collect::<Vec<_>>().join(",");
        put("host", &join(&|host| host.name.clone()));
        if self.hosts.iter().any(|host| host.address.is_some()) {
            put("hostaddr", &join(&|host| host.address.clone().unwrap_or_default()));
        }
        put("port", &join(&|host| host.port.to_string()));
        if let Some(user) = &self.user {
            put("user", user);
        }
        put("dbname", &self.database);
        put("sslmode", self.ssl.as_str());
        if self.ca.is_some() {
            put("sslrootcert", &format!("{}/ca.crt", path::POSTGRES));
        } else if self.ssl == SslMode::VerifyFull {
            // libpq takes the system's authorities for nothing weaker.
            put("sslrootcert", "system");
        }
        if self.certificate.is_some() {
            put("sslcert", &format!("{}/tls.crt", path::POSTGRES));
            put("sslkey", &format!("{}/tls.key", path::POSTGRES));
        }
        if self.hosts.len() > 1 && !self.standby {
            put("target_session_attrs", "read-write");
        }
        put("connect_timeout", "10");
        out
    }
}

/// A value as libpq reads it.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/,:@".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_holds_paths_and_no_secret() {
        let access = SourceAccess {
            hosts: vec![HostAccess::named("orders-rw", 5432)],
            user: Some("streaming_replica".into()),
            database: "postgres".into(),
            ca: Some(CaRef {
                kind: hardstorage_crds::CaKind::Secret,
                name: "orders-ca".into(),
                key: "ca.crt".into(),
            }),
            certificate: Some("orders-replication".into()),
            ..SourceAccess::default()
        };
        assert_eq!(
            access.conninfo(),
            "host=orders-rw port=5432 user=streaming_replica dbname=postgres sslmode=verify-full \
             sslrootcert=/etc/pg-hardstorage/postgres/ca.crt sslcert=/etc/pg-hardstorage/postgres/tls.crt \
             sslkey=/etc/pg-hardstorage/postgres/tls.key connect_timeout=10"
        );
    }

    #[test]
    fn several_hosts_and_strange_names() {
        let access = SourceAccess {
            hosts: vec![HostAccess::named("a", 5432), HostAccess::named("b", 5433)],
            user: Some("o'brien \\".into()),
            database: "my db".into(),
            ssl: SslMode::Disable,
            ..SourceAccess::default()
        };
        assert_eq!(
            access.conninfo(),
            r"host=a,b port=5432,5433 user='o\'brien \\' dbname='my db' sslmode=disable target_session_attrs=read-write connect_timeout=10"
        );
    }
}

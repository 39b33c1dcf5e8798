//! A cluster that Patroni runs, as a source. Pure.
//!
//! Its leader is reached through a Service of ours that selects by the label of the leader: Patroni's own Service differs
//! with each flavour, and may select nothing. The label says `primary` since Patroni 4 and `master` before and with both
//! operators, so it is looked which one the leader bears.

use std::collections::BTreeMap;

use hardstorage_crds::{CaKind, CaRef, Flavor, PasswordSecret, Patroni};

use super::tls::secure;
use crate::access::{HostAccess, SourceAccess};

/// How a flavour marks its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// The labels of every member.
    pub labels: BTreeMap<String, String>,
    /// The label with its role.
    pub role: &'static str,
}

/// Values of the role that a leader bears.
pub const LEADER_VALUES: [&str; 2] = ["primary", "master"];

impl Members {
    /// Those of a cluster; the error is a sentence.
    pub fn of(patroni: &Patroni) -> Result<Members, String> {
        let (role, labels): (_, &[(&str, &str)]) = match &patroni.flavor {
            Flavor::Plain => ("role", &[("cluster-name", &patroni.scope)]),
            Flavor::Zalando => (
                "spilo-role",
                &[("application", "spilo"), ("cluster-name", &patroni.scope)],
            ),
            Flavor::Crunchy => (
                "postgres-operator.crunchydata.com/role",
                &[("postgres-operator.crunchydata.com/cluster", &patroni.scope)],
            ),
            Flavor::Other(word) => return Err(format!("flavor {word} is not known to this version")),
        };
        let chosen = patroni.selector.as_ref();
        if chosen.is_some_and(|chosen| chosen.match_expressions.as_ref().is_some_and(|all| !all.is_empty())) {
            return Err("selector has matchExpressions, which a Service cannot use: write matchLabels".to_owned());
        }
        let chosen = chosen
            .and_then(|chosen| chosen.match_labels.clone())
            .filter(|labels| !labels.is_empty());
        let own = || {
            labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        Ok(Members {
            labels: chosen.unwrap_or_else(own),
            role,
        })
    }

    /// The leader's labels, for a list.
    pub fn leaders(&self) -> String {
        let mut all: Vec<String> = self
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        all.push(format!("{} in ({})", self.role, LEADER_VALUES.join(",")));
        all.join(",")
    }

    /// The leader's labels, for a Service.
    pub fn selector(&self, role: &str) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(self.role.to_owned(), role.to_owned());
        labels
    }
}

/// The member that leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The labels by which a Service finds it.
    pub selector: BTreeMap<String, String>,
    /// Its pod.
    pub pod: Option<String>,
    /// Its address.
    pub ip: Option<String>,
}

/// How its PostgreSQL is reached: through the Service of ours with this name and address. The error is a sentence.
pub fn access(patroni: &Patroni, service: &str, address: Option<&str>) -> Result<SourceAccess, String> {
    let scope = &patroni.scope;
    let mut access = SourceAccess {
        hosts: vec![HostAccess::named(service, 5432)],
        database: "postgres".to_owned(),
        password: patroni
            .credentials
            .as_ref()
            .and_then(|credentials| credentials.secret.clone()),
        ..SourceAccess::default()
    };
    let mut tls = patroni.tls.clone().unwrap_or_default();
    if access.password.is_none() {
        match patroni.flavor {
            Flavor::Zalando => {
                access.password = Some(PasswordSecret {
                    name: format!("standby.{scope}.credentials.postgresql.acid.zalan.do"),
                    keys: None,
                });
            }
            Flavor::Crunchy => access.user = Some("_crunchyrepl".to_owned()),
            Flavor::Plain | Flavor::Other(_) => {
                return Err(
                    "patroni.credentials names no Secret with the user (and the password) of a role with REPLICATION"
                        .to_owned(),
                );
            }
        }
    }
    if patroni.flavor == Flavor::Crunchy && patroni.credentials.is_none() {
        let secret = format!("{scope}-replication-cert");
        tls.ca_ref.get_or_insert_with(|| CaRef {
            kind: CaKind::Secret,
            name: secret.clone(),
            key: "ca.crt".to_owned(),
        });
        tls.certificate_secret_ref
            .get_or_insert(hardstorage_crds::CertificateRef { name: secret });
        // The name that its operator writes into every server's certificate.
        tls.server_name.get_or_insert_with(|| format!("{scope}-primary"));
    }
    if let Some(address) = address {
        access.hosts[0].address = Some(address.to_owned());
    }
    secure(&mut access, Some(&tls))?;
    // Without another name to be compared with, the Service's own is resolved as any other.
    for host in &mut access.hosts {
        if host.name == service {
            host.address = None;
        }
    }
    Ok(access)
}

/// Whether the Service's address has to be known before anybody can connect.
pub fn needs_address(patroni: &Patroni, service: &str) -> bool {
    access(patroni, service, Some("192.0.2.1"))
        .is_ok_and(|access| access.hosts.iter().any(|host| host.address.is_some()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::*;
    use serde_json::{Value, json};

    fn patroni(value: Value) -> Patroni {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn members_of_every_flavour() {
        let cases = [
            (
                json!({"scope": "orders"}),
                "cluster-name=orders,role in (primary,master)",
            ),
            (
                json!({"scope": "orders", "flavor": "Zalando"}),
                "application=spilo,cluster-name=orders,spilo-role in (primary,master)",
            ),
            (
                json!({"scope": "orders", "flavor": "Crunchy"}),
                "postgres-operator.crunchydata.com/cluster=orders,postgres-operator.crunchydata.com/role in (primary,master)",
            ),
            (
                json!({"scope": "orders", "selector": {"matchLabels": {"app": "pg"}}}),
                "app=pg,role in (primary,master)",
            ),
        ];
        for (spec, wanted) in cases {
            assert_eq!(Members::of(&patroni(spec)).unwrap().leaders(), wanted);
        }
        let members = Members::of(&patroni(json!({"scope": "orders"}))).unwrap();
        assert_eq!(members.selector("master")["role"], "master");
        for bad in [
            json!({"scope": "o", "flavor": "Stolon"}),
            json!({"scope": "o", "selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}),
        ] {
            assert!(Members::of(&patroni(bad.clone())).is_err(), "{bad}");
        }
    }

    #[test]
    fn how_each_flavour_lets_us_in() {
        let plain = json!({"scope": "orders", "credentials": {"secretRef": {"name": "repl"}},
            "tls": {"serverName": "orders"}});
        let access_of = |value: &Value| access(&patroni(value.clone()), "o-leader", Some("10.9.8.7"));
        let plain = access_of(&plain).unwrap();
        assert_eq!(
            plain.conninfo(),
            "host=orders hostaddr=10.9.8.7 port=5432 dbname=postgres sslmode=verify-full sslrootcert=system connect_timeout=10"
        );
        assert_eq!(plain.password.unwrap().name, "repl");
        let zalando = access_of(&json!({"scope": "orders", "flavor": "Zalando", "tls": {"mode": "Require"}})).unwrap();
        assert_eq!(
            zalando.conninfo(),
            "host=o-leader port=5432 dbname=postgres sslmode=require connect_timeout=10"
        );
        assert_eq!(
            zalando.password.unwrap().name,
            "standby.orders.credentials.postgresql.acid.zalan.do"
        );
        let crunchy = access_of(&json!({"scope": "orders", "flavor": "Crunchy"})).unwrap();
        assert!(
            crunchy
                .conninfo()
                .starts_with("host=orders-primary hostaddr=10.9.8.7 port=5432 user=_crunchyrepl")
        );
        assert_eq!(crunchy.certificate.as_deref(), Some("orders-replication-cert"));
        assert!(access_of(&json!({"scope": "orders"})).is_err(), "nobody to connect as");
    }

    #[test]
    fn the_address_is_needed_for_another_name_only() {
        let needs = |value: Value| needs_address(&patroni(value), "o-leader");
        assert!(needs(json!({"scope": "o", "flavor": "Crunchy"})));
        assert!(!needs(json!({"scope": "o", "flavor": "Zalando"})));
    }
}

//! Hosts as a source: what the spec says, and nothing to look at. Pure.

use hardstorage_crds::Connection;

use super::tls::secure;
use super::{Kind, SourceFacts, State, reason};
use crate::access::{HostAccess, SourceAccess};

/// What a connection is for us.
pub fn facts(connection: &Connection) -> SourceFacts {
    match access(connection) {
        Ok(access) => SourceFacts {
            access: Some(access),
            ..SourceFacts::unknown(Kind::Connection, State::Ready)
        },
        Err(message) => SourceFacts::unknown(
            Kind::Connection,
            State::Missing {
                reason: reason::INVALID,
                message,
            },
        ),
    }
}

fn access(connection: &Connection) -> Result<SourceAccess, String> {
    let mut hosts = Vec::with_capacity(connection.hosts.len());
    for host in &connection.hosts {
        let port = u16::try_from(host.port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| format!("{} is no port", host.port))?;
        // In libpq's words a comma parts hosts, and a path is a socket, which no pod shares with a server.
        if host.host.contains([',', '/']) || host.host.is_empty() {
            return Err(format!("{:?} is no host", host.host));
        }
        hosts.push(HostAccess::named(&host.host, port));
    }
    if hosts.is_empty() {
        return Err("connection has no hosts".to_owned());
    }
    let mut access = SourceAccess {
        hosts,
        user: Some(connection.user.clone()),
        database: connection.database.clone(),
        password: connection
            .credentials
            .as_ref()
            .and_then(|credentials| credentials.secret.clone()),
        ..SourceAccess::default()
    };
    secure(&mut access, connection.tls.as_ref())?;
    Ok(access)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::*;
    use serde_json::{Value, json};

    fn conninfo(connection: Value) -> Result<String, String> {
        let connection: Connection = serde_json::from_value(connection).unwrap();
        access(&connection).map(|access| access.conninfo())
    }

    #[test]
    fn connection_strings() {
        let cases = [
            (
                json!({"hosts": [{"host": "db1"}], "user": "backup"}),
                "host=db1 port=5432 user=backup dbname=postgres sslmode=verify-full sslrootcert=system connect_timeout=10",
            ),
            (
                json!({"hosts": [{"host": "db1"}, {"host": "db2", "port": 5433}], "user": "b", "tls": {"mode": "Disable"}}),
                "host=db1,db2 port=5432,5433 user=b dbname=postgres sslmode=disable target_session_attrs=read-write connect_timeout=10",
            ),
            (
                json!({"hosts": [{"host": "10.0.0.7"}], "user": "b", "tls": {"serverName": "db.example.com",
                    "caRef": {"kind": "ConfigMap", "name": "ca"}}}),
                "host=db.example.com hostaddr=10.0.0.7 port=5432 user=b dbname=postgres sslmode=verify-full \
                 sslrootcert=/etc/pg-hardstorage/postgres/ca.crt connect_timeout=10",
            ),
            (
                json!({"hosts": [{"host": "fd00::7"}], "user": "b", "tls": {"mode": "VerifyCA", "serverName": "db",
                    "certificateSecretRef": {"name": "me"}}}),
                "host=db hostaddr=fd00::7 port=5432 user=b dbname=postgres sslmode=verify-ca \
                 sslcert=/etc/pg-hardstorage/postgres/tls.crt sslkey=/etc/pg-hardstorage/postgres/tls.key connect_timeout=10",
            ),
        ];
        for (connection, wanted) in cases {
            assert_eq!(conninfo(connection).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn what_cannot_be_said_to_libpq_is_a_sentence() {
        let host = |host: &str, port: i32| json!({"hosts": [{"host": host, "port": port}], "user": "b"});
        for bad in [
            host("a,b", 1),
            host("/run/postgresql", 1),
            host("a", 0),
            host("a", 70000),
        ] {
            assert!(conninfo(bad.clone()).is_err(), "{bad}");
        }
        let mut named = host("db1", 5432);
        named["tls"] = json!({"serverName": "other"});
        assert!(conninfo(named).unwrap_err().contains("serverName other"));
        let mut odd = host("db1", 5432);
        odd["tls"] = json!({"mode": "Quantum"});
        let facts = facts(&serde_json::from_value(odd).unwrap());
        assert!(facts.access.is_none());
        assert!(matches!(
            facts.state,
            State::Missing {
                reason: reason::INVALID,
                ..
            }
        ));
    }

    #[test]
    fn the_password_is_a_file() {
        let connection = json!({"hosts": [{"host": "db1"}], "user": "b", "credentials": {"secretRef": {"name": "pw"}}});
        let facts = facts(&serde_json::from_value(connection).unwrap());
        let access = facts.access.unwrap();
        assert_eq!(access.password.as_ref().unwrap().name, "pw");
        assert!(!access.conninfo().contains("pw"));
    }
}

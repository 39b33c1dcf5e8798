//! The PostgreSQL that is protected: opening walsender connections to it, and asking what it is.
//!
//! Everything goes over the replication protocol, so that the introduction's role and its single `pg_hba.conf` line
//! are enough.

use std::path::PathBuf;

use hardstorage_replication::{ConnInfo, ConnectMode, Connection, Environment, Host, SystemIdentity};
use hardstorage_report::{ByteSize, DeploymentName, Error, Lsn, Result, SegmentSize, SystemId, Timeline, code};
use serde::Serialize;

use crate::credentials::Credentials;
use crate::preflight::{SETTINGS, ServerFacts, Setting};

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct Source {
    conninfo: ConnInfo,
    environment: Environment,
    credentials: Option<Credentials>,
    local: bool,
}

/// What a server is, as far as every role can see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerIdentity {
    /// The cluster.
    pub system_id: SystemId,
    /// Its timeline now.
    pub timeline: Timeline,
    /// How far its WAL is flushed.
    pub flush_lsn: Lsn,
    /// `server_version_num`.
    pub version_num: u32,
    /// `server_version`.
    pub version: String,
    /// `block_size`.
    pub block_size: u32,
    /// `wal_segment_size`.
    pub wal_segment_size: SegmentSize,
    /// `segment_size`: bytes of one file of a relation.
    pub relation_segment_size: u64,
    /// `data_checksums`; none when it is not visible.
    pub data_checksums: Option<bool>,
    /// Whether it is in recovery: a standby.
    pub standby: bool,
}

impl Source {
    /// From a connection string. `application_name` is what the server shows, unless the string names another.
    pub fn new(conninfo: ConnInfo, environment: Environment, application_name: &str) -> Result<Source> {
        let conninfo = match conninfo.get("application_name") {
            Some(_) => conninfo,
            None => conninfo.with("application_name", application_name)?,
        };
        let settings = conninfo.settings(&environment)?;
        let local = settings.hosts().iter().all(Host::is_local);
        Ok(Source {
            conninfo,
            environment,
            credentials: None,
            local,
        })
    }

    /// The same with user and password from the files `username` and `password` of a directory, read again for each
    /// connection. They need not be there yet.
    pub fn with_credentials(
        conninfo: ConnInfo,
        environment: Environment,
        application_name: &str,
        directory: PathBuf,
    ) -> Result<Source> {
        // Everything else is checked now; the name is not known before the file is there.
        let placeholder = environment.clone().with_os_user("postgres");
        let source = Source::new(conninfo, placeholder, application_name)?;
        Ok(Source {
            environment,
            credentials: Some(Credentials::new(directory)),
            ..source
        })
    }

    /// The connection string as it is now.
    fn conninfo(&self) -> Result<ConnInfo> {
        match &self.credentials {
            Some(credentials) => credentials.applied(&self.conninfo, &self.environment),
            None => Ok(self.conninfo.clone()),
        }
    }

    /// The same server under another application name.
    pub fn named(&self, application_name: &str) -> Result<Source> {
        let conninfo = self.conninfo.clone().with("application_name", application_name)?;
        Ok(Source {
            conninfo,
            environment: self.environment.clone(),
            credentials: self.credentials.clone(),
            local: self.local,
        })
    }

    /// Whether every host of it is this machine.
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// The connection string without a password.
    pub fn redacted(&self) -> String {
        self.conninfo.redacted()
    }

    /// The user, where it can be known.
    pub fn user(&self) -> Option<String> {
        let settings = self
            .conninfo()
            .and_then(|conninfo| conninfo.settings(&self.environment));
        settings.ok().map(|settings| settings.user().to_owned())
    }

    /// The application name that the server sees.
    pub fn application_name(&self) -> &str {
        self.conninfo.get("application_name").unwrap_or_default()
    }

    /// Opens a walsender connection.
    pub async fn connect(&self) -> Result<Connection> {
        Ok(self.connect_avoiding(None).await?.0)
    }

    /// The same with one host of several asked last, and the host that answered.
    pub(crate) async fn connect_avoiding(&self, avoided: Option<&Host>) -> Result<(Connection, Host)> {
        let mode = ConnectMode::Physical;
        let conninfo = self.conninfo()?;
        let connected = hardstorage_replication::connect_avoiding(&conninfo, mode, &self.environment, avoided).await?;
        for warning in &connected.warnings {
            tracing::warn!("{warning}");
        }
        Ok((Connection::from_wire(connected.wire)?, connected.host))
    }

    /// Whether there are several hosts to choose from.
    pub(crate) fn has_a_choice(&self) -> Result<bool> {
        Ok(self.conninfo()?.settings(&self.environment)?.hosts().len() > 1)
    }
}

/// The database of a connection that names none, by libpq's rule the user's, is for a role of backups rarely there.
const USUAL_DATABASE: &str = "postgres";

impl Source {
    /// The database that SQL is asked in.
    pub fn sql_database(&self) -> Result<String> {
        let settings = self.conninfo()?.settings(&self.environment)?;
        Ok(settings.dbname().unwrap_or(USUAL_DATABASE).to_owned())
    }

    /// Opens a connection that answers SQL, with the same host, password and TLS. `pg_hba.conf` must allow the database.
    pub async fn connect_sql(&self) -> Result<Connection> {
        let conninfo = self.conninfo()?.with("dbname", &self.sql_database()?)?;
        let connected = hardstorage_replication::connect(&conninfo, ConnectMode::Database, &self.environment).await?;
        Connection::from_wire(connected.wire)
    }
}

/// Asks a server what it is.
pub async fn identify(connection: &mut Connection) -> Result<ServerIdentity> {
    let SystemIdentity {
        system_id,
        timeline,
        flush_lsn,
    } = connection.identify().await?;
    let odd = |name: &str, value: &str| {
        Error::new(
            code::replication::PROTOCOL,
            format!("the server says {name} = {value:?}"),
        )
    };
    let block_size = connection.show("block_size").await?;
    let segment_size = connection.show("wal_segment_size").await?;
    let relation_segment = connection.show("segment_size").await?;
    let relation_segment_size = relation_segment
        .parse::<ByteSize>()
        .map_err(|_| odd("segment_size", &relation_segment))?
        .0;
    let checksums = match connection.show("data_checksums").await {
        Ok(value) => Some(value == "on"),
        Err(error) if error.is(code::replication::DENIED) => None,
        Err(error) => return Err(error),
    };
    Ok(ServerIdentity {
        system_id,
        timeline,
        flush_lsn,
        version_num: connection.server_version_num(),
        version: connection.show("server_version").await?,
        block_size: block_size.parse().map_err(|_| odd("block_size", &block_size))?,
        wal_segment_size: SegmentSize::from_setting(&segment_size)
            .ok_or_else(|| odd("wal_segment_size", &segment_size))?,
        relation_segment_size,
        data_checksums: checksums,
        standby: connection.show("in_hot_standby").await? == "on",
    })
}

/// Reads the settings that preflight judges.
pub async fn server_facts(
    connection: &mut Connection,
    application_name: &str,
    slot: Option<&str>,
) -> Result<ServerFacts> {
    let mut settings = Vec::with_capacity(SETTINGS.len());
    for name in SETTINGS {
        let value = match connection.show(name).await {
            Ok(value) => Setting::Value(value),
            Err(error) if error.is(code::replication::DENIED) => Setting::Denied,
            // A setting of a later version is an error of the server, and leaves the connection usable.
            Err(error) if error.is(code::replication::SERVER) => Setting::Unknown,
            Err(error) => return Err(error),
        };
        settings.push((name.to_owned(), value));
    }
    let slot_exists = match slot {
        Some(slot) => connection.read_slot(slot).await?.is_some(),
        None => false,
    };
    Ok(ServerFacts {
        settings,
        application_name: application_name.to_owned(),
        slot_exists,
        synchronous: false,
    })
}

/// The slot of a deployment: PostgreSQL takes lower-case letters, digits and underscores, at most 63. When anything
/// had to be replaced or cut, a hash of the whole name follows, or `a-b` and `a.b` would share a slot.
pub fn slot_name(deployment: &DeploymentName) -> String {
    const PREFIX: &str = "pg_hardstorage_";
    const MAX: usize = 63;
    let name = deployment.as_str();
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if plain && PREFIX.len() + name.len() <= MAX {
        return format!("{PREFIX}{name}");
    }
    let hash = hardstorage_codec::plain_hash(name.as_bytes());
    let suffix = format!("{:08x}", u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]));
    let room = MAX - PREFIX.len() - suffix.len() - 1;
    let replaced: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(room)
        .collect();
    format!("{PREFIX}{replaced}_{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_never_collide_and_always_fit() {
        let slot = |name: &str| slot_name(&name.parse().unwrap());
        assert_eq!(slot("db1"), "pg_hardstorage_db1");
        assert_ne!(slot("a-b"), slot("a.b"));
        let long = slot(&"a".repeat(128));
        assert!(long.len() <= 63);
        assert_ne!(long, slot(&"a".repeat(127)));
        for name in ["a-b", "team-a.orders"] {
            assert!(
                slot(name)
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
        }
    }
}

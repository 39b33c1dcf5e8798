//! What a connection string means, as typed values with all defaults applied.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;

/// A connection with all defaults applied.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) dbname: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) passfile: Option<PathBuf>,
    pub(crate) application_name: String,
    pub(crate) options: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) target: TargetAttrs,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) tls: TlsSettings,
    pub(crate) keepalives: Option<Keepalives>,
    pub(crate) tcp_user_timeout: u32,
}

/// One server of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name as written: what a certificate must be for, and what a passfile's line names. May be empty.
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) port: u16,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// By this name, looked up when connecting.
    Name(String),
    /// At this address (`hostaddr`).
    Ip(IpAddr),
    /// By the socket in this directory; a leading `@` means the abstract name space.
    Unix(PathBuf),
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// The oldest or newest TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    Tls12,
    Tls13,
}

/// `sslrootcert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RootCert {
    File(PathBuf),
    System,
    /// No name and no home directory to look in.
    None,
}

/// Everything about TLS; the files are read at each connection.
#[derive(Debug, Clone)]
pub(crate) struct TlsSettings {
    pub(crate) mode: SslMode,
    pub(crate) direct: bool,
    pub(crate) root: RootCert,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) server_name_indication: bool,
    pub(crate) min: TlsVersion,
    pub(crate) max: TlsVersion,
}

/// `keepalives_*`; `None` is the system's own default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keepalives {
    pub(crate) idle: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) count: Option<u32>,
}

impl Settings {
    /// The servers in the order in which they are tried.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The user who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database, when one is named.
    pub fn dbname(&self) -> Option<&str> {
        self.dbname.as_deref()
    }
}

impl Host {
    /// How it is reached.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The port, which is part of a Unix socket's name too.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the server runs on this machine for certain: by a Unix socket or a loopback address.
    pub fn is_local(&self) -> bool {
        match &self.address {
            Address::Unix(_) => true,
            Address::Ip(address) => address.is_loopback(),
            Address::Name(name) => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            Address::Unix(directory) => write!(f, "{}/.s.PGSQL.{}", directory.display(), self.port),
            Address::Ip(ip) if self.name.is_empty() || self.name == ip.to_string() => {
                write!(f, "{}", std::net::SocketAddr::new(*ip, self.port))
            }
            Address::Ip(ip) => write!(f, "{} ({ip}):{}", self.name, self.port),
            Address::Name(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Address::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

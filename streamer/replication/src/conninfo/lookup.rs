//! Finds each setting: `keyword > variable > default`, checked and typed.
//!
//! Differences to libpq, all on purpose: without `connect_timeout` an attempt is given up after 60 seconds (the server's
//! own authentication_timeout) instead of never, and `connect_timeout=0` still means never; `load_balance_hosts=random`
//! and `gssencmode=require` are refused; the text of a connection is always UTF8. A value that libpq would only refuse
//! when it comes into effect (an unknown sslmode for a Unix socket, say) is refused at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hardstorage_report::{Error, Result, code};

use super::environment::Environment;
use super::keyword::{self, Support};
use super::settings::{
    Address, ChannelBinding, Host, Keepalives, RootCert, Settings, SslMode, TargetAttrs, TlsSettings, TlsVersion,
};
use super::{ConnInfo, invalid, value};

pub(super) const DEFAULT_PORT: u16 = 5432;

/// An attempt to connect and authenticate lasts no longer than the server would wait for us.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// Where servers put their sockets: Debian, Red Hat and most packages, then what PostgreSQL itself has built in.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

const APPLICATION_NAME: &str = "pg_hardstorage";

/// Checks every value that is written in the string, so that a mistake shows before anything is tried.
pub(super) fn check(conninfo: &ConnInfo) -> Result<()> {
    let environment = Environment::empty();
    let lookup = Lookup {
        conninfo,
        environment: &environment,
    };
    lookup.common()?;
    if conninfo.get("host").is_some() || conninfo.get("hostaddr").is_some() {
        lookup.hosts()?;
    } else {
        lookup
            .text("port")?
            .unwrap_or_default()
            .split(',')
            .try_for_each(|port| value::port(port).map(drop))?;
    }
    Ok(())
}

/// Applies variables and defaults.
pub(super) fn resolve(conninfo: &ConnInfo, environment: &Environment) -> Result<Settings> {
    for keyword in keyword::KEYWORDS {
        if let (Support::Refused(reason), Some(variable)) = (keyword.support, keyword.variable)
            && environment.variable(variable).is_some_and(|value| !value.is_empty())
        {
            return Err(invalid(keyword.name, format!("not supported, and {variable} is set")).hint(reason));
        }
    }
    let lookup = Lookup { conninfo, environment };
    let common = lookup.common()?;
    let user = match lookup.filled("user")? {
        Some(user) => user,
        None => environment.os_user().map(str::to_owned).ok_or_else(|| {
            Error::new(
                code::usage::CONNINFO,
                "no user is named, and the operating system's user has no name",
            )
            .hint("add user=NAME to the connection string")
        })?,
    };
    // An explicit empty password asks the passfile, but not PGPASSWORD, as in libpq.
    let password = match &conninfo.password {
        Some(password) => Some(password.clone()),
        None => environment.variable("PGPASSWORD").cloned(),
    }
    .filter(|password| !password.is_empty());
    let application_name = match lookup.filled("application_name")? {
        Some(name) => name,
        None => lookup
            .filled("fallback_application_name")?
            .unwrap_or_else(|| APPLICATION_NAME.to_owned()),
    };
    Ok(Settings {
        hosts: lookup.hosts()?,
        user,
        dbname: lookup.filled("dbname")?,
        password,
        passfile: lookup
            .path("passfile")?
            .or_else(|| environment.home().map(|home| home.join(".pgpass"))),
        application_name,
        options: lookup.filled("options")?,
        connect_timeout: common.connect_timeout,
        target: common.target,
        channel_binding: common.channel_binding,
        tls: common.tls,
        keepalives: common.keepalives,
        tcp_user_timeout: common.tcp_user_timeout,
    })
}

/// What can be checked without knowing user and hosts.
struct Common {
    connect_timeout: Option<Duration>,
    target: TargetAttrs,
    channel_binding: ChannelBinding,
    tls: TlsSettings,
    keepalives: Option<Keepalives>,
    tcp_user_timeout: u32,
}

struct Lookup<'a> {
    conninfo: &'a ConnInfo,
    environment: &'a Environment,
}

impl Lookup<'_> {
    /// What is set, be it empty.
    fn text(&self, name: &'static str) -> Result<Option<String>> {
        if let Some(value) = self.conninfo.get(name) {
            return Ok(Some(value.to_owned()));
        }
        let variable = keyword::find(name).and_then(|keyword| keyword.variable);
        let Some((variable, value)) = variable.and_then(|v| self.environment.variable(v).map(|value| (v, value)))
        else {
            return Ok(None);
        };
        match std::str::from_utf8(value.expose()) {
            Ok(text) if !text.contains('\0') => Ok(Some(text.to_owned())),
            _ => Err(invalid(name, format!("{variable} is not text"))),
        }
    }

    /// What is set and not empty.
    fn filled(&self, name: &'static str) -> Result<Option<String>> {
        Ok(self.text(name)?.filter(|value| !value.is_empty()))
    }

    fn path(&self, name: &'static str) -> Result<Option<PathBuf>> {
        Ok(self.filled(name)?.map(PathBuf::from))
    }

    fn word<T: Copy>(&self, name: &'static str, default: T, words: &[(&str, T)]) -> Result<T> {
        self.filled(name)?
            .map_or(Ok(default), |text| value::word(name, &text, words))
    }

    fn integer(&self, name: &'static str) -> Result<Option<i32>> {
        self.filled(name)?.map(|text| value::integer(name, &text)).transpose()
    }

    /// A number of seconds; zero and less is the system's default.
    fn seconds(&self, name: &'static str) -> Result<Option<Duration>> {
        let seconds = self.integer(name)?.filter(|seconds| *seconds > 0);
        Ok(seconds.map(|seconds| Duration::from_secs(seconds.unsigned_abs().into())))
    }

    fn common(&self) -> Result<Common> {
        self.word("gssencmode", (), &[("disable", ()), ("prefer", ())])?;
        self.word("load_balance_hosts", (), &[("disable", ())])?;
        self.word("min_protocol_version", (), &[("3.0", ())])?;
        let connect_timeout = match self.integer("connect_timeout")? {
            None => Some(DEFAULT_TIMEOUT),
            Some(seconds) => u64::try_from(seconds)
                .ok()
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        };
        let target = self.word(
            "target_session_attrs",
            TargetAttrs::Any,
            &[
                ("any", TargetAttrs::Any),
                ("read-write", TargetAttrs::ReadWrite),
                ("read-only", TargetAttrs::ReadOnly),
                ("primary", TargetAttrs::Primary),
                ("standby", TargetAttrs::Standby),
                ("prefer-standby", TargetAttrs::PreferStandby),
            ],
        )?;
        let channel_binding = self.word(
            "channel_binding",
            ChannelBinding::Prefer,
            &[
                ("disable", ChannelBinding::Disable),
                ("prefer", ChannelBinding::Prefer),
                ("require", ChannelBinding::Require),
            ],
        )?;
        let keepalives = match self.integer("keepalives")? {
            Some(0) => None,
            _ => Some(Keepalives {
                idle: self.seconds("keepalives_idle")?,
                interval: self.seconds("keepalives_interval")?,
                count: self
                    .integer("keepalives_count")?
                    .filter(|count| *count > 0)
                    .map(i32::unsigned_abs),
            }),
        };
        let tcp_user_timeout = self
            .integer("tcp_user_timeout")?
            .map_or(0, |ms| u32::try_from(ms).unwrap_or(0));
        Ok(Common {
            connect_timeout,
            target,
            channel_binding,
            tls: self.tls()?,
            keepalives,
            tcp_user_timeout,
        })
    }

    fn tls(&self) -> Result<TlsSettings> {
        let own = |file: &str| self.environment.home().map(|home| home.join(".postgresql").join(file));
        let root = match self.filled("sslrootcert")? {
            Some(word) if word == "system" => RootCert::System,
            Some(path) => RootCert::File(path.into()),
            None => own("root.crt").map_or(RootCert::None, RootCert::File),
        };
        let default_mode = if root == RootCert::System {
            SslMode::VerifyFull
        } else {
            SslMode::Prefer
        };
        let mode = self.word(
            "sslmode",
            default_mode,
            &[
                ("disable", SslMode::Disable),
                ("allow", SslMode::Allow),
                ("prefer", SslMode::Prefer),
                ("require", SslMode::Require),
                ("verify-ca", SslMode::VerifyCa),
                ("verify-full", SslMode::VerifyFull),
            ],
        )?;
        if root == RootCert::System && mode != SslMode::VerifyFull {
            return Err(invalid("sslmode", "too weak for sslrootcert=system").hint("use sslmode=verify-full"));
        }
        let direct = self.word("sslnegotiation", false, &[("postgres", false), ("direct", true)])?;
        if direct && matches!(mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer) {
            return Err(
                invalid("sslmode", "too weak for sslnegotiation=direct").hint("use sslmode=require or stronger")
            );
        }
        let no_certificate = self.word("sslcertmode", false, &[("disable", true), ("allow", false)])?;
        let file = |named: Option<PathBuf>, default: &str| named.or_else(|| own(default)).filter(|_| !no_certificate);
        let min = self.word(
            "ssl_min_protocol_version",
            TlsVersion::Tls12,
            // Older versions than 1.2 are never spoken, so that allowing them changes nothing.
            &[
                ("TLSv1", TlsVersion::Tls12),
                ("TLSv1.1", TlsVersion::Tls12),
                ("TLSv1.2", TlsVersion::Tls12),
                ("TLSv1.3", TlsVersion::Tls13),
            ],
        )?;
        let max = self.word(
            "ssl_max_protocol_version",
            TlsVersion::Tls13,
            &[("TLSv1.2", TlsVersion::Tls12), ("TLSv1.3", TlsVersion::Tls13)],
        )?;
        if min > max {
            return Err(invalid(
                "ssl_min_protocol_version",
                "newer than ssl_max_protocol_version",
            ));
        }
        Ok(TlsSettings {
            mode,
            direct,
            root,
            certificate: file(self.path("sslcert")?, "postgresql.crt"),
            key: file(self.path("sslkey")?, "postgresql.key"),
            server_name_indication: self.word("sslsni", true, &[("1", true), ("0", false)])?,
            min,
            max,
        })
    }

    /// The three lists side by side. One port serves all hosts; an empty element is the default.
    fn hosts(&self) -> Result<Vec<Host>> {
        let (names, addresses) = (self.filled("host")?, self.filled("hostaddr")?);
        let names: Option<Vec<&str>> = names.as_deref().map(|names| names.split(',').collect());
        let addresses: Option<Vec<&str>> = addresses.as_deref().map(|addresses| addresses.split(',').collect());
        let count = match (&names, &addresses) {
            (Some(names), Some(addresses)) if names.len() != addresses.len() => {
                return Err(invalid(
                    "hostaddr",
                    format!("{} addresses for {} hosts", addresses.len(), names.len()),
                ));
            }
            (Some(list), _) | (None, Some(list)) => list.len(),
            (None, None) => 1,
        };
        let ports = self.text("port")?.unwrap_or_default();
        let ports: Vec<u16> = ports.split(',').map(value::port).collect::<Result<_>>()?;
        if ports.len() != 1 && ports.len() != count {
            return Err(invalid("port", format!("{} ports for {count} hosts", ports.len())));
        }
        (0..count)
            .map(|at| {
                let element = |list: &Option<Vec<&str>>| {
                    let element = list.as_ref().and_then(|list| list.get(at)).copied();
                    element
                        .unwrap_or_default()
                        .trim_matches(|c: char| c.is_ascii_whitespace())
                        .to_owned()
                };
                let (name, address) = (element(&names), element(&addresses));
                let port = ports.get(at).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
                let address = address_of(&name, &address, port)?;
                Ok(Host { name, address, port })
            })
            .collect()
    }
}

fn address_of(name: &str, hostaddr: &str, port: u16) -> Result<Address> {
    if !hostaddr.is_empty() {
        return hostaddr
            .parse()
            .map(Address::Ip)
            .map_err(|_| invalid("hostaddr", format!("`{hostaddr}` is not an IP address")));
    }
    if name.is_empty() {
        let socket = format!(".s.PGSQL.{port}");
        let found = SOCKET_DIRECTORIES
            .into_iter()
            .find(|directory| Path::new(directory).join(&socket).exists());
        return Ok(Address::Unix(found.unwrap_or(SOCKET_DIRECTORIES[0]).into()));
    }
    if name.starts_with(['/', '@']) {
        return Ok(Address::Unix(name.into()));
    }
    Ok(Address::Name(name.to_owned()))
}

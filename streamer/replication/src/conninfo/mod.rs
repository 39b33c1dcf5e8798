//! Connection strings with libpq's meaning.
//!
//! [`ConnInfo`] is what a person wrote: a URI or key=value pairs, split and checked, with the password apart from the
//! rest. [`Settings`] is what it means in an [`Environment`]: every default and every `PG*` variable applied. Two steps,
//! so that what is stored in a configuration file is what was written and not what one machine's environment added.
//! An own parser, because the drivers' parsers refuse verify-full, sslrootcert, passfile and target_session_attrs=primary.
//! Source: PostgreSQL's `libpq.sgml`, "Connection Strings" and "Environment Variables"; `fe-connect.c`.

mod environment;
mod keyvalue;
mod keyword;
mod lookup;
mod secret;
mod settings;
#[cfg(test)]
mod tests;
mod uri;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use hardstorage_report::{Error, Result, code};

pub use environment::Environment;
pub use secret::Secret;
pub use settings::{Address, Host, Settings};
pub(crate) use settings::{ChannelBinding, TargetAttrs};
pub(crate) use settings::{RootCert, SslMode, TlsSettings, TlsVersion};

use keyword::Support;

/// A connection string, split and checked. `Debug` and `Display` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnInfo {
    values: BTreeMap<&'static str, String>,
    password: Option<Secret>,
}

/// A keyword and its value as they stand in the string.
struct Raw {
    name: String,
    value: String,
}

/// A connection string that cannot be read. The reason must not quote what may be a password.
fn malformed(reason: impl fmt::Display) -> Error {
    Error::new(
        code::usage::CONNINFO,
        format!("the connection string cannot be read: {reason}"),
    )
}

/// A value that a keyword does not take.
fn invalid(name: &str, reason: impl fmt::Display) -> Error {
    Error::new(code::usage::CONNINFO, format!("connection keyword {name}: {reason}"))
}

/// Whether a word can be shown: it looks like a keyword.
fn is_word(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl ConnInfo {
    /// Reads `postgresql://...`, `postgres://...` or `key=value ...`. Of a keyword that is there twice the last one
    /// counts. Every value is checked here; what the environment adds is checked by [`ConnInfo::settings`].
    ///
    /// The error is always [`code::usage::CONNINFO`].
    pub fn parse(text: &str) -> Result<ConnInfo> {
        if text.contains('\0') {
            return Err(malformed("it holds a NUL character"));
        }
        let raw = match uri::after_scheme(text) {
            Some(rest) => uri::split(rest)?,
            None => keyvalue::split(text)?,
        };
        let mut conninfo = ConnInfo {
            values: BTreeMap::new(),
            password: None,
        };
        let mut after_password = false;
        for Raw { name, value } in raw {
            let Some(keyword) = keyword::find(&name) else {
                return Err(unknown(&name, after_password));
            };
            after_password = keyword.name == "password";
            match keyword.support {
                // An empty value asks for nothing.
                Support::Refused(reason) if !value.is_empty() => {
                    return Err(invalid(keyword.name, "not supported").hint(reason));
                }
                _ if after_password => conninfo.password = Some(Secret::new(value)),
                _ => {
                    conninfo.values.insert(keyword.name, value);
                }
            }
        }
        lookup::check(&conninfo)?;
        Ok(conninfo)
    }

    /// What the string means in an environment: all defaults and variables applied.
    pub fn settings(&self, environment: &Environment) -> Result<Settings> {
        lookup::resolve(self, environment)
    }

    /// The value written for a keyword; never the password.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.values.get(keyword).map(String::as_str)
    }

    /// Whether the string itself holds a password.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Takes the password out, to be kept in a passfile or a keyring.
    pub fn take_password(&mut self) -> Option<Secret> {
        self.password.take()
    }

    /// Sets the password, as if it had been written in the string.
    #[must_use]
    pub fn with_password(mut self, password: Secret) -> ConnInfo {
        self.password = Some(password);
        self
    }

    /// Sets a keyword other than `password`, as if it had been written in the string.
    pub fn with(mut self, keyword: &str, value: &str) -> Result<ConnInfo> {
        let known = keyword::find(keyword).filter(|known| known.support == Support::Used && known.name != "password");
        let known = known.ok_or_else(|| unknown(keyword, false))?;
        self.values.insert(known.name, value.to_owned());
        lookup::check(&self)?;
        Ok(self)
    }

    /// The same connection as a URI without the password, for a configuration file. Reading it gives an equal value
    /// (but for the password).
    pub fn without_password(&self) -> String {
        self.to_uri("")
    }

    /// The same connection as a URI that can be shown: a password reads `***`.
    pub fn redacted(&self) -> String {
        self.to_uri(if self.password.is_some() { ":***" } else { "" })
    }

    fn to_uri(&self, password: &str) -> String {
        let mut uri = "postgresql://".to_owned();
        let mut written = Vec::new();
        if let Some(user) = self.get("user").filter(|user| !user.is_empty()) {
            uri::encode(user, "", &mut uri);
            written.push("user");
        }
        uri.push_str(password);
        if !(password.is_empty() && written.is_empty()) {
            uri.push('@');
        }
        if let Some(authority) = self.authority() {
            uri.push_str(&authority);
            written.extend(["host", "port"]);
        }
        if let Some(dbname) = self.get("dbname").filter(|dbname| !dbname.is_empty()) {
            uri.push('/');
            uri::encode(dbname, "", &mut uri);
            written.push("dbname");
        }
        let mut separator = '?';
        for keyword in keyword::KEYWORDS {
            if let Some(value) = self.get(keyword.name).filter(|_| !written.contains(&keyword.name)) {
                uri.push(separator);
                uri.push_str(keyword.name);
                uri.push('=');
                uri::encode(value, "/:,", &mut uri);
                separator = '&';
            }
        }
        uri
    }

    /// `h1:p1,h2:p2`, when both lists can be written so and read back as they are.
    fn authority(&self) -> Option<String> {
        let hosts = self.get("host").filter(|hosts| !hosts.is_empty())?;
        let ports: Option<Vec<&str>> = self.get("port").map(|ports| ports.split(',').collect());
        let count = hosts.split(',').count();
        if ports
            .as_ref()
            .is_some_and(|ports| ports.len() != count || ports.iter().all(|port| port.is_empty()))
        {
            return None;
        }
        if count > 1 && ports.is_none() {
            // In a URI several hosts always come with as many ports, if only empty ones.
            return None;
        }
        let mut authority = String::new();
        for (at, host) in hosts.split(',').enumerate() {
            if at > 0 {
                authority.push(',');
            }
            if host.parse::<std::net::Ipv6Addr>().is_ok() {
                authority.push('[');
                authority.push_str(host);
                authority.push(']');
            } else {
                uri::encode(host, "", &mut authority);
            }
            let port = ports
                .as_ref()
                .and_then(|ports| ports.get(at))
                .copied()
                .unwrap_or_default();
            if !port.is_empty() {
                authority.push(':');
                uri::encode(port, "", &mut authority);
            }
        }
        Some(authority)
    }
}

fn unknown(name: &str, after_password: bool) -> Error {
    // Past a password anything may be the rest of it.
    if after_password || !is_word(name) {
        return malformed("it has an unknown keyword").hint(
            "quote a password with special characters: password='two words' in key=value pairs, %26 for & in a URI",
        );
    }
    let error = malformed(format!("unknown keyword `{name}`"));
    match keyword::nearest(name) {
        Some(nearest) => error.hint(format!("did you mean {nearest}?")),
        None => error,
    }
}

impl FromStr for ConnInfo {
    type Err = Error;

    fn from_str(text: &str) -> Result<ConnInfo> {
        ConnInfo::parse(text)
    }
}

impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Debug for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnInfo({})", self.redacted())
    }
}

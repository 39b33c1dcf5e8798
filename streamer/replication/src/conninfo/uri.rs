//! The URI form: `postgresql://[user[:password]@][host[:port][,...]][/dbname][?keyword=value[&...]]`.
//!
//! It is read as libpq's `conninfo_uri_parse_options` reads it, which is not RFC 3986: several hosts, an empty host, a
//! `/` that ends the search for `@`. Error texts never quote a part of the string, because any part may be a password
//! with a character that should have been percent-encoded.

use hardstorage_report::{Error, Result};

use super::{Raw, malformed};

/// The two schemes.
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

const ENCODE_HINT: &str =
    "percent-encode special characters in user and password: @ is %40, / is %2F, : is %3A, % is %25";

/// What follows the scheme, when the text is a URI.
pub(super) fn after_scheme(text: &str) -> Option<&str> {
    SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))
}

/// Splits a URI (without its scheme) into decoded keywords and values, in libpq's order.
pub(super) fn split(rest: &str) -> Result<Vec<Raw>> {
    let mut raw = Vec::new();
    let mut rest = rest;
    // The first `@` before the first `/` ends the credentials.
    if let Some(at) = rest.find(['@', '/']).filter(|at| rest[*at..].starts_with('@')) {
        let (credentials, after) = (&rest[..at], &rest[at + 1..]);
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        store(&mut raw, "user", user)?;
        store(&mut raw, "password", password.unwrap_or_default())?;
        rest = after;
    }
    let end = rest.find(['/', '?']);
    // A bracketed address holds no `/` or `?`, so that the first of them ends the hosts.
    let (authority, after) = rest.split_at(end.unwrap_or(rest.len()));
    let (hosts, ports) = split_hosts(authority)?;
    store(&mut raw, "host", &hosts)?;
    store(&mut raw, "port", &ports)?;
    let parameters = match after.strip_prefix('/') {
        Some(path) => {
            let (dbname, parameters) = path.split_once('?').map_or((path, None), |(db, p)| (db, Some(p)));
            store(&mut raw, "dbname", dbname)?;
            parameters
        }
        None => after.strip_prefix('?'),
    };
    if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
        split_parameters(parameters, &mut raw)?;
    }
    Ok(raw)
}

fn store(raw: &mut Vec<Raw>, name: &str, value: &str) -> Result<()> {
    if !value.is_empty() {
        raw.push(Raw {
            name: name.to_owned(),
            value: decode(value)?,
        });
    }
    Ok(())
}

/// `h1:p1,h2,[::1]:p3` as the two lists `h1,h2,::1` and `p1,,p3`; both empty when nothing is named.
fn split_hosts(authority: &str) -> Result<(String, String)> {
    let (mut hosts, mut ports) = (String::new(), String::new());
    let mut rest = authority;
    loop {
        let after_host = if let Some(bracketed) = rest.strip_prefix('[') {
            let (address, after) = bracketed
                .split_once(']')
                .ok_or_else(|| malformed("an IPv6 address lacks its closing bracket").hint(ENCODE_HINT))?;
            if address.is_empty() {
                return Err(malformed("an IPv6 address is empty"));
            }
            if !(after.is_empty() || after.starts_with([':', ','])) {
                return Err(malformed("an unexpected character follows an IPv6 address").hint(ENCODE_HINT));
            }
            hosts.push_str(address);
            after
        } else {
            let (host, after) = rest.split_at(rest.find([':', ',']).unwrap_or(rest.len()));
            hosts.push_str(host);
            after
        };
        let after_port = match after_host.strip_prefix(':') {
            Some(port) => {
                let (port, after) = port.split_at(port.find(',').unwrap_or(port.len()));
                ports.push_str(port);
                after
            }
            None => after_host,
        };
        match after_port.strip_prefix(',') {
            Some(more) => {
                hosts.push(',');
                ports.push(',');
                rest = more;
            }
            None => return Ok((hosts, ports)),
        }
    }
}

fn split_parameters(parameters: &str, raw: &mut Vec<Raw>) -> Result<()> {
    for parameter in parameters.strip_suffix('&').unwrap_or(parameters).split('&') {
        let (name, value) = parameter
            .split_once('=')
            .ok_or_else(|| malformed("a query parameter has no `=`").hint(ENCODE_HINT))?;
        if value.contains('=') {
            return Err(malformed("a query parameter has more than one `=`").hint("write = inside a value as %3D"));
        }
        let (name, value) = (decode(name)?, decode(value)?);
        // The spelling of other drivers, which libpq accepts too.
        let (name, value) = if name == "ssl" && value == "true" {
            ("sslmode".to_owned(), "require".to_owned())
        } else {
            (name, value)
        };
        raw.push(Raw { name, value });
    }
    Ok(())
}

/// Percent-decoding with libpq's rules: spaces around are dropped, spaces inside and `%00` are errors.
fn decode(text: &str) -> Result<String> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte.is_ascii_whitespace() {
            return Err(malformed("it has a space inside").hint("write a space as %20"));
        }
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let value = match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => (high * 16 + low) as u8,
            _ => return Err(bad_escape()),
        };
        if value == 0 {
            return Err(malformed("%00 is not allowed"));
        }
        decoded.push(value);
    }
    String::from_utf8(decoded).map_err(|_| malformed("a percent-encoded part is not UTF-8").hint(ENCODE_HINT))
}

fn bad_escape() -> Error {
    malformed("a `%` is not followed by two hexadecimal digits").hint(ENCODE_HINT)
}

/// Percent-encodes everything but unreserved characters and the ones in `also`.
pub(super) fn encode(value: &str, also: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0')));
            }
        }
    }
}

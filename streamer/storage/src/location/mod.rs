//! Repository URLs: what a person writes after `--repo`, read strictly.
//!
//! Anything not understood is refused, because a misspelt parameter that is ignored puts a backup somewhere else.
//! Error messages quote the offending word and never the whole URL: someone may have put a password into it.

mod percent;

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroU64;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use hardstorage_report::{ByteSize, Error, Result, code};

use crate::Key;
use percent::{percent_decode, percent_encode, text};

/// Where a repository lies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// `file:///absolute/directory`
    File(PathBuf),
    /// `s3://bucket/prefix?...`
    S3(S3Location),
    /// `memory://name`, for tests.
    Memory(String),
}

/// A bucket, a prefix in it, and how to talk to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Location {
    /// The bucket.
    pub bucket: String,
    /// The prefix without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// `region=`
    pub region: Option<String>,
    /// `endpoint=`: a server other than AWS.
    pub endpoint: Option<String>,
    /// `path_style=`; unset: true behind an endpoint.
    pub path_style: Option<bool>,
    /// `storage_class=`
    pub storage_class: Option<String>,
    /// `checksum=`; unset: only when required behind an endpoint, always on AWS.
    pub checksum: Option<Checksum>,
    /// `ca_file=`: the certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `concurrency=`: calls at a time.
    pub concurrency: Option<usize>,
    /// `max_rate=`: bytes per second.
    pub max_rate: Option<NonZeroU64>,
}

/// When requests carry a checksum of the body beside their signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Only where the operation demands one: servers that are not AWS may refuse others.
    WhenRequired,
    /// Wherever the protocol has a place for one.
    WhenSupported,
}

const PREFIX_MAX: usize = 120;
const CONCURRENCY_MAX: usize = 512;

fn invalid(what: impl Into<String>) -> Error {
    Error::new(code::usage::URL, what)
}

impl Location {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Location> {
        let Some((scheme, rest)) = url.split_once("://") else {
            let error = invalid("a repository is named by a URL, and this has no scheme");
            return Err(if url.starts_with('/') && !url.contains(['?', '#', '@']) {
                error.hint(format!("write file://{url}"))
            } else {
                error
            });
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => file(rest).map(Location::File),
            "s3" => s3(rest).map(Location::S3),
            "memory" => {
                Key::new(rest).map_err(|_| invalid("memory:// is followed by a plain name"))?;
                Ok(Location::Memory(rest.to_owned()))
            }
            other => {
                let shown: String = other
                    .chars()
                    .filter(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c))
                    .take(20)
                    .collect();
                Err(Error::new(
                    code::usage::SCHEME,
                    format!("no store of this build serves {shown}:// URLs"),
                )
                .hint("this build serves file:///absolute/directory and s3://bucket/prefix?region=REGION"))
            }
        }
    }
}

impl std::str::FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Location> {
        Location::parse(text)
    }
}

fn file(rest: &str) -> Result<PathBuf> {
    if !rest.starts_with('/') {
        return Err(
            invalid("a file URL needs three slashes: it names no host, and its path is absolute")
                .hint("write for example file:///srv/backup"),
        );
    }
    if rest.contains(['?', '#']) {
        return Err(invalid("a file URL takes no parameters").hint("write ? as %3F and # as %23"));
    }
    let bytes = percent_decode(rest)?;
    if bytes.contains(&0) {
        return Err(invalid("a path holds no zero byte"));
    }
    let mut path = PathBuf::from("/");
    for part in bytes.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(invalid("the path of a repository has no \"..\"")),
            part => path.push(OsString::from_vec(part.to_vec())),
        }
    }
    if path == Path::new("/") {
        return Err(invalid("the root of the file system cannot be a repository"));
    }
    Ok(path)
}

fn s3(rest: &str) -> Result<S3Location> {
    if rest.contains('#') {
        return Err(invalid("an s3 URL has no fragment").hint("write # as %23"));
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    if bucket.contains('@') {
        return Err(invalid("a repository URL holds no user and no password")
            .hint("give credentials by environment, profile or file"));
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let bucket_ok = (3..=63).contains(&bucket.len())
        && bucket
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        && edge(bucket.chars().next())
        && edge(bucket.chars().last())
        && !bucket.contains("..");
    if !bucket_ok {
        return Err(invalid(format!("{bucket:?} is not a bucket's name")));
    }
    let prefix = text(prefix, "the prefix")?;
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() && (Key::new(prefix).is_err() || prefix.len() > PREFIX_MAX) {
        return Err(invalid(format!("{prefix:?} cannot be a prefix")).hint(
            "use letters, digits and . _ - = between slashes, at most 120 bytes, no part that starts with a dot",
        ));
    }
    let mut location = S3Location {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        ..S3Location::default()
    };
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if seen.contains(&name) {
            return Err(invalid(format!("the parameter {name} is there twice")));
        }
        seen.push(name);
        parameter(&mut location, name, text(value, name)?)?;
    }
    Ok(location)
}

fn parameter(location: &mut S3Location, name: &str, value: String) -> Result<()> {
    let bad = |expected: &str| invalid(format!("the parameter {name} is {expected}"));
    let word = |value: String| {
        if !value.is_empty()
            && value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            Ok(Some(value))
        } else {
            Err(bad("a single word"))
        }
    };
    match name {
        "region" => location.region = word(value)?,
        "storage_class" => location.storage_class = word(value)?,
        "endpoint" => location.endpoint = Some(endpoint(&value)?),
        "path_style" => {
            location.path_style = Some(match value.as_str() {
                "true" => true,
                "false" => false,
                _ => return Err(bad("true or false")),
            });
        }
        "checksum" => {
            location.checksum = Some(match value.as_str() {
                "when_required" => Checksum::WhenRequired,
                "when_supported" => Checksum::WhenSupported,
                _ => return Err(bad("when_required or when_supported")),
            });
        }
        "ca_file" if value.starts_with('/') && !value.contains('\0') => location.ca_file = Some(PathBuf::from(value)),
        "ca_file" => return Err(bad("the absolute path of a file")),
        "concurrency" => {
            let count = value.parse().ok().filter(|n| (1..=CONCURRENCY_MAX).contains(n));
            location.concurrency = Some(count.ok_or_else(|| bad("a number from 1 to 512"))?);
        }
        "max_rate" => {
            let rate: ByteSize = value.parse().map_err(|_| bad("bytes per second, for example 50MB"))?;
            location.max_rate = NonZeroU64::new(rate.0);
        }
        _ => {
            return Err(invalid(format!("an s3 URL has no parameter {:?}", clip(name))).hint(
                "region, endpoint, path_style, storage_class, checksum, ca_file, concurrency and max_rate are known",
            ));
        }
    }
    Ok(())
}

fn clip(name: &str) -> String {
    name.chars().take(40).collect()
}

fn endpoint(value: &str) -> Result<String> {
    let hint = "write for example endpoint=https://minio.example.com:9000";
    let url = url::Url::parse(value).map_err(|_| invalid("the parameter endpoint is not a URL").hint(hint))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("the parameter endpoint is an http or https URL with a host").hint(hint));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("the parameter endpoint holds no user and no password").hint(hint));
    }
    if url.query().is_some() || url.fragment().is_some() || url.path() != "/" {
        return Err(
            invalid("the parameter endpoint is a scheme, a host and a port, and nothing after them").hint(hint),
        );
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File(path) => {
                f.write_str("file://")?;
                percent_encode(path.as_os_str().as_bytes(), f)
            }
            Location::S3(location) => location.fmt(f),
            Location::Memory(name) => write!(f, "memory://{name}"),
        }
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let ca_file = self.ca_file.as_ref().map(|path| path.as_os_str().as_bytes().to_vec());
        let parameters: [(&str, Option<Vec<u8>>); 8] = [
            ("region", self.region.clone().map(String::into_bytes)),
            ("endpoint", self.endpoint.clone().map(String::into_bytes)),
            (
                "path_style",
                self.path_style.map(|value| value.to_string().into_bytes()),
            ),
            ("storage_class", self.storage_class.clone().map(String::into_bytes)),
            (
                "checksum",
                self.checksum.map(|value| match value {
                    Checksum::WhenRequired => b"when_required".to_vec(),
                    Checksum::WhenSupported => b"when_supported".to_vec(),
                }),
            ),
            ("ca_file", ca_file),
            (
                "concurrency",
                self.concurrency.map(|value| value.to_string().into_bytes()),
            ),
            ("max_rate", self.max_rate.map(|value| value.to_string().into_bytes())),
        ];
        let mut separator = '?';
        for (name, value) in parameters {
            if let Some(value) = value {
                write!(f, "{separator}{name}=")?;
                percent_encode(&value, f)?;
                separator = '&';
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Deployment names and backup ids. Both become parts of object keys, so neither can hold a slash,
//! a leading dot or anything that a file system, a shell or a URL reads in its own way.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    /// What is wrong with it, as a full sentence.
    pub reason: String,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for NameError {}

fn refuse<T>(reason: impl Into<String>) -> Result<T, NameError> {
    Err(NameError { reason: reason.into() })
}

/// The name under which a cluster's backups lie in a repository:
/// `[a-z0-9]([-a-z0-9.]*[a-z0-9])?`, at most 128 bytes, no two dots in a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentName(String);

impl DeploymentName {
    /// The longest name in bytes.
    pub const MAX: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeploymentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if text.is_empty() {
            return refuse("a deployment name must not be empty");
        }
        if text.len() > Self::MAX {
            return refuse(format!(
                "a deployment name has at most {} bytes, this one has {}",
                Self::MAX,
                text.len()
            ));
        }
        if !text.bytes().all(|b| edge(b) || b == b'-' || b == b'.') {
            return refuse("a deployment name holds lower-case letters, digits, '-' and '.' only");
        }
        let ends = [text.as_bytes()[0], text.as_bytes()[text.len() - 1]];
        if !ends.into_iter().all(edge) {
            return refuse("a deployment name starts and ends with a letter or a digit");
        }
        if text.contains("..") {
            return refuse("a deployment name has no two dots in a row");
        }
        Ok(DeploymentName(text.to_owned()))
    }
}

/// The id of a backup: `<deployment>.<type>.<YYYYMMDDThhmmssZ>.<4 hex>`, at most 192 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(String);

impl BackupId {
    /// The longest id in bytes.
    pub const MAX: usize = 192;

    /// Builds the id of a new backup. `stamp` is `YYYYMMDDThhmmssZ`.
    pub fn compose(deployment: &DeploymentName, kind: &str, stamp: &str, suffix: u16) -> Result<BackupId, NameError> {
        format!("{}.{kind}.{stamp}.{suffix:04x}", deployment.as_str()).parse()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The deployment that the id names.
    pub fn deployment(&self) -> &str {
        self.0.rsplitn(4, '.').nth(3).unwrap_or_default()
    }
}

impl FromStr for BackupId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > Self::MAX {
            return refuse(format!(
                "a backup id has at most {} bytes, this one has {}",
                Self::MAX,
                text.len()
            ));
        }
        let mut parts = text.rsplitn(4, '.');
        let (suffix, stamp, kind, deployment) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(suffix), Some(stamp), Some(kind), Some(deployment)) = (suffix, stamp, kind, deployment) else {
            return refuse("a backup id has the form deployment.type.YYYYMMDDThhmmssZ.xxxx");
        };
        deployment.parse::<DeploymentName>()?;
        let digits = |t: &str, n: usize| t.len() == n && t.bytes().all(|b| b.is_ascii_digit());
        let stamp_ok = stamp.len() == 16
            && stamp.is_ascii()
            && digits(&stamp[..8], 8)
            && &stamp[8..9] == "T"
            && digits(&stamp[9..15], 6)
            && stamp.ends_with('Z');
        let suffix_ok = suffix.len() == 4 && suffix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let kind_ok = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !(stamp_ok && suffix_ok && kind_ok) {
            return refuse("a backup id has the form deployment.type.YYYYMMDDThhmmssZ.xxxx");
        }
        Ok(BackupId(text.to_owned()))
    }
}

macro_rules! text_serde {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

text_serde!(DeploymentName, BackupId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployment_names() {
        for good in ["db1", "a", "0", "team-a.orders", &"a".repeat(128)] {
            assert!(good.parse::<DeploymentName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "../x",
            "a/b",
            "A",
            "-a",
            "a-",
            ".a",
            "a.",
            "a..b",
            "a b",
            "ü",
            "a\0",
            &"a".repeat(300),
        ] {
            assert!(bad.parse::<DeploymentName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn backup_ids() {
        let id: BackupId = "team-a.orders.full.20260625T083040Z.68ac".parse().unwrap();
        assert_eq!(id.deployment(), "team-a.orders");
        for bad in [
            "",
            "x",
            "db1.full.20260625T083040Z",
            "../db1.full.20260625T083040Z.68ac",
            "db1.full.20260625t083040Z.68ac",
            "db1.full.20260625T083040Z.68AC",
            "db1..20260625T083040Z.68ac",
            "db1.full.2026062ÄT083040Z.68ac",
        ] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
    }
}

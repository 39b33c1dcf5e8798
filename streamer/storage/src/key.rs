//! `Key`: the name of an object, relative to the store's root and safe on every backend.

use std::fmt;

/// A validated object key: parts of `[A-Za-z0-9._=-]` joined by `/`, no empty part, no part that starts with a dot,
/// at most 900 bytes. It can escape no prefix, on no backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a key was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError(pub String);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an object key", self.0)
    }
}

impl std::error::Error for KeyError {}

impl Key {
    /// The longest key in bytes; S3 allows 1024 including the prefix.
    pub const MAX: usize = 900;

    /// Checks and takes a key.
    pub fn new(text: impl Into<String>) -> Result<Key, KeyError> {
        let text = text.into();
        let part_ok = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.len() <= 255
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'='))
        };
        if text.len() <= Self::MAX && text.split('/').all(part_ok) {
            Ok(Key(text))
        } else {
            Err(KeyError(text))
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last slash.
    pub fn base_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_escape() {
        for good in [
            "HARDSTORAGE",
            "a/b/c",
            "wal/db1/0000000000000001-0001/segments/00000001",
        ] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a/.tmp", "a b", "a\\b", "ü", "a\0b", "a%2Fb",
        ] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
        assert!(Key::new("x/".repeat(450) + "x").is_err());
    }
}

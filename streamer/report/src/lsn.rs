//! `Lsn`: a position in the write-ahead log, in bytes, as PostgreSQL prints it (`16/B374D848`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::SegmentSize;

/// A byte position in the write-ahead log. Zero is PostgreSQL's invalid position.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The invalid position (`0/0`).
    pub const INVALID: Lsn = Lsn(0);

    /// Whether this is a real position.
    pub fn is_valid(self) -> bool {
        self.0 != 0
    }

    /// The position `bytes` further on; saturates at the end of the address space.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "it saturates, which an operator would hide"
    )]
    pub fn add(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// How many bytes `self` lies behind `later`; zero when it does not.
    pub fn bytes_until(self, later: Lsn) -> u64 {
        later.0.saturating_sub(self.0)
    }

    /// The start of the segment that holds this byte.
    #[must_use]
    pub fn segment_start(self, size: SegmentSize) -> Lsn {
        Lsn(self.0 & !(size.bytes() - 1))
    }

    /// The offset of this byte within its segment.
    pub fn segment_offset(self, size: SegmentSize) -> u64 {
        self.0 & (size.bytes() - 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not of the form `HEX/HEX` with at most eight digits on each side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseLsnError;

impl fmt::Display for ParseLsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an LSN is written as two hexadecimal numbers with a slash between, such as 0/3000028")
    }
}

impl std::error::Error for ParseLsnError {}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.split_once('/').ok_or(ParseLsnError)?;
        let part = |digits: &str| {
            if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseLsnError);
            }
            u64::from_str_radix(digits, 16).map_err(|_| ParseLsnError)
        };
        Ok(Lsn(part(high)? << 32 | part(low)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trip(raw in any::<u64>()) {
            let lsn = Lsn(raw);
            prop_assert_eq!(lsn.to_string().parse::<Lsn>(), Ok(lsn));
        }

        #[test]
        fn any_text_is_answered_without_panic(text in ".*") {
            let _ = text.parse::<Lsn>();
        }
    }

    #[test]
    fn refuses_what_postgresql_refuses() {
        for bad in ["", "/", "0", "0/", "/0", "0/123456789", "g/0", "0/+1", "0/ 1", "1/2/3"] {
            assert_eq!(bad.parse::<Lsn>(), Err(ParseLsnError), "{bad}");
        }
    }

    #[test]
    fn segments() {
        let lsn: Lsn = "0/3000028".parse().unwrap();
        assert_eq!(lsn.segment_start(SegmentSize::DEFAULT), Lsn(0x300_0000));
        assert_eq!(lsn.segment_offset(SegmentSize::DEFAULT), 0x28);
    }
}

//! Timelines, segment sizes and segment names: the file names of `pg_wal`, always hexadecimal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Lsn;

/// A timeline number. PostgreSQL starts at 1; names spell it as eight hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl Timeline {
    /// Eight upper-case hexadecimal digits, as in a segment's name.
    pub fn hex(self) -> String {
        format!("{:08X}", self.0)
    }

    /// Reads exactly eight hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Timeline> {
        let well_formed = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        well_formed.then(|| u32::from_str_radix(text, 16).ok().map(Timeline))?
    }

    /// The name of this timeline's history file, `00000002.history`.
    pub fn history_name(self) -> String {
        format!("{}.history", self.hex())
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A cluster's system identifier, printed in decimal as `pg_controldata` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SystemId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(SystemId)
    }
}

// A string in JSON: half of the readers in the world would round a 64-bit number.
impl Serialize for SystemId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SystemId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The size of a WAL segment: a power of two from 1 MiB to 1 GiB, fixed at `initdb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentSize(u64);

impl SegmentSize {
    /// 16 MiB.
    pub const DEFAULT: SegmentSize = SegmentSize(16 << 20);

    /// Accepts what `initdb --wal-segsize` accepts.
    pub fn new(bytes: u64) -> Option<SegmentSize> {
        (bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)).then_some(SegmentSize(bytes))
    }

    /// Reads `SHOW wal_segment_size` (`16MB`, `1GB`).
    pub fn from_setting(text: &str) -> Option<SegmentSize> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u64 = digits.parse().ok()?;
        let factor: u64 = match &text[digits.len()..] {
            "" | "B" => 1,
            "kB" => 1 << 10,
            "MB" => 1 << 20,
            "GB" => 1 << 30,
            _ => return None,
        };
        SegmentSize::new(number.checked_mul(factor)?)
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// How many segments share the middle eight digits of a name.
    fn per_log(self) -> u64 {
        (1 << 32) / self.0
    }
}

impl Serialize for SegmentSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for SegmentSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = u64::deserialize(deserializer)?;
        SegmentSize::new(bytes)
            .ok_or_else(|| serde::de::Error::custom("a WAL segment is a power of two from 1 MiB to 1 GiB"))
    }
}

/// One WAL segment: a timeline and the position of its first byte. The name follows from the segment size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline in the first eight digits.
    pub timeline: Timeline,
    /// The middle eight digits.
    pub log: u32,
    /// The last eight digits.
    pub segment: u32,
}

impl SegmentName {
    /// The segment that holds the byte at `lsn`.
    pub fn containing(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> SegmentName {
        let number = lsn.0 / size.bytes();
        SegmentName {
            timeline,
            log: (number / size.per_log()) as u32,
            segment: (number % size.per_log()) as u32,
        }
    }

    /// The position of the first byte; `None` when the name cannot exist with this segment size.
    pub fn start(self, size: SegmentSize) -> Option<Lsn> {
        let within = u64::from(self.segment) < size.per_log();
        within.then(|| Lsn((u64::from(self.log) << 32) + u64::from(self.segment) * size.bytes()))
    }

    /// The segment after this one on the same timeline.
    #[must_use]
    pub fn next(self, size: SegmentSize) -> SegmentName {
        let number = u64::from(self.log) * size.per_log() + u64::from(self.segment) + 1;
        SegmentName {
            timeline: self.timeline,
            log: (number / size.per_log()) as u32,
            segment: (number % size.per_log()) as u32,
        }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.0, self.log, self.segment)
    }
}

impl FromStr for SegmentName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 24 || !text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)) {
            return Err(());
        }
        let part = |range| u32::from_str_radix(&text[range], 16).map_err(|_| ());
        Ok(SegmentName {
            timeline: Timeline(part(0..8)?),
            log: part(8..16)?,
            segment: part(16..24)?,
        })
    }
}

impl Serialize for SegmentName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SegmentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|()| serde::de::Error::custom("not a WAL segment name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizes() -> impl Strategy<Value = SegmentSize> {
        (20u32..=30).prop_map(|bits| SegmentSize::new(1 << bits).unwrap())
    }

    proptest! {
        #[test]
        fn names_round_trip(tli in 1u32.., raw in any::<u64>(), size in sizes()) {
            let name = SegmentName::containing(Timeline(tli), Lsn(raw), size);
            prop_assert_eq!(name.to_string().parse::<SegmentName>(), Ok(name));
            prop_assert_eq!(name.start(size), Some(Lsn(raw).segment_start(size)));
        }

        #[test]
        fn next_is_one_segment_on(raw in 0..u64::MAX / 2, size in sizes()) {
            let name = SegmentName::containing(Timeline(1), Lsn(raw), size);
            let next = name.next(size);
            prop_assert_eq!(next.start(size).unwrap().0, name.start(size).unwrap().0 + size.bytes());
        }
    }

    #[test]
    fn timelines_are_hexadecimal() {
        let name: SegmentName = "0000000A0000000100000003".parse().unwrap();
        assert_eq!(name.timeline, Timeline(10));
        assert_eq!(Timeline::from_hex("0000001F"), Some(Timeline(31)));
        assert!("0000000a0000000100000003".parse::<SegmentName>().is_err());
    }

    #[test]
    fn settings() {
        assert_eq!(SegmentSize::from_setting("16MB"), Some(SegmentSize::DEFAULT));
        assert_eq!(SegmentSize::from_setting("1GB").unwrap().bytes(), 1 << 30);
        for bad in ["", "MB", "3MB", "2GB", "512kB", "16XB"] {
            assert_eq!(SegmentSize::from_setting(bad), None, "{bad}");
        }
    }
}

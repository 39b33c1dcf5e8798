//! Who wrote, and which life of a cluster it belongs to: what stands in many keys.

use std::fmt;

use hardstorage_report::SystemId;

/// The random id of one process attempt; part of the names and keys of all that it writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId([u8; 16]);

impl WriterId {
    /// From sixteen random bytes.
    pub fn new(bytes: [u8; 16]) -> WriterId {
        WriterId(bytes)
    }

    /// From 32 lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<WriterId> {
        let mut bytes = [0u8; 16];
        let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(WriterId(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for WriterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for WriterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        WriterId::from_hex(&text).ok_or_else(|| serde::de::Error::custom("a writer id has 32 lower-case hex digits"))
    }
}

/// One life of one cluster: its system identifier, and how often its storage was set back under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Lineage {
    /// The cluster's system identifier.
    pub system_id: SystemId,
    /// 1 for the first life; raised only by an explicit act.
    pub incarnation: u16,
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:04x}", self.system_id.0, self.incarnation)
    }
}

impl Lineage {
    /// Reads the folder name under `wal/<deployment>/`.
    pub fn from_folder(text: &str) -> Option<Lineage> {
        let (system, incarnation) = text.split_once('-')?;
        let hex =
            |t: &str, n: usize| t.len() == n && t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hex(system, 16) || !hex(incarnation, 4) {
            return None;
        }
        let system_id = SystemId(u64::from_str_radix(system, 16).ok()?);
        Some(Lineage {
            system_id,
            incarnation: u16::from_str_radix(incarnation, 16).ok()?,
        })
    }
}

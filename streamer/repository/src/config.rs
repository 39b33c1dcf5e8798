//! `config/<seq>.json`: the policy of a repository that may change. The highest number wins; what is written is
//! never changed, a new policy is a new object.

use serde::{Deserialize, Serialize};

/// How writers write. Readers need none of it: every length and codec is in the objects themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoConfig {
    /// Raw bytes of a frame.
    pub frame_size: u32,
    /// Bytes at which a pack is finished.
    pub pack_size: u64,
    /// Zstandard level of a full's frames.
    pub level: i32,
    /// Raw bytes of a frame of changed pages.
    pub changed_frame_size: u32,
    /// Zstandard level of changed pages for as long as they are few; beyond that it is `level`.
    pub changed_level: i32,
    /// Zstandard level of WAL.
    pub wal_level: i32,
    /// Fields of newer programs: kept when an older one writes the next policy.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Default for RepoConfig {
    fn default() -> Self {
        RepoConfig {
            frame_size: 256 << 10,
            pack_size: 64 << 20,
            level: 1,
            changed_frame_size: 1 << 20,
            changed_level: 6,
            wal_level: 1,
            other: serde_json::Map::new(),
        }
    }
}

impl RepoConfig {
    /// Why these values cannot be used, if they cannot.
    pub fn problem(&self) -> Option<String> {
        let frame = 8 << 10..=16 << 20;
        let level = 1..=19;
        let checks = [
            ("frame_size", frame.contains(&self.frame_size), "8 KiB to 16 MiB"),
            (
                "changed_frame_size",
                frame.contains(&self.changed_frame_size),
                "8 KiB to 16 MiB",
            ),
            (
                "pack_size",
                (1 << 20..=1 << 30).contains(&self.pack_size),
                "1 MiB to 1 GiB",
            ),
            ("level", level.contains(&self.level), "1 to 19"),
            ("changed_level", level.contains(&self.changed_level), "1 to 19"),
            ("wal_level", level.contains(&self.wal_level), "1 to 19"),
        ];
        let wrong = checks.iter().find(|(_, good, _)| !good)?;
        Some(format!("{} must be {}", wrong.0, wrong.2))
    }
}

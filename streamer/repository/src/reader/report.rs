//! What a run over a backup's content found: sums, and every damage with the files that it hurts.

use std::collections::BTreeSet;

use hardstorage_report::{Error, code};

use crate::{PackId, PackKind};

/// ContentDamages and files named at most; the rest is counted.
const NAMED: usize = 1000;

/// A stored thing that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDamage {
    /// The pack; `None` when a file's checksum is wrong though every frame of it is sound.
    pub pack: Option<(PackId, PackKind)>,
    /// The object's key; empty without a pack.
    pub object: String,
    /// The frame; `None` when it is the pack as a whole.
    pub frame: Option<u32>,
    /// Whether the pack is not there at all: then there is no frame to remember as bad.
    pub pack_missing: bool,
    /// The files that cannot be restored because of it.
    pub files: BTreeSet<String>,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for ContentDamage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        if let Some(frame) = self.frame {
            write!(f, "frame {frame}: ")?;
        }
        f.write_str(&self.reason)?;
        match self.files.len() {
            0 => Ok(()),
            1 => write!(f, "; it hurts {}", self.files.iter().next().map_or("", String::as_str)),
            more => write!(
                f,
                "; it hurts {} and {} more",
                self.files.iter().next().map_or("", String::as_str),
                more - 1
            ),
        }
    }
}

/// ContentDamages that were found; those of one frame are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentDamages {
    /// At most 1000 of them.
    pub named: Vec<ContentDamage>,
    /// How many more there were.
    pub more: u64,
}

impl ContentDamages {
    pub(super) fn add(&mut self, damage: ContentDamage) {
        let known = self
            .named
            .iter_mut()
            .find(|known| known.pack.is_some() && known.pack == damage.pack && known.frame == damage.frame);
        if let Some(known) = known {
            let room = NAMED.saturating_sub(known.files.len());
            known.files.extend(damage.files.into_iter().take(room));
        } else if self.named.len() < NAMED {
            self.named.push(damage);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn add_all(&mut self, other: ContentDamages) {
        for damage in other.named {
            self.add(damage);
        }
        self.more += other.more;
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

/// What was read and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentReport {
    /// Files that are whole.
    pub files: u64,
    /// Files that are not.
    pub damaged_files: u64,
    /// Bytes of files, zeros included, without those that were there already.
    pub bytes: u64,
    /// Bytes of files that were there already.
    pub kept: u64,
    /// Frames decoded; one that two windows need counts twice.
    pub frames: u64,
    /// Bytes read from the store for them.
    pub read_bytes: u64,
    /// Bad frames that were recorded in the repository, so that the next backup stores their pages anew.
    pub recorded: u64,
    /// What is damaged.
    pub damages: ContentDamages,
}

impl ContentReport {
    /// The failure that this report amounts to, if it does: it names the first damage and counts the others.
    pub fn failure(&self) -> Option<Error> {
        let first = self.damages.named.first()?;
        let others = self.damages.named.len() as u64 - 1 + self.damages.more;
        let more = if others == 0 {
            String::new()
        } else {
            format!("; and {others} more")
        };
        let what = match self.damaged_files {
            0 => "the backup is damaged, though no file is known to be hurt".to_owned(),
            1 => "one file of the backup is damaged".to_owned(),
            files => format!("{files} files of the backup are damaged"),
        };
        Some(Error::new(
            code::repository::OBJECT_CORRUPT,
            format!("{what}: {first}{more}"),
        ))
    }
}

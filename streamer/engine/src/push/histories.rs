//! The histories beside a segment: what they say of it, and those that the archive does not know.
//!
//! PostgreSQL hands a history over only when archiving was on at the promotion. Without it recovery finds no way to the
//! segments of the timeline, however many there are.

use std::collections::BTreeMap;
use std::path::Path;

use hardstorage_report::{Result, SegmentName, Timeline};
use hardstorage_repository::wal::{Ancestry, HistoryEntry, HistoryFile, WalArchive};

use super::file::{WalFile, io};
use super::name::FileName;
use crate::records::SegmentHeader;

/// Stores the history of a segment's timeline, and those of its ancestors, where only `pg_wal` has them. What is not
/// there either is no error: a backup asks the server for it.
pub(super) async fn bring_histories(archive: &WalArchive, file: &WalFile, segment: SegmentName) -> Result<Ancestry> {
    let ancestry = archive.ancestry().await?;
    if ancestry.knows(segment.timeline) {
        return Ok(ancestry);
    }
    let mut found = BTreeMap::new();
    if let Some((bytes, history)) = file.history_beside(segment.timeline)? {
        for entry in history.entries.iter().filter(|entry| !ancestry.knows(entry.timeline)) {
            if let Some((bytes, _)) = file.history_beside(entry.timeline)? {
                found.insert(entry.timeline, bytes);
            }
        }
        found.insert(segment.timeline, bytes);
    }
    // The oldest first: a history without those before it would be a way with a hole.
    for (timeline, bytes) in &found {
        archive.put_history(*timeline, bytes).await?;
    }
    archive.ancestry().await
}

impl WalFile {
    /// Whether a history beside a segment says that its timeline was left before the segment's end: nobody will write the
    /// rest of it.
    pub(super) fn timeline_ended(&self, segment: SegmentName, header: &SegmentHeader) -> Result<bool> {
        let end = header.start.add(header.size.bytes());
        let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        for entry in std::fs::read_dir(folder).map_err(io("read", folder))? {
            let path = entry.map_err(io("read", folder))?.path();
            let Ok(FileName::History(younger)) = FileName::of(&path) else {
                continue;
            };
            if younger <= segment.timeline {
                continue;
            }
            let (_, history) = WalFile::history(&path, younger)?;
            let left = |entry: &HistoryEntry| entry.timeline == segment.timeline && entry.switch < end;
            if history.entries.iter().any(left) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn history_beside(&self, timeline: Timeline) -> Result<Option<(Vec<u8>, HistoryFile)>> {
        let path = self.path.with_file_name(timeline.history_name());
        if path.try_exists().map_err(io("read", &path))? {
            WalFile::history(&path, timeline).map(Some)
        } else {
            Ok(None)
        }
    }
}

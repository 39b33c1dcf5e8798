//! Finished segments: build, compare, read, list.

use std::collections::BTreeSet;

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, SegmentName, Timeline, code};
use hardstorage_storage::{Created, Key};

use super::facts::{RecordFacts, RestorePoint};
use super::format::WalKind;
use super::metadata::WalMetadata;
use super::object_reader::WalObject;
use super::object_stream::WalStream;
use super::object_writer::{ObjectWriter, Pending};
use super::trailer::read_trailer;
use super::{WalArchive, compare, split_brain};
use crate::listing::{Objects, folders};
use crate::{WriterId, layout};

/// What became of a create-only write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It was stored now.
    Stored,
    /// The same bytes were there before: a retry, or another streamer of the same cluster.
    AlreadyThere,
}

/// Takes a segment's bytes as they arrive. Holds at most about 40 MiB, whatever the segment's size.
pub struct SegmentBuilder {
    archive: WalArchive,
    name: SegmentName,
    kind: WalKind,
    key: Key,
    end: Lsn,
    writer: ObjectWriter,
    streamer: Option<WriterId>,
}

impl SegmentBuilder {
    pub(super) fn begin(
        archive: &WalArchive,
        name: SegmentName,
        kind: WalKind,
        key: Key,
        streamer: Option<WriterId>,
    ) -> Result<SegmentBuilder> {
        let place = archive.place_of(name)?;
        Ok(SegmentBuilder {
            writer: ObjectWriter::new(archive, key.clone(), kind, place)?,
            archive: archive.clone(),
            name,
            kind,
            key,
            end: place.start.add(place.length),
            streamer,
        })
    }

    /// The segment.
    pub fn name(&self) -> SegmentName {
        self.name
    }

    /// The position of the next byte.
    pub fn position(&self) -> Lsn {
        self.writer.position()
    }

    /// Whether every byte has been taken.
    pub fn is_full(&self) -> bool {
        self.position() == self.end
    }

    /// Takes a copy of the bytes at `at`: see [`SegmentBuilder::take`].
    pub async fn append(&mut self, at: Lsn, bytes: &[u8]) -> Result<()> {
        self.take(at, Bytes::copy_from_slice(bytes)).await
    }

    /// Takes the bytes at `at`, which must be the next ones and must lie within the segment. They are held, not copied, until
    /// a MiB has come.
    pub async fn take(&mut self, at: Lsn, bytes: Bytes) -> Result<()> {
        if at != self.position() || at.bytes_until(self.end) < bytes.len() as u64 {
            return Err(Error::new(
                code::engine::NOT_CONTIGUOUS,
                format!(
                    "segment {} goes on at {}, and {} bytes came for {at}",
                    self.name,
                    self.position(),
                    bytes.len()
                ),
            ));
        }
        self.writer.take(bytes).await
    }

    /// Makes the full segment durable under its name. Bytes that differ from the finished segment or from a tail that
    /// another streamer stored are refused as split brain; whole pages before anything appears, the pages that a tail
    /// holds only a part of right after.
    pub async fn finish(self, facts: RecordFacts) -> Result<Stored> {
        let (archive, name) = (&self.archive, self.name);
        if !self.is_full() {
            return Err(Error::new(
                code::engine::NOT_CONTIGUOUS,
                format!("segment {name} ends at {}, not at {}", self.end, self.position()),
            ));
        }
        let pending = self.writer.finish(archive, facts).await?;
        let others = match self.kind {
            WalKind::Partial => Vec::new(),
            WalKind::Segment | WalKind::Tail | WalKind::Journal => archive.tails_of_others(name, self.streamer).await?,
        };
        if let Err(error) = compare::pages_with_tails(archive, name, pending.pages(), &others).await {
            give_up(name, pending).await;
            return Err(error);
        }
        let metadata = pending.metadata().clone();
        // Without a stream of its own a caller mostly brings what a stream has stored: to look is cheaper than to send it
        // and be refused.
        if self.streamer.is_none()
            && let Some(there) = archive.metadata_at(&self.key, self.kind, name).await?
        {
            give_up(name, pending).await;
            confirm_same(archive, &self.key, &there, &metadata).await?;
            compare::edges_with_tails(archive, name, &others).await?;
            return Ok(Stored::AlreadyThere);
        }
        let stored = match pending.commit().await? {
            Created::Created => Stored::Stored,
            Created::Exists => {
                let there = archive.metadata_at(&self.key, self.kind, name).await?;
                let there = there.ok_or_else(|| {
                    let file = self.key.base_name();
                    Error::new(code::storage::OBJECT, format!("segment {file} was there and is gone"))
                })?;
                confirm_same(archive, &self.key, &there, &metadata).await?;
                Stored::AlreadyThere
            }
        };
        // Also of what was there before: an attempt that was refused here is tried again.
        compare::edges_with_tails(archive, name, &others).await?;
        Ok(stored)
    }
}

async fn give_up(name: SegmentName, pending: Pending) {
    if let Err(error) = pending.abort().await {
        tracing::warn!(segment = %name, %error, "an upload that was given up could not be removed");
    }
}

/// Compares what lies under the name with what was to be stored. Another process, or an attempt that failed, made the
/// name: nobody knows whether the disk has it.
async fn confirm_same(archive: &WalArchive, key: &Key, there: &WalMetadata, wanted: &WalMetadata) -> Result<()> {
    if there.hash == wanted.hash {
        archive.deployment().store().confirm(std::slice::from_ref(key)).await
    } else {
        Err(split_brain(format!(
            "segment {} is in the archive with other bytes",
            key.base_name()
        )))
    }
}

impl std::fmt::Debug for SegmentBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentBuilder")
            .field("name", &self.name)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

impl WalArchive {
    pub(super) fn segment_key(&self, name: SegmentName) -> Key {
        layout::segment(self.deployment().name(), self.lineage(), name)
    }

    /// Begins a segment. Tails of `streamer` are known to be of the same stream and are not read for comparison.
    pub fn segment_builder(&self, name: SegmentName, streamer: Option<WriterId>) -> Result<SegmentBuilder> {
        SegmentBuilder::begin(self, name, WalKind::Segment, self.segment_key(name), streamer)
    }

    /// Stores a segment whose bytes are all at hand.
    pub async fn put_segment(&self, name: SegmentName, raw: &[u8], facts: RecordFacts) -> Result<Stored> {
        let mut builder = self.segment_builder(name, None)?;
        builder.append(self.start_of(name)?, raw).await?;
        builder.finish(facts).await
    }

    /// Whether the finished segment is there.
    pub async fn has_segment(&self, name: SegmentName) -> Result<bool> {
        Ok(self.deployment().store().head(&self.segment_key(name)).await?.is_some())
    }

    /// What a finished segment says about itself: a head and one small range read. `None` when it is not there.
    pub async fn segment_metadata(&self, name: SegmentName) -> Result<Option<WalMetadata>> {
        self.metadata_at(&self.segment_key(name), WalKind::Segment, name).await
    }

    async fn metadata_at(&self, key: &Key, kind: WalKind, name: SegmentName) -> Result<Option<WalMetadata>> {
        let Some(meta) = self.deployment().store().head(key).await? else {
            return Ok(None);
        };
        let trailer = read_trailer(self, key, meta.size, kind, self.place_of(name)?).await?;
        Ok(Some(trailer.metadata))
    }

    pub(super) async fn open_segment(&self, name: SegmentName) -> Result<Option<WalObject>> {
        let place = self.place_of(name)?;
        WalObject::open(self, &self.segment_key(name), None, WalKind::Segment, place).await
    }

    /// The bytes of a finished segment, checked as they are read. `None` when it is not there.
    pub async fn read_segment(&self, name: SegmentName) -> Result<Option<WalStream>> {
        Ok(self.open_segment(name).await?.map(WalStream::new))
    }

    /// The restore points in a finished segment.
    pub async fn restore_points_in(&self, name: SegmentName) -> Result<Vec<RestorePoint>> {
        let object = self.open_segment(name).await?;
        Ok(object.map(|object| object.directory.restore_points).unwrap_or_default())
    }

    /// The finished segments of a timeline in order, with `after` only those behind it.
    pub async fn list_segments(&self, timeline: Timeline, after: Option<SegmentName>) -> Result<Vec<SegmentName>> {
        let folder = layout::segments_folder(self.deployment().name(), self.lineage(), timeline);
        let after = after.map(|name| self.segment_key(name).as_str().to_owned());
        let objects = Objects::under(self.deployment().store(), folder)
            .after(after)
            .all()
            .await?;
        Ok(objects
            .iter()
            .filter_map(|object| self.segment_of(&object.key, timeline))
            .collect())
    }

    /// The segment that a key names; one that is not ours is passed over, loudly.
    pub(super) fn segment_of(&self, key: &Key, timeline: Timeline) -> Option<SegmentName> {
        let name = key.base_name().parse::<SegmentName>().ok();
        let ours = name.filter(|name| {
            name.timeline == timeline && name.start(self.segment_size()).is_some() && self.segment_key(*name) == *key
        });
        if ours.is_none() {
            tracing::warn!(%key, "an object that is not a segment lies among the segments");
        }
        ours
    }

    /// The start of the newest finished segment of a timeline that begins before a position. Lists the names of the log
    /// folders and one or two of them, never the whole timeline.
    pub async fn newest_segment(&self, timeline: Timeline, before: Lsn) -> Result<Option<Lsn>> {
        let folder = layout::segments_folder(self.deployment().name(), self.lineage(), timeline);
        let store = self.deployment().store();
        let newest_log = (before.0 >> 32) as u32;
        let within = |log: &str| Objects::under(store, format!("{folder}{log}/")).all();
        // Mostly it is near the position: that folder is looked into while the folders are listed. Of one that was made
        // meanwhile nothing is missed, since it is looked into again.
        let near = (before != Lsn(u64::MAX)).then(|| format!("{newest_log:08X}"));
        let guess = async {
            match &near {
                Some(log) => within(log).await.map(Some),
                None => Ok(None),
            }
        };
        let (logs, mut guessed) = tokio::try_join!(folders(store, &folder), guess)?;
        let reachable = |log: &&String| u32::from_str_radix(log, 16).is_ok_and(|number| number <= newest_log);
        for log in logs.iter().rev().filter(reachable) {
            let known = guessed.take_if(|found| near.as_ref() == Some(log) && !found.is_empty());
            let objects = match known {
                Some(objects) => objects,
                None => within(log).await?,
            };
            let starts = objects
                .iter()
                .rev()
                .filter_map(|object| self.segment_of(&object.key, timeline)?.start(self.segment_size()));
            if let Some(newest) = starts.filter(|start| *start < before).max() {
                return Ok(Some(newest));
            }
        }
        Ok(None)
    }

    /// The timelines that have finished segments or tails.
    pub async fn timelines(&self) -> Result<Vec<Timeline>> {
        let root = layout::lineage_folder(self.deployment().name(), self.lineage());
        let store = self.deployment().store();
        let (segments, tails) = (format!("{root}segments/"), format!("{root}tails/"));
        let (segments, tails) = tokio::try_join!(folders(store, &segments), folders(store, &tails))?;
        let names = segments.iter().chain(&tails);
        let found: BTreeSet<Timeline> = names.filter_map(|name| Timeline::from_hex(name)).collect();
        Ok(found.into_iter().collect())
    }
}
